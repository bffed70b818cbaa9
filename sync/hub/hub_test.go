package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/hub"
)

// A table is what lies behind the ring.
type table struct {
	mu     sync.Mutex
	events []hub.Event
	loads  atomic.Int64
}

func (t *table) add(seq uint64, session string) hub.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := hub.Event{Seq: seq, Session: session, Data: fmt.Append(nil, session, " ", seq)}
	t.events = append(t.events, e)
	return e
}

func (t *table) prune(upTo uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.events) > 0 && t.events[0].Seq <= upTo {
		t.events = t.events[1:]
	}
}

func (t *table) load(_ context.Context, session string, after uint64, limit int) (found []hub.Event, _ error) {
	t.loads.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		if e.Seq > after && (session == "" || e.Session == session) && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

func seqs(events []hub.Event) (s []uint64) {
	for _, e := range events {
		s = append(s, e.Seq)
	}
	return s
}

func wantNext(t *testing.T, h *hub.Hub, session string, after uint64, want []uint64, wantAfter uint64) {
	t.Helper()
	events, next, err := h.Next(t.Context(), session, after)
	if err != nil {
		t.Fatalf("Next(%q, %d): %v", session, after, err)
	}
	if fmt.Sprint(seqs(events)) != fmt.Sprint(want) || next != wantAfter {
		t.Fatalf("Next(%q, %d) = %v, next %d; want %v, next %d", session, after, seqs(events), next, want, wantAfter)
	}
}

func TestAReaderSeesOnlyItsSessionAndEverybodyElsesIfItAsks(t *testing.T) {
	var tab table
	h := hub.New(8, 10, tab.load)
	h.Publish(tab.add(11, "a"), tab.add(12, "b"))
	h.Publish(tab.add(13, "a"))
	wantNext(t, h, "a", 10, []uint64{11, 13}, 13)
	wantNext(t, h, "b", 10, []uint64{12}, 13)
	wantNext(t, h, "", 11, []uint64{12, 13}, 13)
	if h.Head() != 13 {
		t.Errorf("the head is %d, want 13", h.Head())
	}
	if n := tab.loads.Load(); n != 0 {
		t.Errorf("the disk was asked %d times for what the ring holds", n)
	}
}

func TestAnEventPublishedAgainIsNotDeliveredAgain(t *testing.T) {
	var tab table
	h := hub.New(8, 0, tab.load)
	e := tab.add(1, "a")
	h.Publish(e)
	h.Publish(e, tab.add(2, "a"))
	wantNext(t, h, "a", 0, []uint64{1, 2}, 2)
}

func TestAReaderBehindTheRingReadsTheTableThenTheRing(t *testing.T) {
	var tab table
	h := hub.New(4, 0, tab.load)
	for seq := uint64(1); seq <= 1000; seq++ {
		h.Publish(tab.add(seq, fmt.Sprint("s", seq%2)))
	}
	for _, session := range []string{"", "s0", "s1"} {
		var got []uint64
		after := uint64(0)
		for after < 1000 {
			events, next, err := h.Next(t.Context(), session, after)
			if err != nil {
				t.Fatal(err)
			}
			if next <= after {
				t.Fatalf("the reader of %q stands still at %d", session, after)
			}
			got, after = append(got, seqs(events)...), next
		}
		want := 500
		if session == "" {
			want = 1000
		}
		if len(got) != want {
			t.Errorf("the reader of %q got %d events, want %d", session, len(got), want)
		}
		for i := 1; i < len(got); i++ {
			if got[i] <= got[i-1] {
				t.Fatalf("the reader of %q got %d after %d", session, got[i], got[i-1])
			}
		}
	}
}

func TestAReaderBehindWhatWasPrunedIsMovedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := hub.New(2, 0, tab.load)
		for seq := uint64(1); seq <= 100; seq++ {
			h.Publish(tab.add(seq, "a"))
		}
		tab.prune(100)
		got := make(chan []uint64, 1)
		go func() {
			events, _, _ := h.Next(t.Context(), "a", 0)
			got <- seqs(events)
		}()
		synctest.Wait() // it must wait now; a reader that spins keeps the bubble from ever being idle
		if n := tab.loads.Load(); n != 1 {
			t.Errorf("the disk was asked %d times, want once", n)
		}
		h.Publish(tab.add(101, "a"))
		if s := <-got; fmt.Sprint(s) != "[101]" {
			t.Errorf("got %v, want the one new event", s)
		}
	})
}

