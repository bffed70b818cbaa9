package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Papers are the identity of a sidecar of which only the link is there, in PEM.
type Papers struct{ CA, Certificate, Key string }

// Join gets papers with a join code, as hodi join does, and keeps them nowhere.
func Join(ctx context.Context, code string) (Papers, error) {
	c, err := enrol.ParseCode(code)
	if err != nil {
		return Papers{}, fmt.Errorf("bench: join: %w", err)
	}
	key, err := enrol.NewKey()
	if err != nil {
		return Papers{}, fmt.Errorf("bench: join: %w", err)
	}
	request, err := enrol.Request(key)
	if err != nil {
		return Papers{}, fmt.Errorf("bench: join: %w", err)
	}
	issued, ca, err := (&tunnel.Client{Edge: c.Edge}).Join(ctx, c.Pin, &wire.Join{Version: wire.Version, Secret: c.Secret, Request: request})
	if err != nil {
		return Papers{}, fmt.Errorf("bench: join: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		return Papers{}, fmt.Errorf("bench: join: %w", err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return Papers{text("CERTIFICATE", ca.Raw), text("CERTIFICATE", issued.Certificate), text("EC PRIVATE KEY", private)}, nil
}

// TLS is what the papers say to an edge.
func (p Papers) TLS() (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(p.CA)) {
		return nil, errors.New("bench: the edge's CA cannot be read")
	}
	certificate, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		return nil, fmt.Errorf("bench: papers: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}, nil
}
