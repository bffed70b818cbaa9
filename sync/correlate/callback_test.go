package correlate_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// register is a push that the app made itself, with the ids that callbacks made from p carry.
func (s *shop) register(session string, p correlate.Payment) correlate.Payment {
	s.Helper()
	merchant, checkout := ids(p)
	p, err := s.Register(context.Background(), correlate.Registration{Session: session, MerchantRequestID: merchant, CheckoutRequestID: checkout, Amount: 100_00, Shortcode: "main"})
	if err != nil {
		s.Fatal(err)
	}
	return p
}

func (s *shop) wantCounts(want map[string]int64) {
	s.Helper()
	got, err := s.Counts(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	for state, n := range got {
		if n == 0 {
			delete(got, state)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("callbacks by state are %v, want %v", got, want)
	}
}

func (s *shop) due() []string {
	s.Helper()
	list, _, err := s.Due(context.Background(), correlate.Among{}, 100)
	if err != nil {
		s.Fatal(err)
	}
	var due []string
	for _, p := range list {
		due = append(due, p.ID)
	}
	return due
}

func TestWhatIsSaidAgainChangesAndTellsNothing(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	first := s.entry(s.Ref(p.ID), failure(p, "1032"))
	s.wantState(s.apply(first), "applied")
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED FAILED cancelled")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1032")), "repeated")
	s.apply(first) // the Ack was lost
	s.restart()
	s.apply(first)
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100", today+"1AAAAAA")), "applied")
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100", today+"1AAAAAA")), "repeated")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1032")), "overruled")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1")), "overruled")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, `"BW-JMS-100039"`)), "overruled")
	s.wantEvents()
	if p := s.get(p.ID); p.Status != push.Success || p.Receipt != today+"1AAAAAA" || p.ResultCode != "0" {
		t.Errorf("payment is %+v", p)
	}
	s.wantCounts(map[string]int64{"applied": 2, "repeated": 2, "overruled": 3})
}

func TestAnotherFailureIsAnUpdate(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), failure(p, "1037"))
	s.comes(s.Ref(p.ID), failure(p, "1019"))
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED FAILED unreachable", "PAYMENT_UPDATE FAILED expired")
}

func TestACodeThatIsNotKnownIsUnknownAndAskedAboutAtOnce(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	if due := s.due(); len(due) != 0 {
		t.Errorf("due are %v, before 30 s", due)
	}
	s.wantState(s.comes(s.Ref(p.ID), failure(p, `"BW-JMS-100039"`)), "applied")
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_UPDATE UNKNOWN unknown")
	if due := s.due(); len(due) != 1 {
		t.Errorf("due are %v, want the payment", due)
	}
}

func TestACallbackThatComesEarlyIsMatchedLater(t *testing.T) {
	s := open(t)
	p := correlate.Payment{ID: "made-by-the-app"}
	s.wantState(s.comes("", success(p, "100.00", today+"1AAAAAA")), "unmatched")
	s.wantState(s.comes("", success(p, "100.00", today+"1AAAAAA")), "unmatched")
	s.wantState(s.comes("", failure(correlate.Payment{ID: "never"}, "1")), "unmatched")
	s.wantEvents()
	s.restart()
	p = s.register("a", p)
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED SUCCESS paid")
	if !p.AmountChecked {
		t.Error("the amount is not checked")
	}
	s.wantCounts(map[string]int64{"applied": 1, "repeated": 1, "unmatched": 1})
	if again := s.register("", p0("made-by-the-app")); again.ID != p.ID {
		t.Error("the same push registered again is another payment")
	}
	s.wantEvents()
}

func p0(id string) correlate.Payment { return correlate.Payment{ID: id} }

func TestARefFindsItsPaymentEvenIfTheAckWasLost(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	p, err := s.Ambiguous(context.Background(), p.ID, "timeout")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.Data().Reason, "checking") || p.Asking() {
		t.Errorf("a payment that nobody can ask about says %q", p.Data().Reason)
	}
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")), "applied")
	s.wantEvents("PAYMENT_UPDATE UNKNOWN unknown", "PAYMENT_COMPLETED SUCCESS paid")
	if merchant, _ := ids(p); s.get(merchant).ID != p.ID {
		t.Error("the ids that the callback brought are not known")
	}
	if p := s.accept(p); p.Status != push.Success {
		t.Errorf("the late ack made it %s", p.Status)
	}
	s.wantEvents()
}

