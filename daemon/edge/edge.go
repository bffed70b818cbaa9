// Package edge is the public daemon: it takes callbacks over HTTP, keeps them in a journal, and hands them to sidecars
// through the tunnel.
//
//	Daraja ──POST /c/{key}/{ref}──▶ ingress ──Append──▶ journal ──Next──▶ tunnel.Server ──▶ sidecar
//	                                   │                                       │
//	                                   └── whose key? ──▶ directory ◀── whose key?
//	                                                         ▲
//	                        hodi edge invite SHOP ──▶ admin ─┘
//
// The files: edge.go opens and runs it all, settings.go is what may change meanwhile, port.go tells callbacks from sidecars, ingress.go is the public HTTP,
// source.go judges where callbacks come from, crowd.go bounds what strangers cost and clerk.go tells what they do,
// certificate.go and acme.go have the public certificate, directory.go knows the endpoints with their keys and
// sidecars, enrol.go lets sidecars in and puts them out, damage.go keeps them and the callbacks when the disk does not,
// identity.go is what is kept on disk beside the database, admin.go is the operator's socket, pulse.go says whether to start
// the edge anew would help, metrics.go what Prometheus is shown, audit.go writes down what was done, backup.go makes a copy
// of it all and puts it back.
package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/metrics"
	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/journal"
)

// Config is what an edge is made of. What says live can be changed while it runs: see Reload.
type Config struct {
	Dir       string         `reload:"start"` // state: edge.db, keys, lock, admin socket; required
	HTTP      net.Listener   `reload:"start"` // where callbacks arrive, and sidecars that cannot use UDP; required; TLS is the edge's affair
	TLS       *tls.Config    `reload:"start"` // with the public certificate; nil, and none of the two below: callbacks come without TLS. Sidecars never do
	UDP       net.PacketConn `reload:"start"` // where sidecars arrive; required
	Admin     net.Listener   `reload:"start"` // where the operator arrives; default: a unix socket, admin.sock in Dir, for its owner alone
	PublicURL string         `reload:"start"` // base of callback addresses; default "http://" or "https://" and the address of HTTP
	Limits    journal.Limits `reload:"live"`  // for each endpoint; the zero value is the journal's default
	Source    SourcePolicy   `reload:"live"`  // what to think of callbacks that come from elsewhere than Safaricom; default SourceFlag
	Ranges    []netip.Prefix `reload:"live"`  // from which callbacks are Safaricom's besides the addresses that it publishes
	Proxies   []netip.Prefix `reload:"live"`  // whose word for where a callback came from is believed (X-Forwarded-For)
	// CertificateFile and KeyFile are the public certificate in place of TLS, in PEM; they are read again when they change.
	CertificateFile, KeyFile string `reload:"start"`
	ACME                     *ACME  `reload:"start"` // or the edge gets one by itself
	// ProxyHeader: Proxies begin each connection with a PROXY protocol header, version 1 or 2. Nobody else may.
	ProxyHeader bool `reload:"live"`
	// NewIdentity has another authority made where the one that sidecars know is lost: they all have to join anew. If it is there,
	// nothing happens to it.
	NewIdentity bool          `reload:"start"`
	Metrics     net.Listener  `reload:"start"` // where Prometheus asks (GET /metrics), and nobody is asked for a key; default: nowhere
	Version     string        `reload:"start"` // of Hodi, for Metrics
	Notify      []notify.Way  `reload:"live"`  // by which a person is told of what somebody should see to; default: nobody is
	Drain       time.Duration `reload:"start"` // for requests that are under way when Run is told to end; default 3 s
	Logger      *slog.Logger  `reload:"start"` // default: nothing is logged
}

// Edge is the daemon.
type Edge struct {
	config    Config // what of it only a start changes; the rest is settings'
	settings  atomic.Pointer[settings]
	reloading sync.Mutex                     // held to change settings
	reloaded  atomic.Pointer[reload.Outcome] // nil: never
	log       *slog.Logger
	lock      *flock.Flock
	identity  *identity
	journal   journal.Journal
	disk      disk // what the journal is on
	directory *directory
	clerk     *clerk
	keeper    keeper // of the public certificate; nil: it is in config.TLS, or there is none
	port      *port
	ingress   *ingress
	tunnel    *tunnel.Server
	admin     net.Listener // nil: the folder takes no socket
	tally     *tally
	waiting   waiting
	outlook   *outlook
	notifier  *notify.Notifier
}

// disk is what an edge asks of a journal on a disk besides.
type disk interface {
	Damaged() <-chan struct{}
	Probe(ctx context.Context) error
	Commit(ctx context.Context) error
	Lost(endpoint string) int
	Held(endpoint string) (held, limit int64)
	SetLimits(journal.Limits)
}

