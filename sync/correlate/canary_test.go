package correlate_test

import (
	"context"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// sing applies a canary as the next entry, and moves the cursor behind it.
func (s *shop) sing() wire.Cursor {
	s.Helper()
	s.seq++
	batch := []wire.Entry{wire.CanaryOf(s.seq, s.seq, time.Now())}
	cursor := behind(s.journal, batch)
	if err := s.Apply(context.Background(), cursor, batch); err != nil {
		s.Fatal(err)
	}
	return cursor
}

// The newest event has the cursor and the counts with it; a canary has no event.
func TestACanaryMovesTheCursorAndLeavesNothingElse(t *testing.T) {
	s := open(t)
	s.welcome(1, 0)
	s.wantNothingOf(s.sing())
	p := s.pay("a")
	s.comes(s.Ref(p.ID), failure(p, "1032"))
	head := s.Head()
	for range 3 {
		s.wantNothingOf(s.sing())
		s.wantCounts(map[string]int64{correlate.StateApplied: 1})
	}
	if s.Head() != head {
		t.Errorf("%d events came of canaries", s.Head()-head)
	}
	s.comes(s.Ref(p.ID), success(p, "100.00", "RKK1"))
	s.wantCounts(map[string]int64{correlate.StateApplied: 2})
	if got := s.get(p.ID); got.Receipt != "RKK1" {
		t.Errorf("behind canaries the payment is %+v", got)
	}
	at := s.sing()
	if err := s.Apply(context.Background(), at, []wire.Entry{wire.CanaryOf(s.seq, s.seq, time.Now())}); err != nil { // once more
		t.Error(err)
	}
	s.wantNothingOf(at)
	s.wantCounts(map[string]int64{correlate.StateApplied: 2})
}

// wantNothingOf looks for what is left of a canary behind which the cursor is: that, also in the file.
func (s *shop) wantNothingOf(at wire.Cursor) {
	s.Helper()
	s.wantCursor(at)
	s.restart()
	s.wantCursor(at)
	list, _, err := s.Callbacks(context.Background(), correlate.CallbackFilter{})
	if err != nil {
		s.Fatal(err)
	}
	for _, cb := range list {
		if cb.ID == (push.Cursor{Epoch: uint64(at.Epoch), Seq: at.Seq}).String() {
			s.Errorf("it left %+v", cb)
		}
	}
	if gaps, err := s.Gaps(context.Background()); err != nil || len(gaps) != 0 {
		s.Errorf("there are gaps: %+v, %v", gaps, err)
	}
}

// In a batch of canaries and callbacks, live ones ahead of a backlog too, each callback counts once.
func TestCanariesBetweenCallbacksDisturbNothing(t *testing.T) {
	s := open(t)
	s.welcome(1, 5)
	a, b := s.payBy("a", 1), s.payBy("b", 2)
	var batch []wire.Entry
	add := func(e wire.Entry) {
		e.Seq = uint64(len(batch) + 1)
		if e.Kind == wire.KindCanary {
			e = wire.CanaryOf(e.Seq, e.Seq, time.UnixMilli(5))
		}
		batch = append(batch, e)
	}
	canary := wire.Entry{Kind: wire.KindCanary}
	add(canary)
	add(s.entry(s.Ref(a.ID), success(a, "100.00", "RKK1")))
	add(canary)
	add(s.entry(s.Ref(b.ID), success(b, "100.00", "RKK2")))
	add(canary)
	apply := func(cursor uint64, entries ...wire.Entry) {
		t.Helper()
		at := wire.Cursor{Epoch: s.journal}
		if cursor > 0 {
			at.Seq, at.Sum = cursor, batch[cursor-1].Sum()
		}
		if err := s.Apply(context.Background(), at, entries); err != nil {
			t.Fatal(err)
		}
	}
	apply(1, batch[0])
	apply(1, batch[3], batch[4]) // overtake
	apply(1, batch[4])
	apply(5, batch[1], batch[2], batch[3], batch[4])
	s.wantCounts(map[string]int64{correlate.StateApplied: 2})
	s.wantCursor(wire.Cursor{Epoch: s.journal, Seq: 5, Sum: batch[4].Sum()})
}