func TestAnIdleSessionInABusyShopNeitherWakesNorGoesToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := hub.New(4, 0, tab.load)
		var got []hub.Event
		var next uint64
		go func() { got, next, _ = h.Next(t.Context(), "idle", 0) }()
		synctest.Wait()
		for seq := uint64(1); seq <= 1000; seq++ {
			h.Publish(tab.add(seq, "busy"))
		}
		synctest.Wait()
		if got != nil {
			t.Fatalf("the idle reader was given %v", seqs(got))
		}
		h.Publish(tab.add(1001, "idle"))
		synctest.Wait()
		if fmt.Sprint(seqs(got)) != "[1001]" || next != 1001 {
			t.Errorf("got %v, next %d", seqs(got), next)
		}
		if n := tab.loads.Load(); n != 0 {
			t.Errorf("the disk was asked %d times", n)
		}
	})
}

func TestAReaderWhoStopsWaitingHasComeToTheHeadAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := hub.New(4, 0, tab.load)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			for seq := uint64(1); seq <= 10; seq++ {
				h.Publish(tab.add(seq, "busy"))
			}
		}()
		events, next, err := h.Next(ctx, "idle", 0)
		if len(events) != 0 || next != 10 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next = %v, %d, %v; want nothing, 10, and why", seqs(events), next, err)
		}
	})
}

func TestReadersOfOneSessionAllWakeAndThoseWhoLeaveLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := hub.New(4, 0, tab.load)
		ctx, leave := context.WithCancel(t.Context())
		var woken, left atomic.Int64
		for i := range 100 {
			go func() {
				c := t.Context()
				if i%2 == 0 {
					c = ctx
				}
				switch _, _, err := h.Next(c, "a", 0); {
				case errors.Is(err, context.Canceled):
					left.Add(1)
				case err == nil:
					woken.Add(1)
				}
			}()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		h.Publish(tab.add(1, "a"))
		synctest.Wait()
		if woken.Load() != 50 || left.Load() != 50 {
			t.Errorf("%d woke and %d left, want 50 and 50", woken.Load(), left.Load())
		}
	})
}

func TestAReaderWhoDoesNotReadHoldsUpNeitherWriterNorOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := hub.New(16, 0, tab.load)
		var fast []uint64
		go func() {
			for after := uint64(0); ; {
				events, next, err := h.Next(t.Context(), "", after)
				if err != nil {
					return
				}
				fast, after = append(fast, seqs(events)...), next
			}
		}()
		for seq := uint64(1); seq <= 5000; seq++ {
			h.Publish(tab.add(seq, "a")) // nobody reads "a"
		}
		synctest.Wait()
		if len(fast) != 5000 {
			t.Errorf("the other reader got %d of 5000", len(fast))
		}
		wantNext(t, h, "a", 4990, []uint64{4991, 4992, 4993, 4994, 4995, 4996, 4997, 4998, 4999, 5000}, 5000)
	})
}

func TestADiskThatCannotBeReadIsTheReadersErrorAndMovesNothing(t *testing.T) {
	sick := errors.New("sick disk")
	h := hub.New(1, 10, func(context.Context, string, uint64, int) ([]hub.Event, error) { return nil, sick })
	_, next, err := h.Next(t.Context(), "a", 3)
	if !errors.Is(err, sick) || next != 3 {
		t.Errorf("Next = %d, %v", next, err)
	}
}

func TestManyReadersAndAWriterAtOnceLoseNothing(t *testing.T) {
	var tab table
	h := hub.New(32, 0, tab.load)
	const n = 3000
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		session := []string{"", "s0", "s1", "s2"}[i%4]
		wg.Go(func() {
			want, got := n/3, 0
			if session == "" {
				want = n
			}
			for after := uint64(0); got < want; {
				events, next, err := h.Next(ctx, session, after)
				if err != nil {
					t.Errorf("reader of %q: %v after %d of %d", session, err, got, want)
					return
				}
				for _, e := range events {
					if e.Seq <= after {
						t.Errorf("reader of %q got %d when it had read %d", session, e.Seq, after)
					}
				}
				got, after = got+len(events), next
			}
		})
	}
	for seq := uint64(1); seq <= n; seq++ {
		h.Publish(tab.add(seq, fmt.Sprint("s", seq%3)))
	}
	wg.Wait()
}

func BenchmarkPublishToFiveThousandWaitingSessions(b *testing.B) {
	var tab table
	h := hub.New(4096, 0, tab.load)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for i := range 5000 {
		wg.Go(func() {
			for after := uint64(0); ; {
				var err error
				if _, after, err = h.Next(ctx, fmt.Sprint("s", i), after); err != nil {
					return
				}
			}
		})
	}
	var seq uint64
	data := make([]byte, 600)
	names := make([]string, 5000)
	for i := range names {
		names[i] = fmt.Sprint("s", i)
	}
	for b.Loop() {
		seq++
		h.Publish(hub.Event{Seq: seq, Session: names[seq%5000], Data: data})
	}
	cancel()
	wg.Wait()
}