func TestACallbackBeforeTheAckIsNotFollowedByInitiated(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	s.comes(s.Ref(p.ID), failure(p, "1025"))
	s.accept(p)
	s.wantEvents("PAYMENT_COMPLETED FAILED rejected")
}

func TestARefusalDoesNotStandAgainstACallback(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	s.wantState(s.comes(s.Ref(p.ID), failure(p, `"BW-JMS-100039"`)), "applied") // Daraja has it, and nobody knows what it means
	p, err := s.Refused(context.Background(), p.ID, daraja.OutcomeRejected, "500.003.02", "busy")
	if err != nil || p.Status != push.Unknown || !p.Asking() {
		t.Errorf("the payment is %s, %v", p.Status, err)
	}
	s.wantEvents("PAYMENT_UPDATE UNKNOWN unknown")
}

func TestWhatWasParkedIsMatchedByTheIDsThatACallbackBrings(t *testing.T) {
	s := open(t, trusting)
	p := s.begin(request("a"))
	s.Ambiguous(context.Background(), p.ID, "timeout")
	parked := s.entry("", success(p, "100.00", today+"1AAAAAA"))
	s.wantState(s.apply(parked), "unmatched")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1032")), "applied")
	s.wantState(s.callback(push.Cursor{Epoch: uint64(s.journal), Seq: parked.Seq}), "applied")
	if p = s.get(p.ID); p.Status != push.Success || p.Receipt == "" {
		t.Errorf("the payment is %s", p.Status)
	}
	s.wantCounts(map[string]int64{"applied": 2})
}

func TestARestoredDiskTakesUpThePaymentsItForgot(t *testing.T) {
	s := open(t)
	id := "00112233445566778899aabbccddeeff"
	p := correlate.Payment{ID: id}
	s.wantState(s.comes(s.Ref(id), success(p, "70.50", today+"1AAAAAA")), "applied")
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	got := s.get(id)
	if got.Session != id || got.Amount != 70_50 || got.AmountChecked || got.Phone != phone || got.Status != push.Success {
		t.Errorf("payment is %+v", got)
	}
	s.wantState(s.comes(s.Ref(id), success(p, "70.50", today+"1AAAAAA")), "repeated")
	s.wantState(s.comes(s.Ref("ffeeddccbbaa99887766554433221100"), success(p, "70.50", today+"1AAAAAA")), "suspect")
}

func TestWhatIsNotBelievedChangesNoStatusAndIsAskedAbout(t *testing.T) {
	doubted := []string{"PAYMENT_UPDATE PENDING"}
	for _, c := range []struct {
		say   string
		ref   func(s *shop, p correlate.Payment) string
		body  func(p, other correlate.Payment) string
		state string
		told  []string
	}{
		{"no ref, though the payment has one", func(*shop, correlate.Payment) string { return "" },
			func(p, _ correlate.Payment) string { return success(p, "100.00", today+"1AAAAAA") }, "suspect", doubted},
		{"a ref with a wrong code", func(s *shop, p correlate.Payment) string { return p.ID + strings.Repeat("0", 32) },
			func(p, _ correlate.Payment) string { return success(p, "100.00", today+"1AAAAAA") }, "forged", nil},
		{"the ids of another payment", func(s *shop, p correlate.Payment) string { return s.Ref(p.ID) },
			func(_, other correlate.Payment) string { return success(other, "100.00", today+"1AAAAAA") }, "suspect", doubted},
		{"another amount", func(s *shop, p correlate.Payment) string { return s.Ref(p.ID) },
			func(p, _ correlate.Payment) string { return success(p, "1.00", today+"1AAAAAA") }, "suspect", doubted},
		{"a failure without the ref", func(*shop, correlate.Payment) string { return "" },
			func(p, _ correlate.Payment) string { return failure(p, "1032") }, "suspect", doubted},
		{"one of its ids only", func(*shop, correlate.Payment) string { return "" },
			func(p, _ correlate.Payment) string {
				return strings.Replace(success(p, "100.00", today+"1AAAAAA"), "ws_CO_", "ws_CO_x", 1)
			}, "suspect", doubted},
	} {
		t.Run(c.say, func(t *testing.T) {
			s := open(t)
			p := s.pay("a")
			s.open("b", 100_00)
			r := request("b")
			r.Phone = "254700000001"
			other := s.accept(s.begin(r))
			s.published = nil
			s.wantState(s.comes(c.ref(s, p), c.body(p, other)), c.state)
			s.wantEvents(c.told...)
			if got := s.get(p.ID); got.Status != push.Pending || (got.Doubt == correlate.DoubtSuspect) != (c.told != nil) {
				t.Errorf("the payment is %s, doubt %q, want PENDING", got.Status, got.Doubt)
			}
			if got := s.get(other.ID); got.Status != push.Pending {
				t.Errorf("the other payment is %s, want PENDING", got.Status)
			}
			if due := s.due(); len(due) != 1 || due[0] != p.ID {
				t.Errorf("due are %v, want the payment", due)
			}
			s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")), "applied")
		})
	}
}

