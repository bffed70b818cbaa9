package wire

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// What the two ends have to agree on before the first byte.
const (
	Version    = 2                      // of this protocol; in Hello
	ALPN       = "hodi/2"               // over QUIC
	ALPNJoin   = "hodi-join/2"          // over QUIC and TCP: of a sidecar that has no certificate yet
	ServerName = "tunnel.hodi.internal" // in TLS: what the edge's private certificate is for
	Path       = "/tunnel"              // of a WebSocket
	MaxIdle    = time.Minute            // that a sidecar may ask for, in Hello and in a Ping
)

// Bounds. A frame past them is refused before its body is read.
const (
	HeaderSize  = 4         // of a frame: type and length
	MaxFrame    = 384 << 10 // body of a frame of any type
	MaxHello    = 4 << 10   // body of a Hello, which comes from somebody not yet known
	MaxWelcome  = 4 << 10   // body of a Welcome
	MaxRequest  = 4 << 10   // body of a Join, which comes from somebody not yet known, and of a Renew
	MaxIssued   = 8 << 10   // body of an Issued
	MaxSecret   = 64        // secret of a join code in a Join
	MaxCallback = 2 << 10   // callback base in a Welcome
	nibble      = 15        // kind and source of an Entry share a byte
	pingSize    = 28        // body of a Ping: 32 bytes with its header
)

// Pin is what a join code knows the edge's CA by: SHA-256 over its SubjectPublicKeyInfo, of which 128 bits are kept
// (sha-256-128 of RFC 6920). To find another key with the same takes 2^128 tries, and a code stays short enough to be read out.
type Pin [16]byte

// PinOf is the pin of a CA.
func PinOf(ca *x509.Certificate) Pin {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return Pin(sum[:16])
}

// Type is the first byte of a frame.
type Type uint8

// The types of frames.
const (
	TypeHello   Type = 0x01 // sidecar → edge, once, first
	TypeWelcome Type = 0x02 // edge → sidecar, once, first
	TypeEntry   Type = 0x03 // edge → sidecar
	TypeAck     Type = 0x04 // sidecar → edge
	TypePing    Type = 0x05 // either way
	TypePong    Type = 0x06 // either way, the answer to a Ping
	TypeCall    Type = 0x07 // reserved: edge → sidecar, a question with a deadline
	TypeReply   Type = 0x08 // reserved: sidecar → edge, its answer
	TypeJoin    Type = 0x09 // sidecar → edge, in place of Hello: asks for its first certificate
	TypeRenew   Type = 0x0a // sidecar → edge, in place of Hello: asks for its next certificate
	TypeIssued  Type = 0x0b // edge → sidecar, the answer to either
	TypeCanary  Type = 0x0c // sidecar → edge, after Hello: asks for canaries; edge → sidecar, after Welcome: they come
	TypeDoubts  Type = 0x0d // sidecar → edge, after Hello, and when it has more of them
)

// CloseCode says why a link ended: as the application error code of QUIC, and on a WebSocket 4000 more than it.
type CloseCode uint64

// The reasons to end a link.
const (
	CloseDone         CloseCode = 0 // nothing is wrong; also a try at dialing that came second
	CloseDraining     CloseCode = 1 // the edge stops: dial again at once
	CloseShutdown     CloseCode = 2 // the sidecar stops
	CloseDisplaced    CloseCode = 3 // a newer link of the same instance took over
	CloseDuplicate    CloseCode = 4 // another instance took over: two machines use one identity
	CloseUnauthorized CloseCode = 5 // the certificate or the join code is not, or no longer, good
	CloseProtocol     CloseCode = 6 // the other end broke the rules of this package
	CloseVersion      CloseCode = 7 // the other end speaks another version
	CloseUnavailable  CloseCode = 8 // this end cannot read or write its disk: try again
	CloseExpired      CloseCode = 9 // the certificate has expired, and may still be renewed: Renew, then Hello
)

// Epoch names one history: its creation, in Unix milliseconds. 0 is no history. Sequence numbers compare only within
// an epoch.
type Epoch uint64

// MaxEpoch is beyond every epoch: no clock says so for the next four thousand years.
const MaxEpoch Epoch = 1 << 47

// Checksum tells two entries of the same number apart: the first 8 bytes of SHA-256 over an entry's encoded body.
type Checksum [8]byte

// Cursor is where a reader is: behind the entry Seq of the history Epoch, whose checksum was Sum. The zero Cursor is
// that of a reader who has read nothing.
type Cursor struct {
	Epoch Epoch
	Seq   uint64
	Sum   Checksum
}

// Kind is what an endpoint's key is for. It alone decides how a callback is answered.
type Kind uint8

