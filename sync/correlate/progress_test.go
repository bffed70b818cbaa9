package correlate_test

import (
	"context"
	"maps"
	"testing"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

// How far each journal was applied, and how many callbacks there are, is written in three places: with an event, without
// one, and with another journal. Whichever was written last has to be what a restart finds.
func TestARestartFindsHowFarEachJournalWasAppliedWhateverCameLast(t *testing.T) {
	s := open(t, trusting)
	ctx := context.Background()
	counts, cursors := map[string]int64{}, map[wire.Epoch]wire.Cursor{}
	welcome := func() {
		t.Helper()
		if err := s.Welcome(ctx, wire.Welcome{Epoch: s.journal, Oldest: 1, Head: s.seq}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(after string) {
		t.Helper()
		for range 2 {
			if c, err := s.Cursor(ctx); err != nil || c != cursors[s.journal] {
				t.Errorf("after %s: the cursor is %v, %v, want %v", after, c, err, cursors[s.journal])
			}
			if is, err := s.Counts(ctx); err != nil || !maps.Equal(is, counts) {
				t.Errorf("after %s: the counts are %v, %v, want %v", after, is, err, counts)
			}
			s.restart()
		}
	}
	comes := func(ref, body, state string) {
		t.Helper()
		e := s.entry(ref, body)
		s.wantState(s.apply(e), state)
		counts[state]++
		cursors[s.journal] = wire.Cursor{Epoch: s.journal, Seq: e.Seq, Sum: e.Sum()}
	}

	p, q := s.payBy("a", 1), s.payBy("b", 2)
	cursors[s.journal] = wire.Cursor{Epoch: s.journal}
	welcome()
	comes(s.Ref(p.ID), success(p, "100.00", today+"1"), correlate.StateApplied)
	check("an event")
	comes(s.Ref(p.ID), success(p, "100.00", today+"1"), correlate.StateRepeated)
	check("a callback without an event")
	r := s.payBy("c", 3)
	check("events that no callback brought about")
	if _, err := s.Receive(ctx, wire.Entry{Body: []byte(failure(q, "1032"))}, "b"); err != nil {
		t.Fatal(err)
	}
	counts[correlate.StateApplied]++
	check("a callback that came to the sidecar itself")
	if _, err := s.Receive(ctx, wire.Entry{Body: []byte(failure(q, "1032"))}, "b"); err != nil {
		t.Fatal(err)
	}
	counts[correlate.StateRepeated]++
	check("another")

	old, at := s.journal, s.seq
	s.journal, s.seq = old+1000, 0
	cursors[s.journal] = wire.Cursor{Epoch: s.journal}
	welcome()
	check("a new journal was welcomed")
	comes("", success(r, "100.00", today+"2"), correlate.StateApplied)
	check("an event of it")
	comes("", "this is no callback", correlate.StateUnparsed)
	check("a callback of it without an event")
	s.journal, s.seq = old, at
	welcome()
	check("the first journal was welcomed again")
	comes(s.Ref(q.ID), success(q, "100.00", today+"3"), correlate.StateApplied)
	check("an event of the first journal")
	s.journal = old + 1000
	welcome()
	check("the second journal was welcomed again")
}

// A journal that numbers an entry beyond what there is room for would have it taken for another journal's.
func TestAnEntryWithANumberBeyondAllJournalsIsRefused(t *testing.T) {
	s := open(t)
	e := s.entry("", "{}")
	e.Seq = 1 << 40
	err := s.Apply(context.Background(), wire.Cursor{Epoch: s.journal, Seq: e.Seq, Sum: e.Sum()}, []wire.Entry{e})
	if err == nil {
		t.Fatal("it was applied")
	}
	s.wantCounts(map[string]int64{})
}
