package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/tunnel/enrol"
)

// keeper has the certificate that the edge shows to the public.
type keeper interface {
	tls() *tls.Config        // for the port
	run(ctx context.Context) // until ctx is done; the certificate stays what it is after that
	ends() time.Time         // when it does, the first of several; zero: there is none yet
}

// certificateEnds is when the public certificate ends; zero: there is none.
func (e *Edge) certificateEnds() time.Time {
	if e.keeper != nil {
		return e.keeper.ends()
	}
	var first time.Time
	if e.config.TLS != nil {
		for _, c := range e.config.TLS.Certificates {
			if leaf := c.Leaf; leaf != nil {
				first = sooner(first, leaf.NotAfter)
			}
		}
	}
	return first
}

// sooner is the first of two times, of which the zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// openKeeper opens what c says; nil: c has the certificate itself, or there shall be none.
func openKeeper(c Config) (keeper, error) {
	files := c.CertificateFile != "" || c.KeyFile != ""
	switch {
	case files && c.ACME != nil, c.TLS != nil && (files || c.ACME != nil):
		return nil, errors.New("there is more than one public certificate: say which")
	case c.ACME != nil:
		return newACME(*c.ACME, c.Dir, c.HTTP.Addr(), c.Logger)
	case files:
		return openFiles(c.CertificateFile, c.KeyFile, c.Logger)
	}
	return nil, nil
}

const (
	lookEvery = 5 * time.Second // at the files of a certificate
	sayEvery  = 24 * time.Hour  // that nobody has renewed it
)

// fileKeeper has a certificate in two files that somebody else renews. They are read again when they change; connections
// that there are go on with what they began with. A pair that does not fit, because it is half written, say, changes nothing.
type fileKeeper struct {
	certificate, key string
	log              *slog.Logger
	current          atomic.Pointer[tls.Certificate]

	// of run
	seen   [2]stamp // of what is current
	failed string   // why a change could not be taken, most lately
	said   time.Time
}

// stamp changes when a file does.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// openFiles reads the pair, which must be good at the start.
func openFiles(certificate, key string, log *slog.Logger) (*fileKeeper, error) {
	k := &fileKeeper{certificate: certificate, key: key, log: log}
	if err := k.read(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return k, nil
}

func (k *fileKeeper) tls() *tls.Config {
	return &tls.Config{
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current.Load(), nil },
	}
}

func (k *fileKeeper) ends() time.Time { return k.current.Load().Leaf.NotAfter }

func (k *fileKeeper) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.look(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// look takes the pair in the files if it is another and good. What is wrong with it is said once.
func (k *fileKeeper) look(now time.Time) {
	seen, err := k.stamps()
	if err == nil && seen != k.seen {
		err = k.read()
		if err == nil {
			k.log.Info("another certificate is in use", "file", k.certificate, "until", k.current.Load().Leaf.NotAfter)
		}
	}
	if err == nil {
		k.failed = ""
	} else if err.Error() != k.failed {
		k.failed = err.Error()
		k.log.Warn("the certificate on disk cannot be used: the one in use stays", "err", err)
	}
	if end := k.current.Load().Leaf.NotAfter; end.Sub(now) < enrol.Overdue && now.Sub(k.said) >= sayEvery {
		k.said = now
		k.log.Warn("the certificate ends: Safaricom's callbacks are lost from then on", "file", k.certificate, "ends", end)
	}
}

// stamps are those of both files, or of what they point to: certbot changes a link.
func (k *fileKeeper) stamps() (s [2]stamp, err error) {
	for i, path := range []string{k.certificate, k.key} {
		if s[i], err = stampOf(path); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (k *fileKeeper) read() error {
	before, err := k.stamps() // a change while we read shows in the next look
	if err != nil {
		return err
	}
	c, err := tls.LoadX509KeyPair(k.certificate, k.key)
	if err != nil {
		if pathErr := (*fs.PathError)(nil); !errors.As(err, &pathErr) {
			return fmt.Errorf("%s and %s: %w", k.certificate, k.key, err)
		}
		return err
	}
	if time.Now().After(c.Leaf.NotAfter) && k.current.Load() != nil {
		return fmt.Errorf("%s: it has ended on %s", k.certificate, c.Leaf.NotAfter.Format(time.DateOnly))
	}
	// To refuse a key that others can read would be to refuse callbacks, when it is renewed with another mode.
	if info, err := os.Stat(k.key); err == nil {
		if err := secret.Check(k.key, info); err != nil {
			k.log.Warn("the key of the public certificate is no secret", "err", err)
		}
	}
	k.seen = before
	k.current.Store(&c)
	return nil
}
