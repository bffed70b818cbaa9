package correlate_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// TestBatchOfWhatTheCachesForgotEndsAsOneOfWhatTheyHold applies a batch to payments in sessions of two attempts, so that
// what is read for it is needed of the payments and of the sessions: the failure of an attempt that was left behind is
// told as an update, and a success becomes its session's present state.
func TestBatchOfWhatTheCachesForgotEndsAsOneOfWhatTheyHold(t *testing.T) {
	for _, cache := range []int{10_000, 1} {
		s := open(t, func(c *correlate.Config) { c.CacheSize = cache })
		var payments []correlate.Payment
		for i := range 90 { // more than two queries
			r := correlate.Registration{Session: fmt.Sprint("shop", i/2), Amount: 100_00, Shortcode: "main"}
			p, err := s.Register(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			payments = append(payments, p)
		}
		var batch []wire.Entry
		for i, p := range payments {
			body := success(p, "100.00", fmt.Sprintf("R%09d", i))
			if i%4 == 0 { // the first attempt of every other session
				body = failure(p, "1032")
			}
			batch = append(batch, s.entry(s.Ref(p.ID), body), s.entry(s.Ref(p.ID), body))
		}
		s.published = nil
		if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
			t.Fatal(err)
		}
		if len(s.published) != len(payments) {
			t.Fatalf("cache of %d: %d events, want one for each of %d payments", cache, len(s.published), len(payments))
		}
		for i, e := range s.published {
			want, status := push.PaymentCompleted, push.Success
			if i%4 == 0 {
				want, status = push.PaymentUpdate, push.Failed
			}
			if e.Message.Data.PaymentID != payments[i].ID || e.Message.Type != want || e.Message.Data.Status != status {
				t.Errorf("cache of %d: event %d is %s %s, want %s %s", cache, i, e.Message.Type, e.Message.Data.Status, want, status)
			}
		}
		for i := 0; i < len(payments); i += 2 {
			snapshot, err := s.Snapshot(context.Background(), payments[i].Session)
			if err != nil || snapshot.Message.Data.PaymentID != payments[i+1].ID {
				t.Errorf("cache of %d: session %d shows payment %s (%v), want the one that was paid last", cache, i/2, snapshot.Message.Data.PaymentID, err)
			}
		}
	}
}
