package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/netutil"
)

// ACME is how an edge gets its public certificate by itself, and renews it. The authority is shown that the names are
// ours on the edge's own port (TLS-ALPN-01), and on HTTP if there is one (HTTP-01). Account, keys and certificates are in
// Dir/acme.
type ACME struct {
	Domains   []string       // names for which there shall be a certificate; required. The first is for those who name none
	Agreed    bool           // to the terms of the authority; required
	Email     string         // which the authority may write to; default: none
	Directory string         // of the authority; default: Let's Encrypt
	Roots     *x509.CertPool // whom to believe that it is the directory; default: the system's
	HTTP      net.Listener   // port 80, from the authority's point of view; nil: there is none

	renewEvery time.Duration // looks for what is to be renewed; 0: certmagic's default
	renewRatio float64       // of a life that is left when it is renewed; 0: certmagic's default
}

const (
	acmeFolder  = "acme"
	acmeTLS     = "acme-tls/1" // what an authority speaks when it looks whether a name is ours: RFC 8737
	acmeSoonest = time.Minute  // after a first failure; authorities count those
	acmeRarest  = time.Hour
	acmeGuests  = 256 // on port 80 at once
)

// acmeKeeper has its certificate from an authority that speaks ACME.
type acmeKeeper struct {
	ACME
	folder string
	port   net.Addr
	log    *slog.Logger
	config atomic.Pointer[certmagic.Config] // nil before run
	cache  atomic.Pointer[certmagic.Cache]  // nil before run
}

func newACME(a ACME, dir string, port net.Addr, log *slog.Logger) (*acmeKeeper, error) {
	if len(a.Domains) == 0 {
		return nil, errors.New("acme: there is no domain for which there could be a certificate")
	}
	if !a.Agreed {
		return nil, errors.New("acme: the authority's terms are not agreed to")
	}
	if a.Directory == "" {
		a.Directory = certmagic.LetsEncryptProductionCA
	}
	a.Domains = slices.Clone(a.Domains)
	return &acmeKeeper{ACME: a, folder: filepath.Join(dir, acmeFolder), port: port, log: log}, nil
}

var errNoCertificate = errors.New("there is no certificate yet")

func (k *acmeKeeper) tls() *tls.Config {
	return &tls.Config{
		NextProtos: []string{"h2", "http/1.1", acmeTLS},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := k.config.Load(); c != nil {
				return c.GetCertificate(hello)
			}
			return nil, errNoCertificate
		},
	}
}

func (k *acmeKeeper) ends() (first time.Time) {
	cache := k.cache.Load()
	if cache == nil {
		return first
	}
	for _, domain := range k.Domains {
		for _, c := range cache.AllMatchingCertificates(domain) {
			first = sooner(first, c.Leaf.NotAfter)
		}
	}
	return first
}

func (k *acmeKeeper) run(ctx context.Context) {
	var config *certmagic.Config
	logger := zap.New(&zapToSlog{log: k.log})
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return config, nil },
		RenewCheckInterval: k.renewEvery,
		Logger:             logger,
	})
	defer cache.Stop()
	k.cache.Store(cache)
	config = certmagic.New(cache, certmagic.Config{
		Storage:            &certmagic.FileStorage{Path: k.folder}, // files 0600, folders 0700
		DefaultServerName:  k.Domains[0],
		FallbackServerName: k.Domains[0],
		RenewalWindowRatio: k.renewRatio,
		DisableARI:         k.renewRatio != 0,
		OCSP:               certmagic.OCSPConfig{DisableStapling: true}, // another dependence on the authority, which has ended it
		Logger:             logger,
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				k.log.Info("a certificate was obtained", "domain", data["identifier"], "renewal", data["renewal"])
			case "cert_failed":
				k.log.Warn("no certificate could be obtained", "domain", data["identifier"], "renewal", data["renewal"], "err", data["error"])
			}
			return nil
		},
	})
	host, port := splitPort(k.port)
	issuer := certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{
		CA: k.Directory, Email: k.Email, Agreed: true, TrustedRoots: k.Roots,
		ListenHost: host, AltTLSALPNPort: port, // where we listen already, so that it does not
		DisableHTTPChallenge:      k.HTTP == nil,
		DisableDistributedSolvers: true, // this process is the only one
		Logger:                    logger,
	})
	if k.HTTP != nil {
		_, issuer.AltHTTPPort = splitPort(k.HTTP.Addr())
	}
	config.Issuers = []certmagic.Issuer{issuer}
	k.config.Store(config)

	var challenges sync.WaitGroup
	defer challenges.Wait()
	if k.HTTP != nil {
		server := &http.Server{
			Handler:        issuer.HTTPChallengeHandler(http.NotFoundHandler()), // callbacks are for TLS only
			ReadTimeout:    readWithin,
			WriteTimeout:   readWithin,
			MaxHeaderBytes: 4 << 10,
			ErrorLog:       slog.NewLogLogger(k.log.Handler(), slog.LevelDebug),
		}
		challenges.Go(func() { _ = server.Serve(netutil.LimitListener(k.HTTP, acmeGuests)) }) // its end is ours
		defer server.Close()
	}
	for wait := acmeSoonest; ; wait = min(2*wait, acmeRarest) {
		err := config.ManageSync(ctx, k.Domains)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		k.log.Error("no certificate: callbacks cannot arrive. Does the name lead here, to ports 443 or 80?", "domains", k.Domains, "err", err, "again", wait)
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
	<-ctx.Done() // the cache renews meanwhile
}

func splitPort(a net.Addr) (host string, port int) {
	host, text, err := net.SplitHostPort(a.String())
	if err != nil {
		return "", 0
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

// zapToSlog is a core of certmagic's logger. Each of its steps is worth a line to it; to an operator only what fails is.
type zapToSlog struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (z *zapToSlog) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l >= zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (z *zapToSlog) Enabled(l zapcore.Level) bool {
	return z.log.Enabled(context.Background(), z.level(l))
}

func (z *zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return &zapToSlog{z.log, slices.Concat(z.fields, fields)}
}

func (z *zapToSlog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return c.AddCore(e, z)
	}
	return c
}

func (z *zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	var facts []any
	for _, f := range slices.Concat(z.fields, fields) {
		f.AddTo(m)
	}
	for name, value := range m.Fields {
		facts = append(facts, name, fmt.Sprint(value))
	}
	z.log.Log(context.Background(), z.level(e.Level), "acme: "+e.Message, facts...)
	return nil
}

func (z *zapToSlog) Sync() error { return nil }
