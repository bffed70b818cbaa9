package tunnel

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// heart tells whether a link lives: it sends Pings, and listens for anything at all.
type heart struct {
	write    func(frames []byte) error
	deaf     func() bool                                         // whether it is us who do not listen
	measured func(time.Duration)                                 // is told of round trips
	pace     *pace                                               // of a metered link; nil: not metered
	search   func(doubting context.Context, asked time.Duration) // for another way, until doubting ends; nil: there is none
	trust    time.Duration                                       // until when a Ping may be late; owned by beat
	began    time.Time
	heard    atomic.Int64  // when bytes came last, since began
	reads    atomic.Int64  // how often some came
	settled  atomic.Int64  // when the edge, after a silence, last was known to live, since began
	idle     atomic.Bool   // nothing has come since, as far as beat knows
	stirred  chan struct{} // something has, when it was idle
	hurried  chan struct{} // there is reason to doubt
	answered chan struct{} // the last Ping was
	parted   chan struct{} // the Ping of farewell was

	mu      sync.Mutex
	nonce   uint64        // of the last Ping
	pinged  time.Duration // when its Pong was due, had the way no length
	settles bool          // nothing had come for a while when it was sent
	trip    time.Duration // round, as last measured
	last    uint64        // the Ping of farewell, or one after it; 0: it was not said yet
}

func newHeart(write func([]byte) error, deaf func() bool, measured func(time.Duration), pace *pace) *heart {
	return &heart{
		write: write, deaf: deaf, measured: measured, pace: pace, began: time.Now(),
		stirred: make(chan struct{}, 1), hurried: make(chan struct{}, 1), answered: make(chan struct{}, 1), parted: make(chan struct{}, 1),
	}
}

