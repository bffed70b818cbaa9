package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// How long things last.
const (
	Life  = 90 * 24 * time.Hour // of a sidecar's certificate
	Grace = 90 * 24 * time.Hour // after that, in which it may still be renewed, and nothing else
	Skew  = 24 * time.Hour      // that clocks may differ by

	// Overdue is how long before its end a certificate ought to have been renewed, so that somebody is told: that is tried for a
	// month. The edge's public one is held to the same.
	Overdue = 14 * 24 * time.Hour
)

// Why a certificate is not taken.
var (
	ErrExpired = errors.New("the certificate has expired and has to be renewed first")
	ErrTooOld  = errors.New("the certificate expired too long ago: this sidecar has to join anew")
	ErrForeign = errors.New("the certificate is not one that this edge gave a sidecar")
)

// NewKey makes the key of a sidecar. It never leaves the machine that it is made on.
func NewKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// Request is what a sidecar asks for a certificate with: its public key, and the proof that it has the private one.
func Request(key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
}

// Device is what an edge knows a sidecar's key by: SHA-256 over its SubjectPublicKeyInfo.
type Device [sha256.Size]byte

// DeviceOf is that of a certificate's key.
func DeviceOf(c *x509.Certificate) Device { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// ReadRequest checks a request and says whose key it is for. Nothing of it but the key is used; but one that asks to be somebody is
// refused unless it is the endpoint named.
func ReadRequest(der []byte, endpoint string) (*x509.CertificateRequest, Device, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, Device{}, errors.New("enrol: the request is not one for a certificate")
	}
	switch key := r.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, Device{}, errors.New("enrol: the request is for a key of a curve that is not P-256")
		}
	case ed25519.PublicKey:
	default:
		return nil, Device{}, errors.New("enrol: the request is for a key that is neither ECDSA P-256 nor Ed25519")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, Device{}, errors.New("enrol: the request was not signed by the key that it is for")
	}
	for _, u := range r.URIs {
		if u.String() != uri(endpoint).String() {
			return nil, Device{}, fmt.Errorf("enrol: the request is for %s, and this is %s", u, uri(endpoint))
		}
	}
	if len(r.DNSNames)+len(r.EmailAddresses)+len(r.IPAddresses) > 0 {
		return nil, Device{}, errors.New("enrol: the request asks for names that no sidecar has")
	}
	return r, sha256.Sum256(r.RawSubjectPublicKeyInfo), nil
}

// Issue makes the certificate of an endpoint's sidecar, in DER, that lasts Life from now.
func Issue(ca *x509.Certificate, signer crypto.Signer, endpoint string, request *x509.CertificateRequest, now time.Time) ([]byte, error) {
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] &= 0x7f
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		Subject:      pkix.Name{CommonName: endpoint},
		URIs:         []*url.URL{uri(endpoint)},
		NotBefore:    now.Add(-Skew),
		NotAfter:     now.Add(Life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, request.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("enrol: issue: %w", err)
	}
	return der, nil
}

func uri(endpoint string) *url.URL {
	return &url.URL{Scheme: "hodi", Host: "endpoint", Path: "/" + endpoint}
}

// Endpoint is the name in a sidecar's certificate. That the edge's CA has signed it is known before; when it ends is another
// question: Check.
func Endpoint(c *x509.Certificate) (string, error) {
	if len(c.URIs) != 1 {
		return "", ErrForeign
	}
	name, ok := strings.CutPrefix(c.URIs[0].Path, "/")
	if !ok || name == "" || c.URIs[0].String() != uri(name).String() {
		return "", ErrForeign
	}
	return name, nil
}

// Check says whether a certificate is good at this time: ErrExpired if only for being renewed, ErrTooOld if for nothing any
// more. That it begins later than now is no reason to refuse it: then the clock that says so went back.
func Check(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter.Add(Grace)):
		return ErrTooOld
	case now.After(c.NotAfter):
		return ErrExpired
	}
	return nil
}

// Due reports whether it is time to renew a certificate: two thirds of its life are over.
func Due(c *x509.Certificate, now time.Time) bool { return now.After(c.NotAfter.Add(-Life / 3)) }
