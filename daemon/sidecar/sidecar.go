// Package sidecar is the daemon beside the merchant's app: it takes callbacks from the edge, keeps every payment's state,
// and tells tills, pages and the app, the moment it is known.
//
// The files, in the order in which things happen: sidecar.go opens and runs the parts, keys.go and refkeys.go are what lies in the data
// folder, settings.go is what may change while it runs and reload.go changes it, identity.go is how it is known at its edge, routes.go leads a request to its answer, origins.go asks who calls and tills.go who may listen besides the
// app, certificate.go is for those who come over TLS, body.go reads what they say and problem.go
// says why not. sessions.go, initiate.go and payments.go are how payments begin and are looked up; callbacks.go and
// webhook.go are the ways in for callbacks besides the tunnel, expect.go knows when one may come. stream.go is one reader
// of the history, whatever the transport: websocket.go and sse.go. pages.go serves what people see, admin.go is the operator's socket and decide.go and forget.go what a person decides, ledger.go the books,
// forward.go is how the merchant's app gets its callbacks,
// status.go, asking.go and clock.go say how the sidecar is, pulse.go whether to start it anew would help, backup.go makes a copy of what is on disk and puts it back.
package sidecar

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/daemon/metrics"
	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/hub"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Config says what a sidecar is. Dir and Listener are needed; for everything else the zero value will do. What says live can be
// changed while the sidecar runs: see Reload.
type Config struct {
	Dir      string       `reload:"start"` // where the database and the keys are; made if missing
	Listener net.Listener `reload:"start"` // where the app, the pages and the subscribers come in; the sidecar's own once it is open
	Admin    net.Listener `reload:"start"` // where the operator comes in; default: a unix socket, admin.sock in Dir, for its owner alone
	Dev      bool         `reload:"start"` // development: any session id, no API key, the webhook route. Only on loopback

	Edge      string `reload:"start"` // the edge's host:port; default: that of the join code. A sidecar that has not joined an edge has no tunnel
	WebSocket string `reload:"start"` // the edge's host:port where UDP is blocked; default: Edge
	Metered   bool   `reload:"start"` // spare the bytes of the tunnel: it pings rarely, except while a payment is pending

	// Canary is how often the edge is asked for a canary, by which it is known that callbacks get through; at most every
	// second. Default: every half minute, or every two minutes when Metered.
	Canary time.Duration `reload:"start"`

	Shortcodes []daraja.Shortcode `reload:"live"`  // what customers pay to; default: none, and then nothing is ever pushed from here
	DarajaURL  string             `reload:"live"`  // default: Safaricom's own host for each shortcode's environment
	DarajaHTTP *http.Client       `reload:"start"` // default: daraja.NewHTTPClient()

	Businesses map[string]string `reload:"live"` // by a shortcode's name: what customers know its business by, for the checkout page; default: not said

	// TLS for Listener, as files in PEM that are read again when they change. Beyond loopback either they are needed, or that
	// somebody says that plain HTTP will do: a proxy has the certificate, or nobody else is on that network.
	CertificateFile, KeyFile string `reload:"start"`
	PlainHTTP                bool   `reload:"start"`

	Origins         []string `reload:"live"`  // origins of web pages that may call: "https://shop.example"; default: only our own
	Hosts           []string `reload:"live"`  // names that this sidecar answers to besides loopback's and those of PublicURL and Origins; default: none
	AcceptCallbacks bool     `reload:"live"`  // take callbacks on POST /c/{key}/{ref} too; default: only through the tunnel
	Connections     int      `reload:"start"` // from apps, pages and tills, at a time; default: 8,192
	PublicURL       string   `reload:"live"`  // the address under which others reach this sidecar; default: http:// and the listener's

	QueryAbove map[string]push.Money `reload:"live"` // by a shortcode's name: ask Daraja before a success of more than this counts; default: believe callbacks

	// Prompts that are sent and not paid, at most, from whatever session, till and shortcode; less than 0: as many as there are.
	PromptsPerPhone    int `reload:"live"` // on one phone in an hour; default: 6, and in dev no limit
	PromptsPerPhoneDay int `reload:"live"` // on one phone in a day; default: 20, and in dev no limit
	PromptsPerSession  int `reload:"live"` // of one session in an hour; default: 10, and in dev no limit

	// What one till may ask for, paid or not; less than 0: as much as it likes.
	PromptsPerTill     int `reload:"live"` // in a minute; default: 12
	PromptsPerTillHour int `reload:"live"` // in an hour; default: 120

	KeepBodies   time.Duration `reload:"live"` // of callbacks, which hold numbers and names; default: 90 days; less than 0: for ever
	KeepPayments time.Duration `reload:"live"` // at least 30 days; default: for ever

	Forward           string            `reload:"live"`  // the app's URL, which is given each callback; default: none
	ForwardInsecure   bool              `reload:"live"`  // over plain HTTP also to another machine
	ForwardSecretFile string            `reload:"live"`  // what those requests are signed with: whsec_ and base64, a line for each; default: ForwardSecret in Dir, made if missing
	ForwardAtOnce     int               `reload:"live"`  // how many of them may be under way; default: 8
	ForwardHTTP       http.RoundTripper `reload:"start"` // default: package forward's own

	UnknownAfter     time.Duration `reload:"live"` // say UNKNOWN after so much silence; default: 90 s
	FirstAsk         time.Duration `reload:"live"` // ask Daraja after so much silence; default: 30 s
	QueriesPerMinute int           `reload:"live"` // ask Daraja at most so often with one consumer key; default: 5

	PhoneURL, EdgeURL, SandboxURL string `reload:"start"` // dev: where the pretend phone, the edge and the pretend Safaricom are, for the pages

	ListenPacket func() (net.PacketConn, error)                                       `reload:"start"` // the tunnel's socket; default: UDP on any port
	Resolve      func(ctx context.Context, hostport string) (net.Addr, error)         `reload:"start"` // of Edge; default: the system's resolver
	Dial         func(ctx context.Context, network, address string) (net.Conn, error) `reload:"start"` // TCP to Edge or Proxy; default: net.Dialer
	Proxy        func(*url.URL) (*url.URL, error)                                     `reload:"start"` // to Edge, for a WebSocket; default: none
	Metrics      net.Listener                                                         `reload:"start"` // where Prometheus asks (GET /metrics), and nobody is asked for a key; default: nowhere
	Version      string                                                               `reload:"start"` // of Hodi, for Metrics
	Logger       *slog.Logger                                                         `reload:"start"` // default: silence
}

