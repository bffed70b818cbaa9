package correlate_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

func forwarding(c *correlate.Config) { c.Forwarding, c.Trusting = true, true }

// box is an Outbox with the word of a test that errors end it.
type box struct {
	*shop
	*correlate.Outbox
}

func (s *shop) outbox() *box {
	s.Helper()
	o, err := s.Table.Outbox(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	return &box{s, o}
}

func (b *box) next(room int) []correlate.Delivery {
	b.Helper()
	list, err := b.Outbox.Next(context.Background(), room)
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func (b *box) became(d correlate.Delivery, state string) {
	b.Helper()
	d.State, d.Attempts, d.Last = state, d.Attempts+1, time.Now()
	if err := b.Record(context.Background(), []correlate.Delivery{d}); err != nil {
		b.Fatal(err)
	}
}

func (s *shop) stored(merchant string) string {
	s.Helper()
	cb, err := s.Receive(context.Background(), wire.Entry{Header: []byte("Content-Type: application/json\r\n"), Body: []byte(paidBody(merchant))}, "")
	if err != nil {
		s.Fatal(err)
	}
	return cb.ID
}

func paidBody(merchant string) string {
	return `{"Body":{"stkCallback":{"MerchantRequestID":"` + merchant + `","CheckoutRequestID":"ws_CO_` + merchant + `","ResultCode":1032,"ResultDesc":"cancelled"}}}`
}

func places(list []correlate.Delivery) (out []string) {
	for _, d := range list {
		out = append(out, d.ID)
	}
	return out
}

func (s *shop) wantOut(list []correlate.Delivery, want ...string) {
	s.Helper()
	if got := places(list); !slices.Equal(got, want) {
		s.Fatalf("the outbox gives %v, want %v", got, want)
	}
}

func TestAnOutboxBeginsWithWhatComesNext(t *testing.T) {
	s := open(t, forwarding)
	s.stored("before")
	b := s.outbox()
	b.wantOut(b.next(10))
	first, second := s.stored("one"), s.stored("two")
	b.wantOut(b.next(10), first, second)
	b.wantOut(b.next(10))
}

func TestAnOutboxGivesOutAgainAfterACrashWhatHasNoResult(t *testing.T) {
	s := open(t, forwarding)
	s.outbox()
	one, two, three := s.stored("one"), s.stored("two"), s.stored("three")
	b := s.outbox()
	list := b.next(10)
	b.wantOut(list, one, two, three)
	b.became(list[1], correlate.AppHandled)
	s.restart()
	b = s.outbox()
	list = b.next(10)
	b.wantOut(list, one, three)
	b.became(list[0], correlate.AppWaiting)
	b.became(list[1], correlate.AppDead)
	s.restart()
	b = s.outbox()
	list = b.next(10)
	b.wantOut(list, one)
	if list[0].Attempts != 1 {
		t.Errorf("%d attempts are remembered, want 1", list[0].Attempts)
	}
}

// A backlog comes behind the live callbacks that overtook it, and is given out when it is there; none of it twice.
func TestAnOutboxMissesNothingThatComesBehindLiveCallbacks(t *testing.T) {
	s := open(t, forwarding)
	s.outbox()
	b := s.outbox()
	received := time.Now()
	entry := func(seq uint64) wire.Entry {
		return wire.Entry{Seq: seq, Kind: wire.KindNotice, Received: received, Header: []byte("A: b\r\n"), Body: []byte(paidBody(string(rune('a' + seq))))}
	}
	apply := func(cursor uint64, seqs ...uint64) {
		t.Helper()
		var list []wire.Entry
		for _, seq := range seqs {
			list = append(list, entry(seq))
		}
		c := wire.Cursor{Epoch: s.journal, Seq: cursor}
		if cursor > 0 {
			e := entry(cursor)
			c.Sum = e.Sum()
		}
		if err := s.Apply(context.Background(), c, list); err != nil {
			t.Fatal(err)
		}
	}
	var given []string
	take := func(room int) {
		for {
			list := b.next(room)
			given = append(given, places(list)...)
			for _, d := range list {
				if len(given)%2 == 0 {
					b.became(d, correlate.AppHandled)
				}
			}
			if len(list) < room {
				return
			}
		}
	}
	apply(2, 1, 2)
	take(1)
	apply(2, 11, 12) // live
	take(1)
	apply(4, 3, 4)
	apply(4, 13)
	take(2)
	apply(13, 5, 6, 7, 8, 9, 10, 11, 12, 13)
	take(3)
	apply(14, 14)
	take(1)
	if len(given) != 14 {
		t.Errorf("%d were given, want 14: %v", len(given), given)
	}
	slices.Sort(given)
	if n := len(slices.Compact(given)); n != 14 {
		t.Errorf("only %d of them are different", n)
	}
}

func TestWhatIsNotBelievedIsWithheldFromTheApp(t *testing.T) {
	s := open(t, forwarding)
	s.outbox()
	b := s.outbox()
	forged, err := s.Receive(context.Background(), wire.Entry{Ref: newRef(), Header: []byte("A: b\r\n"), Body: []byte(paidBody("x"))}, "")
	if err != nil || forged.State != correlate.StateForged {
		t.Fatalf("%+v, %v", forged, err)
	}
	enforced, err := s.Receive(context.Background(), wire.Entry{Source: wire.SourceEnforced, Header: []byte("A: b\r\n"), Body: []byte(paidBody("y"))}, "")
	if err != nil || enforced.State != correlate.StateUnmatched {
		t.Fatalf("%+v, %v", enforced, err)
	}
	good := s.stored("z")
	b.wantOut(b.next(10), good)
	list, _, err := s.Callbacks(context.Background(), correlate.CallbackFilter{App: []string{correlate.AppWithheld}})
	if err != nil || len(list) != 2 || list[0].ID != forged.ID || list[1].ID != enforced.ID {
		t.Errorf("withheld are %+v, %v", list, err)
	}
	r, err := s.Replay(context.Background(), correlate.Again{IDs: []string{forged.ID, enforced.ID}, Who: "test"})
	if err != nil || r.Withheld != 2 || r.Callbacks != 0 {
		t.Errorf("asked for once more: %+v, %v", r, err)
	}
}

func newRef() string {
	const half = "00112233445566778899aabbccddeeff"
	return half + half
}

func TestAReplayGivesOutWhatWasHandledOrGivenUp(t *testing.T) {
	s := open(t, forwarding)
	before := s.stored("before")
	b := s.outbox()
	from := time.Now().Add(-time.Hour)
	one, two, three, four := s.stored("one"), s.stored("two"), s.stored("three"), s.stored("four")
	list := b.next(10)
	b.became(list[0], correlate.AppHandled)
	b.became(list[1], correlate.AppDead)
	b.became(list[2], correlate.AppDead)
	ctx := context.Background()

	if r, err := s.Replay(ctx, correlate.Again{Dead: true, Only: true}); err != nil || r.Callbacks != 2 {
		t.Errorf("counted: %+v, %v", r, err)
	}
	b.wantOut(b.next(10))
	if r, err := s.Replay(ctx, correlate.Again{Dead: true, Who: "test"}); err != nil || r.Callbacks != 2 {
		t.Errorf("given up: %+v, %v", r, err)
	}
	list = b.next(10)
	b.wantOut(list, two, three)
	if !list[0].Replay || list[0].Attempts != 0 {
		t.Errorf("the first is %+v", list[0])
	}
	b.became(list[0], correlate.AppHandled)
	b.became(list[1], correlate.AppHandled)

	r, err := s.Replay(ctx, correlate.Again{From: from, To: time.Now().Add(time.Hour), Who: "test"})
	if err != nil || r.Callbacks != 4 || r.Waiting != 1 { // the fourth is with the app still
		t.Errorf("of an hour: %+v, %v", r, err)
	}
	b.wantOut(b.next(10), before, one, two, three)
	r, err = s.Replay(ctx, correlate.Again{IDs: []string{four, "000000000001-0000000000000001"}, Who: "test"})
	if err != nil || r.Waiting != 1 || r.Unknown != 1 {
		t.Errorf("by id: %+v, %v", r, err)
	}
	if _, err := s.Replay(ctx, correlate.Again{IDs: []string{"nonsense"}, Who: "test"}); !errors.Is(err, correlate.ErrInvalid) {
		t.Errorf("an id that is none: %v", err)
	}
	acts, err := s.Acts(ctx, 0, 10)
	if err != nil || len(acts) != 2 || acts[0].Act != "callbacks replayed" || acts[0].Detail != "2 callbacks" {
		t.Errorf("the audit has %+v, %v", acts, err)
	}
}

func TestItIsToldWhatTheAppHasAndHasNot(t *testing.T) {
	s := open(t, forwarding)
	ctx := context.Background()
	if f, err := s.Forwarding(ctx); err != nil || !f.Began.IsZero() {
		t.Errorf("before it began: %+v, %v", f, err)
	}
	s.stored("before")
	b := s.outbox()
	s.stored("one")
	s.stored("two")
	s.stored("three")
	list := b.next(10)
	b.became(list[0], correlate.AppHandled)
	b.became(list[1], correlate.AppDead)
	f, err := s.Forwarding(ctx)
	if err != nil || f.Began.IsZero() || f.Waiting != 1 || f.Dead != 1 || f.Oldest.IsZero() {
		t.Errorf("%+v, %v", f, err)
	}
	for app, want := range map[string]int{"handled": 1, "dead": 1, "waiting": 1, "withheld": 0} {
		list, _, err := s.Callbacks(ctx, correlate.CallbackFilter{App: []string{app}})
		if err != nil || len(list) != want {
			t.Errorf("%d are %s, want %d; %v", len(list), app, want, err)
		}
		for _, c := range list {
			if c.App.State != app || c.Stored.IsZero() || c.Received.IsZero() {
				t.Errorf("one that is %s is %+v", app, c)
			}
		}
	}
	all, _, err := s.Callbacks(ctx, correlate.CallbackFilter{})
	if err != nil || len(all) != 4 || all[0].App.State != "" {
		t.Errorf("all are %+v, %v", all, err)
	}

	if err := s.PauseForwarding(ctx, "test", "410"); err != nil {
		t.Fatal(err)
	}
	if err := s.PauseForwarding(ctx, "test", "another"); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Forwarding(ctx); err != nil || f.Paused.IsZero() || f.Why != "410" {
		t.Errorf("paused: %+v, %v", f, err)
	}
	if err := s.ResumeForwarding(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Forwarding(ctx); err != nil || !f.Paused.IsZero() || f.Why != "" {
		t.Errorf("resumed: %+v, %v", f, err)
	}
}

func TestBodiesStayUntilTheAppHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, forwarding, func(c *correlate.Config) { c.KeepBodies = 4 * 24 * time.Hour })
		defer s.Close()
		b := s.outbox()
		first, second := s.stored("one"), s.stored("two")
		list := b.next(10)
		b.became(list[0], correlate.AppHandled)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Retain(ctx) }()
		bodies := func() (left []string) {
			list, _, err := s.Callbacks(t.Context(), correlate.CallbackFilter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				if len(c.Body) > 0 {
					left = append(left, c.ID)
				}
			}
			return left
		}
		time.Sleep(3 * 24 * time.Hour)
		if got := bodies(); !slices.Equal(got, []string{first, second}) {
			t.Errorf("after three days %v are left", got)
		}
		time.Sleep(30 * 24 * time.Hour)
		if got := bodies(); !slices.Equal(got, []string{second}) {
			t.Errorf("after a month %v are left, want %s, which the app has not handled", got, second)
		}
		if _, err := s.Table.Stored(t.Context(), list[0]); !errors.Is(err, correlate.ErrErased) {
			t.Errorf("what was erased is given out: %v", err)
		}
		b.became(list[1], correlate.AppDead)
		time.Sleep(time.Hour)
		if got := bodies(); len(got) != 0 {
			t.Errorf("when that was given up %v are left", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A success that waits until M-Pesa was asked is nothing for the app before somebody who can tell has agreed.
func TestAHeldSuccessIsGivenToTheAppWhenItCounts(t *testing.T) {
	s := open(t, func(c *correlate.Config) {
		c.Forwarding, c.QueryAbove = true, map[string]push.Money{"main": 50_00}
	})
	b := s.outbox()
	p := s.pay("s")
	held := s.comes(s.Ref(p.ID), success(p, "100", "TIL7XK4100"))
	s.wantState(held, correlate.StateHeld)
	b.wantOut(b.next(10))
	if _, err := s.Confirm(context.Background(), p.ID, correlate.Decision{Who: "ann", Reason: "it is on the statement"}); err != nil {
		t.Fatal(err)
	}
	b.wantOut(b.next(10), held.ID)
}
