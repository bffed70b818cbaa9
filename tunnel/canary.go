package tunnel

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/tunnel/wire"
)

// missed is how many canaries in a row make a link one that does not deliver.
const missed = 3

// proved reports whether something was delivered lately, by how often canaries say so.
func proved(every time.Duration, delivered, now time.Time) bool {
	return every == 0 || !delivered.IsZero() && now.Sub(delivered) <= missed*every
}

// Delivering reports whether the sidecar is connected, and callbacks are known to get through, as Link has it.
func (s Sign) Delivering(now time.Time) bool {
	return s.Connected && proved(s.Canary, s.Delivered, now)
}

// Delivering reports whether callbacks are known to get through to the Sink: there is a link, and, if the edge sends
// canaries, the Sink committed one or a callback not long ago.
func (s Status) Delivering(now time.Time) bool {
	return s.Connected && proved(s.Canary, s.Delivered, now)
}

// committed records that the Sink has committed what came.
func (c *Client) committed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Delivered = time.Now()
}

// promised records how often the edge says it sends canaries.
func (c *Client) promised(every time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Canary = every
}

// asked notes how often the sidecar wants canaries, and answers how often they come.
func (l *serverLink) asked(f *wire.Canary) error {
	every := f.Every
	if every > 0 {
		every = max(every, wire.MinCanary)
	}
	l.every.Store(int64(every))
	l.seat.wants(l, every)
	return l.write(wire.Append(nil, &wire.Canary{Every: every}))
}

// sing has the History store a canary, if it is time for one: send will find it there as it finds callbacks. It is called
// when something was heard of the sidecar, so a link of which nothing is heard gets none, and an idle one costs neither a
// goroutine nor a timer.
func (l *serverLink) sing(living context.Context, g *errgroup.Group) {
	every := time.Duration(l.every.Load())
	if every == 0 || !l.seat.begins(l, every) {
		return
	}
	g.Go(func() error {
		seq, err := l.server.History.Append(living, l.endpoint.Name, wire.Entry{Kind: wire.KindCanary, Received: time.Now()})
		if err != nil && living.Err() == nil {
			l.server.log().Warn("no canary could be stored: this endpoint's callbacks may not be either", "endpoint", l.endpoint.Name, "err", err)
		}
		l.seat.sung(seq)
		return nil
	})
}

// canary is the last one of an endpoint, whichever of its links it went over. It is guarded by its seat.
type canary struct {
	seq       uint64
	began     time.Time
	singing   bool      // it is being stored
	delivered time.Time // when the sidecar last acknowledged anything

	every time.Duration // as the sidecar last asked
}

func (st *seat) wants(l *serverLink, every time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.link == l {
		st.canary.every = every
	}
}

// begins reports whether the next canary is due, and says that it begins: all that was there when the link came to be is
// acknowledged, and so is the canary before.
func (st *seat) begins(l *serverLink, every time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	c, now := &st.canary, time.Now()
	if st.link != l || c.singing || now.Sub(c.began) < every || max(l.acked.Load(), l.after) < max(l.newest, c.seq) {
		return false
	}
	c.singing, c.began = true, now
	return true
}

// sung records the number of the canary; 0: it has none, or that is not known.
func (st *seat) sung(seq uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.canary.singing = false
	st.canary.seq = max(st.canary.seq, seq)
}

func (st *seat) acknowledged(l *serverLink) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.link == l {
		st.canary.delivered = time.Now()
	}
}
