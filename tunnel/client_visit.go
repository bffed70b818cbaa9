package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// A person who looks for what is wrong has to see the very handshakes that a link needs, and must not take the link from
// the sidecar that has it. So there are visits: a connection of their own, that ends before anybody says Hello.

// Visit is what came of one connection to the edge.
type Visit struct {
	Remote   string        // the edge's address, or that of the proxy on the way
	Took     time.Duration // from the first packet to the end of the handshake, names looked up before
	Ends     time.Time     // of the edge's certificate for the tunnel
	Time     time.Time     // what the edge's clock showed; zero for who has no certificate to ask with
	Skew     time.Duration // how far that was ahead of ours
	Callback string        // the base of callback addresses
}

// visitSilence is how long a visit hears nothing before it ends: QUIC's first packet has been sent four times by then.
const visitSilence = 4 * time.Second

// Visit makes one connection, over TransportQUIC or TransportWebSocket, with the certificate that a link would show, and
// asks the edge whether it would let us in. It may be called while Run runs, here or in another process, and displaces no link.
// With a pin it makes the handshake alone, as somebody who knows the edge by that and is not known to it.
func (c *Client) Visit(ctx context.Context, transport string, pin *wire.Pin) (Visit, error) {
	v, err := c.visit(ctx, transport, pin)
	if err != nil {
		return Visit{}, fmt.Errorf("tunnel: visit: %w", err)
	}
	return v, nil
}

func (c *Client) visit(ctx context.Context, transport string, pin *wire.Pin) (Visit, error) {
	guest := c.asker()
	guest.pin = pin
	try := guest.tryQUIC
	if transport == TransportWebSocket {
		try = guest.tryWebSocket
	} else if _, err := guest.resolve(ctx); err != nil { // so that it is not counted
		return Visit{}, fmt.Errorf("resolve %s: %w", c.Edge, err)
	}
	began := time.Now()
	conn, err := try(ctx, new(voice), visitSilence)
	if err != nil {
		return Visit{}, err
	}
	defer conn.Close(wire.CloseDone, wire.CloseDone.String())
	visit := Visit{Remote: conn.Remote(), Took: time.Since(began)}
	if leaf := leafOf(conn); leaf != nil {
		visit.Ends = leaf.NotAfter
	}
	if pin != nil {
		return visit, nil
	}
	asked := time.Now()
	issued, err := put(ctx, conn, &wire.Renew{Version: wire.Version})
	if err != nil {
		return Visit{}, err
	}
	wall := asked.Round(0)
	if c.wall != nil {
		wall = c.wall()
	}
	visit.Time, visit.Callback = issued.Time, issued.Callback
	visit.Skew = issued.Time.Sub(wall.Add(time.Since(asked) / 2)).Round(time.Millisecond)
	return visit, nil
}

// attest answers a sidecar that wants no certificate, only to know whether the one that it has would be let in.
func (s *Server) attest(ctx context.Context, peer *x509.Certificate) (*wire.Issued, error) {
	endpoint, err := s.Authorize(ctx, peer)
	if err != nil {
		return nil, err
	}
	return &wire.Issued{Time: time.Now(), Callback: endpoint.Callback}, nil
}

// Obstacle is what was in a visit's way, for whoever says what to do about it.
type Obstacle string

const (
	ObstacleNone         Obstacle = ""
	ObstacleUnknown      Obstacle = "unknown"      // none of these: the error says what it says
	ObstacleName         Obstacle = "name"         // the edge's name leads nowhere
	ObstacleNoWay        Obstacle = "no way"       // this machine is not connected, or knows no way there
	ObstacleSilent       Obstacle = "silent"       // not a word came back, or not all that a handshake needs
	ObstacleRefused      Obstacle = "refused"      // somebody on the way, or the edge's machine, said that there is nobody
	ObstacleProxy        Obstacle = "proxy"        // the proxy does not take our name and password
	ObstacleForeign      Obstacle = "foreign"      // who answers is not our edge
	ObstacleClock        Obstacle = "clock"        // the edge's certificate is not of the time that it is here
	ObstacleUnauthorized Obstacle = "unauthorized" // the edge does not let this sidecar in
	ObstacleExpired      Obstacle = "expired"      // nor until its certificate is renewed
	ObstacleVersion      Obstacle = "version"      // the edge speaks another version
	ObstacleBusy         Obstacle = "busy"         // the edge stops, or cannot use its disk: it passes
)

// ObstacleOf says what was in the way by the error of Visit.
func ObstacleOf(err error) Obstacle {
	switch reason(err) {
	case wire.CloseUnauthorized:
		if !fromHandshake(err) {
			return ObstacleUnauthorized
		}
		return ObstacleForeign
	case wire.CloseExpired:
		return ObstacleExpired
	case wire.CloseVersion, wire.CloseProtocol:
		return ObstacleVersion
	case wire.CloseDraining, wire.CloseUnavailable:
		return ObstacleBusy
	}
	local, _ := errors.AsType[*quic.TransportError](err) // in which quic-go hides what its socket said
	invalid, ofCertificate := errors.AsType[x509.CertificateInvalidError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, noName := errors.AsType[*net.DNSError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	switch {
	case err == nil:
		return ObstacleNone
	case noName:
		return ObstacleName
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), local != nil && !local.Remote && strings.Contains(local.ErrorMessage, "unreachable"):
		return ObstacleNoWay
	case errors.Is(err, errStranger):
		return ObstacleProxy
	case errors.Is(err, errUntaken):
		return ObstacleUnauthorized
	case ofCertificate && invalid.Reason == x509.Expired:
		return ObstacleClock
	case ofCertificate, noTLS, alert, errors.Is(err, errNotPinned), errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)):
		return ObstacleForeign
	case errors.Is(err, errRefused), errors.Is(err, syscall.ECONNREFUSED):
		return ObstacleRefused
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, new(*quic.IdleTimeoutError)), errors.As(err, new(*quic.HandshakeTimeoutError)): // some networks let first packets through and no others
		return ObstacleSilent
	}
	return ObstacleUnknown
}

// fromHandshake reports whether an error of QUIC's TLS is of the time before it is known who answers: then it is somebody who
// speaks another protocol on that port.
func fromHandshake(err error) bool {
	e, ok := errors.AsType[*quic.TransportError](err)
	if !ok {
		return false
	}
	switch e.ErrorCode - 0x100 { // alerts of TLS (RFC 9001, 4.8)
	case 40, 112, 120: // handshake failure, unrecognized name, no application protocol
		return true
	}
	return false
}