// How long things may take when Run is asked to end. Together they stay under a second.
const (
	drainRequests = 250 * time.Millisecond // for answers that are being written
	drainSockets  = 250 * time.Millisecond // for the other end to say goodbye
	drainPushes   = 300 * time.Millisecond // for Daraja to answer what was just sent; then the payment is UNKNOWN
)

// ringSize is how many of the newest events are kept in memory: some megabytes, and minutes of a very busy shop.
const ringSize = 4096

// Sidecar is one running sidecar.
type Sidecar struct {
	config   Config // what of it only a start changes; the rest is settings'
	settings atomic.Pointer[settings]
	reloaded atomic.Pointer[reload.Outcome] // nil: never

	reloading sync.Mutex              // held to change settings
	forwarder *forward.Forwarder      // nil: there was never an app; of who reloads
	forwards  chan *forward.Forwarder // for Run to run

	log *slog.Logger

	lock     *flock.Flock
	table    *correlate.Table
	hub      *hub.Hub
	identity *identity      // at the edge; nil if this sidecar has joined none
	tunnel   *tunnel.Client // nil without an edge
	admin    net.Listener   // nil: the folder takes no socket
	expected expectation
	tally    *tally
	daraja   *http.Client

	keys    sync.Mutex // held to change the keys behind refs, or to look at them
	refKeys []refKey

	apiKey     string
	inbox      string // the {key} of our own callback address
	onLoopback bool
	machine    string // the name of this one

	damaged                   chan error // has why, once the database turned out to be damaged
	restarted                 bool       // this folder was a sidecar's before
	started                   time.Time
	subscribers               limits // readers of events
	tills                     tills
	tillPrompts, tillSessions turns
	certificate               *certificate   // nil: plain HTTP
	requests                  gate           // every request, until it is answered or handed to a socket
	sockets                   sync.WaitGroup // WebSockets; begun only within a request
	pushes                    sync.WaitGroup // what initiate began; begun only within a request
}

