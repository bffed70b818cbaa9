package correlate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

func (s *shop) snapshot(session string) correlate.Snapshot {
	s.Helper()
	snap, err := s.Snapshot(context.Background(), session)
	if err != nil {
		s.Fatal(err)
	}
	return snap
}

func (s *shop) wantPresent(session string, p correlate.Payment, status push.Status) {
	s.Helper()
	snap := s.snapshot(session)
	if d := snap.Message.Data; !snap.Exists || d.PaymentID != p.ID || d.Status != status {
		s.Errorf("the present state of %s is %+v, want %s %s", session, d, p.ID, status)
	}
}

func TestTheNewestAttemptIsThePresentStateUntilAnEarlierOneSucceeds(t *testing.T) {
	s := open(t, trusting)
	if snap := s.snapshot("a"); snap.Exists || snap.Head != 0 {
		t.Errorf("a session without payments is %+v", snap)
	}
	first := s.accept(s.begin(request("a")))
	s.wantPresent("a", first, "PENDING")
	s.comes("", failure(first, "1037"))
	s.wantPresent("a", first, "FAILED")
	second := s.begin(request("a"))
	s.wantPresent("a", second, "PENDING")
	s.published = nil
	s.comes("", failure(first, "1032"))
	s.wantEvents("PAYMENT_UPDATE FAILED cancelled") // of an attempt that was left behind
	s.wantPresent("a", second, "PENDING")
	s.accept(second)
	s.comes("", success(first, "100.00", today+"1AAAAAA"))
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED SUCCESS paid")
	s.wantPresent("a", first, "SUCCESS")
	s.restart()
	s.wantPresent("a", first, "SUCCESS")
	s.comes("", failure(second, "1032"))
	s.wantEvents("PAYMENT_UPDATE FAILED cancelled") // and the session is paid
	s.wantPresent("a", first, "SUCCESS")
	s.comes("", success(second, "100.00", today+"1BBBBBB"))
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid") // twice, and nobody hides it
	s.wantPresent("a", second, "SUCCESS")
	third := s.begin(request("a"))
	s.wantPresent("a", third, "PENDING")
}

func TestAFailureOfAnAttemptLeftBehindIsAnUpdate(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.open("a", 100_00)
		first := s.accept(s.begin(request("a")))
		time.Sleep(2 * time.Minute)
		if _, err := s.Silence(context.Background()); err != nil {
			s.Fatal(err)
		}
		r := request("a")
		r.Again = true
		s.begin(r)
		s.comes(s.Ref(first.ID), failure(first, "1032"))
		s.wantEvents("STK_INITIATED PENDING", "PAYMENT_UPDATE UNKNOWN unknown", "PAYMENT_UPDATE FAILED cancelled")
	})
}

