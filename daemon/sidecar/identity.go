package sidecar

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What a sidecar is known by at its edge: a key that is made here and stays here, the edge's certificate for it, and the
// edge's CA. All is in one file, so that no power cut leaves a key without its certificate.

const (
	identityFile = "identity.json"
	joinKeyFile  = "join.key" // while a sidecar joins: if the answer is lost, it asks again with the same key
)

// identity is what is on disk, and what follows from it.
type identity struct {
	path    string
	log     *slog.Logger
	clock   enrol.Clock
	expired chan struct{} // has a token when the edge said that the certificate has expired

	mu   sync.Mutex
	file identityData
	cert tls.Certificate
	ca   *x509.CertPool
}

type identityData struct {
	Note        string    `json:"note"`
	Edge        string    `json:"edge"`        // host:port
	Endpoint    string    `json:"endpoint"`    // what the edge calls this sidecar
	Callback    string    `json:"callback"`    // the base of callback addresses, as last told
	Time        time.Time `json:"time"`        // the latest that the edge said
	CA          string    `json:"ca"`          // PEM
	Certificate string    `json:"certificate"` // PEM
	Key         string    `json:"key"`         // PEM: the secret
}

const identityNote = "This sidecar's identity. Nobody may read it but this sidecar; hodi join makes another."

// loadIdentity reads the identity in dir; nil if this sidecar has not joined an edge.
func loadIdentity(dir string, log *slog.Logger) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := secret.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id := &identity{path: path, log: log, expired: make(chan struct{}, 1)}
	if err := json.Unmarshal(b, &id.file); err != nil {
		return nil, fmt.Errorf("identity: %s is not as it was written: put a backup back, or join anew", path)
	}
	if err := id.use(); err != nil {
		return nil, fmt.Errorf("identity: %s: %w: put a backup back, or join anew", path, err)
	}
	id.clock.Tell(built())
	id.clock.Tell(id.file.Time)
	return id, nil
}

// use makes what TLS needs of what is in the file. id.mu is held, or nobody else is there yet.
func (id *identity) use() error {
	cert, err := tls.X509KeyPair([]byte(id.file.Certificate), []byte(id.file.Key))
	if err != nil {
		return err
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM([]byte(id.file.CA)) {
		return errors.New("the edge's CA is not in it")
	}
	id.cert, id.ca = cert, ca
	return nil
}

func (id *identity) save() error {
	id.file.Note = identityNote
	b, err := json.MarshalIndent(id.file, "", "\t")
	if err != nil {
		return err
	}
	return salvage.WriteFile(id.path, append(b, '\n'))
}

// tls shows the certificate that there is at the time of a handshake.
func (id *identity) tls() *tls.Config {
	return &tls.Config{
		RootCAs: id.ca, Time: id.clock.Now, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := id.certificate()
			return &cert, nil
		},
	}
}

func (id *identity) certificate() tls.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert
}

// built is when this program was made: it cannot be earlier.
func built() (t time.Time) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				t, _ = time.Parse(time.RFC3339, s.Value)
			}
		}
	}
	return t
}

const tellEvery = time.Hour // the disk what time it is

