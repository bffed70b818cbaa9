package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// conn is what a link needs of a connection: bytes in order both ways, deadlines, and an end that carries a code and a
// reason. Nothing above it knows what carries the bytes.
type conn interface {
	io.ReadWriter
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// Close ends the connection and tells the other end why. It may be called by anybody, at any time and again: the
	// first call decides, and all return when the connection is gone.
	Close(code wire.CloseCode, reason string)
	Remote() string
	// Certificates is what the other end has shown of itself, its own first; none in TLS is none here.
	Certificates() []*x509.Certificate
	// Transport says what carries the bytes; and, at the sidecar, why that is not QUIC.
	Transport() (name, why string)
}

// closedError is the error of a conn that the other end closed with a code.
type closedError struct {
	code   wire.CloseCode
	reason string
}

func (e *closedError) Error() string {
	if e.reason == "" || e.reason == e.code.String() {
		return "closed by the other end: " + e.code.String()
	}
	return fmt.Sprintf("closed by the other end: %v: %s", e.code, e.reason)
}

// ending is an error of ours that the other end is told as a code.
type ending struct {
	code wire.CloseCode
	err  error
	tell string // in place of what the code says by itself
}

func (e *ending) Error() string { return e.err.Error() }
func (e *ending) Unwrap() error { return e.err }

func endingf(code wire.CloseCode, format string, args ...any) error {
	return &ending{code: code, err: fmt.Errorf(format, args...)}
}

// closing is what the other end is told about err: only what concerns it.
func closing(err error) (wire.CloseCode, string) {
	if e, ok := errors.AsType[*ending](err); ok {
		switch {
		case e.tell != "":
			return e.code, e.tell
		case e.code == wire.CloseProtocol:
			return e.code, e.Error()
		}
		return e.code, e.code.String()
	}
	if errors.Is(err, wire.ErrProtocol) {
		return wire.CloseProtocol, err.Error()
	}
	return wire.CloseDone, ""
}

// quicConn is a conn over QUIC: the one stream that the sidecar opens, on a connection of its own.
type quicConn struct {
	stream *quic.Stream
	conn   *quic.Conn
	once   sync.Once

	mu     sync.Mutex
	after  []func() // let go of what was made for this connection alone
	closed bool
}

func (q *quicConn) Read(b []byte) (int, error) {
	n, err := q.stream.Read(b)
	return n, told(err)
}

func (q *quicConn) Write(b []byte) (int, error) {
	n, err := q.stream.Write(b)
	return n, told(err)
}

func (q *quicConn) SetReadDeadline(t time.Time) error  { return q.stream.SetReadDeadline(t) }
func (q *quicConn) SetWriteDeadline(t time.Time) error { return q.stream.SetWriteDeadline(t) }
func (q *quicConn) Remote() string                     { return q.conn.RemoteAddr().String() }

func (q *quicConn) Certificates() []*x509.Certificate {
	return q.conn.ConnectionState().TLS.PeerCertificates
}

func (q *quicConn) Transport() (name, why string) { return TransportQUIC, "" }

func (q *quicConn) Close(code wire.CloseCode, reason string) {
	q.once.Do(func() {
		q.conn.CloseWithError(quic.ApplicationErrorCode(code), reason)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.closed = true
		for _, release := range q.after {
			release()
		}
	})
}

func told(err error) error {
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote {
		return &closedError{wire.CloseCode(e.ErrorCode), e.ErrorMessage}
	}
	return err
}

// quicConfig is what both ends share.
func quicConfig(idle time.Duration) *quic.Config {
	return &quic.Config{
		MaxIdleTimeout: idle,
		// The smallest there is: at an MTU of 1250, 1232 failed the handshake.
		InitialPacketSize: 1200,
		// What is won by larger packets is little (callbacks are small), and what may be lost is a path that swallows
		// them silently once it has changed underneath.
		DisablePathMTUDiscovery: true,
		MaxIncomingUniStreams:   -1,
	}
}

// serverQUIC bounds what a sidecar can make the edge hold: it says little, so it is given little room.
//
// The idle timeout of a connection is the lesser of what its ends say. So the sidecar decides.
func serverQUIC() *quic.Config {
	c := quicConfig(wire.MaxIdle)
	c.HandshakeIdleTimeout = tryLong
	c.MaxIncomingStreams = 1
	c.InitialStreamReceiveWindow, c.InitialConnectionReceiveWindow = 32<<10, 32<<10
	c.MaxStreamReceiveWindow, c.MaxConnectionReceiveWindow = 512<<10, 512<<10
	return c
}

// clientQUIC has room for all that the edge sends without an Ack. So what stops the edge's writing is the network or
// its own window, never a Sink that is slow for a while, and its deadline for writing means what it says.
func clientQUIC(idle, handshake time.Duration) *quic.Config {
	c := quicConfig(idle)
	c.HandshakeIdleTimeout = handshake
	c.MaxIncomingStreams = -1
	c.InitialStreamReceiveWindow, c.InitialConnectionReceiveWindow = 2*window, 2*window
	c.MaxStreamReceiveWindow, c.MaxConnectionReceiveWindow = 4*window, 4*window
	return c
}

// tls takes from the caller whom to trust and who we are, and nothing else: verification cannot be switched off.
func (c *Client) tls(protocol string) *tls.Config {
	if c.pin != nil {
		return c.joinTLS()
	}
	given := c.TLS
	return &tls.Config{
		RootCAs:              given.RootCAs,
		Certificates:         given.Certificates,
		GetClientCertificate: given.GetClientCertificate,
		Time:                 given.Time,
		ServerName:           wire.ServerName,
		NextProtos:           []string{protocol},
		MinVersion:           tls.VersionTLS13,
	}
}

// writeAll writes whole frames, in pieces each of which has time of its own. The caller sees to it that nobody else
// writes meanwhile.
func writeAll(c conn, b []byte, within time.Duration) error {
	for len(b) > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		n, err := c.Write(b[:min(len(b), chunk)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// turn is a lock that may be held for as long as a network is slow. A mutex would do as well, but for tests: in a bubble
// a goroutine that waits for one does not count as waiting, and time stands still.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }
