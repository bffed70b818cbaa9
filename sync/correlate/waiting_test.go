package correlate_test

import (
	"context"
	"testing"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestItIsKnownWhatWaitsHereAndHowFarTheJournalWasRead(t *testing.T) {
	s := open(t, large)
	reached := func() correlate.Callback {
		t.Helper()
		at, err := s.Reached(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return correlate.Callback{Received: at}
	}
	wantHeld := func(n int, oldest correlate.Callback) {
		t.Helper()
		got, since, err := s.Held(t.Context())
		if err != nil || got != n || !since.Equal(oldest.Stored) {
			t.Errorf("%d held since %v, %v; want %d since %v", got, since, err, n, oldest.Stored)
		}
	}
	if now := reached(); !now.Received.IsZero() {
		t.Errorf("nothing came, up to %v", now.Received)
	}
	wantHeld(0, correlate.Callback{})
	if err := s.Welcome(t.Context(), wire.Welcome{Epoch: s.journal, Oldest: 1}); err != nil {
		t.Fatal(err)
	}
	p := s.pay("a")
	s.open("b", 100_00)
	r := request("b")
	r.Phone = "254700000002"
	q := s.accept(s.begin(r))
	first := s.comes(s.Ref(p.ID), success(p, "100", "TIL7XK4100"))
	second := s.comes(s.Ref(q.ID), success(q, "100", "TIL7XK4101"))
	s.wantState(first, correlate.StateHeld)
	wantHeld(2, first)
	if now := reached(); !now.Received.Equal(second.Received) || now.Received.IsZero() {
		t.Errorf("the last came at %v, and it says %v", second.Received, now.Received)
	}
	if _, err := s.Confirm(context.Background(), p.ID, correlate.Decision{Who: "ann", Reason: "it is on the statement"}); err != nil {
		t.Fatal(err)
	}
	wantHeld(1, second)
	s.restart()
	wantHeld(1, second)
	if now := reached(); !now.Received.Equal(second.Received) {
		t.Errorf("after a restart: the last came at %v, and it says %v", second.Received, now.Received)
	}
}
