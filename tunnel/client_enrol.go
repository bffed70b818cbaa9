package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// A sidecar asks for a certificate on a connection of its own, found as that of a link is: over QUIC, and over WebSocket
// where UDP is blocked, through a proxy if there is one. It says one frame, hears one, and closes.

// Join asks for the first certificate of a sidecar, of an edge that is known by the pin alone. It tries until it is
// answered or ctx ends, and returns the certificate and the edge's CA. Of c only what says how the edge is reached is used, and
// the clock of its TLS.
func (c *Client) Join(ctx context.Context, pin wire.Pin, join *wire.Join) (*wire.Issued, *x509.Certificate, error) {
	a := c.asker()
	a.pin = &pin
	issued, chain, err := a.ask(ctx, join)
	if err != nil {
		return nil, nil, fmt.Errorf("tunnel: join: %w", err)
	}
	return issued, chain[len(chain)-1], nil
}

// Renew asks for the next certificate, with the one that c has. It may be called while Run runs, and displaces no link.
func (c *Client) Renew(ctx context.Context, renew *wire.Renew) (*wire.Issued, error) {
	issued, _, err := c.asker().ask(ctx, renew)
	if err != nil {
		return nil, fmt.Errorf("tunnel: renew: %w", err)
	}
	return issued, nil
}

// asker is a Client that reaches the same edge, and has no link.
func (c *Client) asker() *Client {
	return &Client{
		Edge: c.Edge, WebSocket: c.WebSocket, TLS: c.TLS, Listen: c.Listen, Dial: c.Dial, Proxy: c.Proxy, Resolve: c.Resolve, Route: c.Route,
		Logger: c.Logger, wall: c.wall, bill: c.ledger(),
	}
}

func (c *Client) ask(ctx context.Context, question wire.Frame) (*wire.Issued, []*x509.Certificate, error) {
	if c.Edge == "" {
		return nil, nil, errors.New("no edge to dial")
	}
	var last error
	for {
		conn, err := c.dial(ctx, time.Now())
		if err != nil {
			switch {
			case c.mispinned.Load(): // whatever else failed, this is what somebody has to know
				err = errNotPinned
			case last != nil:
				err = fmt.Errorf("%w: %w", err, last)
			case c.Status().LastError != "":
				err = fmt.Errorf("%w: %s", err, c.Status().LastError)
			}
			return nil, nil, err
		}
		issued, err := put(ctx, conn, question)
		chain := conn.Certificates()
		conn.Close(wire.CloseDone, wire.CloseDone.String())
		if err == nil {
			return issued, chain, nil
		}
		switch code := reason(err); {
		case code == wire.CloseDraining || code == wire.CloseUnavailable || code == 0: // it passes
			last = err
			sleep(ctx, between(trySoonest, tryLatest))
		default:
			return nil, nil, err
		}
	}
}

// put says one frame and hears one.
func put(ctx context.Context, c conn, question wire.Frame) (*wire.Issued, error) {
	stop := whenDone(ctx, func() { c.SetReadDeadline(time.Now()) })
	defer stop()
	if err := writeAll(c, wire.Append(nil, question), helloWithin); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(welcomeWithin))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	frame, err := wire.NewReader(io.LimitReader(c, wire.HeaderSize+wire.MaxIssued)).Read()
	if err != nil {
		return nil, err
	}
	issued, ok := frame.(*wire.Issued)
	if !ok {
		return nil, endingf(wire.CloseProtocol, "%v in answer to %v", frame.Type(), question.Type())
	}
	return issued, nil
}

// joinTLS is TLS with an edge of which only the pin of its CA is known. The usual verification is switched off because it
// would need that CA; what stands in its place asks for no less.
func (c *Client) joinTLS() *tls.Config {
	clock := time.Now
	if c.TLS != nil && c.TLS.Time != nil {
		clock = c.TLS.Time
	}
	pin := *c.pin
	return &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			err := verifyPinned(state.PeerCertificates, pin, clock())
			if errors.Is(err, errNotPinned) {
				c.mispinned.Store(true)
			}
			return err
		},
		Time:       clock,
		ServerName: wire.ServerName,
		NextProtos: []string{wire.ALPNJoin},
		MinVersion: tls.VersionTLS13,
	}
}

var errNotPinned = errors.New("this is not the edge that the join code is of: its CA is another (somebody may be in between)")

// verifyPinned looks whether the last certificate of a chain has the pin, and has signed the first for the tunnel.
func verifyPinned(chain []*x509.Certificate, pin wire.Pin, now time.Time) error {
	if len(chain) < 2 || wire.PinOf(chain[len(chain)-1]) != pin {
		return errNotPinned
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, DNSName: wire.ServerName, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
