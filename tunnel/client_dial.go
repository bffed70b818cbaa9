package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"github.com/hodihq/hodi/tunnel/wire"
)

// The redial schedule. A network that heals must not wait for us: a try that began while it was cut is worth little, so
// another one begins soon, and they race.
//
//	0        0.5       1.0       1.5       2.0       2.5
//	├─ try ──────────────────────┤ not a word: given up
//	         ├─ try ─────────────────────┤
//	                   ├─ try ───────────── the edge answers ─── handshake done: this one says Hello
//	                             ├─ try ────────────────┤ closed, it came second
const (
	trySoonest = 400 * time.Millisecond // from one try to the next
	tryLatest  = 600 * time.Millisecond
	tryAtOnce  = 3                       // tries at a time
	tryWithin  = 1500 * time.Millisecond // for the edge's first packet; then until the handshake ends

	slowAfter   = 10 * time.Minute // without a link the tries become rarer, and each gets more time
	slowSoonest = 2 * time.Second
	slowLatest  = 5 * time.Second
	slowWithin  = 5 * time.Second

	rivalWait = time.Minute // after another machine took our place
)

var errSilent = errors.New("the edge does not answer")

// dial tries until a handshake is finished, and returns its connection. The only error is that of ctx. lost is since
// when there is no link. On another network, or after a sleep, it begins anew: what is under way was sent by a way that
// is no more.
func (c *Client) dial(ctx context.Context, lost time.Time) (conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	here := c.here()
	afresh := func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	trying, giveUp := afresh()
	type result struct {
		conn conn
		err  error
	}
	results := make(chan result, tryAtOnce) // never more than that are running, so none waits to be heard
	running := 0
	defer func() {
		giveUp()
		cancel()
		for ; running > 0; running-- {
			if r := <-results; r.err == nil {
				r.conn.Close(wire.CloseDone, "came second")
			}
		}
	}()

	due := time.NewTimer(0)
	defer due.Stop()
	var next <-chan time.Time = due.C
	var why string
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			if ctx.Err() == nil {
				if c.down(r.err); why != r.err.Error() {
					why = r.err.Error()
					c.log().Info("edge not reached", "edge", c.Edge, "err", why)
				}
			}
			next = due.C
		case <-here.left:
			here = c.here()
			if !here.from.IsValid() {
				continue
			}
			giveUp()
			trying, giveUp = afresh()
			lost = time.Now()
			due.Reset(0)
			next = due.C
		case <-next:
			if running == tryAtOnce {
				// The time of the next try has come, and its place has not: it begins when one is free.
				due.Reset(0)
				next = nil
				continue
			}
			within, wait := tryWithin, between(trySoonest, tryLatest)
			if time.Since(lost) > slowAfter {
				within, wait = slowWithin, between(slowSoonest, slowLatest)
			}
			running++
			go func(ctx context.Context) {
				conn, err := c.try(ctx, within)
				results <- result{conn, err}
			}(trying)
			due.Reset(wait)
		}
	}
}

// try makes one socket and one handshake. It gives up when ctx ends, or when nothing was heard in time.
func (c *Client) try(ctx context.Context, within time.Duration) (_ conn, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var heard atomic.Bool
	patience := time.AfterFunc(within, func() {
		if !heard.Load() {
			cancel(errSilent)
		}
	})
	defer patience.Stop()

	addr, err := c.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("tunnel: resolve %s: %w", c.Edge, err)
	}
	socket, err := c.listen()
	if err != nil {
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	tr := &quic.Transport{Conn: withEar(socket, &heard)}
	release := func() {
		tr.Close()
		socket.Close()
	}
	qc, err := tr.Dial(ctx, addr, clientTLS(c.TLS), clientQUIC(c.idle()))
	if err != nil {
		release()
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	stream, err := qc.OpenStreamSync(ctx)
	if err != nil {
		qc.CloseWithError(quic.ApplicationErrorCode(wire.CloseDone), "came second")
		release()
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	return &quicConn{stream: stream, conn: qc, after: []func(){release}}, nil
}

// resolve finds the edge's address. While the resolver is out of order, the last address known has to do.
func (c *Client) resolve(ctx context.Context) (net.Addr, error) {
	resolve := c.Resolve
	if resolve == nil {
		resolve = resolveUDP
	}
	ctx, cancel := context.WithTimeout(ctx, tryWithin/2)
	defer cancel()
	addr, err := resolve(ctx, c.Edge)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.address = addr
	} else if c.address == nil || ctx.Err() == context.Canceled {
		return nil, err
	}
	return c.address, nil
}

func (c *Client) listen() (net.PacketConn, error) {
	if c.Listen != nil {
		return c.Listen()
	}
	return net.ListenUDP("udp", nil)
}

// resolveUDP picks any of the addresses, so that one which leads nowhere costs one try and not all.
func resolveUDP(ctx context.Context, hostport string) (net.Addr, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	ip := ips[rand.N(len(ips))].Unmap()
	return &net.UDPAddr{IP: ip.AsSlice(), Port: n, Zone: ip.Zone()}, nil
}

// withEar is the same socket, and sets heard as soon as a packet comes in. A UDP socket stays one that quic-go can read
// and write in batches.
func withEar(pc net.PacketConn, heard *atomic.Bool) net.PacketConn {
	if udp, ok := pc.(*net.UDPConn); ok {
		return &udpEar{UDPConn: udp, batch: ipv4.NewPacketConn(udp), heard: heard}
	}
	return &ear{PacketConn: pc, heard: heard}
}

type udpEar struct {
	*net.UDPConn
	batch *ipv4.PacketConn // for IPv6 just as well
	heard *atomic.Bool
}

func (e *udpEar) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := e.batch.ReadBatch(ms, flags)
	note(e.heard, err)
	return n, err
}

func (e *udpEar) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = e.UDPConn.ReadMsgUDP(b, oob)
	note(e.heard, err)
	return n, oobn, flags, addr, err
}

func (e *udpEar) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := e.UDPConn.ReadFrom(b)
	note(e.heard, err)
	return n, addr, err
}

type ear struct {
	net.PacketConn
	heard *atomic.Bool
}

func (e *ear) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := e.PacketConn.ReadFrom(b)
	note(e.heard, err)
	return n, addr, err
}

// quic-go asks for larger buffers and complains where there is nothing to ask.
func (e *ear) SetReadBuffer(n int) error {
	if b, ok := e.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return b.SetReadBuffer(n)
	}
	return nil
}

func (e *ear) SetWriteBuffer(n int) error {
	if b, ok := e.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return b.SetWriteBuffer(n)
	}
	return nil
}

func note(heard *atomic.Bool, err error) {
	if err == nil && !heard.Load() {
		heard.Store(true)
	}
}
