package tunnel

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// HalfDead is a connection whose end does not reach the other side: what a server closed can still be written to and
// read, until Bury. It is also the proof that a link asks no more of what carries it than conn says.
type HalfDead struct {
	net.Conn
	Closed chan wire.CloseCode // what it was closed with
	once   sync.Once
}

func NewHalfDead() (server *HalfDead, sidecar net.Conn) {
	a, b := net.Pipe()
	return &HalfDead{Conn: a, Closed: make(chan wire.CloseCode, 1)}, b
}

func (h *HalfDead) Close(code wire.CloseCode, _ string) { h.once.Do(func() { h.Closed <- code }) }
func (h *HalfDead) Bury()                               { h.Conn.Close() }
func (h *HalfDead) Remote() string                      { return "half-dead" }
func (h *HalfDead) Certificates() []*x509.Certificate   { return anybody }
func (h *HalfDead) Transport() (name, why string)       { return TransportQUIC, "" }

// anybody is what the end of a connection that has no TLS has shown.
var anybody = []*x509.Certificate{{}}

// ServeConn serves one connection.
func (s *Server) ServeConn(ctx context.Context, c *HalfDead) { s.serve(ctx, c, func() {}) }

var _ conn = (*HalfDead)(nil)

// Wire is a connection that breaks for both ends when one of them has read so many bytes.
type Wire struct {
	net.Conn
	left int
	dead func()
}

// NewWire makes one that breaks when the sidecar has read down bytes, or the edge up.
func NewWire(down, up int) (server, sidecar *Wire) {
	a, b := net.Pipe()
	dead := func() { a.Close(); b.Close() }
	return &Wire{a, up, dead}, &Wire{b, down, dead}
}

func (w *Wire) Read(b []byte) (int, error) {
	if w.left == 0 {
		w.dead()
	}
	n, err := w.Conn.Read(b[:min(len(b), max(w.left, 1))])
	w.left -= n
	return n, err
}

func (w *Wire) Close(wire.CloseCode, string)             { w.dead() }
func (w *Wire) Remote() string                           { return "wire" }
func (w *Wire) Certificates() []*x509.Certificate        { return anybody }
func (w *Wire) Transport() (name, why string)            { return TransportQUIC, "" }
func (s *Server) ServeWire(ctx context.Context, w *Wire) { s.serve(ctx, w, func() {}) }

// LinkWire is one link of a Client, to its end.
func LinkWire(ctx context.Context, c *Client, w *Wire) { c.link(ctx, w) }

// SlowAfter and RivalWait are how long a sidecar tries hard, and how long it waits after another machine took over.
const (
	SlowAfter = slowAfter
	PingAgain = pingAgain
	RivalWait = rivalWait
)

// SetWall gives a Client a wall clock.
func SetWall(c *Client, wall func() time.Time) { c.wall = wall }

// Left is how many bytes may still be read.
func Left(w *Wire) int { return w.left }

// MaxPending is how many connections there may be that have not said who they are.
const MaxPending = maxPending

// AtTheDoor is how many of them there are.
func AtTheDoor(s *Server) int { return int(s.door.waiting.Load()) }

// StandAtTheDoor puts n more there, until leave.
func StandAtTheDoor(s *Server, n int) (leave func()) {
	s.door.waiting.Add(int64(n))
	return func() { s.door.waiting.Add(-int64(n)) }
}

// StandFrom puts n more there, who come from an address, or as many of them as are let in.
func StandFrom(s *Server, from net.Addr, n int) (stand int) {
	for range n {
		if _, ok := s.door.open(from); ok {
			stand++
		}
	}
	return stand
}
