package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// TCP in a bubble: the same network as that of the UDP sockets, the same latency and the same losses. What is lost is
// sent again until it arrives, so that it only comes late, with everything behind it.

const (
	resendEvery = 200 * time.Millisecond
	tcpBuffer   = 256 << 10
)

// tcpListener takes connections at an address of the world.
type tcpListener struct {
	world  *world
	addr   *net.TCPAddr
	conns  chan *tcpConn
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	all []*tcpConn // ever accepted
}

func (w *world) listenTCP(addr *net.TCPAddr) *tcpListener {
	l := &tcpListener{world: w, addr: addr, conns: make(chan *tcpConn), closed: make(chan struct{})}
	w.tcpMu.Lock()
	defer w.tcpMu.Unlock()
	if w.tcp == nil {
		w.tcp = make(map[string]*tcpListener)
	}
	w.tcp[addr.String()] = l
	return l
}

func (l *tcpListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, c)
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *tcpListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.world.tcpMu.Lock()
		defer l.world.tcpMu.Unlock()
		if l.world.tcp[l.addr.String()] == l {
			delete(l.world.tcp, l.addr.String())
		}
	})
	return nil
}

func (l *tcpListener) Addr() net.Addr { return l.addr }

// die ends all its connections as when its machine dies.
func (l *tcpListener) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.all {
		c.die()
	}
}