// The kinds.
const (
	KindNotice     Kind = 1 // answered at once
	KindValidation Kind = 2 // reserved: asked of the sidecar
	KindLookup     Kind = 3 // reserved: asked of the sidecar
	KindBill       Kind = 4 // reserved: asked of the sidecar
	KindCanary     Kind = 5 // the edge's own: no callback, but all that one needs is done for it, see Canary
	KindLost       Kind = 6 // the edge's own: it had stored a callback by this number, and its disk lost it
)

// Source is what the edge thinks of the address that a callback came from. It is no proof either way: Safaricom signs
// nothing, and its own sandbox has been seen to post from elsewhere.
type Source uint8

// The verdicts.
const (
	SourceUnjudged Source = 0 // the edge did not look, or is of a version that did not
	SourceKnown    Source = 1 // one of Safaricom's, or of those that the edge's operator added
	SourceUnknown  Source = 2 // another
	SourceEnforced Source = 3 // another, and the edge's operator wants such callbacks not to be believed
)

// Frame is what travels: a *Hello, *Welcome, *Entry, *Ack, *Ping, *Pong, *Join, *Renew, *Issued, *Canary or *Doubts.
type Frame interface {
	Type() Type
	size() int              // of the body
	append(b []byte) []byte // the body
}

// Hello is the sidecar's first word: where it stopped reading. Who it is its certificate says.
type Hello struct {
	Version  uint16
	Instance [16]byte // drawn at random when the sidecar's data folder was made, and again when its process starts elsewhere
	Cursor   Cursor
	Idle     time.Duration // how long the edge may hear nothing before it takes the link for dead, in milliseconds; 0: MaxIdle
}

// Welcome is the edge's first word: the history that it is going to send.
type Welcome struct {
	Epoch    Epoch
	Oldest   uint64 // the first entry still held
	Head     uint64 // where the backlog ends; the entries behind it are live. Oldest-1 at least, the newest entry at most
	Time     time.Time
	Callback string // address of the endpoint's key; "/" and a ref behind it name one payment
}

// Entry is one callback as it came.
type Entry struct {
	Seq      uint64
	Received time.Time // in milliseconds
	Kind     Kind      // at most 15
	Source   Source    // at most 15
	Ref      string    // what stood behind the key in the address; "" if nothing did
	Remote   string    // address of the poster, with its port where that is known
	Header   []byte    // "Name: value\r\n" lines
	Body     []byte
}

// Ack says that the sidecar has committed every entry up to Seq, and every one that came before it.
type Ack struct{ Seq uint64 }

// Ping asks for a Pong with the same nonce. With its header it is 32 bytes long: shorter, and an edge that was restarted
// would not answer the packet with a stateless reset.
type Ping struct {
	Nonce uint64
	Wait  time.Duration // before the Pong, in milliseconds: the edge is asked whether it can still be heard by then
}

// Pong answers a Ping.
type Pong struct{ Nonce uint64 }

// Join asks for a certificate, with the secret of a join code. It is the first and only frame of a sidecar that has none,
// on a connection whose other end it knows by the pin in that code.
type Join struct {
	Version uint16
	Secret  []byte
	Request []byte // PKCS #10 in DER: the public key, and proof that the sidecar has its private one. What it says of names is not used
}

// Renew asks for another certificate for the same key, on a connection that the present one, or one which expired not long
// ago, has authenticated.
type Renew struct {
	Version uint16
	Request []byte // PKCS #10 in DER, of the same key
}

// Issued is the certificate that was asked for.
type Issued struct {
	Time        time.Time // the edge's
	Callback    string    // as in Welcome
	Certificate []byte    // X.509 in DER
}

// Canary asks for canaries, every so often, and is the answer that says how often they come.
type Canary struct{ Every time.Duration } // in milliseconds; 0: none

// Doubts says how many callbacks the sidecar has not believed, since its store was made: so that somebody is told.
type Doubts struct{ Count uint64 }

// MinCanary is how often canaries come at most, whatever is asked for: each costs the edge's disk a write.
const MinCanary = time.Second

// CanaryOf is the canary of a number that belongs to a run of them, whose first came at a time. One is like the other but
// for its number, so that one of a run tells all of it.
func CanaryOf(seq, first uint64, began time.Time) Entry {
	return Entry{Seq: seq, Received: time.UnixMilli(began.UnixMilli()).UTC(), Kind: KindCanary, Body: binary.BigEndian.AppendUint64(nil, first)}
}

// Run is the number of the first canary of the run that a canary belongs to; of any other entry its own.
func (e *Entry) Run() uint64 {
	if e.Kind != KindCanary || len(e.Body) != 8 {
		return e.Seq
	}
	return min(binary.BigEndian.Uint64(e.Body), e.Seq)
}

// State is where an endpoint's history is. The entries Oldest to Head are held; if Oldest is Head+1, none is. It never
// travels; Welcome does.
type State struct {
	Epoch               Epoch
	Oldest, Head, Acked uint64
	Canaries, Heard     uint64 // how many of the numbers up to Head, and up to Acked, are of canaries
}