// Open opens the state in c.Dir, and makes what is missing. Nothing is read or written on the network before Run.
func Open(ctx context.Context, c Config) (_ *Edge, err error) {
	if c.Dir == "" || c.HTTP == nil || c.UDP == nil {
		return nil, errors.New("edge: open: Dir, HTTP and UDP are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Drain == 0 {
		c.Drain = 3 * time.Second
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://" + c.HTTP.Addr().String()
		if c.TLS != nil || c.CertificateFile != "" || c.ACME != nil {
			c.PublicURL = "https://" + c.HTTP.Addr().String()
		}
	}
	e := &Edge{config: reload.Merge(c, Config{}), log: c.Logger, tally: newTally(), outlook: newOutlook()}
	set, err := newSettings(c)
	if err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	e.settings.Store(set)
	defer func() {
		if err != nil {
			e.release()
		}
	}()
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	if e.lock, err = lock(c.Dir); err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	if err := state.Finish(c.Dir); err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	if err := e.openState(ctx); err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	known := e.directory.joined()
	if e.identity, err = loadIdentity(c.Dir, known, c.NewIdentity); err != nil { // after the database: where there are keys, there was one
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	if e.identity.made && known > 0 {
		e.log.Warn("this edge has another identity: every sidecar has to join anew (hodi edge invite SHOP)", "sidecars", known)
		e.directory.audit.record(ctx, whoEdge, actIdentity, whoEdge, fmt.Sprintf("%d sidecars have to join anew", known))
	}
	public := c.TLS
	if e.keeper, err = openKeeper(c); err != nil {
		return nil, fmt.Errorf("edge: open: %w", err)
	}
	if e.keeper != nil {
		public = e.keeper.tls()
	}
	e.clerk = newClerk(c.Logger, e.directory.audit.refused)
	e.ingress = &ingress{journal: e.journal, probe: e.disk.Probe, delivers: e.delivers, find: e.directory.find, settings: &e.settings, clerk: e.clerk, tally: e.tally, log: c.Logger}
	e.tunnel = &tunnel.Server{
		History:   e.journal,
		Authorize: e.directory.authorize,
		Issue:     e.issue,
		Admitted:  func(remote string) { e.port.crowd.admitted(remote) },
		Refused:   e.refused,
		Doubts:    e.doubted,
		TLS:       e.identity.tls(),
		ResetKey:  &e.identity.reset,
		Logger:    c.Logger,
	}
	e.port = newPort(c.HTTP, public, e.tunnel.WebSocketTLS(), &e.settings, e.clerk, c.Logger)
	e.notifier = e.newNotifier()
	e.admin = e.adminListener() // before anybody hears that this edge is there: who hears it may come at once
	return e, nil
}

// Check says what is wrong with c, as far as that can be said without the state and the ports.
func Check(c Config) error {
	if _, err := newSettings(c); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	return nil
}

// Run serves until ctx is done, and then takes nothing new and finishes what is in flight. It returns nil then; before
// that, only when a port fails, or the database turns out to be damaged: the next Open salvages what is left of it.
func (e *Edge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	clerking, clerked := context.WithCancel(context.WithoutCancel(ctx))
	var clerk sync.WaitGroup
	clerk.Go(func() { e.clerk.run(clerking) })
	defer func() { // when there is nobody left of whom there is something to tell
		clerked()
		clerk.Wait()
	}()
	parts.Go(func() {
		if err := e.port.serve(); err != nil {
			cancel(fmt.Errorf("edge: serve: %w", err))
		}
	})
	if e.keeper != nil {
		parts.Go(func() { e.keeper.run(ctx) })
	}
	public := e.ingress.server(e.log)
	e.serve(&parts, cancel, public, &e.port.callbacks)
	admin := e.adminServer()
	if e.admin != nil {
		e.serve(&parts, cancel, admin, e.admin)
	}
	parts.Go(func() {
		if err := e.tunnel.Serve(ctx, e.config.UDP); err != nil {
			cancel(fmt.Errorf("edge: tunnel: %w", err))
		}
	})
	parts.Go(func() {
		if err := e.tunnel.ServeWebSocket(ctx, &e.port.links); err != nil {
			cancel(fmt.Errorf("edge: tunnel: %w", err))
		}
	})
	if e.config.Metrics != nil {
		parts.Go(func() { metrics.Serve(ctx, e.config.Metrics, e.registry(), e.log) })
	}
	parts.Go(func() { e.keepSeen(ctx) })
	parts.Go(func() { e.keepExpiring(ctx) })
	parts.Go(func() { e.notifier.Run(ctx) })
	e.ingress.ready.Store(true)

	select {
	case <-ctx.Done():
	case <-e.disk.Damaged():
		cancel(nil)
	}
	e.ingress.ready.Store(false)
	e.port.stop()
	drain, done := context.WithTimeout(context.Background(), e.config.Drain)
	defer done()
	for _, s := range []*server{public, admin} {
		parts.Go(func() { s.stop(drain) })
	}
	parts.Wait()
	select {
	case <-e.disk.Damaged(): // also if that came out only now
		return e.damaged()
	default:
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (e *Edge) serve(parts *sync.WaitGroup, failed context.CancelCauseFunc, s *server, l net.Listener) {
	s.listener = l
	s.serving.Add(1)
	parts.Go(func() {
		defer s.serving.Done()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			failed(fmt.Errorf("edge: serve: %w", err))
		}
	})
}

// Close releases the state and both ports. Run must have returned.
func (e *Edge) Close() error {
	return errors.Join(e.release(), closed(e.config.HTTP.Close()), closed(e.config.UDP.Close()))
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (e *Edge) release() error {
	var errs []error
	if e.admin != nil {
		errs = append(errs, closed(e.admin.Close()))
	}
	if e.config.Metrics != nil {
		errs = append(errs, closed(e.config.Metrics.Close()))
	}
	if e.journal != nil {
		errs = append(errs, e.journal.Close())
	}
	if e.directory != nil {
		e.directory.audit.finish(context.Background())
		errs = append(errs, e.directory.close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Unlock())
	}
	return errors.Join(errs...)
}

// CA is the certificate, in PEM, that sidecars must pin.
func (e *Edge) CA() []byte { return e.identity.pem }

// Registered is an endpoint as its owner needs to know it.
type Registered struct {
	Name        string
	CallbackURL string // of its newest key; "/" and a ref behind it name one payment
}

// SetEndpoint makes an endpoint, with its first key, if there is none of this name.
func (e *Edge) SetEndpoint(ctx context.Context, name string) (Registered, error) {
	r, made, err := e.directory.ensure(ctx, whoEdge, name)
	if err != nil {
		return r, fmt.Errorf("edge: set endpoint: %w", err)
	}
	if made {
		e.log.Info("endpoint added", "endpoint", name)
	}
	return r, nil
}

const seenEvery = 10 * time.Minute

// keepSeen writes down now and then, and when ctx ends, when sidecars were last seen and keys last used.
func (e *Edge) keepSeen(ctx context.Context) {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		sidecars := make(map[string]time.Time)
		for _, endpoint := range e.Endpoints() {
			sidecars[endpoint.Name] = e.tunnel.Seen(endpoint.Name)
		}
		for _, l := range e.tunnel.Links() {
			sidecars[l.Endpoint] = time.Now()
		}
		if err := e.directory.seen(context.WithoutCancel(ctx), sidecars); err != nil {
			e.log.Warn("when sidecars were last seen could not be written down", "err", err)
		}
	}
}

// AddKey gives an endpoint another key, beside those that it has. An empty name becomes the next of key-1, key-2 and so
// on; an empty kind is notice. who is for the audit.
func (e *Edge) AddKey(ctx context.Context, who, endpoint, name, kind string) (Key, error) {
	k, err := e.directory.addKey(ctx, who, endpoint, name, kind)
	if err != nil {
		return k, fmt.Errorf("edge: add key: %w", err)
	}
	e.log.Info("key added", "endpoint", endpoint, "key", k.Name)
	return k, nil
}

// RetireKey ends a key: what is posted to it is not found any more. The last key of an endpoint stays.
func (e *Edge) RetireKey(ctx context.Context, who, endpoint, name string) error {
	if err := e.directory.retireKey(ctx, who, endpoint, name); err != nil {
		return fmt.Errorf("edge: retire key: %w", err)
	}
	e.log.Warn("key retired", "endpoint", endpoint, "key", name)
	return nil
}

// Endpoints lists all endpoints by name.
func (e *Edge) Endpoints() []Endpoint { return e.directory.list() }

// adminListener is the operator's door. A folder in which no socket can be made is no reason to refuse callbacks.
func (e *Edge) adminListener() net.Listener {
	if e.config.Admin != nil {
		return e.config.Admin
	}
	l, err := console.Listen(e.config.Dir)
	if err != nil {
		e.log.Warn("no admin socket (is the folder's path too long for one?)", "err", err)
		return nil
	}
	return l
}
