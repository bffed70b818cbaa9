package correlate_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestARestoredFileHasItsEventsUnderAGreaterEpochAndItsPlaceInTheJournal(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	if err := s.Welcome(ctx, wire.Welcome{Epoch: s.journal, Oldest: 1}); err != nil {
		t.Fatal(err)
	}
	p := s.pay("checkout")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1234567"))
	was, head := s.Epoch(), s.Head()
	cursor, err := s.Cursor(ctx)
	if err != nil || cursor.Seq != 1 || head == 0 {
		t.Fatal(cursor, head, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := correlate.Renew(ctx, s.cfg.Path); err != nil {
		t.Fatal(err)
	}
	s.start()
	if s.Epoch() <= was || s.Head() != head {
		t.Errorf("epoch %d and head %d, after %d and %d", s.Epoch(), s.Head(), was, head)
	}
	if again, err := s.Cursor(ctx); err != nil || again != cursor {
		t.Errorf("the place in the journal is %+v, %v, was %+v", again, err, cursor)
	}
	events, err := s.Events(ctx, "", 0, 100)
	if err != nil || uint64(len(events)) != head {
		t.Fatal(len(events), err)
	}
	for _, e := range events {
		var m push.Message
		if err := json.Unmarshal(e.Encoded, &m); err != nil || m.ID.Epoch != s.Epoch() || m.ID.Seq != e.Seq || m.Session != "checkout" {
			t.Errorf("event %d says that it is %+v, %v", e.Seq, m, err)
		}
	}
	snapshot, err := s.Snapshot(ctx, "checkout")
	if err != nil || snapshot.Message.ID.Epoch != s.Epoch() || snapshot.Message.Data.MpesaReceiptNumber != today+"1234567" {
		t.Errorf("the snapshot is %+v, %v", snapshot.Message, err)
	}
}