func TestASnapshotAndTheEventsBehindItLeaveNothingOut(t *testing.T) {
	s := open(t, trusting)
	ctx := context.Background()
	p := s.accept(s.begin(request("a")))
	r := request("b")
	r.Phone = "254700000001"
	q := s.accept(s.begin(r))
	snap := s.snapshot("a")
	if snap.Head != 2 || snap.SessionSeq != 1 || snap.Message.ID != (push.Cursor{Epoch: s.Epoch(), Seq: 1}) {
		t.Errorf("snapshot is %+v", snap)
	}
	s.comes("", failure(q, "1032"))
	s.comes("", failure(p, "1032"))
	p2 := s.accept(s.begin(request("a")))
	s.comes("", success(p, "100", today+"1AAAAAA"))
	s.comes("", success(p2, "100", today+"1BBBBBB"))
	for range 2 {
		for session, want := range map[string][]uint64{"a": {4, 5, 6, 7}, "b": {3}, "": {3, 4, 5, 6, 7}, "c": nil} {
			for _, limit := range []int{100, 2} {
				events, err := s.Events(ctx, session, snap.Head, limit)
				if err != nil {
					t.Fatal(err)
				}
				var got []uint64
				for _, e := range events {
					got = append(got, e.Seq)
					var m push.Message
					if err := json.Unmarshal(e.Encoded, &m); err != nil || m.ID.Seq != e.Seq || m.Session != e.Session || session != "" && e.Session != session {
						t.Errorf("event %d is %s (%v)", e.Seq, e.Encoded, err)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want[:min(limit, len(want))]) {
					t.Errorf("events of %q behind %d are %v, want %v", session, snap.Head, got, want)
				}
			}
		}
		s.restart()
	}
	if oldest, err := s.Oldest(ctx); err != nil || oldest != 1 {
		t.Errorf("the oldest event is %d, %v", oldest, err)
	}
}

func TestOldEventsArePrunedAndNumbersGoOn(t *testing.T) {
	inBubble(t, func(s *shop) {
		ctx := context.Background()
		p := s.pay("a")
		s.comes(s.Ref(p.ID), failure(p, "1032"))
		time.Sleep(time.Hour)
		s.comes(s.Ref(p.ID), failure(p, "1"))
		if oldest, _ := s.Oldest(ctx); oldest != 1 {
			s.Errorf("the oldest event is %d", oldest)
		}
		time.Sleep(30 * time.Minute)
		s.comes(s.Ref(p.ID), failure(p, "1037")) // four events; the first two are too old
		if oldest, _ := s.Oldest(ctx); oldest != 3 {
			s.Errorf("the oldest event is %d, want 3", oldest)
		}
		events, err := s.Events(ctx, "a", 0, 100)
		if err != nil || len(events) != 2 || events[0].Seq != 3 {
			s.Errorf("events are %v, %v", events, err)
		}
		time.Sleep(1000 * time.Hour)
		s.restart()
		if s.Head() != 4 {
			s.Errorf("the head is %d after a restart, want 4", s.Head())
		}
		s.comes(s.Ref(p.ID), success(p, "100", today+"1AAAAAA"))
		if oldest, _ := s.Oldest(ctx); s.Head() != 5 || oldest != 4 {
			s.Errorf("events are %d to %d, want 4 (the newest of then) to 5", oldest, s.Head())
		}
		s.wantPresent("a", p, "SUCCESS")
	}, func(c *correlate.Config) { c.KeepEvents = 80 * time.Minute })
}

func TestPaymentsAreListedNewestFirst(t *testing.T) {
	inBubble(t, func(s *shop) {
		ctx := context.Background()
		start := time.Now()
		var all []string
		for i := range 25 {
			p := s.register(fmt.Sprintf("s%d", i%5), p0(fmt.Sprint(i)))
			all = append([]string{p.ID}, all...)
			if i%3 == 0 {
				s.comes("", success(p0(fmt.Sprint(i)), "100", fmt.Sprintf("%s1A%05d", today, i)))
			}
			if i%2 == 0 {
				time.Sleep(time.Second)
			}
		}
		var got []string
		after := ""
		for {
			list, next, err := s.Payments(ctx, correlate.Filter{Limit: 4, After: after})
			if err != nil {
				s.Fatal(err)
			}
			for _, p := range list {
				got = append(got, p.ID)
			}
			if after = next; next == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(all) {
			s.Errorf("pages hold\n%v, want\n%v", got, all)
		}
		for _, c := range []struct {
			f    correlate.Filter
			want int
		}{
			{correlate.Filter{Status: "SUCCESS"}, 9}, {correlate.Filter{Status: "PENDING"}, 16}, {correlate.Filter{Session: "s1"}, 5},
			{correlate.Filter{Shortcode: "main"}, 25}, {correlate.Filter{Shortcode: "other"}, 0},
			{correlate.Filter{From: start.Add(10 * time.Second)}, 6}, {correlate.Filter{To: start.Add(10 * time.Second)}, 19},
			{correlate.Filter{Status: "PENDING", Session: "s1", From: start, To: start.Add(time.Hour)}, 3},
		} {
			list, _, err := s.Payments(ctx, c.f)
			if err != nil || len(list) != c.want {
				s.Errorf("%+v: %d payments, %v, want %d", c.f, len(list), err, c.want)
			}
		}
		_, checkout := ids(p0("7"))
		for _, c := range []struct {
			q    correlate.Query
			want int
		}{{correlate.Query{Receipt: strings.ToLower(today) + "1a00003"}, 1}, {correlate.Query{CheckoutRequestID: checkout}, 1}, {correlate.Query{Phone: phone}, 0}, {correlate.Query{}, 0}, {correlate.Query{Receipt: today + "1A00003", CheckoutRequestID: checkout}, 0}} {
			list, err := s.Search(ctx, c.q)
			if err != nil || len(list) != c.want {
				s.Errorf("%+v: %d payments, %v, want %d", c.q, len(list), err, c.want)
			}
		}
	})
}
