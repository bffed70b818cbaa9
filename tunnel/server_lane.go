package tunnel

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// backlogWindow is how much of a backlog may be sent and not yet acknowledged. It is what a live entry may find ahead of
// itself wherever bytes wait (in the network, in the buffers below us, at the sidecar), and so bounds its delay by 0.5 s
// on a link of 1 Mbit/s.
const backlogWindow = 64 << 10

// fresh is how young an entry is that counts as live although it came before the link did: whoever paid may still stand
// at the till, and the sidecar does not ask Daraja about a payment before that. Without it, a link that breaks amid a
// backlog would put those whom it had let pass at the backlog's end.
const fresh = 30 * time.Second

// stale finds the head of the backlog behind after: the newest entry that is not fresh.
func (s *Server) stale(ctx context.Context, endpoint string, after, head uint64) (uint64, error) {
	now := time.Now()
	isFresh := func(seq uint64) (is bool, err error) {
		e, err := s.History.Entry(ctx, endpoint, seq)
		return now.Sub(e.Received) < fresh, err
	}
	if head <= after {
		return head, nil
	}
	if is, err := isFresh(head); err != nil || !is {
		return head, err
	}
	var failed error
	n := sort.Search(int(head-after), func(i int) bool {
		if failed != nil {
			return true
		}
		var is bool
		is, failed = isFresh(after + 1 + uint64(i))
		return is
	})
	return after + uint64(n), failed
}

// sendBacklog sends the history up to the head that Welcome told, frame by frame, and ahead of every frame what is
// behind it: a customer who stands at the till now does not wait for those of yesterday.
//
// Live entries are not acknowledged one by one while a backlog lasts, but an Ack of the backlog speaks for all that was
// written before. So the window bounds them like anything else; when it is full of them, what goes next is a frame of
// the backlog, whose Ack will make room. That also is the least that a backlog gets while live entries keep coming.
func (l *serverLink) sendBacklog(ctx context.Context) error {
	if l.backlog == l.head {
		return nil
	}
	if l.newest > l.head {
		if err := l.sendNext(ctx); err != nil {
			return err
		}
	}
	appended, stop := l.lookOut(ctx)
	defer stop()
	var old, live []wire.Entry
	for l.backlog < l.head {
		if len(live) == 0 {
			select {
			case next := <-appended:
				if next.err != nil {
					return next.err
				}
				live = next.entries
			default:
			}
		}
		if len(live) > 0 && l.flight.room() > 0 {
			if err := l.sendEntries(live); err != nil {
				return err
			}
			live = nil
			continue
		}
		if len(old) == 0 {
			entries, err := l.next(ctx, l.backlog, backlogWindow)
			if err != nil {
				return err
			}
			old = entries[:min(uint64(len(entries)), l.head-l.backlog)]
		}
		if l.flight.backlogRoom(old[0].Size()) {
			if err := l.sendEntries(old[:1]); err != nil {
				return err
			}
			old = old[1:]
			continue
		}
		more := appended
		if len(live) > 0 {
			more = nil
		}
		select {
		case next := <-more:
			if next.err != nil {
				return next.err
			}
			live = next.entries
		case <-l.flight.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil // what the lookout has found and nobody has sent is asked for again
}

type appended struct {
	entries []wire.Entry
	err     error
}

// lookOut waits for live entries while send is busy with the backlog, and holds at most one batch of them.
func (l *serverLink) lookOut(ctx context.Context) (_ <-chan appended, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan appended)
	after := l.live
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			entries, err := l.next(ctx, after, backlogWindow)
			select {
			case out <- appended{entries, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
			after = entries[len(entries)-1].Seq
		}
	})
	return out, func() { cancel(); looking.Wait() }
}

// next waits for entries behind after. What the History has forgotten meanwhile ends the link: it is for the next
// Welcome to tell of a gap.
func (l *serverLink) next(ctx context.Context, after uint64, maxBytes int) ([]wire.Entry, error) {
	entries, err := l.server.History.Next(ctx, l.endpoint.Name, after, maxBytes)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil && entries[0].Seq != after+1:
		err = fmt.Errorf("entry %d is no longer held", after+1)
	}
	if err != nil {
		return nil, endingf(wire.CloseUnavailable, "tunnel: history of %s: %w", l.endpoint.Name, err)
	}
	return entries, nil
}

// flight is what was sent and not yet acknowledged.
type flight struct {
	mu            sync.Mutex
	spans         []span // in the order of the stream
	bytes         int    // of all spans
	backlogBytes  int    // of those that are of the backlog
	head          uint64 // where the backlog ends
	backlog, live uint64 // the last that was sent of each
	changed       chan struct{}
}

type span struct {
	last  uint64
	bytes int
}

func newFlight() *flight { return &flight{changed: make(chan struct{}, 1)} }

// begin puts it behind after, with a backlog from there to head.
func (f *flight) begin(after, head uint64) { f.backlog, f.live, f.head = after, head, head }

func (f *flight) add(last uint64, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spans = append(f.spans, span{last, bytes})
	f.bytes += bytes
	if last <= f.head {
		f.backlog = last
		f.backlogBytes += bytes
	} else {
		f.live = last
	}
}

// ack takes the entry seq, and all that was sent before it, out of flight; false if it was not sent, or is a live one
// while the backlog lasts.
func (f *flight) ack(seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := f.backlog
	if f.backlog == f.head {
		sent = f.live
	}
	if seq > sent {
		return false
	}
	n := len(f.spans)
	for n > 0 && f.spans[n-1].last > seq {
		n--
	}
	for _, s := range f.spans[:n] {
		f.bytes -= s.bytes
		if s.last <= f.head {
			f.backlogBytes -= s.bytes
		}
	}
	f.spans = f.spans[n:]
	if len(f.spans) == 0 {
		f.spans = nil
	}
	if n > 0 {
		signal(f.changed)
	}
	return true
}

// room is how much of the window is left. An entry larger than that is sent all the same, so the window is passed by
// one batch at most.
func (f *flight) room() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return window - f.bytes
}

// backlogRoom reports whether a frame of the backlog may be sent: one always may.
func (f *flight) backlogRoom(bytes int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.backlogBytes == 0 || f.backlogBytes+bytes <= backlogWindow
}

// wait waits for room and says how much there is, at most want.
func (f *flight) wait(ctx context.Context, want int) (int, error) {
	for {
		room := f.room()
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if room > 0 {
			return min(room, want), nil
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
		}
	}
}

// waitEmpty waits until nothing is in flight, or ctx ends.
func (f *flight) waitEmpty(ctx context.Context) {
	for {
		f.mu.Lock()
		empty := f.bytes == 0
		f.mu.Unlock()
		if empty || ctx.Err() != nil {
			return
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
