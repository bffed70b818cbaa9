package tunnel

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/tunnel/wire"
)

const finishWithin = 2 * time.Second // for the batch in hand when the sidecar stops

// clientLink is one link from its Hello on. Four goroutines share it, and link waits for them: one says Hello and then,
// as apply, owns the Sink; read owns the incoming frames and fills the inbox; heartbeat owns the Pings; and the fourth
// closes the connection when one of the others ends.
type clientLink struct {
	client  *Client
	conn    conn
	frames  *wire.Reader
	inbox   *inbox
	began   time.Time
	heard   atomic.Int64 // when the last bytes came, since began
	writing sync.Mutex   // held for whole frames

	mu     sync.Mutex
	nonce  uint64        // of the last Ping
	pinged time.Duration // when it was sent, since began
}

// link takes a connection from its Hello to its end and says why it ended.
func (c *Client) link(ctx context.Context, conn conn) error {
	l := &clientLink{client: c, conn: conn, inbox: newInbox(), began: time.Now()}
	l.frames = wire.NewReader(hearing{l})
	g, living := errgroup.WithContext(context.WithoutCancel(ctx))
	g.Go(func() error {
		<-living.Done()
		conn.Close(closing(context.Cause(living)))
		return nil
	})
	g.Go(func() error {
		on, cancel := context.WithCancel(living)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		welcome, first, err := l.hello(on)
		if err == nil {
			g.Go(func() error { return l.read(living, welcome, first) })
			g.Go(func() error { return l.heartbeat(living) })
			err = l.apply(on, ctx, welcome.Epoch)
		}
		if ctx.Err() != nil {
			return endingf(wire.CloseShutdown, "tunnel: the sidecar stops")
		}
		return err
	})
	err := g.Wait()
	if ctx.Err() == nil {
		c.log().Warn("link lost", "edge", c.Edge, "lived", time.Since(l.began).Round(time.Millisecond), "err", err)
	}
	return err
}

// hello says who we are and where the Sink is, and hears which history comes. first is the greatest number that its
// first entry may have.
func (l *clientLink) hello(ctx context.Context) (welcome *wire.Welcome, first uint64, err error) {
	c := l.client
	cursor, err := c.Sink.Cursor(ctx)
	if err != nil {
		return nil, 0, endingf(wire.CloseUnavailable, "tunnel: cursor: %w", err)
	}
	asked := time.Now()
	hello := &wire.Hello{Version: wire.Version, Instance: c.Instance, Token: c.Token, Cursor: cursor}
	if err := l.write(wire.Append(nil, hello)); err != nil {
		return nil, 0, fmt.Errorf("tunnel: hello: %w", err)
	}
	l.conn.SetReadDeadline(asked.Add(welcomeWithin))
	stop := context.AfterFunc(ctx, func() { l.conn.SetReadDeadline(time.Now()) })
	frame, err := l.frames.Read()
	if !stop() {
		return nil, 0, ctx.Err()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("tunnel: hello: %w", err)
	}
	l.conn.SetReadDeadline(time.Time{})
	welcome, ok := frame.(*wire.Welcome)
	if !ok {
		return nil, 0, endingf(wire.CloseProtocol, "tunnel: %v before welcome", frame.Type())
	}
	if err := c.Sink.Welcome(ctx, *welcome); err != nil {
		return nil, 0, endingf(wire.CloseUnavailable, "tunnel: welcome: %w", err)
	}
	c.up(welcome, l.conn, asked)
	c.log().Info("link up", "edge", c.Edge, "remote", l.conn.Remote(), "epoch", welcome.Epoch, "oldest", welcome.Oldest, "head", welcome.Head)
	first = welcome.Oldest
	if cursor.Epoch == welcome.Epoch {
		first = max(first, cursor.Seq+1)
	}
	return welcome, first, nil
}

// read takes what the edge says. Entries come without a gap: where one is inevitable, Welcome has told of it, so after
// a gap in between it is the next Welcome that has to tell.
func (l *clientLink) read(living context.Context, welcome *wire.Welcome, first uint64) error {
	var last uint64
	for {
		frame, err := l.frames.Read()
		if err != nil {
			return fmt.Errorf("tunnel: read: %w", err)
		}
		switch f := frame.(type) {
		case *wire.Entry:
			if last == 0 && (f.Seq < welcome.Oldest || f.Seq > first || f.Seq == 0) {
				return endingf(wire.CloseProtocol, "tunnel: entry %d came first, not %d", f.Seq, first)
			}
			if last != 0 && f.Seq != last+1 {
				return endingf(wire.CloseProtocol, "tunnel: entry %d came after %d", f.Seq, last)
			}
			last = f.Seq
			if err := l.inbox.put(living, f); err != nil {
				return err
			}
		case *wire.Pong:
			l.pong(f.Nonce)
		default:
			return endingf(wire.CloseProtocol, "tunnel: unexpected %v", frame.Type())
		}
	}
}

