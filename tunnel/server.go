package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
)

// Server is the edge's end. Its fields are set before Serve and left alone.
type Server struct {
	History History // required
	// Authorize says whom a token is for. An error closes the link as unauthorised. Required.
	Authorize func(ctx context.Context, token []byte) (Endpoint, error)
	// TLS has the certificate for wire.ServerName. Required.
	TLS *tls.Config
	// ResetKey makes the stateless resets by which sidecars notice at once that the edge was restarted. Kept over
	// restarts by the caller. nil: none are sent, and it takes sidecars some seconds.
	ResetKey *[32]byte
	// Logger is for what an operator should know. nil: nowhere.
	Logger *slog.Logger
}

// Serve serves links on conn until ctx ends; then it tells the sidecars to move and gives what is in flight half a
// second. It returns nil then, and before that only if conn fails. All it started has ended when it returns. conn
// remains the caller's to close.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	return errors.ErrUnsupported
}

// Links lists the present links, for display.
func (s *Server) Links() []Link { return nil }
