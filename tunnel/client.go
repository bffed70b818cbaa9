package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Client is the sidecar's end. Its fields are set before Run and left alone.
type Client struct {
	Edge string // host:port of the edge, required
	// WebSocket is host:port of the edge for a WebSocket, where it is another than for QUIC. "": Edge.
	WebSocket string
	// TLS has the edge's own CA as RootCAs, required, and the sidecar's own certificate, which says whose it is, in
	// Certificates or GetClientCertificate. Of the rest only the clock is taken; a certificate of the edge that the CA did
	// not sign never is.
	TLS *tls.Config
	// Expired is called when the edge says that the sidecar's certificate has expired: it has to be renewed. nil: nobody is
	// told.
	Expired func()
	// Instance tells two machines with one certificate apart.
	Instance [16]byte
	// Sink is where entries go. Required.
	Sink Sink
	// Listen makes the socket of one try. nil: UDP on any port.
	Listen func() (net.PacketConn, error)
	// Dial makes a TCP connection, for a WebSocket. nil: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy says through which proxy (http, https or socks5) a WebSocket has to go; nil for none. nil: none.
	Proxy func(*url.URL) (*url.URL, error)
	// Resolve finds the address of Edge, anew for every try. nil: the system's resolver, and any of the addresses it
	// knows.
	Resolve func(ctx context.Context, hostport string) (net.Addr, error)
	// Route says which of the machine's addresses is used on the way to the edge; the zero Addr: there is no way. It is
	// asked twice a second. nil: the kernel is asked.
	Route func(edge netip.AddrPort) netip.Addr
	// Metered is for a sidecar that pays for every byte. Its link is silent for up to 25 s, except while a callback is
	// expected; see Expect. That it is dead is noticed so much later, and after ten minutes without one it is dialled
	// about once a minute.
	Metered bool
	// Canary is how often the edge is asked for an entry of its own that the Sink has to commit, so that it is known, when
	// nobody pays, that callbacks would get through. 0: it is not asked. An edge that knows no canaries sends none.
	Canary time.Duration
	// Doubts is how many callbacks the Sink has not believed, which the edge is told, and may tell somebody. It is called often.
	// nil: the edge is not told.
	Doubts func() uint64
	// Logger is for what an operator should know. nil: nowhere.
	Logger *slog.Logger

	wall func() time.Time // the wall clock, where a test has its own
	pin  *wire.Pin        // by which the edge is known, while there is no CA yet: see Join

	mispinned atomic.Bool // somebody answered who has another pin

	mu      sync.Mutex
	status  Status
	told    time.Time // what the edge's clock showed
	toldAt  time.Time // when it did
	address net.Addr  // that Edge last had
	spot    *spot     // as last seen by watch
	outlook outlook

	pace pace // of a metered link

	tally tally
	bill  *tally // where another Client's is to be counted too; nil: tally
}

// What may carry a link.
const (
	TransportQUIC      = "quic"
	TransportWebSocket = "websocket"
)

// Status is how a Client is doing.
type Status struct {
	Connected bool
	Since     time.Time // of the link, or of its end; zero before the first
	Callback  string    // the base of callback addresses, as last told
	Epoch     wire.Epoch
	Head      uint64        // the newest entry that the edge held when the link began
	LastError string        // why there is no link, or why there was none before it
	Remote    string        // the edge's address, when connected
	Transport string        // what carries the link, when connected: TransportQUIC or TransportWebSocket
	Why       string        // why it is not QUIC, in a sentence; "" if it is
	RTT       time.Duration // of the last Ping, through whatever stood before its Pong in the stream
	Skew      time.Duration // how far the edge's clock is ahead of ours: now, or without a link when it began
	Rival     time.Time     // when another machine last took the link from us; zero: never
	Canary    time.Duration // how often the edge sends canaries; 0: it does not
	Links     uint64        // that there have been since Run began
	Delivered time.Time     // when the Sink last committed what came, a canary or a callback; zero: never since Run began
	Traffic   Traffic       // what it has cost
}

