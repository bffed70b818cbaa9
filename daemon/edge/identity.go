package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// The files in Dir.
const (
	databaseFile = "edge.db"
	lockFile     = "lock"
	caFile       = "ca.crt"
	caKeyFile    = "ca.key"
	resetKeyFile = "reset.key"
)

// identity is what an edge is recognised by: a private certificate authority, which sidecars pin, and which signs for
// the tunnel's server name and for them; and the key of stateless resets. Both are made at the first start.
type identity struct {
	pem   []byte // the authority's certificate
	made  bool   // just now
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	reset [32]byte

	mu       sync.Mutex
	leaf     *tls.Certificate // the one in use; never on disk
	leafMade time.Time
}

const (
	caFor   = 30 * 365 * 24 * time.Hour // sidecars have it pinned for as long as the shop stands
	caSince = 365 * 24 * time.Hour      // before it is made: for clocks that are behind
	leafFor = 90 * 24 * time.Hour
	skew    = enrol.Skew // a sidecar's clock may be slow by
)

// loadIdentity reads what is in dir, and makes what is missing where that hurts nobody: known is how many sidecars know this
// edge by its authority. Another one would lock them all out, and without a word, so unless anew says that this is what is
// wanted, a part that is missing is for a person to put back.
func loadIdentity(dir string, known int, anew bool) (*identity, error) {
	id := new(identity)
	crt, key := filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile)
	keyPEM, err := secret.Read(key)
	noKey := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noKey {
		return nil, err
	}
	id.pem, err = os.ReadFile(crt)
	noCA := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noCA {
		return nil, err
	}
	switch {
	case noKey && !noCA:
		return nil, fmt.Errorf("%s is there and its key %s is not: put the key back from a backup; or, if there is none, remove %s, start once with --new-identity, and have every shop join anew", crt, caKeyFile, caFile)
	case noCA && known > 0 && !anew:
		what := crt
		if noKey {
			what += " and " + caKeyFile
		}
		return nil, fmt.Errorf("%s cannot be found, and by that %d sidecars know this edge: put %s and %s back from a backup; "+
			"or, if there is none, start once with --new-identity, and have every shop join anew", what, known, caFile, caKeyFile)
	}
	if noKey {
		if keyPEM, err = makeKey(key); err != nil {
			return nil, err
		}
	}
	if id.key, err = parseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if noCA { // at the first start, which may have been killed between the two
		if id.pem, err = makeCA(crt, id.key); err != nil {
			return nil, err
		}
		id.made = true
	}
	block, _ := pem.Decode(id.pem)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", crt)
	}
	if id.ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w", crt, err)
	}
	if !id.key.PublicKey.Equal(id.ca.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", crt, key)
	}
	id.reset, err = loadResetKey(filepath.Join(dir, resetKeyFile))
	return id, err
}

func makeKey(path string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return b, salvage.WriteFile(path, b)
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("there is no key in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is not a key in PKCS #8")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an ECDSA key")
	}
	return ec, nil
}

func makeCA(path string, key *ecdsa.PrivateKey) ([]byte, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "Hodi edge " + now.UTC().Format("2006-01-02")},
		NotBefore:                   now.Add(-caSince),
		NotAfter:                    now.Add(caFor),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{wire.ServerName},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return b, salvage.WriteFile(path, b)
}

func loadResetKey(path string) (key [32]byte, err error) {
	b, err := secret.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		rand.Read(key[:])
		return key, salvage.WriteFile(path, fmt.Appendf(nil, "%x\n", key))
	}
	if err != nil {
		return key, err
	}
	if b, err = hex.DecodeString(strings.TrimSpace(string(b))); err != nil || len(b) != len(key) {
		return key, fmt.Errorf("%s: it is not 64 hex digits: remove it, and another is made", path)
	}
	return [32]byte(b), nil
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func (id *identity) tls() *tls.Config {
	sidecars := x509.NewCertPool()
	sidecars.AddCert(id.ca)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientCAs:  sidecars,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			leaf, err := id.certificate(time.Now())
			if err == nil && slices.Contains(hello.SupportedProtos, wire.ALPNJoin) { // who joins has the CA's pin, and not the CA
				leaf = &tls.Certificate{Certificate: [][]byte{leaf.Certificate[0], id.ca.Raw}, PrivateKey: leaf.PrivateKey, Leaf: leaf.Leaf}
			}
			return leaf, err
		},
	}
}

// certificate is the edge's own, for the tunnel. It is made at the start and again when a third of its life is left, so
// that an edge nobody restarts does not lock its sidecars out. It is valid from the day the CA is: a sidecar whose clock went
// back to when it last heard of us must not find it to be of the future.
func (id *identity) certificate(now time.Time) (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf != nil && id.leaf.Leaf.NotAfter.Sub(now) > leafFor/3 && !now.Before(id.leafMade.Add(-skew)) {
		return id.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("edge: certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: wire.ServerName},
		DNSNames:     []string{wire.ServerName},
		NotBefore:    id.ca.NotBefore,
		NotAfter:     now.Add(leafFor),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, id.ca, key.Public(), id.key)
	if err != nil {
		return nil, fmt.Errorf("edge: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("edge: certificate: %w", err)
	}
	id.leafMade = now
	id.leaf = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return id.leaf, nil
}

// lock keeps a second edge out of the folder.
func lock(dir string) (*flock.Flock, error) {
	if err := secret.CheckFolder(dir); err != nil {
		return nil, err
	}
	l := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s (a network file system may not be able to; use a disk of this machine): %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("another edge runs on %s", dir)
	}
	return l, nil
}