func (*Hello) Type() Type   { return TypeHello }
func (*Welcome) Type() Type { return TypeWelcome }
func (*Entry) Type() Type   { return TypeEntry }
func (*Ack) Type() Type     { return TypeAck }
func (*Ping) Type() Type    { return TypePing }
func (*Pong) Type() Type    { return TypePong }
func (*Join) Type() Type    { return TypeJoin }
func (*Renew) Type() Type   { return TypeRenew }
func (*Issued) Type() Type  { return TypeIssued }
func (*Canary) Type() Type  { return TypeCanary }
func (*Doubts) Type() Type  { return TypeDoubts }

// Append appends the bytes of a frame to b. It panics on a frame that no Reader would take; of those that carry what
// strangers sent there is only Entry, which can be asked beforehand with Check.
func Append(b []byte, f Frame) []byte {
	n := f.size()
	if err := check(f, n); err != nil {
		panic(err)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(f.Type())<<24|uint32(n))
	return f.append(b)
}

// Check says whether the entry fits into a frame.
func (e *Entry) Check() error { return check(e, e.size()) }

// Size is the length of the entry's frame, header included.
func (e *Entry) Size() int { return HeaderSize + e.size() }

// Sum is the entry's checksum.
func (e Entry) Sum() Checksum {
	h := sha256.Sum256(e.append(make([]byte, 0, e.size())))
	return Checksum(h[:8])
}

func check(f Frame, n int) error {
	if n > limit(f.Type()) {
		return fmt.Errorf("wire: %v of %d bytes is over the limit of %d", f.Type(), n, limit(f.Type()))
	}
	switch f := f.(type) {
	case *Join:
		if len(f.Secret) > MaxSecret {
			return fmt.Errorf("wire: join with a secret of %d bytes, over the limit of %d", len(f.Secret), MaxSecret)
		}
	case *Issued:
		if len(f.Callback) > MaxCallback {
			return fmt.Errorf("wire: issued with a callback base of %d bytes, over the limit of %d", len(f.Callback), MaxCallback)
		}
	case *Welcome:
		if len(f.Callback) > MaxCallback {
			return fmt.Errorf("wire: welcome with a callback base of %d bytes, over the limit of %d", len(f.Callback), MaxCallback)
		}
	case *Entry:
		if f.Kind > nibble || f.Source > nibble {
			return fmt.Errorf("wire: entry of kind %d and source %d, over the limit of %d", f.Kind, f.Source, nibble)
		}
		if len(f.Ref) > math.MaxUint16 || len(f.Remote) > math.MaxUint16 {
			return fmt.Errorf("wire: entry with a ref of %d and a remote address of %d bytes, over the limit of %d", len(f.Ref), len(f.Remote), math.MaxUint16)
		}
	}
	return nil
}

// limit is the longest body that a frame of this type may have.
func limit(t Type) int {
	switch t {
	case TypeHello:
		return MaxHello
	case TypeWelcome:
		return MaxWelcome
	case TypeJoin, TypeRenew:
		return MaxRequest
	case TypeIssued:
		return MaxIssued
	case TypeAck, TypePong, TypeDoubts:
		return 8
	case TypePing:
		return pingSize
	case TypeCanary:
		return 4
	}
	return MaxFrame
}

func (t Type) String() string {
	switch t {
	case TypeHello:
		return "hello"
	case TypeWelcome:
		return "welcome"
	case TypeEntry:
		return "entry"
	case TypeAck:
		return "ack"
	case TypePing:
		return "ping"
	case TypePong:
		return "pong"
	case TypeCall:
		return "call"
	case TypeReply:
		return "reply"
	case TypeJoin:
		return "join"
	case TypeRenew:
		return "renew"
	case TypeIssued:
		return "issued"
	case TypeCanary:
		return "canary"
	case TypeDoubts:
		return "doubts"
	}
	return fmt.Sprintf("frame type %#02x", uint8(t))
}

func (s Source) String() string {
	switch s {
	case SourceUnjudged:
		return "not judged"
	case SourceKnown:
		return "known"
	case SourceUnknown:
		return "unknown"
	case SourceEnforced:
		return "not believed"
	}
	return fmt.Sprintf("source %d", uint8(s))
}

func (c CloseCode) String() string {
	switch c {
	case CloseDone:
		return "done"
	case CloseDraining:
		return "the edge is stopping"
	case CloseShutdown:
		return "the sidecar is stopping"
	case CloseDisplaced:
		return "displaced by a newer link"
	case CloseDuplicate:
		return "two machines use one identity"
	case CloseUnauthorized:
		return "not authorised"
	case CloseProtocol:
		return "protocol error"
	case CloseVersion:
		return "another version of the protocol"
	case CloseUnavailable:
		return "unavailable"
	case CloseExpired:
		return "the certificate has expired"
	}
	return fmt.Sprintf("close code %d", uint64(c))
}
