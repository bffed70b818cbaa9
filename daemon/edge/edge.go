// Package edge is the public daemon: it takes callbacks over HTTP, keeps them in a journal, and hands them to sidecars
// through the tunnel.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/hodihq/hodi/tunnel/journal"
)

// Config is what an edge is made of.
type Config struct {
	Dir       string         // state: edge.db, keys, lock, admin socket; required
	HTTP      net.Listener   // where callbacks arrive; required; may be a TLS listener
	UDP       net.PacketConn // where sidecars arrive; required
	PublicURL string         // base of callback addresses; default "http://" and the address of HTTP
	Limits    journal.Limits // for each endpoint; the zero value is the journal's default
	Logger    *slog.Logger   // default: nothing is logged
}

// Edge is the daemon.
type Edge struct{}

// Open opens the state in c.Dir, and makes what is missing. It neither reads nor writes on the network before Run.
func Open(ctx context.Context, c Config) (*Edge, error) { return nil, errors.New("edge: not built yet") }

// Run serves until ctx is done, and then finishes what is in flight.
func (e *Edge) Run(ctx context.Context) error { return nil }

// Close releases the state. Run must have returned.
func (e *Edge) Close() error { return nil }

// CA is the certificate, in PEM, that sidecars must pin.
func (e *Edge) CA() []byte { return nil }

// Registered is an endpoint as its owner needs to know it.
type Registered struct {
	Name        string
	CallbackURL string // "/" and a ref behind it name one payment
}

// SetEndpoint makes an endpoint, or gives the one that has this name another token. Its key is made once.
func (e *Edge) SetEndpoint(ctx context.Context, name string, token []byte) (Registered, error) {
	return Registered{}, nil
}
