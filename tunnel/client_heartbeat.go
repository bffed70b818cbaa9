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
	deaf     func() bool         // whether it is us who do not listen
	measured func(time.Duration) // is told of round trips
	began    time.Time
	heard    atomic.Int64 // when the last bytes came, since began

	hurried chan struct{}

	mu     sync.Mutex
	nonce  uint64        // of the last Ping
	pinged time.Duration // when it was sent, since began
	trip   time.Duration // round, as last measured
}

func newHeart(write func([]byte) error, deaf func() bool, measured func(time.Duration)) *heart {
	return &heart{write: write, deaf: deaf, measured: measured, began: time.Now(), hurried: make(chan struct{}, 1)}
}

// beat sends Pings, and ends the link when nothing at all was heard for a while after one. The connection has an idle
// timeout of its own, but that begins anew with what we send, and knows nothing of an edge that is stuck.
//
// A Ping that is not answered soon is followed by others. The network may have been cut only for a moment, and then it
// is the first packet after it that sets everything going again: what QUIC and TCP send anew by themselves comes at
// intervals that double, up to seconds.
func (h *heart) beat(living context.Context) error {
	timer, overdue := time.NewTimer(pingEvery), time.NewTimer(0)
	defer timer.Stop()
	defer overdue.Stop()
	<-overdue.C
	var (
		last  time.Duration           // when the last Ping was sent
		due   = h.since() + pingEvery // when the next one is, if that one was answered
		asked time.Duration           // the Ping that overdue is of was sent then; 0: none is
	)
	ping := func(patience time.Duration) error {
		last = h.since()
		due = last + pingEvery
		if err := h.ping(last); err != nil {
			return fmt.Errorf("tunnel: ping: %w", err)
		}
		if asked == 0 {
			asked = last
			overdue.Reset(patience)
		}
		timer.Reset(min(pingEvery, max(pingAgain, 3*h.rtt())))
		return nil
	}
	for {
		select {
		case <-living.Done():
			return nil
		case <-h.hurried:
			asked = 0
			if err := ping(max(time.Second, 3*h.rtt())); err != nil {
				return err
			}
		case <-timer.C:
			if wait := due - h.since(); wait > 0 && time.Duration(h.heard.Load()) >= last {
				timer.Reset(wait)
				continue
			}
			if err := ping(h.patience()); err != nil {
				return err
			}
		case <-overdue.C:
			heard := time.Duration(h.heard.Load())
			switch {
			case h.deaf():
				asked = h.since()
			case heard >= last:
				asked = 0
				continue
			case heard < asked:
				return fmt.Errorf("tunnel: nothing heard for %v", (h.since() - heard).Round(time.Millisecond))
			default:
				asked = last
			}
			overdue.Reset(asked + h.patience() - h.since())
		}
	}
}

// hurry has a Ping sent at once, which must be answered soon: there is reason to doubt that the link lives.
func (h *heart) hurry() { signal(h.hurried) }

// patience is how long a Ping may be without an answer. On a path that is slower still it grows with the round trip.
func (h *heart) patience() time.Duration { return max(pongWithin, 2*h.rtt()+pingAgain) }

func (h *heart) since() time.Duration { return time.Since(h.began) }

func (h *heart) rtt() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trip
}

func (h *heart) ping(now time.Duration) error {
	h.mu.Lock()
	h.nonce++
	h.pinged = now
	frame := wire.Append(nil, &wire.Ping{Nonce: h.nonce})
	h.mu.Unlock()
	return h.write(frame)
}

func (h *heart) pong(nonce uint64) {
	h.mu.Lock()
	newest, rtt := nonce == h.nonce && nonce != 0, h.since()-h.pinged
	h.mu.Unlock()
	if newest {
		h.took(rtt)
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
		h.heart.heard.Store(int64(time.Since(h.heart.began)))
	}
	return n, err
}
