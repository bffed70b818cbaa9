package edge

import (
	"context"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// How it stands with each endpoint: for the operator, and for Prometheus.

// standing lists all endpoints by name. If ctx ends, or the journal, it returns those that it came to.
func (e *Edge) standing(ctx context.Context) ([]shownEndpoint, error) {
	connected := make(map[string]bool)
	for _, l := range e.tunnel.Links() {
		connected[l.Endpoint] = true
	}
	list := []shownEndpoint{}
	for _, endpoint := range e.Endpoints() {
		state, err := e.journal.State(ctx, endpoint.Name)
		if err != nil {
			return list, err
		}
		if connected[endpoint.Name] {
			endpoint.Seen = time.Now().UTC()
		} else if left := e.tunnel.Seen(endpoint.Name); left.After(endpoint.Seen) {
			endpoint.Seen = left.UTC()
		}
		held, limit := e.disk.Held(endpoint.Name)
		list = append(list, shownEndpoint{
			Endpoint: endpoint, Callback: endpoint.callback(), Connected: connected[endpoint.Name],
			Oldest: state.Oldest, Head: state.Head, Acked: state.Acked,
			Stored: state.Head - state.Canaries, Delivered: state.Acked - min(state.Heard, state.Acked),
			Lost: e.disk.Lost(endpoint.Name), Held: held, Limit: limit, Undelivered: e.undelivered(ctx, endpoint.Name, state),
		})
	}
	return list, nil
}

// undelivered is when the oldest callback came that the endpoint's sidecar has not acknowledged; zero: there is none, or it
// cannot be read.
func (e *Edge) undelivered(ctx context.Context, endpoint string, state wire.State) time.Time {
	from := max(state.Acked+1, state.Oldest)
	if came, ok := e.waiting.known(endpoint, state.Epoch, from); ok {
		return came
	}
	for next, tries := from, 0; next <= state.Head && tries < lostAtMost; tries++ {
		entry, err := e.journal.Entry(ctx, endpoint, next)
		switch {
		case err != nil:
			return time.Time{}
		case entry.Kind == wire.KindCanary: // one run at most: no other begins before it is acknowledged
			next += max(1, state.Canaries-min(state.Heard, state.Canaries))
		case entry.Kind == wire.KindLost: // nobody knows when it came
			next++
		default:
			e.waiting.note(endpoint, state.Epoch, from, entry.Received)
			return entry.Received
		}
	}
	return time.Time{}
}

const lostAtMost = 64 // entries in a row, that a disk has lost: what is behind them is as good as lost for this

// waiting remembers when the oldest callback of each endpoint came that is not acknowledged: with a thousand shops away these
// are not read anew from the disk every few seconds.
type waiting struct {
	mu     sync.Mutex
	oldest map[string]waits
}

type waits struct {
	epoch wire.Epoch
	from  uint64 // the first entry that is not acknowledged
	came  time.Time
}

func (w *waiting) known(endpoint string, epoch wire.Epoch, from uint64) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok := w.oldest[endpoint]
	return k.came, ok && k.epoch == epoch && k.from == from
}

func (w *waiting) note(endpoint string, epoch wire.Epoch, from uint64, came time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.oldest == nil {
		w.oldest = make(map[string]waits)
	}
	w.oldest[endpoint] = waits{epoch, from, came}
}
