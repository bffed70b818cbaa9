package tunnel_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel/wire"
)

func TestWhereALinkBegins(t *testing.T) {
	entry := func(h *history, seq uint64) wire.Checksum { return h.look("duka").entries[seq-1].Sum() }
	for name, c := range map[string]struct {
		cursor  func(h *history) wire.Cursor
		change  func(h *history)
		want    []string // of 10
		renewed bool
	}{
		"a sidecar that has seen nothing gets everything": {
			cursor: func(*history) wire.Cursor { return wire.Cursor{} },
			want:   callbacks(1, 10, ""),
		},
		"one that has seen this epoch and no entry of it gets everything": {
			cursor: func(*history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch} },
			want:   callbacks(1, 10, ""),
		},
		"one behind entry 7 gets the rest": {
			cursor: func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch, Seq: 7, Sum: entry(h, 7)} },
			want:   callbacks(8, 10, ""),
		},
		"one from an older epoch gets everything, under the edge's": {
			cursor: func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch - 1, Seq: 7, Sum: entry(h, 7)} },
			want:   callbacks(1, 10, ""),
		},
		"one ahead of the edge gets everything, renewed": {
			cursor:  func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch, Seq: 11, Sum: entry(h, 10)} },
			want:    callbacks(1, 10, ""),
			renewed: true,
		},
		"one that knows another entry 7 gets everything, renewed": {
			cursor:  func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch, Seq: 7, Sum: entry(h, 6)} },
			want:    callbacks(1, 10, ""),
			renewed: true,
		},
		"one that knows a newer epoch gets everything, renewed": {
			cursor:  func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch + 1000, Seq: 7, Sum: entry(h, 7)} },
			want:    callbacks(1, 10, ""),
			renewed: true,
		},
		"one behind what is still held gets what is": {
			cursor: func(h *history) wire.Cursor { return wire.Cursor{Epoch: firstEpoch, Seq: 2, Sum: entry(h, 2)} },
			change: func(h *history) { h.prune("duka", 5) },
			want:   callbacks(5, 10, ""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				w.history.add("duka", 10, "")
				s := newSink()
				s.set(c.cursor(w.history))
				if c.change != nil {
					c.change(w.history)
				}
				e := w.edge()
				sc := w.sidecar("duka", s)
				w.delivered(5*time.Second, s, c.want)
				if renewed := w.history.look("duka").renewed == 1; renewed != c.renewed {
					t.Errorf("renewed %v, want %v", renewed, c.renewed)
				}
				state := w.history.look("duka").state
				welcome := s.welcomed()[0]
				if known := c.cursor(w.history).Epoch; c.renewed && welcome.Epoch <= known {
					t.Errorf("renewed to epoch %d, not beyond %d: what it numbers would be taken for known", welcome.Epoch, known)
				}
				if welcome.Epoch != state.Epoch || welcome.Oldest != state.Oldest || welcome.Head != 10 || welcome.Callback != "https://edge.example/c/duka" {
					t.Errorf("welcome %+v, state %+v", welcome, state)
				}
				sc.stop()
				e.stop()
			})
		})
	}
}

func TestAnEdgePutBackToYesterdayDoesNotMakeTheSidecarSkipToday(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 10, "")
		c := w.sidecar("duka", s)
		w.delivered(5*time.Second, s, callbacks(1, 10, ""))
		e.kill()
		w.history.restore("duka", 6)
		w.history.add("duka", 6, " of today") // 7 to 12: some by numbers that the sidecar has seen already
		e = w.edge()
		want := slices.Concat(callbacks(1, 10, ""), callbacks(1, 6, ""), callbacks(7, 12, " of today"))
		w.delivered(5*time.Second, s, want)
		c.stop()
		e.stop()
	})
}

func TestLostAcksBringTheSameEntriesAgainOnlyIfTheyWereNotCommitted(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		// Nothing that the sidecar says arrives, so the edge gets no Ack; then the link dies of it.
		w.dropping(func(p simnet.Packet) bool { return p.To.String() == edgeAddr.String() })
		w.history.add("duka", 5, "")
		w.delivered(time.Second, s, callbacks(1, 5, ""))
		w.soon(10*time.Second, "the link dies", func() bool { return !c.Status().Connected })
		if acked := w.history.look("duka").state.Acked; acked != 0 {
			t.Fatalf("%d acknowledged", acked)
		}
		w.dropping(nil)
		w.history.add("duka", 1, "")
		w.delivered(5*time.Second, s, callbacks(1, 6, ""))
		w.soon(time.Second, "the ack", func() bool { return w.history.look("duka").state.Acked == 6 })
		c.stop()
		e.stop()
	})
}

func TestARestartedEdgeIsNoticedAtOnce(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 1, "")
		c := w.sidecar("duka", s)
		w.delivered(5*time.Second, s, callbacks(1, 1, ""))
		e.kill()
		w.history.add("duka", 1, "")
		e = w.edge()
		took := w.delivered(2500*time.Millisecond, s, callbacks(1, 2, "")) // the next Ping is answered by a reset
		t.Logf("delivered %v after the restart", took)
		if w.log.count("who=sidecar", "stateless reset")+w.log.count("who=sidecar", "connection reset by peer") == 0 {
			t.Errorf("not by a reset\n%s", &w.log)
		}
		c.stop()
		e.stop()
	})
}

