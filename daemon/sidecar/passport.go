package sidecar

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Passport is who the sidecar of a data folder is, for whoever goes to its edge beside it: to look, not to have its link.
type Passport struct {
	Edge, Endpoint string
	Ends           time.Time   // of the certificate
	TLS            *tls.Config // that a link would have
}

// ReadPassport reads it. It is nil if this sidecar has not joined an edge. Nothing is locked or changed.
func ReadPassport(dir string) (*Passport, error) {
	id, err := loadIdentity(dir, slog.New(slog.DiscardHandler))
	if id == nil || err != nil {
		return nil, err
	}
	return &Passport{Edge: id.file.Edge, Endpoint: id.file.Endpoint, Ends: id.cert.Leaf.NotAfter, TLS: id.tls()}, nil
}
