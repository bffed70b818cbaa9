package sidecar

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// maxConnections are enough for 5,000 pages that wait, and some 150 MB if all were strangers'.
const maxConnections = 8192

// certificate is that of the app's port, which others renew in its files. It is looked for when somebody calls, and not more
// often than every few seconds. While the new files are not whole (the certificate is there, and its key is not yet), the
// old one stays.
type certificate struct {
	chain, key string // the files
	log        *slog.Logger

	mu     sync.Mutex
	is     *tls.Certificate
	of     [2]time.Time // when the files were changed
	looked time.Time
}

const lookEvery = 5 * time.Second

func loadCertificate(chain, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{chain: chain, key: key, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.looked = time.Now()
	return c, nil
}

func (c *certificate) read() error {
	of, err := c.changed()
	if err != nil {
		return err
	}
	is, err := tls.LoadX509KeyPair(c.chain, c.key)
	if err != nil {
		return err
	}
	c.is, c.of = &is, of
	return nil
}

func (c *certificate) changed() (of [2]time.Time, err error) {
	chain, err := os.Stat(c.chain)
	if err != nil {
		return of, err
	}
	key, err := os.Stat(c.key)
	if err != nil {
		return of, err
	}
	return [2]time.Time{chain.ModTime(), key.ModTime()}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked).Abs() < lookEvery {
		return c.is, nil
	}
	c.looked = now
	of, err := c.changed()
	if err == nil && of == c.of {
		return c.is, nil
	}
	if err == nil {
		err = c.read()
	}
	if err != nil {
		c.log.Warn("sidecar: the new certificate cannot be read, so the old one is used on", "err", err)
	} else {
		c.log.Info("sidecar: a new certificate is in use")
	}
	return c.is, nil
}

// ends is when the one in use does.
func (c *certificate) ends() time.Time {
	is, err := c.get(nil)
	if err != nil || is.Leaf == nil {
		return time.Time{}
	}
	return is.Leaf.NotAfter
}

// serveApp serves the app's port until it is shut. Connections past their number wait in the kernel, where they cost no
// memory of ours.
func (s *Sidecar) serveApp(server *http.Server) error {
	listener := netutil.LimitListener(s.config.Listener, cmp.Or(s.config.Connections, maxConnections))
	if s.certificate == nil {
		return server.Serve(listener)
	}
	server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get}
	return server.ServeTLS(listener, "", "")
}
