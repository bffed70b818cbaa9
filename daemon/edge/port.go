package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/hodihq/hodi/tunnel/wire"
)

// port is the edge's TCP port. Two kinds of guests come there, and are told apart before anything is asked of them:
// sidecars that cannot use UDP speak TLS and name the tunnel's server name; all others are Safaricom, or take
// themselves for it, and speak TLS with another name or, where the edge has no public certificate, plain HTTP. Neither
// gets to see what is for the other.
//
//	           ┌─ TLS, tunnel.hodi.internal ──▶ links      the private CA's certificate
//	Accept ──▶ ┼─ TLS, another name or none ──▶ callbacks  the public certificate
//	           └─ no TLS ─────────────────────▶ callbacks  where there is no public certificate
type port struct {
	listener net.Listener
	plain    bool // callbacks come without TLS
	tls      *tls.Config
	settings *atomic.Pointer[settings]
	crowd    *crowd
	clerk    *clerk
	log      *slog.Logger
	gate     chan struct{} // as many as strangers may use processors at a time

	callbacks, links hall
	accepted         atomic.Int64
	refused          atomic.Int64 // for being too many

	mu     sync.Mutex
	fresh  map[*guest]bool // it is not known which kind they are
	ended  bool
	inside sync.WaitGroup
	empty  chan struct{} // closed when serve has returned
	ending chan struct{} // closed when stop is called
}

// When the port is stopped, those who had come before are still let in: they were told that they are connected, and
// what they are about to say is said only once.
const (
	queueFor = 100 * time.Millisecond // for those who stand before the door: the system has taken them, we have not
	queueGap = time.Millisecond       // without one, nobody stands there any more
	freshFor = 500 * time.Millisecond // for those of whom nothing was heard yet: a TLS handshake from afar
)

const recordHandshake = 0x16 // the first byte of TLS, and of no HTTP

var (
	errNoName = errors.New("there is no certificate for this name")
	errHasty  = errors.New("too many handshakes, and never a callback, or a sidecar")
)

// newPort makes the port. public is nil where callbacks come without TLS.
func newPort(l net.Listener, public, tunnel *tls.Config, set *atomic.Pointer[settings], k *clerk, log *slog.Logger) *port {
	if public != nil {
		public = public.Clone()
		public.MinVersion = max(public.MinVersion, tls.VersionTLS12) // TLS 1.0 for lack of a word is not what anybody wants
	}
	var p *port
	choose := func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if tunnel := isTunnel(hello.ServerName); (tunnel || public != nil) && !p.unhurried(hello.Conn, tunnel) {
			return nil, errHasty
		}
		switch {
		case isTunnel(hello.ServerName):
			return tunnel.GetConfigForClient(hello)
		case public == nil:
			return nil, errNoName
		case public.GetConfigForClient != nil:
			if c, err := public.GetConfigForClient(hello); c != nil || err != nil {
				return c, err
			}
		}
		return public, nil
	}
	p = &port{
		listener: l, plain: public == nil, tls: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: choose},
		settings: set, crowd: newCrowd(func(a netip.Addr) bool { return set.Load().sources.friendly(a) }), clerk: k, log: log, gate: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		callbacks: newHall(l.Addr()), links: newHall(l.Addr()), fresh: make(map[*guest]bool), empty: make(chan struct{}), ending: make(chan struct{}),
	}
	return p
}

func isTunnel(name string) bool { return strings.EqualFold(name, wire.ServerName) }

// serve accepts until the port is stopped, and returns nil then. All it started has ended when it returns.
func (p *port) serve() error {
	defer close(p.empty)
	defer p.settle()
	var wait time.Duration
	for {
		c, err := p.listener.Accept()
		if err != nil {
			p.mu.Lock()
			ended := p.ended
			p.mu.Unlock()
			if ended {
				p.acceptRest()
				return nil
			}
			if t, ok := errors.AsType[interface {
				error
				Temporary() bool
			}](err); ok && t.Temporary() { // too many open files, say: that passes
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				p.log.Warn("callbacks and sidecars cannot be taken", "err", err, "again", wait)
				time.Sleep(wait)
				continue
			}
			return err
		}
		wait = 0
		p.accepted.Add(1)
		p.enter(c)
	}
}

// acceptRest lets in who stands before the door when the port is stopped: to close it would reset them.
func (p *port) acceptRest() {
	for until := time.Now().Add(queueFor); time.Now().Before(until) && p.expire(time.Now().Add(queueGap)); {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.enter(c)
	}
}

// stop ends accepting, and waits until all who had come are with those who serve them, or gone.
func (p *port) stop() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	close(p.ending)
	if !p.expire(time.Now()) {
		p.listener.Close()
	}
	<-p.empty
}

// expire sets when Accept gives up, where the listener knows of such a time.
func (p *port) expire(at time.Time) bool {
	l, ok := p.listener.(interface{ SetDeadline(time.Time) error })
	return ok && l.SetDeadline(at) == nil
}

// settle closes the door, and drops those of whom nothing is heard for a while.
func (p *port) settle() {
	p.listener.Close()
	impatient := time.AfterFunc(freshFor, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.fresh {
			c.Close()
		}
	})
	defer impatient.Stop()
	p.inside.Wait()
}