// apply gives the Sink whatever has arrived, as one batch, and acknowledges it. When ctx ends it finishes the batch in
// hand, for which it has a little time from the end of stop on; a link that is lost does not interrupt it.
func (l *clientLink) apply(ctx, stop context.Context, epoch wire.Epoch) error {
	working, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	defer context.AfterFunc(stop, func() { time.AfterFunc(finishWithin, cancel) })()
	for {
		batch, err := l.inbox.take(ctx)
		if err != nil {
			return err
		}
		if err := l.client.Sink.Apply(working, epoch, batch); err != nil {
			return endingf(wire.CloseUnavailable, "tunnel: apply: %w", err)
		}
		ack := wire.Append(make([]byte, 0, 16), &wire.Ack{Seq: batch[len(batch)-1].Seq})
		if err := l.write(ack); err != nil {
			return fmt.Errorf("tunnel: ack: %w", err)
		}
	}
}

// heartbeat sends Pings, and ends the link when nothing at all was heard for a while after one. The connection has an
// idle timeout of its own, but that begins anew with what we send, and knows nothing of an edge that is stuck.
func (l *clientLink) heartbeat(living context.Context) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	overdue := time.NewTimer(0)
	<-overdue.C
	defer overdue.Stop()
	var asked time.Duration // the Ping that overdue is of was sent then; 0: none is
	var last time.Duration
	for {
		select {
		case <-living.Done():
			return nil
		case <-ping.C:
			last = time.Since(l.began)
			if err := l.ping(last); err != nil {
				return fmt.Errorf("tunnel: ping: %w", err)
			}
			if asked == 0 {
				asked = last
				overdue.Reset(pongWithin)
			}
		case <-overdue.C:
			heard := time.Duration(l.heard.Load())
			switch {
			case l.inbox.full(): // it is us who do not listen
				asked = time.Since(l.began)
			case heard >= last:
				asked = 0
				continue
			case heard < asked:
				return fmt.Errorf("tunnel: nothing heard for %v", (time.Since(l.began) - heard).Round(time.Millisecond))
			default:
				asked = last
			}
			overdue.Reset(asked + pongWithin - time.Since(l.began))
		}
	}
}

func (l *clientLink) ping(now time.Duration) error {
	l.mu.Lock()
	l.nonce++
	l.pinged = now
	frame := wire.Append(nil, &wire.Ping{Nonce: l.nonce})
	l.mu.Unlock()
	return l.write(frame)
}

func (l *clientLink) pong(nonce uint64) {
	l.mu.Lock()
	newest, rtt := nonce == l.nonce && nonce != 0, time.Since(l.began)-l.pinged
	l.mu.Unlock()
	if newest {
		l.client.measured(rtt)
	}
}

// write writes whole frames. All that a sidecar says is short, so it has to be gone within the time of a Pong.
func (l *clientLink) write(frames []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return writeAll(l.conn, frames, pongWithin)
}

// hearing notes when bytes come.
type hearing struct{ l *clientLink }

func (h hearing) Read(b []byte) (int, error) {
	n, err := h.l.conn.Read(b)
	if n > 0 {
		h.l.heard.Store(int64(time.Since(h.l.began)))
	}
	return n, err
}

// inbox is what has arrived and was not yet taken: at most one batch.
type inbox struct {
	mu      sync.Mutex
	entries []wire.Entry
	bytes   int
	arrived chan struct{}
	room    chan struct{}
}

func newInbox() *inbox {
	return &inbox{arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put waits for room.
func (b *inbox) put(ctx context.Context, e *wire.Entry) error {
	for {
		if b.add(e) {
			signal(b.arrived)
			return nil
		}
		select {
		case <-b.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *inbox) add(e *wire.Entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() {
		return false
	}
	b.entries = append(b.entries, *e)
	b.bytes += e.Size()
	return true
}

func (b *inbox) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over()
}

func (b *inbox) over() bool { return len(b.entries) >= applyMax || b.bytes >= applyBytes }

// take waits for entries and takes all there are. When ctx has ended it takes no more.
func (b *inbox) take(ctx context.Context) ([]wire.Entry, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.mu.Lock()
		entries := b.entries
		b.entries, b.bytes = nil, 0
		b.mu.Unlock()
		if len(entries) > 0 {
			signal(b.room)
			return entries, nil
		}
		select {
		case <-b.arrived:
		case <-ctx.Done():
		}
	}
}
