package tunnel

import (
	"context"
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
func (h *HalfDead) Transport() (name, why string)       { return TransportQUIC, "" }

// ServeConn serves one connection.
func (s *Server) ServeConn(ctx context.Context, c *HalfDead) { s.serve(ctx, c, func() {}) }

var _ conn = (*HalfDead)(nil)

// SlowAfter and RivalWait are how long a sidecar tries hard, and how long it waits after another machine took over.
const (
	SlowAfter = slowAfter
	RivalWait = rivalWait
)

// SetWall gives a Client a wall clock.
func SetWall(c *Client, wall func() time.Time) { c.wall = wall }