// Run keeps a link to the edge until ctx ends; then it finishes the batch in hand and returns nil. It returns an error
// only for a Client that could never connect. All it started has ended when it returns.
func (c *Client) Run(ctx context.Context) error {
	switch {
	case c.Edge == "":
		return errors.New("tunnel: run: no edge to dial")
	case c.Sink == nil:
		return errors.New("tunnel: run: no sink to deliver to")
	case c.TLS == nil || c.TLS.RootCAs == nil:
		return errors.New("tunnel: run: the edge's CA is needed: its certificate is signed by no other")
	case len(c.TLS.Certificates) == 0 && c.TLS.GetClientCertificate == nil:
		return errors.New("tunnel: run: a certificate is needed: nobody is let in without")
	}
	var watching sync.WaitGroup
	watching.Go(func() { c.watch(ctx) })
	defer watching.Wait()
	lost := time.Now()
	var next conn // the one that the link has moved to
	for ctx.Err() == nil {
		conn := next
		if conn == nil {
			var err error
			if conn, err = c.dial(ctx, lost); err != nil {
				return nil // ctx has ended
			}
		}
		began := time.Now()
		var err error
		next, err = c.link(ctx, conn)
		if next != nil && !takenOver(err) {
			continue
		}
		if next != nil {
			next.Close(wire.CloseDone, wire.CloseDone.String())
			next = nil
		}
		lived := time.Since(began)
		if c.down(err) || lived > slowAfter {
			lost = time.Now()
		}
		if ctx.Err() != nil {
			return nil
		}
		sleep(ctx, c.pause(err, lived))
	}
	if next != nil {
		next.Close(wire.CloseShutdown, wire.CloseShutdown.String())
	}
	return nil
}

// pause is how long to wait before dialing again, by how the last link ended. A link that was lost, or that a stopping
// edge sent away, is dialled again at once.
func (c *Client) pause(err error, lived time.Duration) time.Duration {
	if takenOver(err) {
		c.log().Warn("two machines use one identity: this one waits", "edge", c.Edge, "wait", rivalWait)
		c.displaced()
		return rivalWait
	}
	switch reason(err) {
	case wire.CloseExpired:
		if c.Expired != nil {
			c.Expired()
		}
		return between(time.Second, 2*time.Second)
	case wire.CloseUnauthorized, wire.CloseVersion:
		return between(untakenSoonest, untakenLatest)
	case wire.CloseProtocol, wire.CloseUnavailable:
		return between(time.Second, 2*time.Second)
	}
	if lived < time.Second {
		return between(trySoonest, tryLatest)
	}
	return 0
}

// reason is the code by which a link ended; 0 if there was none.
func reason(err error) (code wire.CloseCode) {
	if e, ok := errors.AsType[*closedError](err); ok {
		code = e.code
	} else if e, ok := errors.AsType[*ending](err); ok {
		code = e.code
	} else if errors.Is(err, wire.ErrProtocol) {
		code = wire.CloseProtocol
	} else if e, ok := errors.AsType[*quic.TransportError](err); ok && e.Remote && e.ErrorCode.IsCryptoError() {
		code = wire.CloseUnauthorized // TLS tells a client only afterwards that its certificate is not taken
	}
	return code
}

// takenOver reports whether a link was displaced. We have one at a time, so whoever displaced it is not us.
func takenOver(err error) bool {
	code := reason(err)
	return code == wire.CloseDisplaced || code == wire.CloseDuplicate
}

// Status says how the Client is doing.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Traffic = c.ledger().traffic()
	// A clock may be set while a link lives. The monotonic one goes on evenly: a machine that slept has another link.
	if s.Connected {
		wall := time.Now().Round(0)
		if c.wall != nil {
			wall = c.wall()
		}
		s.Skew = c.told.Add(time.Since(c.toldAt)).Sub(wall).Round(time.Millisecond)
	}
	return s
}

// up records that a link is there.
func (c *Client) up(w *wire.Welcome, over conn, asked time.Time) {
	now := time.Now()
	name, why := over.Transport()
	c.settled(name, why)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Since.IsZero() {
		c.status.Canary = c.Canary // until it says otherwise
	}
	c.status.Connected = true
	c.status.Links++
	c.status.Since = now
	c.status.Callback = w.Callback
	c.status.Epoch = w.Epoch
	c.status.Head = w.Head
	c.status.Remote = over.Remote()
	c.status.Transport, c.status.Why = name, why
	c.status.RTT = now.Sub(asked)
	c.told, c.toldAt = w.Time, asked.Add(now.Sub(asked)/2)
	c.status.Skew = w.Time.Sub(c.toldAt).Round(time.Millisecond)
}

// down records why there is no link, and reports whether there was one.
func (c *Client) down(err error) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.status.Connected
	if was {
		c.status.Since = time.Now()
	}
	c.status.Connected = false
	c.status.Remote, c.status.Transport, c.status.Why = "", "", ""
	if err != nil {
		c.status.LastError = err.Error()
	}
	return was
}

func (c *Client) displaced() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Rival = time.Now()
}

func (c *Client) measured(rtt time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.RTT = rtt
}

func (c *Client) log() *slog.Logger { return logger(c.Logger) }

// between draws a time from the range.
func between(from, to time.Duration) time.Duration { return from + rand.N(to-from) }

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
