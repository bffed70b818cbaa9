package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Refusal is an error of Authorize or Issue of which the sidecar is told the reason.
type Refusal struct {
	Code     wire.CloseCode // zero: wire.CloseUnauthorized
	Endpoint string         // whose sidecar it is, if that is known
	Reason   string         // a few words
}

func (r *Refusal) Error() string { return r.Reason }

// refusal is how an error of Authorize or Issue ends a connection.
func refusal(err error) error {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		return endingf(wire.CloseUnauthorized, "tunnel: not let in: %w", err)
	}
	e := &ending{code: r.Code, err: fmt.Errorf("tunnel: not let in: %w", err), tell: r.Reason}
	if e.code == 0 {
		e.code = wire.CloseUnauthorized
	}
	return e
}

const protocolHTTP = "http/1.1" // in TLS beneath a WebSocket

var errNoCertificate = errors.New("no certificate that this edge gave a sidecar")

// tls is what the edge says in a handshake. Everybody has to show a certificate that ClientCAs has signed, but for those who
// come for their first one: they say so by the protocol that they ask for, and are heard about nothing else.
func (s *Server) tls(protocol string) *tls.Config {
	base := s.TLS.Clone()
	base.MinVersion = tls.VersionTLS13
	base.SessionTicketsDisabled = true // nothing resumes, so none need be sent
	base.ClientCAs = nil               // nor is the name of the CA for strangers
	joining, known := base.Clone(), base.Clone()
	joining.NextProtos = []string{wire.ALPNJoin}
	joining.ClientAuth = tls.NoClientCert
	known.NextProtos = []string{protocol}
	known.ClientAuth = tls.RequestClientCert // verify demands it, and knows from where none came
	base.NextProtos = []string{protocol, wire.ALPNJoin}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Equal(hello.SupportedProtos, joining.NextProtos) {
			return joining, nil
		}
		c := known.Clone()
		remote := hello.Conn.RemoteAddr()
		c.VerifyConnection = func(state tls.ConnectionState) error {
			err := s.verify(state.PeerCertificates)
			if err != nil {
				s.refused(remote.String(), err)
			}
			return err
		}
		return c, nil
	}
	return base
}

// verify looks whether a certificate is one that ClientCAs has signed for a client. That it may have expired is not what is
// asked here, so it is looked at as of a time at which it had not.
func (s *Server) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errNoCertificate
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: s.TLS.ClientCAs, CurrentTime: chain[0].NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return errNoCertificate
	}
	return nil
}

// leafOf is the certificate that the other end has shown; nil if none.
func leafOf(c conn) *x509.Certificate {
	if chain := c.Certificates(); len(chain) > 0 {
		return chain[0]
	}
	return nil
}

// issue answers a sidecar that asks for a certificate, and waits until it has heard: what is closed at once takes what was
// said last with it.
func (s *Server) issue(ctx context.Context, c conn, request wire.Frame) error {
	peer, version := leafOf(c), uint16(0)
	switch f := request.(type) {
	case *wire.Join:
		if peer != nil {
			return endingf(wire.CloseProtocol, "tunnel: join of a sidecar that has a certificate")
		}
		version = f.Version
	case *wire.Renew:
		if peer == nil {
			return endingf(wire.CloseUnauthorized, "tunnel: renew of a sidecar without a certificate")
		}
		version = f.Version
	default:
		return endingf(wire.CloseProtocol, "tunnel: %v before hello", request.Type())
	}
	if version != wire.Version {
		return otherVersion(version)
	}
	var issued *wire.Issued
	var err error
	if r, ok := request.(*wire.Renew); ok && len(r.Request) == 0 {
		issued, err = s.attest(ctx, peer)
	} else if s.Issue == nil {
		return endingf(wire.CloseUnauthorized, "tunnel: nobody is given a certificate here")
	} else {
		issued, err = s.Issue(ctx, c.Remote(), peer, request)
	}
	if err != nil {
		return refusal(err)
	}
	if err := writeAll(c, wire.Append(nil, issued), helloWithin); err != nil {
		return fmt.Errorf("tunnel: issued: %w", err)
	}
	c.SetReadDeadline(time.Now().Add(helloWithin))
	c.Read(make([]byte, 1))
	return nil
}