// Open makes ready what the sidecar needs on disk. Nothing is served and nothing is dialled before Run.
func Open(ctx context.Context, config Config) (_ *Sidecar, err error) {
	s := newSidecar(config, config.Logger)
	defer func() {
		if err != nil {
			err = fmt.Errorf("sidecar: open: %w", errors.Join(err, s.release()))
		}
	}()
	if err := s.place(); err != nil {
		return nil, err
	}
	set, err := newSettings(config, s.daraja, nil)
	if err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(config.Dir); err != nil {
		return nil, err
	}
	if err := state.Finish(config.Dir); err != nil {
		return nil, err
	}
	if s.restarted, err = hasKey(config.Dir); err != nil {
		return nil, err
	}
	if s.refKeys, err = loadRefKeys(config.Dir, s.log); err != nil {
		return nil, err
	}
	app, err := loadKey(config.Dir, apiKey, 32, s.log)
	if err != nil {
		return nil, err
	}
	inbox, err := loadKey(config.Dir, inboxKey, 16, s.log)
	if err != nil {
		return nil, err
	}
	s.apiKey, s.inbox = hex.EncodeToString(app), hex.EncodeToString(inbox)

	if err := s.openTable(ctx, set.config); err != nil {
		return nil, err
	}
	s.hub = hub.New(ringSize, s.table.Head(), s.load)
	set.watch = s.newWatch(set)
	if _, err := s.prepareForward(ctx, set); err != nil {
		return nil, err
	}
	s.settings.Store(set)
	if s.identity, err = loadIdentity(config.Dir, s.log); err != nil {
		return nil, err
	}
	switch {
	case s.identity == nil && config.Edge != "":
		return nil, fmt.Errorf("this sidecar has not joined the edge at %s: make a join code there (hodi edge invite SHOP), and use it here (hodi join)", config.Edge)
	case s.identity != nil:
		if err := s.openTunnel(inbox); err != nil {
			return nil, err
		}
	}
	s.admin = s.adminListener() // before anybody hears that this sidecar is there: who hears it may come at once
	s.started = time.Now()
	return s, nil
}

// Check says what is wrong with config, as far as that can be said without the state. Of Listener it asks the address alone.
func Check(config Config) error {
	s := newSidecar(config, nil)
	if err := s.place(); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	if _, err := newSettings(config, s.daraja, nil); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	return nil
}

