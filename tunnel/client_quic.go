package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"github.com/hodihq/hodi/tunnel/wire"
)

// tryQUIC makes one socket and one handshake. It gives up when ctx ends, when nothing was heard in time, or when UDP is
// refused.
func (c *Client) tryQUIC(ctx context.Context, v *voice, within time.Duration) (_ conn, err error) {
	ctx, giveUp := patiently(ctx, v, within)
	defer giveUp()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	addr, err := c.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("tunnel: resolve %s: %w", c.Edge, err)
	}
	socket, err := c.listen()
	if err != nil {
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	if to, ok := addr.(*net.UDPAddr); ok && c.Listen == nil {
		c.ledger().count(0, 1+header(to))
		defer scout(to, func(err error) { cancel(fmt.Errorf("%w: %w", errRefused, err)) })()
	}
	tr := &quic.Transport{Conn: withEar(socket, v, c.ledger())}
	release := func() {
		tr.Close()
		socket.Close()
	}
	qc, err := tr.Dial(ctx, addr, c.tls(wire.ALPN), clientQUIC(c.idle(), max(handshakeWithin, within)))
	if err != nil {
		release()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	stream, err := qc.OpenStreamSync(ctx)
	if err != nil {
		qc.CloseWithError(quic.ApplicationErrorCode(wire.CloseDone), cameSecond)
		release()
		return nil, fmt.Errorf("tunnel: dial %s: %w", c.Edge, err)
	}
	return &quicConn{stream: stream, conn: qc, after: []func(){release}}, nil
}

// scout sends a byte that no edge answers, and calls refused if somebody on the way says that it cannot be delivered:
// the kernel tells that only to a socket that is connected, which one of QUIC is not. The scout has returned when back
// has.
func scout(to *net.UDPAddr, refused func(error)) (back func()) {
	s, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return func() {}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := s.Write([]byte{0})
		if err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			if op, ok := errors.AsType[*net.OpError](err); ok {
				err = op.Err // without the addresses: one is known, the other is the scout's
			}
			refused(err)
		}
	}()
	return func() {
		s.Close()
		<-gone
	}
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

// withEar is the same socket, says so as soon as a packet comes in, and counts what goes both ways. A UDP socket stays
// one that quic-go can read and write in batches.
func withEar(pc net.PacketConn, v *voice, bill *tally) net.PacketConn {
	if udp, ok := pc.(*net.UDPConn); ok {
		return &udpEar{UDPConn: udp, batch: ipv4.NewPacketConn(udp), voice: v, bill: bill}
	}
	return &ear{PacketConn: pc, voice: v, bill: bill}
}

type udpEar struct {
	*net.UDPConn
	batch *ipv4.PacketConn // for IPv6 just as well
	voice *voice
	bill  *tally
}

func (e *udpEar) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := e.batch.ReadBatch(ms, flags)
	if err == nil && n > 0 {
		note(e.voice, ms[0].Buffers[0][:ms[0].N], nil)
		size := 0
		for _, m := range ms[:n] {
			size += m.N + header(m.Addr)
		}
		e.bill.count(size, 0)
	}
	return n, err
}

func (e *udpEar) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = e.UDPConn.ReadMsgUDP(b, oob)
	e.heard(b[:n], addr, err)
	return n, oobn, flags, addr, err
}

func (e *udpEar) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := e.UDPConn.ReadFrom(b)
	e.heard(b[:n], addr, err)
	return n, addr, err
}

func (e *udpEar) heard(packet []byte, from net.Addr, err error) {
	note(e.voice, packet, err)
	if err == nil {
		e.bill.count(len(packet)+header(from), 0)
	}
}

func (e *udpEar) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := e.UDPConn.WriteTo(b, addr)
	if err == nil {
		e.bill.count(0, n+header(addr))
	}
	return n, err
}

// WriteMsgUDP may be given several packets that the kernel cuts apart: as many as there are of the usual size.
func (e *udpEar) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = e.UDPConn.WriteMsgUDP(b, oob, addr)
	if err == nil {
		e.bill.count(0, n+segments(n)*header(addr))
	}
	return n, oobn, err
}

type ear struct {
	net.PacketConn
	voice *voice
	bill  *tally
}

func (e *ear) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := e.PacketConn.ReadFrom(b)
	if note(e.voice, b[:n], err); err == nil {
		e.bill.count(n+header(addr), 0)
	}
	return n, addr, err
}

func (e *ear) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := e.PacketConn.WriteTo(b, addr)
	if err == nil {
		e.bill.count(0, n+header(addr))
	}
	return n, err
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

func note(v *voice, packet []byte, err error) {
	if err != nil {
		return
	}
	if !v.heard.Load() && len(packet) > 0 && packet[0]>>4 == longRetry {
		v.crowded.Store(true)
	}
	v.hear()
}

// longRetry is how a Retry packet of QUIC version 1 begins (RFC 9000, 17.2.5).
const longRetry = 0b1111
