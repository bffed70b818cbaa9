package tunnel_test

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

func singing(c *tunnel.Client) { c.Canary = 30 * time.Second }

// delivers reports what the two ends think: whether there is a link, and whether callbacks get through.
func delivers(e *edge, c *sidecar) (linked, atEdge, atSidecar bool) {
	links, status := e.Links(), c.Status()
	return len(links) == 1 && status.Connected, len(links) == 1 && links[0].Delivering(time.Now()), status.Delivering(time.Now())
}

func (w *world) wantDelivering(e *edge, c *sidecar, want bool, when string) {
	w.t.Helper()
	if linked, atEdge, atSidecar := delivers(e, c); !linked || atEdge != want || atSidecar != want {
		w.t.Errorf("%s: linked %v, delivering for the edge %v, for the sidecar %v; want %v\n%s", when, linked, atEdge, atSidecar, want, &w.log)
	}
}

// canaries is how many there are, and the last number and the last acknowledged one.
func (w *world) canaries() (n int, head, acked uint64) {
	p := w.history.look("duka")
	return p.canaries, p.state.Head, p.state.Acked
}

func TestAnIdleLinkHasACanaryEveryHalfMinuteThatIsCommittedAndAcknowledged(t *testing.T) {
	overBoth(t, func(w *world) {
		w.history.add("duka", 3, "")
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, singing)
		w.soon(8*time.Second, "the first canary", func() bool { n, _, acked := w.canaries(); return n == 1 && acked == 4 })
		w.wantDelivering(e, c, true, "after the first canary")
		time.Sleep(10 * time.Minute)
		n, head, acked := w.canaries()
		if n < 18 || n > 21 || acked != head || s.cursor().Seq != head {
			t.Errorf("in ten minutes %d canaries; the cursor is at %d, and %d of %d are acknowledged", n, s.cursor().Seq, acked, head)
		}
		w.wantDelivering(e, c, true, "after ten minutes")
		w.history.add("duka", 1, "")
		w.soon(time.Second, "a callback", func() bool { return s.cursor().Seq == head+1 })
		c.stop()
		e.stop()
	})
}

func TestASidecarThatCannotCommitIsConnectedAndDoesNotDeliver(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		free := make(chan struct{})
		s.hook(func([]wire.Entry) error { <-free; return nil })
		c := w.sidecar("duka", s, singing)
		w.soon(8*time.Second, "a canary", func() bool { n, _, _ := w.canaries(); linked, _, _ := delivers(e, c); return n == 1 && linked })
		w.wantDelivering(e, c, false, "before anything was ever committed")
		time.Sleep(10 * time.Minute)
		if n, _, acked := w.canaries(); n != 1 || acked != 0 {
			t.Errorf("of %d canaries %d are acknowledged; none is to follow one that is not", n, acked)
		}
		w.wantDelivering(e, c, false, "with a disk that is stuck")
		close(free)
		w.soon(time.Minute, "it delivers again", func() bool { _, atEdge, atSidecar := delivers(e, c); return atEdge && atSidecar })

		refusal := errors.New("the disk is full")
		s.hook(func([]wire.Entry) error { return refusal })
		time.Sleep(10 * time.Minute) // the link comes and goes
		if _, atEdge, atSidecar := delivers(e, c); atEdge || atSidecar {
			t.Errorf("with a table that cannot commit, delivering for the edge is %v, for the sidecar %v", atEdge, atSidecar)
		}
		s.hook(nil)
		w.soon(time.Minute, "it delivers in the end", func() bool { _, atEdge, atSidecar := delivers(e, c); return atEdge && atSidecar })
		c.stop()
		e.stop()
	})
}

func TestAnEdgeThatCannotStoreIsConnectedAndDoesNotDeliver(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, singing)
		w.soon(8*time.Second, "it delivers", func() bool { _, atEdge, atSidecar := delivers(e, c); return atEdge && atSidecar })
		set := func(err error) {
			w.history.mu.Lock()
			defer w.history.mu.Unlock()
			w.history.full = err
		}
		set(errors.New("no room"))
		time.Sleep(2 * time.Minute)
		w.wantDelivering(e, c, false, "with an edge whose disk is full")
		set(nil)
		w.soon(time.Minute, "it delivers again", func() bool { _, atEdge, atSidecar := delivers(e, c); return atEdge && atSidecar })
		c.stop()
		e.stop()
	})
}

func TestABacklogIsWholeBeforeThereIsACanary(t *testing.T) {
	inWorld(t, func(w *world) {
		w.history.add("duka", 200, "")
		e, s := w.edge(), newSink()
		s.hook(func(entries []wire.Entry) error {
			if n, _, _ := w.canaries(); n > 0 && entries[0].Seq <= 200 {
				t.Error("a canary was appended while the backlog lasted")
			}
			time.Sleep(10 * time.Second)
			return nil
		})
		c := w.sidecar("duka", s, singing)
		w.soon(30*time.Minute, "a canary", func() bool { n, _, acked := w.canaries(); return n == 1 && acked == 201 })
		c.stop()
		e.stop()
	})
}