func newSidecar(c Config, log *slog.Logger) *Sidecar {
	s := &Sidecar{config: reload.Merge(c, Config{}), log: log, daraja: c.DarajaHTTP, tally: newTally(), forwards: make(chan *forward.Forwarder, 1), damaged: make(chan error, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.daraja == nil {
		s.daraja = daraja.NewHTTPClient()
	}
	return s
}

// place checks what a sidecar stands on, which stays as long as it does.
func (s *Sidecar) place() (err error) {
	c := s.config
	if c.Listener == nil {
		return errors.New("nothing to serve on: set Listener")
	}
	s.onLoopback = loopbackOnly(c.Listener.Addr())
	if name, err := os.Hostname(); err == nil {
		s.machine = strings.ToLower(name)
	}
	if c.Dev && !s.onLoopback {
		return fmt.Errorf("dev asks nobody for a key, so it does not serve %s: listen on 127.0.0.1", c.Listener.Addr())
	}
	if (c.CertificateFile == "") != (c.KeyFile == "") {
		return errors.New("a certificate needs its key, and a key its certificate: set CertificateFile and KeyFile")
	}
	if c.CertificateFile != "" {
		if s.certificate, err = loadCertificate(c.CertificateFile, c.KeyFile, s.log); err != nil {
			return err
		}
	}
	if s.certificate == nil && !s.onLoopback && !c.PlainHTTP {
		return fmt.Errorf("%s can be reached from other machines, and there is no certificate: everybody on the way could read payments and take a till's place", c.Listener.Addr())
	}
	return nil
}

func (s *Sidecar) openTunnel(key []byte) error {
	s.config.Edge = cmp.Or(s.config.Edge, s.identity.file.Edge)
	id, err := instance(key, s.config.Dir)
	if err != nil {
		return err
	}
	s.tunnel = &tunnel.Client{
		Edge: s.config.Edge, WebSocket: s.config.WebSocket, TLS: s.identity.tls(), Expired: s.identity.mustRenew, Instance: id, Sink: timed{welcoming{s.table, s.identity}, func() time.Duration { return s.tunnel.Status().Skew }, s.tally},
		Listen: s.config.ListenPacket, Resolve: s.config.Resolve, Dial: s.config.Dial, Proxy: s.config.Proxy,
		Metered: s.config.Metered, Canary: s.config.canary(), Doubts: s.table.Disbelieved, Logger: s.log,
	}
	// The payments of the process before this one are not counted: for as long as one may be pending, some is.
	s.tunnel.Expect(time.Now().Add(s.unknownAfter()))
	return nil
}

func (c *Config) canary() time.Duration {
	if c.Canary > 0 {
		return max(c.Canary, wire.MinCanary)
	}
	if c.Metered {
		return tunnel.CanaryMetered
	}
	return tunnel.CanaryEvery
}

// publish hands what was committed to the readers. The table calls it under the lock that orders its commits.
func (s *Sidecar) publish(events []correlate.Event) {
	out := make([]hub.Event, len(events))
	for i, e := range events {
		out[i] = hub.Event{Seq: e.Seq, Session: e.Session, Data: e.Encoded}
	}
	s.hub.Publish(out...)
	if s.tunnel != nil && s.config.Metered {
		s.tunnel.Expect(s.expected.note(events, s.unknownAfter()))
	}
}

// unknownAfter is how long a payment stays PENDING.
func (s *Sidecar) unknownAfter() time.Duration {
	return cmp.Or(s.settings.Load().config.UnknownAfter, 90*time.Second)
}

// load reads what the hub no longer holds.
func (s *Sidecar) load(ctx context.Context, session string, after uint64, limit int) ([]hub.Event, error) {
	events, err := s.table.Events(ctx, session, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]hub.Event, len(events))
	for i, e := range events {
		out[i] = hub.Event{Seq: e.Seq, Session: e.Session, Data: e.Encoded}
	}
	return out, nil
}

// cursor is a place in the history of this sidecar's events.
func (s *Sidecar) cursor(seq uint64) push.Cursor {
	return push.Cursor{Epoch: s.table.Epoch(), Seq: seq}
}

// Run serves until ctx ends. It may be called once.
//
//	┌────────── Run ───────────────────────────────────────────────────────────────────────────────┐
//	│                                                                                              │
//	│  tunnel.Client ──Apply──▶ correlate.Table ──publish──▶ hub.Hub ──Next──▶ sockets, SSE, waits │
//	│                             ▲    ▲    ▲                                   (one reader each)  │
//	│  http.Server ──Receive──────┘    │    └──Answer, Silence── watch.Watch ◀──▶ Daraja           │
//	│       │                          │                                                           │
//	│       └──initiate──▶ pushes ─────┘ Begin, Accepted ...                                       │
//	│                        ◀──▶ Daraja       correlate.Outbox ──Next──▶ forward ──▶ the app      │
//	└──────────────────────────────────────────────────────────────────────────────────────────────┘
//
// It ends in this order: readers are told to go and come back, requests are answered, pushes that are with Daraja get a
// moment, then the links are down and everything has ended.
func (s *Sidecar) Run(ctx context.Context) error {
	group, life := errgroup.WithContext(ctx)
	work, cancelWork := context.WithCancel(context.WithoutCancel(ctx)) // a push outlives the browser, and Run for a moment
	defer cancelWork()

	server := &http.Server{
		Handler:           s.routes(life, work),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      pushDeadline + writeTime, // the slowest answer is that to a push; streams have deadlines of their own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		if err := s.serveApp(server); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("sidecar: serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-life.Done()
		s.drain(server, cancelWork)
		return nil
	})
	group.Go(func() error { return s.serveOperator(life) })
	group.Go(func() error { return s.keepWatch(life) })
	group.Go(func() error { return s.table.Checkpoint(life) })
	group.Go(func() error { return s.table.Retain(life) })
	group.Go(func() error {
		select {
		case why := <-s.damaged:
			return s.met(why)
		case <-life.Done():
			return nil
		}
	})
	group.Go(func() error { return s.keepForward(life) })
	if s.config.Metrics != nil {
		group.Go(func() error {
			metrics.Serve(life, s.config.Metrics, s.registry(), s.log)
			return nil
		})
	}
	if s.tunnel != nil {
		group.Go(func() error { return s.tunnel.Run(life) })
		group.Go(func() error { return s.keepClock(life) })
		group.Go(func() error {
			s.identity.keep(life, s.tunnel.Renew)
			return nil
		})
	}
	return group.Wait()
}

func (s *Sidecar) drain(server *http.Server, cancelWork context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), drainRequests)
	defer cancel()
	impatient := time.AfterFunc(drainPushes, cancelWork)
	defer impatient.Stop()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	s.requests.shut()
	s.pushes.Wait()
	s.sockets.Wait()
}

// Close gives back what Open took. It is called after Run has returned, or in its place.
func (s *Sidecar) Close() error {
	err := s.release()
	if e := s.config.Listener.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("sidecar: close: %w", err)
	}
	return nil
}

func (s *Sidecar) release() (err error) {
	if s.admin != nil {
		if e := s.admin.Close(); !errors.Is(e, net.ErrClosed) {
			err = e
		}
	}
	if s.config.Metrics != nil {
		if e := s.config.Metrics.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	if s.table != nil {
		err = errors.Join(err, s.table.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	return err
}

// A gate counts those inside, and once shut lets nobody in.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) leave() { g.inside.Done() }

// shut waits until all have left.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
