package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	log      *slog.Logger

	callbacks, links hall

	mu     sync.Mutex
	fresh  map[net.Conn]bool // it is not known which kind they are
	ended  bool
	inside sync.WaitGroup
	empty  chan struct{} // closed when serve has returned
}

// When the port is stopped, those who had come before are still let in: they were told that they are connected, and
// what they are about to say is said only once.
const (
	queueFor = 100 * time.Millisecond // for those who stand before the door: the system has taken them, we have not
	queueGap = time.Millisecond       // without one, nobody stands there any more
	freshFor = 500 * time.Millisecond // for those of whom nothing was heard yet: a TLS handshake from afar
)

const recordHandshake = 0x16 // the first byte of TLS, and of no HTTP

var errNoName = errors.New("there is no certificate for this name")

// newPort makes the port. public is nil where callbacks come without TLS.
func newPort(l net.Listener, public, tunnel *tls.Config, log *slog.Logger) *port {
	choose := func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case isTunnel(hello.ServerName):
			return tunnel, nil
		case public == nil:
			return nil, errNoName
		case public.GetConfigForClient != nil:
			if c, err := public.GetConfigForClient(hello); c != nil || err != nil {
				return c, err
			}
		}
		return public, nil
	}
	return &port{
		listener: l, plain: public == nil, tls: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: choose}, log: log,
		callbacks: newHall(l.Addr()), links: newHall(l.Addr()), fresh: make(map[net.Conn]bool), empty: make(chan struct{}),
	}
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh[c] = true
	p.inside.Go(func() { p.welcome(c) })
}

// welcome finds out who c is, and hands it on. Until then it has as much time as the header of a request.
func (p *port) welcome(c net.Conn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.fresh, c)
	}()
	c.SetDeadline(time.Now().Add(readWithin))
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		c.Close()
		return
	}
	opened := &openedConn{Conn: c, first: first[:]}
	if first[0] != recordHandshake {
		if !p.plain {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS port.\n")
			c.Close()
			return
		}
		p.handOver(opened, &p.callbacks)
		return
	}
	t := tls.Server(opened, p.tls)
	if err := t.HandshakeContext(context.Background()); err != nil { // c has a deadline, and stop closes it
		p.log.Debug("no TLS with a guest", "remote", c.RemoteAddr().String(), "err", err)
		c.Close()
		return
	}
	to := &p.callbacks
	if isTunnel(t.ConnectionState().ServerName) {
		to = &p.links
	}
	p.handOver(t, to)
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

// openedConn is a connection of which something was read already.
type openedConn struct {
	net.Conn
	first     []byte
	unwatched atomic.Bool
}

// unwatch spares the request at hand a guard. From the end of a body to the answer net/http has a goroutine of its own read
// one byte ahead, which tells a handler that its client is gone; and that goroutine is stopped by a deadline in the past. To
// whom a callback matters as much when nobody waits for the answer, that is work for nothing. A Read may return nothing at
// any time, and the guard takes that for its end; were net/http to read in another way, it would read again.
func (o *openedConn) unwatch() { o.unwatched.Store(true) }

func (o *openedConn) Read(b []byte) (int, error) {
	if len(o.first) > 0 && len(b) > 0 {
		n := copy(b, o.first)
		o.first = o.first[n:]
		return n, nil
	}
	if len(b) == 1 && o.unwatched.CompareAndSwap(true, false) {
		return 0, nil
	}
	return o.Conn.Read(b)
}
