// Package wire is the protocol between a sidecar and its edge: frames and their bytes.
//
// This page is its specification. testdata holds conversations byte by byte, for whoever writes a sidecar in another
// language.
//
// # The link
//
// The sidecar dials; the edge never does. The two speak TLS 1.3. The sidecar asks for the server name
// tunnel.hodi.internal and takes no certificate but one that the edge's private CA, which it has pinned, has signed for
// that name. It shows one of its own, that the same CA has signed for clients, and that names its endpoint in a URI:
// hodi://endpoint/NAME. Over QUIC the application protocol is "hodi/2", and everything below travels on one bidirectional
// stream, which the sidecar opens.
//
// Where UDP does not pass there is a WebSocket: GET /tunnel on the edge's HTTPS port, HTTP/1.1, no subprotocol, no
// compression. The server name in TLS, tunnel.hodi.internal, leads there; under any other name the port has another
// certificate and no tunnel. What follows travels in binary messages as one stream of bytes: where messages begin means
// nothing. A message of text ends the link.
//
// # How a sidecar gets its certificate, and the next one
//
//	sidecar                                        edge
//	   │  Join{version, secret, request}             │   or Renew{version, request}
//	   ├────────────────────────────────────────────▶│
//	   │          Issued{time, callback, certificate}│
//	   │◀────────────────────────────────────────────┤   and the sidecar closes (0)
//
// A sidecar that has none yet asks for the application protocol "hodi-join/2", over QUIC and over TCP, and for nothing
// else. It knows the edge by the pin in its join code: the first 16 bytes of SHA-256 over the CA's SubjectPublicKeyInfo. The
// edge sends the CA's certificate behind its own, and the sidecar goes on only if it has that pin and has signed the
// edge's for tunnel.hodi.internal. Only then it says the secret of the code. It keeps the CA's certificate, and trusts no
// other. Package enrol says how a join code is written.
//
// The certificate lasts 90 days. When two thirds of that are over the sidecar opens another connection, with the certificate
// that it has, and says Renew in place of Hello; its link goes on meanwhile. The request is for the same key. One that has
// expired less than 90 days ago may still be renewed, and does nothing else: a Hello with it is refused with the close code 9.
// That of a sidecar whose endpoint was revoked, or given to another, is refused (5) for both.
//
// A Renew without a request wants no certificate. It asks whether a Hello would be let in, and is answered with an Issued
// without a certificate, or refused as that Hello would be. No link is displaced by it: so who looks for what is wrong
// learns what the sidecar would meet, and what the edge's clock shows, while the sidecar runs.
//
// What a clock says that has lost its battery must not end a shop. The edge's certificate is valid from the day its CA is. A
// sidecar looks at validity with the latest of: its clock, the time in its join code, and the time that the edge last
// said in Welcome or Issued.
//
// # The conversation
//
//	sidecar                                        edge
//	   │                                             │
//	   │  Hello{version, instance, cursor}           │
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
// Nobody waits for an Ack: entries follow each other as fast as the link carries them (a backlog excepted, see below), and
// one Ack speaks for every entry up to its number. An Ack means committed, never merely received.
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
// If oldest is head+1 there is nothing to send but what is live.
//
// An entry of the kind lost stands in the place of one that the edge's disk could not keep. All else in it is empty (received
// is 0), except that its body is "acknowledged" if an Ack had spoken for that number. The sidecar takes note of it as of a gap.
//
// Epochs are the creation of a history in Unix milliseconds, and grow, whatever clocks do; none reaches 2^47. Numbers start at 1 and have no gaps within what
// the edge holds.
//
// # The live lane
//
// A sidecar that was away comes back to a backlog, and on a poor link that takes minutes. Who pays meanwhile stands at the
// till and shall not wait for it. So head in Welcome splits the history: up to head it is backlog, behind it live.
//
//	history     1 ... cursor │ 8 9 10 11 12 13 ... head │ 71  72  73 ...
//	                         └───── the backlog ────────┴──── live ────▶
//	stream      8  9  71  10  72  73  11  12 ...
//	Ack         8  9      10          11  12 ...                   on head: 73
//
// The rules:
//
//   - Each of the two comes in order and without a gap: the backlog from the entry behind the cursor (or from oldest), the
//     live entries from head+1. Anything else ends the link with the close code 6.
//   - At every boundary between frames a live entry goes first. Of the backlog no more than 64 KiB (or one entry) are
//     sent and not acknowledged, so that is what a live entry finds ahead of itself, whatever buffers lie below. Of both
//     together it is 1 MiB; where live entries alone have filled that, an entry of the backlog goes all the same, and
//     its Ack makes room. So live entries without end slow a backlog down to a sixteenth of the link and do not stop it.
//   - While the backlog lasts an Ack is its cursor: it says that everything up to there is committed, and that all that
//     came before that entry on the stream is, live entries too. On head it jumps to the last live entry committed, and
//     the two are one history again. An Ack of a live entry before that ends the link.
//   - The sidecar commits effects as they come, and its cursor stays with the backlog until that is whole. After a break it
//     offers that cursor. The live entries that it had committed come again, most of them as backlog, and change nothing:
//     it knows them by number and checksum. They cost their bytes.
//   - A sidecar that finds another checksum under the number of a live entry that it has committed does not apply that
//     entry. It ends the link (8), and offers the one it knows in the next Hello. An edge that cannot show it takes
//     a new epoch. From one that can after all it takes nothing, or the backlog would be skipped: it ends the link and
//     offers its cursor again.
//
// Head is for the edge to choose, from oldest-1 (or the cursor) to its newest entry. It takes the newest that is older than
// 30 s: those who paid since may still be at the till, and if a link breaks amid a backlog those that it let pass stay
// ahead. Where everything behind the cursor is younger there is no backlog.
//
// Order of arrival is therefore not the order of numbers. Where it matters which of two callbacks came last (two failures
// of one payment), the numbers decide.
//
// # Canaries
//
// That a link lives does not say that callbacks get through it: Pings are answered by an edge whose disk is stuck, and by a
// sidecar that cannot commit. A canary does say so. It is an entry that the edge makes by itself, of the kind canary: it is
// stored, numbered, sent, committed and acknowledged like any other, so it takes the fsync of either disk and moves the
// cursor. Besides the cursor it leaves nothing: the sidecar stores no row for it, and tells nobody.
//
//	sidecar                                        edge
//	   │  Hello{...}  Canary{every}                  │
//	   ├────────────────────────────────────────────▶│
//	   │                   Welcome{...}  Canary{every}
//	   │◀────────────────────────────────────────────┤
//	   │                Entry{seq, kind: canary, run}│
//	   │◀────────────────────────────────────────────┤
//	   │  Ack{seq}                                   │
//	   ├────────────────────────────────────────────▶│   it gets through
//
// They are for a sidecar that asks for them, with a Canary at any time after its Hello, of which the newest counts. The edge
// answers with one that says how often they will come: as often as was asked, but no oftener than every second. An edge that
// does not answer knows no canaries, and of its links nobody knows more than that they live. A sidecar that does not ask
// gets none, but for those that are in the history from before: those it may have to store, as what cannot be parsed.
//
// The edge makes the first one as soon as all that was there when the link began is acknowledged. It makes the next one
// when that time has passed, the sidecar was heard of after that, and the canary before is acknowledged. Over all links of
// an endpoint the time is one.
//
// Canaries between which there is nothing else are a run. The body of each is the number of the first of its run, in 64 bits,
// and received is when that one came; all else in it is empty. So of a run the edge need keep the last alone, which tells
// all of it, with the checksums that cursors have.
//
// # The source
//
// Safaricom signs nothing. It publishes twelve addresses that it posts from, and the edge is the one that sees where a
// callback came from, or asks a proxy that it trusts. So it says what it thinks with each entry, in the upper half of the
// byte whose lower half is the kind (entries of edges that did not judge have 0 there). Whether a callback is believed is
// the sidecar's affair, with one exception: 3 is the word of the edge's operator that a callback from elsewhere must not
// settle anything. It is stored and sent like any other.
//
// # Doubts
//
// Only the sidecar can tell that a callback is not to be believed, and at the edge there is somebody whom to tell. So it says
// how many it has not believed since its store was made: in a Doubts behind its Hello, and in another when it is
// no longer true. The number says all that there is to say, and to say it twice does no harm. It falls when old callbacks are
// erased, or the store is another: then the edge counts from there. A sidecar that says none leaves the edge without knowledge.
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
//	0x01 Hello     sidecar → edge      length 46
//	        0  u16  version            2. What follows in a Hello of another version is unknown to this one
//	        2  16B  instance           random: tells two machines with one identity from one that came back
//	       18  u64  cursor: epoch      0: none
//	       26  u64  cursor: seq
//	       34   8B  cursor: checksum
//	       42  u32  idle               milliseconds without a byte from the sidecar, after which the edge may take the
//	                                   link for dead; 0, or more than 60000: 60000
//
//	0x02 Welcome   edge → sidecar      length 34 + callback, at most 4096
//	        0  u64  epoch
//	        8  u64  oldest             first entry held
//	       16  u64  head               where the backlog ends and the live lane begins; oldest-1 if there is none
//	       24  i64  time               the edge's
//	       32  u16  length of callback at most 2048
//	       34       callback           the endpoint's address at the edge, UTF-8; + "/" + ref names one payment
//
//	0x03 Entry     edge → sidecar      length 25 + ref + remote + header + body, at most 393216
//	        0  u64  seq
//	        8  i64  received
//	       16  u4   source             what the edge thinks of the poster's address, see below: 0 not judged, 1 known,
//	                                   2 unknown, 3 unknown and not to be believed
//	           u4   kind               1 notice; 5 canary; 6 lost; 2 validation, 3 lookup, 4 bill are reserved
//	       17  u16  length of ref
//	       19  u16  length of remote
//	       21  u32  length of header
//	       25       ref                what stood behind the key in the address
//	                remote             the poster's address, and port where it is known, as text
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
//	0x09 Join      sidecar → edge      length 3 + secret + request, at most 4096
//	        0  u16  version            2, as in Hello
//	        2  u8   length of secret   at most 64
//	        3       secret             of the join code
//	                request            PKCS #10 in DER, of an ECDSA P-256 or Ed25519 key: the rest of the frame
//
//	0x0a Renew     sidecar → edge      length 2 + request, at most 4096
//	        0  u16  version            2
//	        2       request            PKCS #10 in DER, of the key that the certificate has; empty: none is wanted
//
//	0x0b Issued    edge → sidecar      length 10 + callback + certificate, at most 8192
//	        0  i64  time               the edge's
//	        8  u16  length of callback at most 2048
//	       10       callback           as in Welcome
//	                certificate        X.509 in DER: the rest of the frame; empty, if none was wanted
//
//	0x0c Canary    either way          length 4
//	        0  u32  every              milliseconds between canaries, see below: as many as the sidecar wants, or as will come.
//	                                   0: none
//
//	0x0d Doubts    sidecar → edge      length 8
//	        0  u64  count              callbacks that the sidecar has not believed
//
//	0x07 Call      reserved: edge → sidecar, a question with an id and a deadline (validation, lookup, bill)
//	0x08 Reply     reserved: sidecar → edge, its answer
//
// A Ping may follow Hello at once, and is answered after Welcome. Else it is answered at once, unless it says wait. Then the Pong comes so much later: a sidecar that asks so and keeps
// silent meanwhile learns whether whatever is on the way (NAT, a firewall) still lets the edge speak first after such a
// silence, as it will have to with a callback. While a Pong waits, another Ping with wait takes its place.
//
// The checksum of an entry is the first 8 bytes of SHA-256 over the body of its frame. A Ping is padded so that its
// packet is long enough for a restarted edge to answer it with a stateless reset.
//
// # Other versions
//
// Edges and sidecars are updated on different days, in either order. A frame of an unknown type is skipped; that is how this
// version grows: frames of the types above never change, and nobody waits for the answer to one that the other end may not
// know. testdata/released holds what the ends of every released version say.
//
// What cannot be said so is another version, with another number in Hello, Join and Renew, and another application protocol
// ("hodi/3"): an end that speaks several offers all of them. To a version that it does not speak the edge says 7, and
// in the reason which end is to be updated.
//
// # What may go wrong
//
// A frame longer than its type may be, of an unknown type longer than 393216, cut short, or with bytes too many ends the link
// with the close code 6. So do a first frame that is not Hello, Renew or Join (not Welcome or Issued), a second one of these, a head before the
// cursor in a Welcome to the same epoch, and an Ack of an entry that was not sent. A reader never sets aside more memory than bytes have arrived, whatever a length promises.
//
//	0  done           nothing is wrong; also said to a try at dialing that came second
//	1  draining       the edge stops or restarts: dial again at once
//	2  shutdown       the sidecar stops
//	3  displaced      a newer link of the same instance took over
//	4  duplicate      another instance took over: two machines use one identity. Wait 60 s
//	5  unauthorized   the certificate or the join code is not, or no longer, good
//	6  protocol       the other end broke the rules of this page
//	7  version        the other end speaks another version
//	8  unavailable    this end cannot use its disk: try again
//	9  expired        the certificate has expired, and may be renewed
//
// Over QUIC the close code is the application's error code, on a WebSocket 4000 is added; a few words of reason may
// come with it, for people.
package wire
