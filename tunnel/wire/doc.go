// Package wire is the protocol between a sidecar and its edge: frames and their bytes.
//
// This page is its specification. testdata holds conversations byte by byte, for whoever writes a sidecar in another
// language.
//
// # The link
//
// The sidecar dials; the edge never does. The two speak TLS 1.3. The sidecar asks for the server name
// tunnel.hodi.internal and takes no certificate but one that the edge's private CA, which it has pinned, has signed for
// that name. Over QUIC the application protocol is "hodi/1", and everything below travels on one bidirectional stream,
// which the sidecar opens.
//
// Where UDP does not pass there is a WebSocket: GET /tunnel on the edge's HTTPS port, HTTP/1.1, no subprotocol, no
// compression. The server name in TLS, tunnel.hodi.internal, leads there; under any other name the port has another
// certificate and no tunnel. What follows travels in binary messages as one stream of bytes: where messages begin means
// nothing. A message of text ends the link.
//
// # The conversation
//
//	sidecar                                        edge
//	   │                                             │
//	   │  Hello{version, instance, token, cursor}    │
//	   ├────────────────────────────────────────────▶│   who is it? can I show the very entry at its cursor?
//	   │                                             │
//	   │    Welcome{epoch, oldest, head, time, ...}  │
//	   │◀────────────────────────────────────────────┤
//	   │                                             │
//	   │                     Entry{seq, body, ...}   │
//	   │◀────────────────────────────────────────────┤   all that it holds behind the cursor, then
//	   │                     Entry{seq+1, ...}       │   each as soon as it is on the edge's disk
//	   │◀────────────────────────────────────────────┤
//	   │                                             │
//	   │  commits effect and cursor at once          │
//	   │                                             │
//	   │  Ack{seq+1}                                 │
//	   ├────────────────────────────────────────────▶│   may forget up to here, some day
//	   │                                             │
//	   │  Ping{nonce}                                │
//	   ├────────────────────────────────────────────▶│
//	   │                               Pong{nonce}   │
//	   │◀────────────────────────────────────────────┤   either end may ask, at any time
//	   │                                             │
//
// Nobody waits for an Ack: entries follow each other as fast as the link carries them, and one Ack speaks for every
// entry up to its number. An Ack means committed, never merely received.
//
// # Where the edge begins
//
// The cursor in Hello names an entry by epoch, number and checksum.
//
//   - The zero cursor: the sidecar has read nothing of this edge. The edge sends all it holds, from oldest.
//   - The edge has that very entry (its epoch, that number, that checksum): it sends what comes behind it. The cursor
//     counts as an Ack, whose own may have been lost with the link before.
//   - It has not: one of the two disks is not what it was (a restored backup, a journal made anew). Where the cursor is
//     of the edge's own epoch or a later one, the edge's history is the older one, and it takes a new epoch, greater
//     than both. Then it sends all it holds, from oldest. Applying an entry a second time changes nothing.
//
// A sidecar keeps one cursor for each epoch that it has met, and offers the newest. If oldest in Welcome is beyond the
// entry that follows its cursor, entries are gone: the sidecar says so, and asks Daraja about what was open meanwhile.
// If oldest is head+1 the edge holds nothing.
//
// An entry of the kind lost stands in the place of one that the edge's disk could not keep. All else in it is empty (received
// is 0), except that its body is "acknowledged" if an Ack had spoken for that number. The sidecar takes note of it as of a gap.
//
// Epochs are the creation of a history in Unix milliseconds, and grow, whatever clocks do; none reaches 2^47. Numbers start at 1 and have no gaps within what
// the edge holds.
//
// # Frames
//
// All integers are big-endian. Times are Unix milliseconds in 64 bits, signed.
//
//	 0        1                          4
//	┌────────┬──────────────────────────┬──────────────────────
//	│ type   │ length of the body       │ body ...
//	└────────┴──────────────────────────┴──────────────────────
//
//	0x01 Hello     sidecar → edge      length 48 + token, at most 4096
//	        0  u16  version            1. What follows in a Hello of another version is unknown to this one
//	        2  16B  instance           random: tells two machines with one identity from one that came back
//	       18  u64  cursor: epoch      0: none
//	       26  u64  cursor: seq
//	       34   8B  cursor: checksum
//	       42  u32  idle               milliseconds without a byte from the sidecar, after which the edge may take the
//	                                   link for dead; 0, or more than 60000: 60000
//	       46  u16  length of token    at most 1024
//	       48       token
//
//	0x02 Welcome   edge → sidecar      length 34 + callback, at most 4096
//	        0  u64  epoch
//	        8  u64  oldest             first entry held; head+1 if none is
//	       16  u64  head               newest entry; 0 if there never was one
//	       24  i64  time               the edge's
//	       32  u16  length of callback at most 2048
//	       34       callback           the endpoint's address at the edge, UTF-8; + "/" + ref names one payment
//
//	0x03 Entry     edge → sidecar      length 25 + ref + remote + header + body, at most 393216
//	        0  u64  seq
//	        8  i64  received
//	       16  u8   kind               1 notice; 6 lost; 2 validation, 3 lookup, 4 bill, 5 canary are reserved
//	       17  u16  length of ref
//	       19  u16  length of remote
//	       21  u32  length of header
//	       25       ref                what stood behind the key in the address
//	                remote             the poster's address and port, as text
//	                header             as posted: "Name: value\r\n" for each, no empty line at the end
//	                body               as posted: the rest of the frame
//
//	0x04 Ack       sidecar → edge      length 8
//	        0  u64  seq
//
//	0x05 Ping      either way          length 28
//	        0  u64  nonce
//	        8  u32  wait               milliseconds that the edge waits before its Pong; more than 60000: 60000
//	       12  16B  zeros
//
//	0x06 Pong      either way          length 8
//	        0  u64  nonce
//
//	0x07 Call      reserved: edge → sidecar, a question with an id and a deadline (validation, lookup, bill)
//	0x08 Reply     reserved: sidecar → edge, its answer
//
// A Ping is answered at once, unless it says wait. Then the Pong comes so much later: a sidecar that asks so and keeps
// silent meanwhile learns whether whatever is on the way (NAT, a firewall) still lets the edge speak first after such a
// silence, as it will have to with a callback. While a Pong waits, another Ping with wait takes its place.
//
// The checksum of an entry is the first 8 bytes of SHA-256 over the body of its frame. A Ping is padded so that its
// packet is long enough for a restarted edge to answer it with a stateless reset.
//
// # What may go wrong
//
// A frame of an unknown type is skipped. That is how this version grows: frames of the types above never change. A frame
// longer than its type may be, of an unknown type longer than 393216, cut short, or with bytes too many ends the link
// with the close code 6. So do a first frame that is not Hello (not Welcome), a second one of these, and an Ack of an
// entry that was not sent. A reader never sets aside more memory than bytes have arrived, whatever a length promises.
//
//	0  done           nothing is wrong; also said to a try at dialing that came second
//	1  draining       the edge stops or restarts: dial again at once
//	2  shutdown       the sidecar stops
//	3  displaced      a newer link of the same instance took over
//	4  duplicate      another instance took over: two machines use one identity. Wait 60 s
//	5  unauthorized   the token is not known
//	6  protocol       the other end broke the rules of this page
//	7  version        the other end speaks another version
//	8  unavailable    this end cannot use its disk: try again
//
// Over QUIC the close code is the application's error code, on a WebSocket 4000 is added; a few words of reason may
// come with it, for people.
package wire
