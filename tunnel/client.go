package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Client is the sidecar's end. Its fields are set before Run and left alone.
type Client struct {
	Edge string // host:port of the edge, required
	// TLS has the edge's own CA as RootCAs, required. The server name, the versions and the protocol are set by the
	// Client; a certificate that the CA did not sign is never taken.
	TLS *tls.Config
	// Token says which endpoint's sidecar this is. Required.
	Token []byte
	// Instance tells two machines with one Token apart.
	Instance [16]byte
	// Sink is where entries go. Required.
	Sink Sink
	// Listen makes the socket of one try. nil: UDP on any port.
	Listen func() (net.PacketConn, error)
	// Resolve finds the address of Edge. nil: the system's resolver, and any of the addresses it knows.
	Resolve func(ctx context.Context, hostport string) (net.Addr, error)
	// Logger is for what an operator should know. nil: nowhere.
	Logger *slog.Logger
}

// Status is how a Client is doing.
type Status struct {
	Connected bool
	Since     time.Time // of the link, or of its end; zero before the first
	Callback  string    // the base of callback addresses, as last told
	Epoch     wire.Epoch
	LastError string        // why there is no link, or why there was none before it
	Remote    string        // the edge's address, when connected
	RTT       time.Duration // of the last Ping, through whatever stood before its Pong in the stream
	Skew      time.Duration // how far the edge's clock is ahead of ours
}

// Run keeps a link to the edge until ctx ends; then it finishes the batch in hand and returns nil. It returns an error
// only for a Client that could never connect. All it started has ended when it returns.
func (c *Client) Run(ctx context.Context) error {
	return errors.ErrUnsupported
}

// Status says how the Client is doing.
func (c *Client) Status() Status { return Status{} }
