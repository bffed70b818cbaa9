package correlate_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// minute is a time of an hour in which callbacks came to the edge.
func minute(n int) time.Time { return time.Date(2026, 11, 20, 10, n, 0, 0, time.UTC) }

// came is entries of the present journal that came to the edge in the minutes of their numbers, and later ones.
func (s *shop) came(later int, seqs ...uint64) (entries []wire.Entry) {
	for _, seq := range seqs {
		e := s.entry("", fmt.Sprintf(`{"callback": "%d of minute %d"}`, seq, later))
		e.Seq, e.Received = seq, minute(later+int(seq))
		entries = append(entries, e)
	}
	return entries
}

func (s *shop) take(entries ...wire.Entry) {
	s.Helper()
	if err := s.Apply(context.Background(), behind(s.journal, entries), entries); err != nil {
		s.Fatal(err)
	}
}

// wantGaps compares what is told to have never come: how many, and between which minutes.
func (s *shop) wantGaps(want ...string) {
	s.Helper()
	gaps, err := s.Gaps(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	got := []string{}
	for _, g := range gaps {
		to := g.To.Format("15:04")
		if g.To.Equal(g.Found) {
			to = "found"
		}
		from := "?"
		if !g.From.IsZero() {
			from = g.From.Format("15:04")
		}
		if age := time.Since(g.Found); age < -time.Minute || age > time.Hour {
			s.Errorf("found at %v", g.Found)
		}
		got = append(got, fmt.Sprintf("%d %s-%s", g.Callbacks, from, to))
	}
	if !slices.Equal(got, want) {
		s.Errorf("what never came is %v, want %v", got, want)
	}
}

func TestWhatTheEdgeForgotIsToldWithTheTimesAroundIt(t *testing.T) {
	s := open(t)
	s.welcome(1, 3)
	s.take(s.came(0, 1, 2, 3)...)
	s.wantGaps()
	s.welcome(7, 8)
	s.wantGaps("3 10:03-found")
	s.take(s.came(0, 7, 8)...)
	s.wantGaps("3 10:03-10:07")
	s.welcome(7, 8)
	s.restart()
	s.wantGaps("3 10:03-10:07")
}

func TestCallbacksThatTheEdgesDiskLostAreToldAsOneGap(t *testing.T) {
	s := open(t)
	s.welcome(1, 6)
	all := s.came(0, 1, 2, 6)
	s.take(all[0], all[1], lost(3, ""), lost(4, ""), lost(5, ""), all[2])
	s.wantGaps("3 10:02-10:06")
}

func TestAnotherJournalIsAGapOfWhichNobodyKnowsTheSize(t *testing.T) {
	s := open(t)
	s.journal = wire.Epoch(minute(0).UnixMilli())
	s.welcome(1, 5)
	s.take(s.came(0, 1, 2, 3, 4, 5)...)

	s.journal = wire.Epoch(minute(30).UnixMilli()) // the edge's disk was destroyed, and so is what came since
	s.welcome(1, 0)
	s.wantGaps("0 10:05-10:30")
	s.take(s.came(30, 1, 2, 3, 4, 5, 6, 7)...)
	s.wantGaps("0 10:05-10:30")
}

func TestAnotherJournalOfWhichNothingWasAppliedIsAGapToo(t *testing.T) {
	s := open(t)
	s.journal = wire.Epoch(minute(0).UnixMilli())
	s.welcome(1, 5)
	s.journal = wire.Epoch(minute(30).UnixMilli())
	s.welcome(1, 0)
	s.wantGaps("0 ?-10:30")
}

func TestTheSameJournalUnderAnotherEpochIsNoGap(t *testing.T) {
	s := open(t)
	s.journal = wire.Epoch(minute(0).UnixMilli())
	s.welcome(1, 5)
	all := s.came(0, 1, 2, 3, 4, 5, 6, 7)
	s.take(all[:5]...)
	s.journal = wire.Epoch(minute(30).UnixMilli()) // salvaged: nothing of it is lost
	s.welcome(1, 7)
	s.take(all...)
	s.wantGaps()
}

func TestWhatCameToThisSidecarItselfIsNoPartOfAGap(t *testing.T) {
	s := open(t)
	s.journal = wire.Epoch(minute(0).UnixMilli())
	s.welcome(1, 2)
	s.take(s.came(0, 1, 2)...)
	for range 5 {
		if _, err := s.Receive(context.Background(), wire.Entry{Received: minute(40), Body: []byte("{}")}, ""); err != nil {
			t.Fatal(err)
		}
	}
	s.welcome(4, 4)
	s.take(s.came(0, 4)...)
	s.wantGaps("1 10:02-10:04")
}
