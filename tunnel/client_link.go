package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/tunnel/wire"
)

const finishWithin = 2 * time.Second // for the batch in hand when the sidecar stops

// clientLink is one link from its Hello on. Some goroutines share it, and link waits for them: one says Hello and then,
// as apply, owns the Sink; read owns the incoming frames and fills the inbox; the heart owns the Pings; roam follows the
// machine from network to network, on a WebSocket probe looks for a way back to QUIC, and over QUIC the heart, when it
// doubts, has search look for one away from it; and the last closes the connection when one of the others ends.
type clientLink struct {
	client  *Client
	conn    conn
	frames  *wire.Reader
	inbox   *inbox
	heart   *heart
	writing turn // taken for whole frames
	next    conn // what probe or search has found
	acked   bool // something was acknowledged; owned by apply's goroutine
	told    bool // it is known whether the edge sends canaries; owned by read

	doubts uint64 // that the edge was told of; owned by apply's goroutine
}

// link takes a connection from its Hello to its end and says why it ended. If there is a next connection the link moves
// there: nothing is in flight any more, and it can say Hello.
func (c *Client) link(ctx context.Context, conn conn) (next conn, err error) {
	l := &clientLink{client: c, conn: conn, inbox: newInbox(), writing: newTurn()}
	l.heart = newHeart(l.write, l.inbox.full, c.measured, c.metered())
	l.frames = wire.NewReader(hearing{conn, l.heart})
	g, living := errgroup.WithContext(context.WithoutCancel(ctx))
	g.Go(func() error {
		<-living.Done()
		conn.Close(closing(context.Cause(living)))
		return nil
	})
	g.Go(func() error {
		on, stop := context.WithCancelCause(living)
		defer stop(nil)
		defer whenDone(ctx, func() { stop(nil) })()
		split, err := l.hello(on)
		if err == nil {
			if over, _ := conn.Transport(); over == TransportQUIC {
				l.heart.search = func(doubting context.Context, asked time.Duration) { l.search(on, doubting, asked, stop) }
			}
			g.Go(func() error { return l.read(living, split) })
			g.Go(func() error { return l.heart.beat(living) })
			g.Go(func() error { return l.roam(living) })
			g.Go(func() error { return l.probe(on, stop) })
			err = l.apply(on, ctx, split)
		}
		if ctx.Err() != nil {
			if l.acked {
				l.heart.farewell(living)
			}
			return endingf(wire.CloseShutdown, "tunnel: the sidecar stops")
		}
		if errors.Is(context.Cause(on), errMoved) {
			return endingf(wire.CloseDone, "tunnel: %w", errMoved)
		}
		return err
	})
	err = g.Wait()
	if ctx.Err() == nil && (l.next == nil || takenOver(err)) {
		c.log().Warn("link lost", "edge", c.Edge, "lived", time.Since(l.heart.began).Round(time.Millisecond), "err", err)
	}
	return l.next, err
}

// hello says who we are and where the Sink is, and hears which history comes.
func (l *clientLink) hello(ctx context.Context) (split, error) {
	c := l.client
	cursor, err := c.Sink.Cursor(ctx)
	if err != nil {
		return split{}, endingf(wire.CloseUnavailable, "tunnel: cursor: %w", err)
	}
	asked := time.Now()
	hello := &wire.Hello{Version: wire.Version, Instance: c.Instance, Cursor: cursor, Idle: c.silent()}
	first := wire.Append(nil, hello)
	if c.Canary > 0 {
		first = wire.Append(first, &wire.Canary{Every: c.Canary})
	}
	if c.Doubts != nil {
		l.doubts = c.Doubts()
		first = wire.Append(first, &wire.Doubts{Count: l.doubts})
	}
	if err := l.write(first); err != nil {
		return split{}, fmt.Errorf("tunnel: hello: %w", err)
	}
	l.conn.SetReadDeadline(asked.Add(welcomeWithin))
	stop := whenDone(ctx, func() { l.conn.SetReadDeadline(time.Now()) })
	enough := l.heart.knock(ctx)
	frame, err := l.frames.Read()
	enough()
	if !stop() {
		return split{}, ctx.Err()
	}
	if err != nil {
		return split{}, fmt.Errorf("tunnel: hello: %w", err)
	}
	l.conn.SetReadDeadline(time.Time{})
	welcome, ok := frame.(*wire.Welcome)
	if !ok {
		return split{}, endingf(wire.CloseProtocol, "tunnel: %v before welcome", frame.Type())
	}
	history, err := divide(cursor, welcome)
	if err != nil {
		return split{}, err
	}
	if err := c.Sink.Welcome(ctx, *welcome); err != nil {
		return split{}, endingf(wire.CloseUnavailable, "tunnel: welcome: %w", err)
	}
	c.up(welcome, l.conn, asked)
	l.heart.took(time.Since(asked))
	c.pace.back()
	c.log().Info("link up", "edge", c.Edge, "remote", l.conn.Remote(), "epoch", welcome.Epoch, "oldest", welcome.Oldest, "head", welcome.Head)
	return history, nil
}

// read takes what the edge says.
func (l *clientLink) read(living context.Context, s split) error {
	in := order{split: s}
	for {
		frame, err := l.frames.Read()
		if err != nil {
			return fmt.Errorf("tunnel: read: %w", err)
		}
		switch f := frame.(type) {
		case *wire.Entry:
			if err := in.take(f.Seq); err != nil {
				return err
			}
			if err := l.inbox.put(living, f); err != nil {
				return err
			}
		case *wire.Pong:
			if !l.told { // it was asked for canaries before it was for this
				l.told = true
				l.client.promised(0)
			}
			l.heart.pong(f.Nonce)
		case *wire.Ping: // edges of today do not ask; those of tomorrow may
			if err := l.write(wire.Append(nil, &wire.Pong{Nonce: f.Nonce})); err != nil {
				return fmt.Errorf("tunnel: pong: %w", err)
			}
		case *wire.Canary:
			l.told = true
			l.client.promised(f.Every)
		default:
			return endingf(wire.CloseProtocol, "tunnel: unexpected %v", frame.Type())
		}
	}
}

// apply gives the Sink whatever has arrived, as one batch, and acknowledges it. When ctx ends it finishes the batch in
// hand, for which it has a little time from the end of stop on; a link that is lost does not interrupt it.
func (l *clientLink) apply(ctx, stop context.Context, s split) error {
	at, acked := place{split: s}, uint64(0)
	working, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	defer whenDone(stop, func() { time.AfterFunc(finishWithin, cancel) })()
	for {
		batch, err := l.inbox.take(ctx)
		if err != nil {
			return err
		}
		if err := l.client.Sink.Apply(working, at.behind(batch), batch); err != nil {
			return endingf(wire.CloseUnavailable, "tunnel: apply: %w", err)
		}
		l.client.committed()
		said := make([]byte, 0, 32)
		if seq := at.ack(); seq != acked {
			acked, l.acked = seq, true
			said = wire.Append(said, &wire.Ack{Seq: seq})
		}
		if l.client.Doubts != nil {
			if n := l.client.Doubts(); n != l.doubts {
				l.doubts = n
				said = wire.Append(said, &wire.Doubts{Count: n})
			}
		}
		if len(said) > 0 {
			if err := l.write(said); err != nil {
				return fmt.Errorf("tunnel: ack: %w", err)
			}
		}
	}
}

// write writes whole frames. All that a sidecar says is short, so it has to be gone within the time of a Pong.
func (l *clientLink) write(frames []byte) error {
	l.writing.take()
	defer l.writing.give()
	return writeAll(l.conn, frames, pongWithin)
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