// dialTCP connects, from an address of the sidecar's.
func (w *world) dialTCP(ctx context.Context, to *net.TCPAddr) (net.Conn, error) {
	if !w.route().IsValid() {
		return nil, errors.New("network is unreachable")
	}
	from := &net.TCPAddr{IP: w.route().AsSlice(), Port: int(w.ports.Add(1))}
	for w.lost(from, to) || w.lost(to, from) {
		if err := wait(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	if err := wait(ctx, 2*w.latency); err != nil {
		return nil, err
	}
	w.tcpMu.Lock()
	l := w.tcp[to.String()]
	w.tcpMu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	here, there := newTCPConns(w, from, to)
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	here.Close()
	there.Close()
	return nil, errors.New("reset")
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// lost says whether the network loses a segment from one address to the other.
func (w *world) lost(from, to *net.TCPAddr) bool {
	w.router.mu.Lock()
	drop := w.router.drop
	w.router.mu.Unlock()
	return drop != nil && drop(simnet.Packet{From: (*net.UDPAddr)(from), To: (*net.UDPAddr)(to)})
}

// half is one direction of a connection.
type half struct {
	world    *world
	from, to *net.TCPAddr
	back     *half
	sent     chan segment
	over     chan struct{} // both ends have closed

	mu       sync.Mutex
	arrived  []byte
	inFlight int   // and arrived
	ended    error // what the reader finds behind what has arrived
	wrote    error // what the writer finds
	gone     bool  // the reader has closed: what comes is answered by a reset
	dead     bool  // the writer's machine died: nothing arrives any more
	changed  chan struct{}
	rd, wd   time.Time
}

type segment struct {
	b  []byte // none: the end
	at time.Time
}

func newHalf(w *world, from, to *net.TCPAddr, over chan struct{}) *half {
	return &half{world: w, from: from, to: to, sent: make(chan segment, 1<<14), changed: make(chan struct{}), over: over}
}

// carry is the way of the segments, until both ends have closed.
func (h *half) carry() {
	for {
		var s segment
		select {
		case s = <-h.sent:
		case <-h.over:
			return
		}
		for again := true; again; again = h.world.lost(h.from, h.to) {
			if !h.pass(time.Until(s.at)) {
				return
			}
			s.at = time.Now().Add(resendEvery)
		}
		h.mu.Lock()
		gone, dead := h.gone, h.dead
		h.mu.Unlock()
		switch {
		case dead:
		case !gone:
			h.tell(s.b, io.EOF)
		case s.b != nil && h.pass(h.world.latency) && !h.world.lost(h.to, h.from):
			// A reset also takes what has arrived and was not read, as it does on most systems.
			h.back.set(func() { h.back.arrived, h.back.ended = nil, os.NewSyscallError("read", syscall.ECONNRESET) })
			h.set(func() { h.wrote = os.NewSyscallError("write", syscall.EPIPE) })
		}
	}
}

// pass waits, and reports whether anybody is left who does.
func (h *half) pass(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.over:
		return false
	}
}

// tell gives the reader what has arrived, or the end.
func (h *half) tell(b []byte, end error) {
	h.set(func() {
		h.arrived = append(h.arrived, b...)
		if b == nil && h.ended == nil {
			h.ended = end
		}
	})
}

func (h *half) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.change()
}

func (h *half) change() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits for ready to hold, with h.mu held.
func (h *half) until(deadline *time.Time, ready func() bool) error {
	for !ready() {
		changed, d := h.changed, *deadline
		var late <-chan time.Time
		if !d.IsZero() {
			if !time.Now().Before(d) {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(time.Until(d))
			defer t.Stop()
			late = t.C
		}
		h.mu.Unlock()
		select {
		case <-changed:
		case <-late:
		}
		h.mu.Lock()
	}
	return nil
}

type tcpConn struct {
	in, out *half
	close   func() // the last one of both ends
	once    sync.Once
	closed  atomic.Bool
}

func newTCPConns(w *world, from, to *net.TCPAddr) (here, there *tcpConn) {
	over := make(chan struct{})
	var ends atomic.Int32
	end := func() {
		if ends.Add(1) == 2 {
			close(over)
		}
	}
	up, down := newHalf(w, from, to, over), newHalf(w, to, from, over)
	up.back, down.back = down, up
	go up.carry()
	go down.carry()
	return &tcpConn{in: down, out: up, close: end}, &tcpConn{in: up, out: down, close: end}
}

func (c *tcpConn) Read(b []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.rd.IsZero() && !time.Now().Before(h.rd) {
		return 0, os.ErrDeadlineExceeded
	}
	if err := h.until(&h.rd, func() bool { return len(h.arrived) > 0 || h.ended != nil || c.closed.Load() }); err != nil {
		return 0, err
	}
	switch {
	case c.closed.Load():
		return 0, net.ErrClosed
	case len(h.arrived) == 0:
		return 0, h.ended
	}
	n := copy(b, h.arrived)
	h.arrived = h.arrived[n:]
	h.inFlight -= n
	h.change()
	return n, nil
}

func (c *tcpConn) Write(b []byte) (int, error) {
	h, n := c.out, 0
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		if err := h.until(&h.wd, func() bool { return h.inFlight < tcpBuffer || h.wrote != nil || c.closed.Load() }); err != nil {
			return n, err
		}
		if c.closed.Load() {
			return n, net.ErrClosed
		}
		if h.wrote != nil {
			return n, h.wrote
		}
		part := b[:min(len(b), 32<<10)]
		h.inFlight += len(part)
		h.world.segment(len(part))
		h.sent <- segment{slices.Clone(part), time.Now().Add(h.world.latency)}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

func (c *tcpConn) Close() error {
	c.once.Do(func() {
		c.closed.Store(true)
		c.out.sent <- segment{at: time.Now().Add(c.out.world.latency)}
		c.out.set(func() {})
		c.in.set(func() { c.in.gone = true })
		c.close()
	})
	return nil
}

// die ends the connection as when its machine dies, and another one that knows nothing comes in its place.
func (c *tcpConn) die() {
	c.out.set(func() { c.out.dead = true })
	c.Close()
}

func (c *tcpConn) LocalAddr() net.Addr  { return c.out.from }
func (c *tcpConn) RemoteAddr() net.Addr { return c.out.to }

func (c *tcpConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *tcpConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.rd = t
	c.in.change()
	return nil
}

func (c *tcpConn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.wd = t
	c.out.change()
	return nil
}