// welcomed takes what the edge said when a link began.
func (id *identity) welcomed(w wire.Welcome) {
	id.clock.Tell(w.Time)
	id.mu.Lock()
	defer id.mu.Unlock()
	if w.Time.Sub(id.file.Time) < tellEvery && w.Callback == id.file.Callback {
		return
	}
	id.file.Time, id.file.Callback = later(w.Time, id.file.Time), w.Callback
	if err := id.save(); err != nil {
		id.log.Warn("the time could not be written down", "err", err)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// welcoming is the sink, and an ear for the edge's time.
type welcoming struct {
	tunnel.Sink
	id *identity
}

func (s welcoming) Welcome(ctx context.Context, w wire.Welcome) error {
	s.id.welcomed(w)
	return s.Sink.Welcome(ctx, w)
}

// When a certificate is renewed.
const (
	dueEvery    = time.Hour // whether it is time
	renewWithin = time.Minute
	renewAgain  = 10 * time.Minute // when it failed
)

// mustRenew is told by the tunnel that the certificate has expired.
func (id *identity) mustRenew() {
	select {
	case id.expired <- struct{}{}:
	default:
	}
}

// keep renews the certificate when it is due, until ctx ends. The link goes on meanwhile.
func (id *identity) keep(ctx context.Context, ask func(context.Context, *wire.Renew) (*wire.Issued, error)) {
	wait := time.Duration(0)
	for {
		next := time.NewTimer(wait)
		told := false
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-id.expired:
			next.Stop()
			told = true
		case <-next.C:
		}
		wait = dueEvery
		if !told && !enrol.Due(id.certificate().Leaf, id.clock.Now()) {
			continue
		}
		if err := id.renew(ctx, ask); err != nil && ctx.Err() == nil {
			id.log.Warn("the certificate could not be renewed", "ends", id.certificate().Leaf.NotAfter, "again", renewAgain, "err", err)
			wait = renewAgain
		}
	}
}

func (id *identity) renew(ctx context.Context, ask func(context.Context, *wire.Renew) (*wire.Issued, error)) error {
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	key := id.certificate().PrivateKey.(crypto.Signer)
	request, err := enrol.Request(key)
	if err != nil {
		return err
	}
	issued, err := ask(ctx, &wire.Renew{Version: wire.Version, Request: request})
	if err != nil {
		return err
	}
	if err := id.take(issued); err != nil {
		return err
	}
	id.log.Info("the certificate is renewed", "ends", id.certificate().Leaf.NotAfter)
	return nil
}

// take keeps a certificate, on disk first.
func (id *identity) take(issued *wire.Issued) error {
	id.clock.Tell(issued.Time)
	id.mu.Lock()
	defer id.mu.Unlock()
	before := id.file
	id.file.Certificate = pemOf("CERTIFICATE", issued.Certificate)
	id.file.Callback, id.file.Time = issued.Callback, later(issued.Time, id.file.Time)
	err := id.use()
	if err == nil {
		err = id.save()
	}
	if err != nil {
		id.file = before
		return errors.Join(err, id.use())
	}
	return nil
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// JoinConfig is what joining an edge needs.
type JoinConfig struct {
	Dir       string        // the sidecar's data folder; made if missing. No sidecar may run on it
	Code      string        // the join code, as the edge printed it
	Edge      string        // the edge's host:port; default: what the code says
	WebSocket string        // as in Config
	Replace   bool          // join although this sidecar has joined an edge before: that identity is lost
	Timeout   time.Duration // default 1 min

	ListenPacket func() (net.PacketConn, error)                                       // as in Config
	Resolve      func(ctx context.Context, hostport string) (net.Addr, error)         // as in Config
	Dial         func(ctx context.Context, network, address string) (net.Conn, error) // as in Config
	Proxy        func(*url.URL) (*url.URL, error)                                     // as in Config
	Logger       *slog.Logger                                                         // default: silence
}

// Joined says what became of joining.
type Joined struct {
	Edge, Endpoint, Callback string
	Expires                  time.Time // of the certificate, which renews itself
}

// ErrJoined is that of a sidecar that has an identity, when it was not told to replace it.
var ErrJoined = errors.New("this sidecar has joined an edge already")

// Join makes a key in the data folder and gets a certificate for it with a join code.
func Join(ctx context.Context, c JoinConfig) (Joined, error) {
	code, err := enrol.ParseCode(c.Code)
	if err != nil {
		return Joined{}, err
	}
	if c.Edge == "" {
		c.Edge = code.Edge
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	joined, err := establish(c.Dir, c.Edge, c.Replace, func(request []byte, clock *enrol.Clock) (*wire.Issued, *x509.Certificate, error) {
		clock.Tell(code.Made)
		client := &tunnel.Client{
			Edge: c.Edge, WebSocket: c.WebSocket, TLS: &tls.Config{Time: clock.Now}, Logger: c.Logger,
			Listen: c.ListenPacket, Resolve: c.Resolve, Dial: c.Dial, Proxy: c.Proxy,
		}
		return client.Join(ctx, code.Pin, &wire.Join{Version: wire.Version, Secret: code.Secret, Request: request})
	})
	if err != nil {
		return Joined{}, fmt.Errorf("join: %w", err)
	}
	return joined, nil
}

// Adopt gives the sidecar of dir an identity at an edge in the same process, which needs no join code: issue is the edge's
// Admit, ca its CA in PEM. What identity there was is replaced.
func Adopt(dir, edge string, ca []byte, issue func(request []byte) (*wire.Issued, error)) (Joined, error) {
	block, _ := pem.Decode(ca)
	if block == nil {
		return Joined{}, errors.New("sidecar: adopt: there is no certificate of the edge's CA")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Joined{}, fmt.Errorf("sidecar: adopt: %w", err)
	}
	joined, err := establish(dir, edge, true, func(request []byte, _ *enrol.Clock) (*wire.Issued, *x509.Certificate, error) {
		issued, err := issue(request)
		return issued, root, err
	})
	if err != nil {
		return Joined{}, fmt.Errorf("sidecar: adopt: %w", err)
	}
	return joined, nil
}

// establish makes an identity in dir, for which ask gets the certificate.
func establish(dir, edge string, replace bool, ask func([]byte, *enrol.Clock) (*wire.Issued, *x509.Certificate, error)) (Joined, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return Joined{}, err
	}
	defer lock.Unlock()
	path := filepath.Join(dir, identityFile)
	if _, err := os.Stat(path); err == nil && !replace {
		return Joined{}, ErrJoined
	}
	key, err := joinKey(dir)
	if err != nil {
		return Joined{}, err
	}
	signer, err := parseKey(key)
	if err != nil {
		return Joined{}, err
	}
	request, err := enrol.Request(signer)
	if err != nil {
		return Joined{}, err
	}
	id := &identity{path: path, log: slog.New(slog.DiscardHandler)}
	id.clock.Tell(built())
	issued, ca, err := ask(request, &id.clock)
	if err != nil {
		return Joined{}, err
	}
	leaf, err := x509.ParseCertificate(issued.Certificate)
	if err != nil {
		return Joined{}, fmt.Errorf("the edge's certificate for this sidecar is not one: %w", err)
	}
	name, err := enrol.Endpoint(leaf)
	if err == nil {
		err = leaf.CheckSignatureFrom(ca)
	}
	if err != nil {
		return Joined{}, err
	}
	id.file = identityData{Edge: edge, Endpoint: name, Key: string(key), CA: pemOf("CERTIFICATE", ca.Raw)}
	if err := id.take(issued); err != nil {
		return Joined{}, err
	}
	if err := os.Remove(filepath.Join(dir, joinKeyFile)); err != nil {
		return Joined{}, err
	}
	return Joined{Edge: edge, Endpoint: name, Callback: issued.Callback, Expires: leaf.NotAfter}, nil
}

// joinKey is the key that this sidecar joins with: the one of an attempt that was broken off, or a new one.
func joinKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, joinKeyFile)
	b, err := secret.Read(path)
	if !errors.Is(err, fs.ErrNotExist) && (err != nil || !isKeyOf(dir, b)) {
		return b, err
	}
	key, err := enrol.NewKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	b = []byte(pemOf("PRIVATE KEY", der))
	return b, salvage.WriteFile(path, b)
}

// isKeyOf reports whether the identity in dir has this key: then that attempt was not broken off, or only after its end.
func isKeyOf(dir string, key []byte) bool {
	b, err := secret.Read(filepath.Join(dir, identityFile))
	var file identityData
	return err == nil && json.Unmarshal(b, &file) == nil && file.Key == string(key)
}

func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key: remove it", joinKeyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key: remove it", joinKeyFile)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of another kind: remove it", joinKeyFile)
	}
	return signer, nil
}

// HasJoined reports whether the sidecar of a data folder has joined an edge.
func HasJoined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return err == nil
}