func TestAForgeryThatComesBeforeTheAckIsNotBelievedLater(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	s.wantState(s.comes("", success(p, "100.00", today+"1AAAAAA")), "unmatched")
	if p = s.accept(p); p.Status != push.Pending {
		t.Errorf("the payment is %s, want PENDING", p.Status)
	}
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_UPDATE PENDING")
	s.wantCounts(map[string]int64{"suspect": 1})
}

func TestInDevelopmentBothIDsAreEnough(t *testing.T) {
	s := open(t, trusting)
	p := s.accept(s.begin(request("a")))
	s.wantState(s.comes("", success(p, "1.00", today+"1AAAAAA")), "applied")
	if p := s.get(p.ID); p.Status != push.Success || p.AmountChecked {
		t.Errorf("payment is %+v", p)
	}
	r := request("b")
	r.Phone = "254700000001"
	q := s.begin(r)
	cb, err := s.Receive(context.Background(), wire.Entry{Body: []byte(failure(q, "1032"))}, "b")
	if err != nil || cb.State != "unmatched" {
		t.Errorf("a callback before the ack is %s (%v)", cb.State, err)
	}
	if q = s.accept(q); q.Status != push.Failed {
		t.Errorf("after the ack the payment is %s, want FAILED", q.Status)
	}
	cb, err = s.Receive(context.Background(), wire.Entry{Body: []byte(success(q, "100", today+"1BBBBBB"))}, "a")
	if err != nil || cb.State != "suspect" {
		t.Errorf("a callback on another session's address is %s (%v), want suspect", cb.State, err)
	}
	s.wantState(s.comes(q.ID+strings.Repeat("0", 32), success(q, "100", today+"1BBBBBB")), "forged")
	cb, err = s.Receive(context.Background(), wire.Entry{Body: []byte(success(q, "100", today+"1BBBBBB"))}, "b")
	if err != nil || cb.State != "applied" || s.callback(mustCursor(t, cb.ID)).State != "applied" {
		t.Errorf("callback is %+v (%v), want applied", cb, err)
	}
}

