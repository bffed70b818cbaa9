package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/tunnel/wire"
)

// serverLink is one link after its Welcome. An idle one costs two goroutines: send owns the place in the history, and
// read, in the goroutine of run, the incoming frames. A third tells the History of Acks, as long as there are some to
// tell of. A fourth begins with the first Ping whose Pong has to wait, and owns those Pongs. When one of them ends or the
// seat is taken, the connection is closed, and so the others end.
type serverLink struct {
	server     *Server
	conn       conn
	frames     *wire.Reader
	endpoint   Endpoint
	instance   [16]byte
	seat       *seat
	generation uint64
	since      time.Time
	expires    time.Time // the certificate that it began with
	epoch      wire.Epoch

	head          uint64 // as Welcome told it
	newest        uint64 // entry that there was then
	after         uint64 // where the sidecar was then
	backlog, live uint64 // the last entry sent up to head, and behind it; owned by send

	sent    atomic.Uint64 // everything up to here
	acked   atomic.Uint64
	telling atomic.Bool  // the History is being told of acked
	every   atomic.Int64 // time.Duration between canaries; 0: none
	flight  *flight
	oust    context.CancelCauseFunc // the seat was taken
	writing turn                    // taken for whole frames
}

// run takes the link to its end and says why it ended. When ctx ends the link drains; when life ends its seat was taken.
func (l *serverLink) run(ctx, life context.Context) error {
	g, living := errgroup.WithContext(life)
	closed := make(chan struct{})
	context.AfterFunc(living, func() {
		defer close(closed)
		l.conn.Close(closing(context.Cause(living)))
	})
	g.Go(func() error { return l.send(living, ctx) })
	if l.acked.Load() > 0 {
		l.tell(living, g)
	}
	err := l.read(living, g) // here, so that an idle link costs a goroutine less
	g.Go(func() error { return err })
	err = g.Wait()
	<-closed
	if life.Err() != nil { // to close the connection made the others fail, and one of them may have been the first to say so
		return context.Cause(life)
	}
	return err
}

// send sends the history from the link's place on, as long as not too much of it is unacknowledged. When drain ends it
// waits a moment for the last Acks.
func (l *serverLink) send(living, drain context.Context) error {
	ctx, cancel := context.WithCancel(living)
	defer cancel()
	defer context.AfterFunc(drain, cancel)()
	err := l.sendBacklog(ctx)
	for err == nil {
		err = l.sendNext(ctx)
	}
	if !errors.Is(err, context.Canceled) {
		return err
	}
	if living.Err() == nil {
		living, cancel := context.WithTimeout(living, drainWithin)
		defer cancel()
		l.flight.waitEmpty(living)
	}
	return endingf(wire.CloseDraining, "tunnel: drained")
}

// sendNext sends live entries that there are, or will be.
func (l *serverLink) sendNext(ctx context.Context) error {
	room, err := l.flight.wait(ctx, sendBatch)
	if err != nil {
		return err
	}
	entries, err := l.next(ctx, l.live, room)
	if err != nil {
		return err
	}
	return l.sendEntries(entries)
}

// sendEntries writes entries, many to a write. What is written is in flight before it is written, so that no Ack comes
// too early.
func (l *serverLink) sendEntries(entries []wire.Entry) error {
	buffer, _ := l.server.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	b := (*buffer)[:0]
	defer func() {
		if cap(b) <= 4*chunk {
			*buffer = b
			l.server.buffers.Put(buffer)
		}
	}()
	for i := range entries {
		if err := entries[i].Check(); err != nil {
			return endingf(wire.CloseUnavailable, "tunnel: entry %d of %s cannot be sent: %w", entries[i].Seq, l.endpoint.Name, err)
		}
		b = wire.Append(b, &entries[i])
		if i < len(entries)-1 && len(b)+entries[i+1].Size() <= chunk {
			continue
		}
		l.passed(entries[i].Seq, len(b))
		if err := l.write(b); err != nil {
			return fmt.Errorf("tunnel: send: %w", err)
		}
		b = b[:0]
	}
	return nil
}

