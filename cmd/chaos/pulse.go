package main

import (
	"context"
	"sync"
	"time"
)

// A pulse is when a shop's app was told of callbacks, and which faults touch the shop meanwhile.
type pulse struct {
	mu      sync.Mutex
	active  int // faults that last
	begun   int // faults so far
	watches map[*watch]struct{}
}

// A watch measures the deliveries around one fault.
type watch struct {
	pulse   *pulse
	alone   bool // no other fault was there when it began
	number  int
	last    time.Time // of a delivery, or the beginning
	silence time.Duration
	over    bool // the fault is; from then on the first delivery is waited for
	first   chan time.Time
}

// begin notes that a fault begins, and watches what it does.
func (p *pulse) begin(now time.Time) *watch {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &watch{pulse: p, alone: p.active == 0, last: now, first: make(chan time.Time, 1)}
	p.active++
	p.begun++
	w.number = p.begun
	if p.watches == nil {
		p.watches = map[*watch]struct{}{}
	}
	p.watches[w] = struct{}{}
	return w
}

// beat notes a delivery.
func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watches {
		w.silence = max(w.silence, now.Sub(w.last))
		w.last = now
		if w.over {
			select {
			case w.first <- now:
			default:
			}
		}
	}
}

// end notes that the fault is over.
func (w *watch) end() {
	w.pulse.mu.Lock()
	defer w.pulse.mu.Unlock()
	w.over = true
	w.pulse.active--
}

// A measure is what one fault did to one shop.
type measure struct {
	silence time.Duration // the longest without a delivery, from the fault's beginning to the first one after its end
	first   time.Duration // from the fault's end to the next delivery
	alone   bool          // no other fault was in play
	missing bool          // there was none within a minute
}

// stalled is how long a delivery may stay away after a fault.
const stalled = time.Minute

// measure waits for the first delivery after the end.
func (w *watch) measure(ctx context.Context, ended time.Time) measure {
	t := time.NewTimer(stalled)
	defer t.Stop()
	var m measure
	select {
	case at := <-w.first:
		m.first = at.Sub(ended)
	case <-t.C:
		m.missing = true
	case <-ctx.Done():
	}
	w.pulse.mu.Lock()
	defer w.pulse.mu.Unlock()
	delete(w.pulse.watches, w)
	m.silence = w.silence
	m.alone = w.alone && w.pulse.begun == w.number && ctx.Err() == nil
	return m
}