// Versions that know canaries and versions that do not work with each other as before.
func TestCanariesAreForThoseWhoAskForThem(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s) // as an older one
		w.soon(8*time.Second, "the link", func() bool { return c.Status().Connected })
		time.Sleep(10 * time.Minute)
		if n, _, _ := w.canaries(); n != 0 {
			t.Errorf("a sidecar that did not ask got %d canaries", n)
		}
		w.wantDelivering(e, c, true, "of an older sidecar no more is known than that it is connected")
		c.stop()

		p := w.peer()
		p.say(hello(1, wire.Cursor{}), &wire.Canary{Every: time.Millisecond})
		hear[*wire.Welcome](p)
		if every := hear[*wire.Canary](p).Every; every != wire.MinCanary {
			t.Errorf("who asks for a canary every millisecond is promised one every %v", every)
		}
		entry := hear[*wire.Entry](p)
		if entry.Kind != wire.KindCanary || entry.Run() != 1 {
			t.Errorf("what came is %+v", entry)
		}
		p.say(&wire.Ack{Seq: 1}, &wire.Canary{})
		if every := hear[*wire.Canary](p).Every; every != 0 {
			t.Errorf("who wants none is promised one every %v", every)
		}
		for range 20 {
			time.Sleep(time.Second)
			p.say(&wire.Ping{Nonce: 1})
			hear[*wire.Pong](p)
		}
		p.close()
		e.stop()
	})
}

func TestAnEdgeThatKnowsNoCanariesIsTakenAtItsLink(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			frames.Read() // Hello
			say(&wire.Welcome{Epoch: 9, Oldest: 1, Time: time.Now()})
			for {
				f, err := frames.Read()
				if err != nil {
					return
				}
				if ping, ok := f.(*wire.Ping); ok { // a Canary is of a type that it skips
					say(&wire.Pong{Nonce: ping.Nonce})
				}
			}
		})
		c := w.sidecar("duka", newSink(), singing)
		w.soon(8*time.Second, "the link", func() bool { return c.Status().Connected })
		w.soon(8*time.Second, "that it is taken at its link", func() bool { return c.Status().Delivering(time.Now()) })
		time.Sleep(10 * time.Minute)
		if s := c.Status(); !s.Delivering(time.Now()) || s.Canary != 0 {
			t.Errorf("after ten minutes the status is %+v", s)
		}
		c.stop()
		stop()
	})
}

func TestTheEdgeHearsWhatASidecarDoesNotBelieve(t *testing.T) {
	overBoth(t, func(w *world) {
		var mu sync.Mutex
		var heard []uint64
		hears := func(s *tunnel.Server) {
			s.Doubts = func(endpoint string, count uint64) {
				mu.Lock()
				defer mu.Unlock()
				if endpoint != "duka" {
					t.Errorf("the doubts are those of %q", endpoint)
				}
				heard = append(heard, count)
			}
		}
		e, s := w.edge(hears), newSink()
		var count atomic.Uint64
		s.hook(func(entries []wire.Entry) error { count.Add(1); return nil })
		c := w.sidecar("duka", s, func(c *tunnel.Client) { c.Doubts = count.Load })
		told := func(want ...uint64) func() bool {
			return func() bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(heard, want) }
		}
		w.soon(8*time.Second, "the first word", told(0))
		w.history.add("duka", 1, "")
		w.soon(time.Second, "the callback that is not believed", told(0, 1))
		s.hook(nil)
		w.history.add("duka", 1, "")
		w.soon(time.Second, "the callback that is believed", func() bool { return s.cursor().Seq == 2 })
		e.stop()
		e = w.edge(hears)
		w.soon(8*time.Second, "the first word of the next link", told(0, 1, 1))
		c.stop()
		e.stop()
	})
}

func TestASignOutlivesItsLink(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, singing)
		w.soon(8*time.Second, "the first canary", func() bool { n, _, acked := w.canaries(); return n == 1 && acked == 1 })
		if signs := e.Signs(); len(signs) != 1 || !signs[0].Delivering(time.Now()) || signs[0].Canary != 30*time.Second {
			t.Errorf("of a sidecar that delivers: %+v", signs)
		}
		c.stop()
		gone := time.Now()
		w.soon(8*time.Second, "the end of the link", func() bool { return len(e.Links()) == 0 })
		time.Sleep(time.Hour)
		signs := e.Signs()
		if len(signs) != 1 || signs[0].Connected || signs[0].Delivering(time.Now()) || signs[0].Canary != 30*time.Second ||
			signs[0].Delivered.IsZero() || signs[0].Left.Sub(gone) > 8*time.Second || signs[0].Left.Before(signs[0].Delivered) {
			t.Errorf("an hour after it has ended: %+v", signs)
		}
		e.stop()
	})
}
