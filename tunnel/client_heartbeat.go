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

	mu     sync.Mutex
	nonce  uint64        // of the last Ping
	pinged time.Duration // when it was sent, since began
}

// beat sends Pings, and ends the link when nothing at all was heard for a while after one. The connection has an idle
// timeout of its own, but that begins anew with what we send, and knows nothing of an edge that is stuck.
func (h *heart) beat(living context.Context) error {
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
			last = time.Since(h.began)
			if err := h.ping(last); err != nil {
				return fmt.Errorf("tunnel: ping: %w", err)
			}
			if asked == 0 {
				asked = last
				overdue.Reset(pongWithin)
			}
		case <-overdue.C:
			heard := time.Duration(h.heard.Load())
			switch {
			case h.deaf():
				asked = time.Since(h.began)
			case heard >= last:
				asked = 0
				continue
			case heard < asked:
				return fmt.Errorf("tunnel: nothing heard for %v", (time.Since(h.began) - heard).Round(time.Millisecond))
			default:
				asked = last
			}
			overdue.Reset(asked + pongWithin - time.Since(h.began))
		}
	}
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
	newest, rtt := nonce == h.nonce && nonce != 0, time.Since(h.began)-h.pinged
	h.mu.Unlock()
	if newest {
		h.measured(rtt)
	}
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