func mustCursor(t *testing.T, s string) push.Cursor {
	t.Helper()
	c, err := push.ParseCursor(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatCannotBeReadIsSetAsideAndStopsNobody(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	var batch []wire.Entry
	for _, body := range []string{"", "{}", "null", "[]", "<html>", `{"Body":{"stkCallback":{}}}`, `{"TransID":"RKK1AAAAAA"}`, strings.Repeat("[", 200_000), "\xff\x00"} {
		batch = append(batch, s.entry(s.Ref(p.ID), body), s.entry("", body))
	}
	odd := s.entry("", "{}")
	odd.Kind = wire.KindValidation
	batch = append(batch, odd, s.entry(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")))
	if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
		t.Fatal(err)
	}
	s.wantCounts(map[string]int64{"unparsed": 19, "applied": 1})
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED SUCCESS paid")
	list, next, err := s.Callbacks(context.Background(), correlate.CallbackFilter{States: []string{"unparsed"}, Limit: 10})
	if err != nil || len(list) != 10 || next == "" {
		t.Fatalf("%d callbacks, next %q, %v", len(list), next, err)
	}
	if cb := list[2]; string(cb.Body) != "{}" || !strings.HasPrefix(string(cb.Header), "Content-Type") || cb.Ref != p.ID || cb.PaymentID != p.ID || cb.Error == "" {
		t.Errorf("callback is kept as %+v", cb)
	}
	list, next, err = s.Callbacks(context.Background(), correlate.CallbackFilter{States: []string{"unparsed"}, After: next, Limit: 10})
	if err != nil || len(list) != 9 || next != "" {
		t.Errorf("the second page has %d callbacks, next %q, %v", len(list), next, err)
	}
}

func TestAnEntryThatTheTableRefusesIsSetAsideAndItsNeighboursAreNot(t *testing.T) {
	s := open(t)
	p, q := s.pay("a"), s.register("b", p0("b"))
	db, err := sql.Open("sqlite", s.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TRIGGER poison BEFORE UPDATE ON payments WHEN new.code = '17' BEGIN SELECT raise(ABORT, 'poison'); END"); err != nil {
		t.Fatal(err)
	}
	s.published = nil
	batch := []wire.Entry{s.entry(s.Ref(p.ID), failure(p, "17")), s.entry("", success(p0("b"), "100.00", today+"1AAAAAA"))}
	if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
		t.Fatal(err)
	}
	s.wantCounts(map[string]int64{"unparsed": 1, "applied": 1})
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	if p := s.get(p.ID); p.Status != push.Pending {
		t.Errorf("what was rolled back is still in the cache: %s", p.Status)
	}
	if q := s.get(q.ID); q.Status != push.Success {
		t.Errorf("the neighbour is %s", q.Status)
	}
	if c, _ := s.Cursor(context.Background()); c.Seq != 0 { // nobody was welcomed
		t.Errorf("cursor is %v", c)
	}
}

func TestTheCursorIsThatOfTheJournalLastWelcomed(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	p := s.pay("a")
	if c, err := s.Cursor(ctx); err != nil || c != (wire.Cursor{}) {
		t.Errorf("the first cursor is %v, %v", c, err)
	}
	if err := s.Welcome(ctx, wire.Welcome{Epoch: s.journal, Oldest: 1, Callback: "https://hooks.test/c/1"}); err != nil {
		t.Fatal(err)
	}
	e := s.entry(s.Ref(p.ID), failure(p, "1032"))
	s.apply(e)
	s.restart()
	want := wire.Cursor{Epoch: s.journal, Seq: 1, Sum: e.Sum()}
	if c, err := s.Cursor(ctx); err != nil || c != want {
		t.Errorf("cursor is %v, %v, want %v", c, err, want)
	}
	if s.CallbackBase() != "https://hooks.test/c/1" {
		t.Errorf("callback base is %q after a restart", s.CallbackBase())
	}
	if err := s.Welcome(ctx, wire.Welcome{Epoch: s.journal + 5, Oldest: 1}); err != nil {
		t.Fatal(err)
	}
	if c, _ := s.Cursor(ctx); c != (wire.Cursor{Epoch: s.journal + 5}) {
		t.Errorf("cursor of a new journal is %v", c)
	}
}

func TestTheSameJournalUnderANewEpochChangesNothing(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	s.Welcome(ctx, wire.Welcome{Epoch: s.journal, Oldest: 1})
	p := s.pay("a")
	old := []wire.Entry{
		s.entry(s.Ref(p.ID), failure(p, "1037")), s.entry(s.Ref(p.ID), failure(p, "1019")),
		s.entry("", "{}"), s.entry("", failure(p0("nobody"), "1")),
	}
	if err := s.Apply(ctx, behind(s.journal, old), old); err != nil {
		t.Fatal(err)
	}
	counts, _ := s.Counts(ctx)
	s.published = nil
	s.journal++
	s.Welcome(ctx, wire.Welcome{Epoch: s.journal, Oldest: 1, Head: 5})
	fresh := append(old, s.entry(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")))
	if err := s.Apply(ctx, behind(s.journal, fresh[:4]), fresh[:4]); err != nil {
		t.Fatal(err)
	}
	s.wantEvents()
	s.wantCounts(counts)
	if err := s.Apply(ctx, behind(s.journal, fresh), fresh); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
}

func TestAGapIsToldOnceAndEveryOpenPaymentIsAskedAbout(t *testing.T) {
	var log bytes.Buffer
	s := open(t, func(c *correlate.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	ctx := context.Background()
	w := wire.Welcome{Epoch: s.journal, Oldest: 1}
	s.Welcome(ctx, w)
	pending, failed := s.pay("a"), s.register("b", p0("b"))
	s.comes("", failure(p0("b"), "1032"))
	if due := s.due(); len(due) != 0 {
		t.Errorf("due are %v", due)
	}
	w.Oldest, w.Head = 7, 9
	for range 2 {
		if err := s.Welcome(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Ambiguous(ctx, pending.ID, "what is written next does not take it back"); err != nil {
		t.Fatal(err)
	}
	if due := s.due(); len(due) != 1 || due[0] != pending.ID {
		t.Errorf("due are %v, want the payment without a result", due)
	}
	if n := strings.Count(log.String(), "cannot show"); n != 1 {
		t.Errorf("the gap is told %d times:\n%s", n, log.String())
	}
	if err := s.Asked(ctx, pending.ID); err != nil {
		t.Fatal(err)
	}
	if due := s.due(); len(due) != 0 {
		t.Errorf("due are %v after asking", due)
	}
	if s.get(failed.ID).Asking() {
		t.Error("a payment that has failed is asked about")
	}
	w.Oldest, w.Head = 12, 12 // the edge forgets more before anything was read
	s.Welcome(ctx, w)
	if n := strings.Count(log.String(), "cannot show"); n != 2 {
		t.Errorf("the gap that grew is told %d times:\n%s", n, log.String())
	}
	log.Reset()
	s.Welcome(ctx, wire.Welcome{Epoch: s.journal + 9, Oldest: 1, Head: 3})
	if !strings.Contains(log.String(), "another journal") {
		t.Errorf("another journal is not told: %s", log.String())
	}
}

func TestLogsNameNeitherPhonesNorCheckoutRequestIDs(t *testing.T) {
	var log bytes.Buffer
	s := open(t, func(c *correlate.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	p := s.pay("a")
	s.comes("", success(p, "100.00", today+"1AAAAAA"))
	s.comes(s.Ref(p.ID), success(p, "1.00", today+"1AAAAAA"))
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	s.comes(s.Ref(p.ID), failure(p, "1032"))
	s.comes(s.Ref("00112233445566778899aabbccddeeff"), success(p0("x"), "100.00", today+"1AAAAAA"))
	s.open("b", 100_00)
	s.Ambiguous(context.Background(), s.begin(request("b")).ID, "timeout")
	for _, secret := range []string{phone, "ws_CO_", s.Ref(p.ID)[32:]} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
	if strings.Count(log.String(), "\n") < 5 {
		t.Errorf("the log says too little:\n%s", log.String())
	}
}

func TestAnAnswerByQueryAndTheReceiptThatFollows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		p := s.pay("a")
		answer := func(p correlate.Payment, code string) {
			t.Helper()
			if _, err := s.Answer(context.Background(), p.ID, answerOf(code)); err != nil {
				t.Fatal(err)
			}
		}
		answer(p, "0")
		s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED SUCCESS paid")
		s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
		s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
		s.wantEvents("PAYMENT_UPDATE SUCCESS paid")
		if p := s.get(p.ID); p.Receipt != today+"1AAAAAA" || !p.AmountChecked {
			t.Errorf("payment is %+v", p)
		}

		q := s.pay("b")
		answer(q, "1032")
		s.restart()
		time.Sleep(14 * time.Second)
		answer(q, "1032")
		if q := s.get(q.ID); q.Status != push.Pending {
			t.Errorf("after two answers 14 s apart the payment is %s", q.Status)
		}
		time.Sleep(time.Second)
		answer(q, "1032")
		s.comes(s.Ref(q.ID), failure(q, "1032"))
		s.comes(s.Ref(q.ID), failure(q, "1037"))
		s.comes(s.Ref(q.ID), success(q, "100.00", today+"1BBBBBB"))
		answer(q, "1032")
		s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED FAILED cancelled", "PAYMENT_UPDATE FAILED unreachable", "PAYMENT_COMPLETED SUCCESS paid")
	})
}

func TestAPaymentThatIsSettledWakesNobody(t *testing.T) {
	s := open(t)
	woken := func() bool {
		select {
		case <-s.Wake():
			return true
		default:
			return false
		}
	}
	p := s.pay("a")
	s.open("b", 100_00)
	r := request("b")
	r.Phone = "254700000001"
	q := s.begin(r)
	if !woken() {
		t.Error("payments have begun, and nobody is woken")
	}
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	if woken() {
		t.Error("a result wakes who waits to ask for it")
	}
	s.accept(q)
	if !woken() {
		t.Error("a payment can be asked about now, and nobody is woken")
	}
	s.comes(s.Ref(q.ID), failure(q, "4999999")) // a code that nobody knows is asked about at once
	if !woken() {
		t.Error("a payment is due at once, and nobody is woken")
	}
}