func TestAnEdgeThatIsRestartedUnderAStreamOfEntriesIsNoticedSooner(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		n := 0
		var most time.Duration
		for i := range 15 {
			for range 20 + i {
				n++
				w.history.add("duka", 1, "")
				time.Sleep(90 * time.Millisecond)
			}
			e.kill()
			time.Sleep(time.Duration(i) * 70 * time.Millisecond)
			n++
			w.history.add("duka", 1, "")
			e = w.edge()
			// A Ping 250 ms after the last entry; where an edge that is not there yet refuses TCP, the next try.
			most = max(most, w.delivered(time.Second, s, callbacks(1, n, "")))
		}
		t.Logf("delivered %v after the restart at worst", most)
		c.stop()
		e.stop()
	})
}

func TestADrainingEdgeSendsItsSidecarsAwayAndTheyComeBackAtOnce(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 1, "")
		c := w.sidecar("duka", s)
		w.delivered(5*time.Second, s, callbacks(1, 1, ""))
		time.Sleep(5 * time.Second)
		began := time.Now()
		e.stop()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("an idle edge took %v to stop", took)
		}
		w.history.add("duka", 1, "")
		e = w.edge()
		w.delivered(200*time.Millisecond, s, callbacks(1, 2, ""))
		if err := c.Status().LastError; err == "" {
			t.Error("no reason for the link that ended")
		}
		c.stop()
		e.stop()
	})
}

func TestADrainingEdgeWaitsForWhatIsInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		acked uint64
		most  time.Duration
	}{
		"a sink that is done in time": {50 * time.Millisecond, 5, 400 * time.Millisecond},
		"one that is not":             {5 * time.Second, 0, 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				e, s := w.edge(), newSink()
				var applying atomic.Bool
				s.hook(func([]wire.Entry) error {
					applying.Store(true)
					time.Sleep(c.takes)
					return nil
				})
				sc := w.sidecar("duka", s)
				w.history.add("duka", 5, "")
				w.soon(5*time.Second, "apply", applying.Load)
				began := time.Now()
				e.stop()
				if took := time.Since(began); took > c.most {
					t.Errorf("took %v to stop", took)
				}
				if acked := w.history.look("duka").state.Acked; acked != c.acked {
					t.Errorf("%d acknowledged, want %d", acked, c.acked)
				}
				sc.stop()
			})
		})
	}
}

func TestASidecarThatStopsFinishesTheBatchInHand(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		var inHand atomic.Int32
		s.hook(func(entries []wire.Entry) error {
			inHand.Store(int32(len(entries))) // not always all five: they come one after the other
			time.Sleep(300 * time.Millisecond)
			return nil
		})
		c := w.sidecar("duka", s)
		w.history.add("duka", 5, "")
		w.soon(5*time.Second, "apply", func() bool { return inHand.Load() > 0 })
		c.stop()
		if got := s.got(); len(got) != int(inHand.Load()) {
			t.Errorf("%d applied, of a batch of %d", len(got), inHand.Load())
		}
		w.soon(time.Second, "the edge sees that the link has ended", func() bool { return len(e.Links()) == 0 })
		e.stop()
	})
}

func TestASinkThatCannotStoreIsAskedAgainAndNothingIsAcknowledgedOrSkipped(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		var full atomic.Bool
		full.Store(true)
		var tried atomic.Int32
		s.hook(func([]wire.Entry) error {
			if full.Load() {
				tried.Add(1)
				return errors.New("the disk is full")
			}
			return nil
		})
		w.history.add("duka", 5, "")
		c := w.sidecar("duka", s)
		time.Sleep(time.Minute)
		if n := tried.Load(); n < 20 || n > 70 {
			t.Errorf("tried %d times in a minute", n)
		}
		if acks := w.history.look("duka").acks; len(acks) != 0 {
			t.Errorf("acknowledged: %v", acks)
		}
		full.Store(false)
		w.delivered(5*time.Second, s, callbacks(1, 5, ""))
		c.stop()
		e.stop()
	})
}

func TestASlowSinkCostsTheEdgeAWindowAndKeepsItsLink(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		s.hook(func([]wire.Entry) error { time.Sleep(20 * time.Second); return nil })
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for range 60 {
			w.history.add("duka", 1, string(make([]byte, 100<<10)))
		}
		var ahead uint64
		for range 100 {
			time.Sleep(time.Second)
			for _, l := range e.Links() {
				ahead = max(ahead, l.Sent-l.Acked)
			}
		}
		if ahead < 5 || ahead > 12 {
			t.Errorf("up to %d entries of 100 KiB were sent ahead of their acks", ahead)
		}
		s.hook(nil)
		w.soon(2*time.Minute, "everything", func() bool { return s.cursor().Seq == 60 })
		if len(s.got()) != 60 || len(s.welcomed()) != 1 {
			t.Errorf("%d applied over %d links", len(s.got()), len(s.welcomed()))
		}
		c.stop()
		e.stop()
	})
}

func TestAHistoryThatFailsEndsTheLinkAndTheSidecarComesBack(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.mu.Lock()
		w.history.broken = errors.New("the disk is gone")
		w.history.mu.Unlock()
		c := w.sidecar("duka", s)
		time.Sleep(10 * time.Second)
		if w.log.count("who=edge", "the disk is gone") == 0 || w.log.count("who=sidecar", "the disk is gone") != 0 {
			t.Errorf("the edge's disk concerns the edge's operator\n%s", &w.log)
		}
		w.history.mu.Lock()
		w.history.broken = nil
		w.history.mu.Unlock()
		w.history.add("duka", 1, "")
		w.delivered(5*time.Second, s, callbacks(1, 1, ""))
		c.stop()
		e.stop()
	})
}