// beat ends the link when it is dead. The connection has an idle timeout of its own, but that begins anew with what we
// send, and knows nothing of an edge that is stuck.
func (h *heart) beat(living context.Context) error {
	asked := h.since() // Welcome has just come
	for living.Err() == nil {
		var err error
		if lively, roused := h.pace.lively(); !lively {
			err = h.listen(living, h.pace.rest(), roused)
			asked = h.since()
		} else {
			patience := h.patience()
			if h.due(living, asked) == hurried {
				patience = h.short()
			}
			asked = h.since()
			err = h.check(living, patience)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// due waits until it is time for the next Ping: pingEvery behind the one before, or, where anything has come since the
// edge was last known to be silent and alive, as soon as nothing more comes. An edge that is killed under a stream of
// callbacks does not say so, and the one that is started in its place says it only to those who send something. Where
// bytes cost that has time.
func (h *heart) due(living context.Context, asked time.Duration) event {
	for {
		h.idle.Store(true)
		at, stirred := asked+pingEvery, h.stirred
		if heard := time.Duration(h.heard.Load()); h.pace == nil && int64(heard) > h.settled.Load() {
			at, stirred = min(at, heard+h.silence()), nil
		}
		left := at - h.since()
		if left <= 0 {
			return elapsed
		}
		switch e := h.wait(living, left, stirred, nil); e {
		case ended, hurried:
			return e
		}
	}
}

// knock sends Pings until stop. The edge answers them when it has said Welcome; if it was killed before it could, the
// one that is started in its place answers with a reset.
func (h *heart) knock(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var knocking sync.WaitGroup
	knocking.Go(func() {
		for h.wait(ctx, pingAgain, nil, nil) != ended && h.ping(0) == nil {
		}
	})
	return func() { cancel(); knocking.Wait() }
}

// check asks for an answer, and returns when anything at all was heard after that. If nothing was for too long the link
// is dead.
//
// A Ping that is not answered soon is followed by others. The network may have been cut only for a moment, and then it
// is the first packet after it that sets everything going again: what QUIC and TCP send anew by themselves comes at
// intervals that double, up to seconds. Meanwhile another way is looked for, once; see client_search.go.
func (h *heart) check(living context.Context, patience time.Duration) error {
	asked := h.since()
	var searching sync.WaitGroup
	defer searching.Wait()
	doubting, sure := context.WithCancel(living)
	defer sure()
	doubted := false
	for {
		if err := h.ping(0); err != nil {
			return err
		}
		now := h.since()
		next := min(now+max(pingAgain, 3*h.rtt()), asked+patience)
		if !doubted && now < asked+h.doubtful() {
			next = min(next, asked+h.doubtful())
		}
		switch h.wait(living, next-now, h.answered, nil) {
		case ended:
			return nil
		case hurried:
			patience = min(patience, h.since()-asked+h.short())
		}
		now = h.since()
		heard := time.Duration(h.heard.Load())
		switch {
		case heard >= asked:
			if doubted {
				h.trust = now + doubtRest
			}
			return nil
		case now-asked < patience:
			if !doubted && h.doubt(asked, now) {
				doubted = true
				since := asked
				searching.Go(func() { h.search(doubting, since) })
			}
		case h.deaf():
			asked = now
		default:
			return fmt.Errorf("tunnel: nothing heard for %v", (now - heard).Round(time.Millisecond))
		}
	}
}

// listen keeps silent for as long as a metered link may, and finds out whether the edge can speak after that: it asks
// for a Pong that comes so late. If none comes the link is checked.
func (h *heart) listen(living context.Context, silence time.Duration, roused <-chan struct{}) error {
	asked, before := h.since(), h.reads.Load()
	if err := h.ping(silence); err != nil {
		return err
	}
	switch h.wait(living, silence+h.patience(), h.answered, roused) {
	case ended:
		return nil
	case answered:
		if early := asked + silence - h.since(); early > 0 { // an edge that does not know what it was asked
			h.wait(living, early, nil, roused)
		} else if h.reads.Load() == before+1 { // nothing else came meanwhile: it was a silence
			h.pace.bore(silence)
		}
		return nil
	case elapsed:
		silent := h.reads.Load() == before
		err := h.check(living, h.patience())
		if err != nil {
			h.pace.lost(silence)
		} else if silent && living.Err() == nil {
			h.pace.broke(silence)
		}
		return err
	case expected:
		return h.check(living, h.patience())
	default:
		return h.check(living, h.short())
	}
}

// event is what a wait ended with.
type event int

const (
	elapsed  event = iota // its time
	ended                 // the link
	hurried               // somebody doubts that the link lives
	answered              // the last Ping was
	expected              // a callback is, from now on
)

func (h *heart) wait(living context.Context, d time.Duration, answers, roused <-chan struct{}) event {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return elapsed
	case <-living.Done():
		return ended
	case <-h.hurried:
		return hurried
	case <-answers:
		return answered
	case <-roused:
		return expected
	}
}

// hurry has the link checked at once, and soon decided: there is reason to doubt that it lives.
func (h *heart) hurry() { signal(h.hurried) }

// patience is how long a Ping may be without an answer. On a path that is slower still it grows with the round trip.
func (h *heart) patience() time.Duration { return max(pongWithin, 2*h.rtt()+pingAgain) }

// short is the patience of one who doubts.
func (h *heart) short() time.Duration { return max(time.Second, 3*h.rtt()) }

// silence is how long nothing has to come for the edge to be silent.
func (h *heart) silence() time.Duration { return max(pingAfter, h.rtt()) }

func (h *heart) since() time.Duration { return time.Since(h.began) }

func (h *heart) rtt() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trip
}

func (h *heart) ping(wait time.Duration) error {
	silent := h.since()-time.Duration(h.heard.Load()) >= h.silence()
	h.mu.Lock()
	h.nonce++
	h.settles = silent
	h.pinged = h.since() + wait
	frame := wire.Append(nil, &wire.Ping{Nonce: h.nonce, Wait: wait})
	select {
	case <-h.answered: // was of an earlier one
	default:
	}
	h.mu.Unlock()
	if err := h.write(frame); err != nil {
		return fmt.Errorf("tunnel: ping: %w", err)
	}
	return nil
}

func (h *heart) pong(nonce uint64) {
	h.mu.Lock()
	newest, rtt := nonce == h.nonce && nonce != 0, h.since()-h.pinged
	if newest {
		signal(h.answered)
		if h.settles {
			h.settled.Store(int64(h.since()))
		}
	}
	if h.last != 0 && nonce >= h.last {
		signal(h.parted)
	}
	h.mu.Unlock()
	if newest && rtt >= 0 {
		h.took(rtt)
	}
}

// farewell waits a moment until the edge has heard all that was written: to close a connection takes along what is still
// on its way.
func (h *heart) farewell(living context.Context) {
	h.mu.Lock()
	h.last = h.nonce + 1
	h.mu.Unlock()
	if h.ping(0) == nil {
		h.wait(living, drainWithin, h.parted, nil)
	}
}

// took records a round trip.
func (h *heart) took(rtt time.Duration) {
	h.mu.Lock()
	h.trip = rtt
	h.mu.Unlock()
	h.measured(rtt)
}

// hearing notes when bytes come.
type hearing struct {
	io.Reader
	heart *heart
}

func (h hearing) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if n > 0 {
		h.heart.heard.Store(int64(h.heart.since()))
		h.heart.reads.Add(1)
		if h.heart.idle.Load() && h.heart.idle.Swap(false) {
			signal(h.heart.stirred)
		}
	}
	return n, err
}