func (p *port) enter(c net.Conn) {
	g := &guest{Conn: c, crowd: p.crowd}
	if p.crowded(g) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh[g] = true
	p.inside.Go(func() { p.welcome(g) })
}

// crowded ends g if there is no place for it.
func (p *port) crowded(g *guest) bool {
	err := p.crowd.enter(g)
	if err != nil {
		p.refused.Add(1)
		g.Conn.Close()
		p.clerk.note("connections turned away", "port", g.RemoteAddr().String(), "err", err)
	}
	return err != nil
}

// welcome finds out who g is, and hands it on. Until then it has as much time as the header of a request.
func (p *port) welcome(g *guest) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.fresh, g)
	}()
	g.SetDeadline(time.Now().Add(readWithin))
	if set := p.settings.Load(); set.config.ProxyHeader && !p.introduce(g, set.sources) {
		return
	}
	var first [1]byte
	if _, err := io.ReadFull(g, first[:]); err != nil {
		g.Close()
		return
	}
	g.first = first[:]
	if first[0] != recordHandshake {
		if !p.plain {
			io.WriteString(g, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS port.\n")
			g.Close()
			return
		}
		p.handOver(g, &p.callbacks)
		return
	}
	t := tls.Server(g, p.tls)
	if err := p.shake(t, g); err != nil {
		p.log.Debug("no TLS with a guest", "remote", g.RemoteAddr().String(), "err", err)
		g.Close()
		return
	}
	if t.ConnectionState().NegotiatedProtocol == acmeTLS { // an authority, which has seen what it came for
		t.Close()
		return
	}
	to := &p.callbacks
	if isTunnel(t.ConnectionState().ServerName) {
		p.crowd.leave(g) // the tunnel counts those who have not said Hello by itself
		to = &p.links
	}
	p.handOver(t, to)
}

// introduce hears from a proxy that is trusted for whom it speaks (PROXY protocol, version 1 or 2). Nobody else is asked:
// what looks like such a header is then a request that is none.
func (p *port) introduce(g *guest, s *sources) bool {
	if at, ok := addressOf(g.RemoteAddr().String()); !ok || !s.trusts(at) {
		return true
	}
	c := proxyproto.NewConn(g.Conn, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(0)) // g has a deadline
	if c.ProxyHeader() == nil {
		p.clerk.note("a proxy did not say for whom it speaks: have it send the PROXY protocol, or switch proxy-protocol off", "port", g.RemoteAddr().String())
		g.Close()
		return false
	}
	p.crowd.leave(g)
	g.Conn = c
	return !p.crowded(g)
}

// shake shakes hands with a guest. What that costs is calculation, a thousand times that of a callback. So strangers
// share half of the processors for it, and those who may have callbacks find the other half.
func (p *port) shake(t *tls.Conn, g *guest) error {
	if !g.friend {
		p.gate <- struct{}{}
		g.gate = p.gate // and it is left while g waits for the network
		defer func() {
			<-p.gate
			g.gate = nil
		}()
	}
	return t.HandshakeContext(context.Background()) // g has a deadline, and stop closes it
}

// unhurried holds a stranger's hand for a while if too many from its address have shaken ours lately, and says then that
// it shall go. Nothing was calculated for it yet, and while it waits it takes one of the places of its address: so those who
// are not known for callbacks come no faster than the places are emptied, however fast they try. A sidecar shows who it is
// only at the end of its handshake; so when one from this address has, the others that wait go on.
func (p *port) unhurried(c net.Conn, tunnel bool) bool {
	g, ok := c.(*guest)
	if !ok || p.crowd.mayShake(g, tunnel) {
		return true
	}
	<-p.gate
	defer func() { p.gate <- struct{}{} }()
	pause := time.NewTimer(patience)
	defer pause.Stop()
	for waits := true; waits; {
		var linking <-chan struct{}
		if tunnel {
			var links bool
			if links, linking = p.crowd.links(g); links {
				return true
			}
		}
		select {
		case <-linking:
		case <-pause.C:
			waits = false
		case <-p.ending:
			waits = false
		}
	}
	p.refused.Add(1)
	what := "handshakes refused: too many from an address that never brought a callback"
	if tunnel {
		what = "handshakes for the tunnel refused: too many from an address from which no sidecar was let in"
	}
	p.clerk.note(what, "port", g.RemoteAddr().String())
	return false
}

func (p *port) handOver(c net.Conn, to *hall) {
	c.SetDeadline(time.Time{})
	select {
	case to.guests <- c:
	case <-to.closed:
		c.Close()
	}
}

// hall is where guests of one kind wait to be accepted: the net.Listener of those who serve them.
type hall struct {
	addr   net.Addr
	guests chan net.Conn
	closed chan struct{}
	close  func()
}

func newHall(addr net.Addr) hall {
	h := hall{addr: addr, guests: make(chan net.Conn), closed: make(chan struct{})}
	h.close = sync.OnceFunc(func() { close(h.closed) })
	return h
}

func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.guests:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *hall) Close() error {
	h.close()
	return nil
}

func (h *hall) Addr() net.Addr { return h.addr }