// passed notes that bytes of entries, up to seq, are about to be sent.
func (l *serverLink) passed(seq uint64, bytes int) {
	if seq <= l.head {
		l.backlog = seq
	} else {
		l.live = seq
	}
	l.flight.add(seq, bytes)
	if l.backlog < l.head {
		l.sent.Store(l.backlog)
	} else {
		l.sent.Store(l.live)
	}
}

// write writes whole frames.
func (l *serverLink) write(frames []byte) error {
	l.writing.take()
	defer l.writing.give()
	return writeAll(l.conn, frames, writeWithin)
}

// read takes what the sidecar says: Acks, Pings, how often it wants canaries, and what it does not believe.
func (l *serverLink) read(living context.Context, g *errgroup.Group) error {
	var pong [16]byte
	var late chan *wire.Ping
	told := false // it is known whether the sidecar wants canaries: it asks before it says anything else
	for {
		frame, err := l.frames.Read()
		if err != nil {
			return fmt.Errorf("tunnel: read: %w", err)
		}
		switch f := frame.(type) {
		case *wire.Ack:
			if !l.flight.ack(f.Seq) {
				return endingf(wire.CloseProtocol, "tunnel: ack of %d, which was not sent", f.Seq)
			}
			if f.Seq > l.acked.Load() {
				l.acked.Store(f.Seq)
				l.seat.acknowledged(l)
				l.tell(living, g)
			}
		case *wire.Pong: // to a Ping that this edge did not send: it changes nothing
		case *wire.Ping:
			if !told {
				told = true
				l.seat.wants(l, 0)
			}
			if f.Wait > 0 {
				if late == nil {
					late = make(chan *wire.Ping)
					g.Go(func() error { return l.later(living, late) })
				}
				select {
				case late <- f:
				case <-living.Done():
				}
				break
			}
			if err := l.write(wire.Append(pong[:0], &wire.Pong{Nonce: f.Nonce})); err != nil {
				return fmt.Errorf("tunnel: pong: %w", err)
			}
		case *wire.Canary:
			told = true
			if err := l.asked(f); err != nil {
				return fmt.Errorf("tunnel: canary: %w", err)
			}
		case *wire.Doubts:
			if l.server.Doubts != nil && l.seat.holds(l) {
				l.server.Doubts(l.endpoint.Name, f.Count)
			}
		default:
			return endingf(wire.CloseProtocol, "tunnel: unexpected %v", frame.Type())
		}
		l.sing(living, g)
	}
}

// later answers the Pings that want a silence before their Pong: of several, the newest.
func (l *serverLink) later(living context.Context, pings <-chan *wire.Ping) error {
	over := time.NewTimer(0)
	defer over.Stop()
	<-over.C
	var nonce uint64
	for {
		select {
		case <-living.Done():
			return nil
		case p := <-pings:
			nonce = p.Nonce
			over.Reset(min(p.Wait, wire.MaxIdle))
		case <-over.C:
			if err := l.write(wire.Append(nil, &wire.Pong{Nonce: nonce})); err != nil {
				return fmt.Errorf("tunnel: pong: %w", err)
			}
		}
	}
}

// tell has the History told how far the sidecar is: the newest Ack, whenever the one before is written down. The last
// one is told even when the link has ended; but not when it was displaced, for the seat is the fence.
func (l *serverLink) tell(living context.Context, g *errgroup.Group) {
	if !l.telling.CompareAndSwap(false, true) {
		return // whoever does is going to see it
	}
	g.Go(func() error {
		for {
			seq := l.acked.Load()
			l.acknowledge(living, seq)
			l.telling.Store(false)
			if l.acked.Load() == seq || !l.telling.CompareAndSwap(false, true) {
				return nil
			}
		}
	})
}

func (l *serverLink) acknowledge(living context.Context, seq uint64) {
	if !l.seat.holds(l) {
		return
	}
	err := l.server.History.Ack(living, l.endpoint.Name, l.epoch, seq)
	if err != nil && living.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(living), drainWithin)
		defer cancel()
		if l.seat.holds(l) {
			err = l.server.History.Ack(last, l.endpoint.Name, l.epoch, seq)
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		// Nothing is lost: Acks are for pruning, and the sidecar knows where it is.
		l.server.log().Warn("ack not written down", "endpoint", l.endpoint.Name, "seq", seq, "err", err)
	}
}
