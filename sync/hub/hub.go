// Package hub keeps the newest events in memory and wakes the readers who wait for them.
//
// It is the last of the numbered histories on a callback's way, and the verb is the same as everywhere: Next(after). A
// reader is nothing but the number it has read up to, so there is no queue per reader to overflow, and a slow reader
// merely has an older number:
//
//	        Publish                         Load
//	           │                     the table on disk
//	           ▼                             │
//	┌─────────────────────┐ floor            │
//	│ 41 42 43 44 45 46 47│ ◀───── behind the ring: read from there
//	└─────────────────────┘ head
//	   ▲        ▲        ▲
//	reader    reader   reader: at the head, waits
package hub

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// batch is the most events that one call of Next returns. It bounds what a reader who comes back after long holds.
const batch = 256

// Event is one numbered update, in the form in which every reader is sent it.
type Event struct {
	Seq     uint64
	Session string
	Data    []byte // the encoded message: one encoding for all readers, which must not change it
}

// Load reads events from the table behind the ring: those of a session ("" for all) with a Seq greater than after,
// ascending, at most limit of them. It must see every event that was published before it is called.
type Load func(ctx context.Context, session string, after uint64, limit int) ([]Event, error)

// Hub is a ring of the newest events, and the readers who wait for the next.
type Hub struct {
	load Load

	mu    sync.Mutex
	ring  []slot            // the event at position p is in ring[p % len(ring)]
	from  uint64            // the ring holds positions from ≤ p < to
	to    uint64            //
	floor uint64            // every event with a Seq greater than floor is in the ring
	head  uint64            // the greatest Seq published
	last  map[string]uint64 // by session: the position of its newest event in the ring
	waves map[string]*wave  // by session ("" for all): who waits for its next event
}

// A slot is an event in the ring. The events of one session are a chain, so that a reader of one session does not walk
// past everybody else's.
type slot struct {
	Event
	prev    uint64 // the position of the session's event before this one, if chained
	chained bool
}

// A wave is all readers who wait for the next event of one session. They share one channel: waking five thousand tills
// is one close.
type wave struct {
	readers int
	done    chan struct{}
	first   uint64 // the Seq that ended the waiting; set before done is closed
}

// New returns a hub that keeps the newest size events (at least one). Head is the Seq of the newest event that the
// table holds already; load reads those that the ring does not hold.
func New(size int, head uint64, load Load) *Hub {
	return &Hub{
		load:  load,
		ring:  make([]slot, max(size, 1)),
		floor: head,
		head:  head,
		last:  make(map[string]uint64),
		waves: make(map[string]*wave),
	}
}

// Head returns the Seq of the newest event.
func (h *Hub) Head() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head
}

// Publish adds events, in ascending order of Seq, and wakes their readers. It waits for no reader: the caller may hold
// the lock that orders its commits. An event that is not newer than the head was published before and is left out.
func (h *Hub) Publish(events ...Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		if e.Seq <= h.head {
			continue
		}
		h.add(e)
		h.wake(e.Session, e.Seq)
		h.wake("", e.Seq)
	}
}

// Drop forgets what is in memory: events have changed in the table, and are read from there.
func (h *Hub) Drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ring)
	h.from, h.floor = h.to, h.head
	clear(h.last)
}

func (h *Hub) add(e Event) {
	n := uint64(len(h.ring))
	if h.to-h.from == n {
		old := &h.ring[h.from%n]
		h.floor = old.Seq
		if h.last[old.Session] == h.from {
			delete(h.last, old.Session)
		}
		h.from++
	}
	prev, chained := h.last[e.Session]
	h.ring[h.to%n] = slot{Event: e, prev: prev, chained: chained}
	h.last[e.Session] = h.to
	h.to++
	h.head = e.Seq
}

func (h *Hub) wake(session string, seq uint64) {
	if w := h.waves[session]; w != nil {
		delete(h.waves, session)
		w.first = seq
		close(w.done)
	}
}

// Next waits until there are events of the session (of all sessions if it is "") with a Seq greater than after, and
// returns the first of them with the number to pass next time. That number may be beyond the last event returned: what
// lies between is of other sessions, or was pruned. A reader behind everything that is left is moved to the head. If ctx
// ends first, the number is how far the reader has come all the same.
func (h *Hub) Next(ctx context.Context, session string, after uint64) ([]Event, uint64, error) {
	for {
		h.mu.Lock()
		if after < h.floor {
			head := h.head
			h.mu.Unlock()
			events, err := h.load(ctx, session, after, batch)
			if err != nil {
				return nil, after, fmt.Errorf("hub: load after %d: %w", after, err)
			}
			if n := len(events); n > 0 {
				after = max(after, events[n-1].Seq)
			}
			if len(events) < batch {
				after = max(after, head) // the table had no more of them, up to the head that we saw before we asked
			}
			if len(events) > 0 {
				return events, after, nil
			}
			continue
		}
		events, more := h.held(session, after)
		if len(events) > 0 {
			if more {
				after = events[len(events)-1].Seq
			} else {
				after = h.head
			}
			h.mu.Unlock()
			return events, after, nil
		}
		w := h.join(session)
		h.mu.Unlock()

		select {
		case <-w.done:
			// Whatever was published since then and before w.first is of no interest to this reader, even if the ring has
			// forgotten it by now: an idle session in a busy shop does not go to the disk.
			after = max(after, w.first-1)
		case <-ctx.Done():
			return nil, max(after, h.leave(session, w)), ctx.Err()
		}
	}
}

// held returns the first events in the ring after a Seq, and whether there are more. It is called with the lock held.
func (h *Hub) held(session string, after uint64) (events []Event, more bool) {
	n := uint64(len(h.ring))
	if session == "" {
		start := h.from + uint64(sort.Search(int(h.to-h.from), func(i int) bool {
			return h.ring[(h.from+uint64(i))%n].Seq > after
		}))
		end := min(h.to, start+batch)
		for p := start; p < end; p++ {
			events = append(events, h.ring[p%n].Event)
		}
		return events, end < h.to
	}
	p, ok := h.last[session]
	for ok && p >= h.from && h.ring[p%n].Seq > after {
		events = append(events, h.ring[p%n].Event)
		p, ok = h.ring[p%n].prev, h.ring[p%n].chained
	}
	slices.Reverse(events)
	if len(events) > batch {
		return events[:batch], true
	}
	return events, false
}

func (h *Hub) join(session string) *wave {
	w := h.waves[session]
	if w == nil {
		w = &wave{done: make(chan struct{})}
		h.waves[session] = w
	}
	w.readers++
	return w
}

// leave gives up waiting, and says up to where there was nothing to wait for.
func (h *Hub) leave(session string, w *wave) (nothingUpTo uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waves[session] != w { // it came just now
		return w.first - 1
	}
	if w.readers--; w.readers == 0 {
		delete(h.waves, session)
	}
	return h.head
}
