package tunnel_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
)

// A world is a network in a bubble, on which edges and sidecars come and go, and that can be cut. It ends with the
// test, which fails if anything that was started then still runs.
type world struct {
	refused func(remote, endpoint string, why error) // of edges; nil: nobody is told
	t       *testing.T
	ca      authority
	history *history
	log     lines
	latency time.Duration
	delay   func(simnet.Packet) time.Duration // instead of latency, if set
	router  router
	ports   atomic.Int64               // given away
	from    atomic.Pointer[netip.Addr] // the sidecars' address, as set by move
	key     [32]byte

	tcpMu sync.Mutex
	tcp   map[string]*tcpListener // by address
}

var edgeAddr = &net.UDPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 443}

// inWorld runs f in a world of its own, beside the worlds of other tests.
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f(&world{t: t, ca: newAuthority(t), history: newHistory(), latency: 20 * time.Millisecond, key: [32]byte{1}})
	})
}

// overBoth is inWorld in two worlds: one as it is, and one in which there is no way for UDP.
func overBoth(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	for _, transport := range []string{tunnel.TransportQUIC, tunnel.TransportWebSocket} {
		t.Run(transport, func(t *testing.T) {
			t.Helper()
			inWorld(t, func(w *world) {
				w.router.noUDP.Store(transport == tunnel.TransportWebSocket)
				f(w)
			})
		})
	}
}

// router is the network between all sockets.
type router struct {
	simnet.PerfectRouter
	noUDP   atomic.Bool
	mu      sync.Mutex
	drop    func(p simnet.Packet) bool
	nat     *nat
	count   func(p simnet.Packet)
	counted *packets
}

func (r *router) SendPacket(p simnet.Packet) error {
	r.mu.Lock()
	drop, nat, count := r.drop, r.nat, r.count
	r.mu.Unlock()
	if count != nil {
		count(p)
	}
	if drop != nil && drop(p) || r.noUDP.Load() {
		return nil
	}
	if nat != nil {
		var ok bool
		if p, ok = nat.translate(p); !ok {
			return nil
		}
	}
	return r.PerfectRouter.SendPacket(p)
}

// dropping makes the network lose the packets that f says; nil loses none.
func (w *world) dropping(f func(p simnet.Packet) bool) {
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	w.router.drop = f
}

// move gives the sidecars' machine another address, or none. What was sent by the old one leads nowhere from now on.
func (w *world) move(to netip.Addr) {
	w.from.Store(&to)
	w.dropping(func(p simnet.Packet) bool {
		return !w.at(p.From) || !w.at(p.To)
	})
}

// at reports whether nobody has moved away from this address.
func (w *world) at(addr net.Addr) bool {
	ip := addr.(*net.UDPAddr).AddrPort().Addr().Unmap()
	return addr.String() == edgeAddr.String() || ip == w.route()
}

func (w *world) route() netip.Addr {
	if to := w.from.Load(); to != nil {
		return *to
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, 1})
}

func everything(simnet.Packet) bool { return true }

type socket struct {
	*simnet.SimConn
	link  *simnet.SimulatedLink
	close func() error
}

func (s *socket) Close() error { return s.close() }

func (w *world) socket(addr *net.UDPAddr) net.PacketConn {
	link := &simnet.SimulatedLink{Latency: w.latency, LatencyFunc: w.delay, UploadPacket: &w.router}
	s := &socket{SimConn: simnet.NewBlockingSimConn(addr, link), link: link}
	link.Start()
	w.router.AddNode(addr, link)
	s.close = sync.OnceValue(func() error {
		w.router.RemoveNode(addr)
		return errors.Join(s.SimConn.Close(), link.Close())
	})
	return s
}

// edge starts a Server on the world's history at the edge's address.
func (w *world) edge(more ...func(*tunnel.Server)) *edge {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &edge{world: w, cancel: cancel, socket: w.socket(edgeAddr), web: w.listenTCP((*net.TCPAddr)(edgeAddr)), done: make(chan error, 2)}
	e.Server = &tunnel.Server{
		History: w.history, TLS: w.ca.server(), ResetKey: &w.key, Logger: w.logger("edge"),
		Authorize: byName, Refused: w.refused,
	}
	for _, m := range more {
		m(e.Server)
	}
	go func() { e.done <- e.Serve(ctx, e.socket) }()
	go func() { e.done <- e.ServeWebSocket(ctx, tls.NewListener(e.web, e.WebSocketTLS())) }()
	w.t.Cleanup(e.stop)
	return e
}

type edge struct {
	*tunnel.Server
	world   *world
	cancel  context.CancelFunc
	socket  net.PacketConn
	web     *tcpListener
	done    chan error
	stopped sync.Once
}

// stop drains the edge.
func (e *edge) stop() {
	e.stopped.Do(func() {
		e.cancel()
		for range 2 {
			if err := <-e.done; err != nil {
				e.world.t.Errorf("serve: %v", err)
			}
		}
		e.socket.Close()
	})
}

// kill ends the edge without a word to anybody.
func (e *edge) kill() {
	e.world.dropping(func(p simnet.Packet) bool { return p.From.String() == edgeAddr.String() })
	e.web.die()
	e.stop()
	e.world.dropping(nil)
}

// sidecar starts a Client for the endpoint.
func (w *world) sidecar(endpoint string, s tunnel.Sink, more ...func(*tunnel.Client)) *sidecar {
	ctx, cancel := context.WithCancel(context.Background())
	c := &sidecar{world: w, cancel: cancel, done: make(chan error, 1)}
	c.Client = &tunnel.Client{
		Edge: "edge.example:443", TLS: w.ca.client(endpoint), Sink: s, Logger: w.logger("sidecar"),
		Listen: func() (net.PacketConn, error) {
			from := w.route()
			if !from.IsValid() {
				return nil, errors.New("network is unreachable")
			}
			return w.socket(&net.UDPAddr{IP: from.AsSlice(), Port: int(w.ports.Add(1))}), nil
		},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return w.dialTCP(ctx, (*net.TCPAddr)(edgeAddr))
		},
		Resolve: func(context.Context, string) (net.Addr, error) { return edgeAddr, nil },
		Route:   func(netip.AddrPort) netip.Addr { return w.route() },
	}
	for _, m := range more {
		m(c.Client)
	}
	go func() { c.done <- c.Run(ctx) }()
	w.t.Cleanup(c.stop)
	return c
}

type sidecar struct {
	*tunnel.Client
	world   *world
	cancel  context.CancelFunc
	done    chan error
	stopped sync.Once
}

func (c *sidecar) stop() {
	c.stopped.Do(func() {
		c.cancel()
		if err := <-c.done; err != nil {
			c.world.t.Errorf("run: %v", err)
		}
	})
}

// soon waits until ok holds, and says how long that took.
func (w *world) soon(within time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > within {
			w.t.Fatalf("not within %v: %s\n%s", within, what, &w.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// delivered waits until the sink has seen exactly these bodies in this order.
func (w *world) delivered(within time.Duration, s *sink, want []string) time.Duration {
	w.t.Helper()
	took := w.soon(within, "delivery", func() bool { return len(s.got()) >= len(want) })
	if got := s.got(); !slices.Equal(got, want) {
		w.t.Fatalf("delivered %d: %.300q\nwant %d: %.300q\n%s", len(got), got, len(want), want, &w.log)
	}
	return took
}

func (w *world) logger(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count says how many lines have all the words.
func (l *lines) count(words ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}
