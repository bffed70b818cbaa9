package correlate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

func (s *shop) wantPayment(id string, status push.Status, receipt, doubt string) correlate.Payment {
	s.Helper()
	p := s.get(id)
	if p.Status != status || p.Receipt != receipt || p.Doubt != doubt {
		s.Errorf("the payment is %s with receipt %q, doubt %q; want %s, %q, %q", p.Status, p.Receipt, p.Doubt, status, receipt, doubt)
	}
	return p
}

func (s *shop) wantSentence(id string, want daraja.Sentence) {
	s.Helper()
	if got := s.get(id).Data().Reason; got != want.En {
		s.Errorf("the cashier reads %q, want %q", got, want.En)
	}
}

func (s *shop) answer(id, code string) {
	s.Helper()
	if _, err := s.Answer(context.Background(), id, answerOf(code)); err != nil {
		s.Fatal(err)
	}
}

func TestARefIsBelievedUntilItsKeyIsRetired(t *testing.T) {
	s := open(t)
	older, newer, never := []byte("an older key of thirty-two bytes"), []byte("a newer key of thirty-two bytes."), []byte("no key of this shop, 32 bytes....")
	before := s.pay("a")
	oldRef := s.Ref(before.ID)
	keys := func(key []byte, old ...[]byte) {
		if err := s.SetKeys(key, old...); err != nil {
			t.Fatal(err)
		}
	}
	keys(newer, older, key)
	if s.Ref(before.ID) == oldRef {
		t.Error("refs are still made with the old key")
	}
	s.wantState(s.comes(oldRef, failure(before, "1032")), "applied")
	s.cfg.Key, s.cfg.OldKeys = newer, [][]byte{key}
	s.restart()
	s.wantState(s.comes(oldRef, failure(before, "1037")), "applied")
	keys(newer)
	s.wantState(s.comes(oldRef, success(before, "100.00", newReceipt)), "forged")
	s.wantState(s.comes(s.Ref(before.ID), success(before, "100.00", newReceipt)), "applied")
	if err := s.SetKeys(never[:31]); err == nil {
		t.Error("a key of 31 bytes is taken")
	}
}

func TestAForgeryAsksOnceAndTellsNobody(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		p := s.pay("a")
		s.published = nil
		forged := p.ID + strings.Repeat("0", 32)
		s.comes(forged, success(p, "100.00", newReceipt))
		if due := s.due(); len(due) != 1 {
			t.Errorf("due are %v after the first forgery, want the payment", due)
		}
		time.Sleep(10 * time.Minute) // by now it is asked about every few minutes, and could be every 15 s
		if err := s.Asked(context.Background(), p.ID); err != nil {
			t.Fatal(err)
		}
		was := s.get(p.ID)
		for range 5 {
			s.comes(forged, success(p, "100.00", newReceipt))
		}
		if now := s.get(p.ID); fmt.Sprint(now) != fmt.Sprint(was) {
			t.Errorf("forgeries made\n%+v of\n%+v", now, was)
		}
		s.wantEvents()
		s.wantCounts(map[string]int64{"forged": 6})
	})
}

func TestADoubtIsTakenAwayByTheQuery(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		paid, not := s.pay("a"), s.register("b", p0("b"))
		for _, p := range []struct{ id, ref, body string }{{paid.ID, s.Ref(paid.ID), success(paid, "1.00", newReceipt)}, {not.ID, "", success(p0("b"), "1.00", newReceipt)}} {
			s.wantState(s.comes(p.ref, p.body), "suspect")
			s.wantPayment(p.id, push.Pending, "", correlate.DoubtSuspect)
			s.wantSentence(p.id, daraja.SentenceDoubted())
		}
		s.restart()
		s.published = nil
		s.wantPayment(paid.ID, push.Pending, "", correlate.DoubtSuspect)
		s.answer(paid.ID, "0")
		s.wantPayment(paid.ID, push.Success, "", "")
		s.answer(not.ID, "1032")
		time.Sleep(15 * time.Second)
		s.answer(not.ID, "1032")
		s.wantPayment(not.ID, push.Failed, "", "")

		// And again, of one that has failed: two more answers agree that it has.
		s.comes("", success(p0("b"), "1.00", newReceipt))
		s.wantPayment(not.ID, push.Failed, "", correlate.DoubtSuspect)
		if due := s.due(); len(due) != 1 || due[0] != not.ID {
			t.Errorf("due are %v, want the payment", due)
		}
		s.answer(not.ID, "1032")
		time.Sleep(15 * time.Second)
		s.answer(not.ID, "1032")
		s.wantPayment(not.ID, push.Failed, "", "")
		if s.get(not.ID).Asking() {
			t.Error("it is still asked about")
		}
		s.wantEvents("PAYMENT_COMPLETED SUCCESS paid", "PAYMENT_COMPLETED FAILED cancelled", "PAYMENT_UPDATE FAILED cancelled", "PAYMENT_UPDATE FAILED cancelled")
	})
}

func TestADoubtThatNobodyCanAskAboutSaysSo(t *testing.T) {
	s := open(t)
	p, err := s.Register(context.Background(), correlate.Registration{Session: "a", Amount: 100_00})
	if err != nil {
		t.Fatal(err)
	}
	s.comes(s.Ref(p.ID), success(p, "1.00", newReceipt))
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtSuspect)
	s.wantSentence(p.ID, daraja.SentenceDoubtedUnasked())
	list, _, err := s.Payments(context.Background(), correlate.Filter{Doubted: true})
	if err != nil || len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("in doubt are %d payments, %v", len(list), err)
	}
}

// TestADoubtIsAskedAboutOnceThatCanBe: Daraja has refused, something is said that is not believed, and then Daraja's ids come
// after all. Only with them can Daraja be asked, and whoever was told that nobody can is told otherwise.
func TestADoubtIsAskedAboutOnceThatCanBe(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	if _, err := s.Refused(context.Background(), p.ID, daraja.OutcomeRejected, "500.003.02", "busy"); err != nil {
		t.Fatal(err)
	}
	s.comes(s.Ref(p.ID), success(p, "1.00", newReceipt))
	s.wantPayment(p.ID, push.Failed, "", correlate.DoubtSuspect)
	s.wantSentence(p.ID, daraja.SentenceDoubtedUnasked())
	s.published = nil
	s.accept(p)
	s.wantSentence(p.ID, daraja.SentenceDoubted())
	s.wantEvents("PAYMENT_UPDATE FAILED rejected")
	if due := s.due(); len(due) != 1 || due[0] != p.ID {
		t.Errorf("due are %v, want the payment", due)
	}
}

func TestALetterOfAnotherDayIsAFlagWhereARefSpeaksForIt(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	e := s.entry(s.Ref(p.ID), success(p, "100.00", "AAA1BBBBBB"))
	e.Source = wire.SourceKnown
	cb := s.apply(e)
	s.wantState(cb, "applied")
	if !cb.Misdated || cb.Source != wire.SourceKnown {
		t.Errorf("it is kept as %+v", cb)
	}
	s.wantPayment(p.ID, push.Success, "AAA1BBBBBB", "")
	q := s.register("b", p0("b"))
	e = s.entry("", success(p0("b"), "100.00", newReceipt))
	e.Source = wire.SourceUnknown
	cb = s.apply(e)
	s.wantState(cb, "applied")
	if cb.Misdated || cb.Source != wire.SourceUnknown {
		t.Errorf("it is kept as %+v", cb)
	}
	s.wantPayment(q.ID, push.Success, newReceipt, "")
}

// TestAnOldReceiptIsOldWheneverItIsToldOf: the letters are held against the time at which the edge received it, so neither a
// backlog nor the time at which its payment is registered matters; and not against a clock that has lost it.
func TestAnOldReceiptIsOldWheneverItIsToldOf(t *testing.T) {
	s := open(t)
	week := began.AddDate(0, 0, -7)
	genuine := func(session string) string {
		return ofDate(week.Format("20060102150405"), success(p0(session), "100.00", daraja.ReceiptPrefix(week)+strings.ToUpper(session)))
	}
	for _, c := range []struct {
		session  string
		received time.Time
		misdated bool
	}{
		{"AAAAAAA", week, false}, // delivered a week late
		{"BBBBBBB", week.Add(30 * time.Hour), false},
		{"CCCCCCC", week.Add(-30 * time.Hour), false},
		{"DDDDDDD", week.Add(49 * time.Hour), true},
		{"EEEEEEE", week.Add(-49 * time.Hour), true},
		{"FFFFFFF", began, true},
		{"GGGGGGG", time.Unix(0, 0), false}, // the edge's battery is dead
		{"HHHHHHH", began.AddDate(3, 0, 0), true},
	} {
		s.register(c.session, p0(c.session))
		state := "applied"
		if c.misdated {
			state = "suspect"
		}
		e := s.entry("", genuine(c.session))
		e.Received = c.received
		if cb := s.apply(e); cb.State != state || cb.Misdated != c.misdated {
			t.Errorf("received %s, a callback of %s is %s (%s)", c.received.Format(time.DateTime), week.Format(time.DateTime), cb.State, cb.Error)
		}

		// And one that has to wait for its payment.
		parked := "x" + c.session[1:]
		e = s.entry("", genuine(parked))
		e.Received = c.received
		s.wantState(s.apply(e), "unmatched")
		if p := s.register(parked, p0(parked)); (p.Status == push.Success) == c.misdated || (p.Doubt != "") != c.misdated {
			t.Errorf("received %s, and parked, a callback of %s leaves its payment %s, doubt %q", c.received.Format(time.DateTime), week.Format(time.DateTime), p.Status, p.Doubt)
		}
	}
	// A ref speaks for it.
	p := s.pay("a")
	e := s.entry(s.Ref(p.ID), ofDate(week.Format("20060102150405"), success(p, "100.00", daraja.ReceiptPrefix(week)+"1")))
	if cb := s.apply(e); cb.State != "applied" || !cb.Misdated {
		t.Errorf("by its ref it is %s, misdated %v", cb.State, cb.Misdated)
	}
}

// TestWhatWasParkedIsWeighedByWhereItCameFrom: the source of a callback is known when it comes, and its payment later.
func TestWhatWasParkedIsWeighedByWhereItCameFrom(t *testing.T) {
	s := open(t)
	e := s.entry("", success(p0("b"), "100.00", newReceipt))
	e.Source = wire.SourceEnforced
	s.wantState(s.apply(e), "unmatched")
	p := s.register("b", p0("b"))
	if p.Status != push.Pending || p.Doubt != correlate.DoubtSuspect {
		t.Errorf("the payment is %s, doubt %q", p.Status, p.Doubt)
	}
	s.wantCounts(map[string]int64{"suspect": 1})
}

func TestASecondReceiptForOnePaymentIsToldToThePersonAtTheTill(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	s.published = nil
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1BBBBBB")), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1CCCCCC")), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")), "repeated")
	s.wantEvents("PAYMENT_UPDATE SUCCESS paid")
	s.restart()
	s.wantPayment(p.ID, push.Success, today+"1AAAAAA", correlate.DoubtTwice)
	s.wantSentence(p.ID, daraja.SentencePaidTwice())
	if due := s.due(); len(due) != 0 {
		t.Errorf("due are %v: Daraja cannot tell", due)
	}
	// A person has looked.
	if _, err := s.Confirm(context.Background(), p.ID, correlate.Decision{Who: "asha", Reason: "the second was given back"}); err != nil {
		t.Fatal(err)
	}
	s.wantPayment(p.ID, push.Success, today+"1AAAAAA", "")
	s.wantEvents("PAYMENT_UPDATE SUCCESS paid")
}

func TestAReceiptIsOnePaymentsWithinOneBatchToo(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.register("b", p0("b"))
	batch := []wire.Entry{s.entry(s.Ref(p.ID), success(p, "100.00", newReceipt)), s.entry("", success(p0("b"), "100.00", newReceipt))}
	if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
		t.Fatal(err)
	}
	s.wantCounts(map[string]int64{"applied": 1, "suspect": 1})
}

// ---- money that a C2B notice tells of

func TestANoticeOfTheSameReceiptIsTheSameMoneyWhicheverComesFirst(t *testing.T) {
	for _, first := range []string{"notice", "callback"} {
		t.Run(first+" first", func(t *testing.T) {
			s := open(t)
			p := s.pay("a")
			ref, paid, notice := s.Ref(p.ID), success(p, "100.00", newReceipt), moved(newReceipt, "100.00")
			validation := strings.Replace(notice, `"25.00"`, `""`, 1)
			s.published = nil
			var told correlate.Callback
			if first == "notice" {
				s.wantState(s.comes("", validation), "recorded")
				told = s.comes("", notice)
				s.restart()
				s.wantState(s.comes(ref, paid), "applied")
			} else {
				s.wantState(s.comes(ref, paid), "applied")
				told = s.comes("", notice)
			}
			s.wantState(told, "recorded")
			at := mustCursor(t, told.ID)
			if cb := s.callback(at); cb.PaymentID != p.ID {
				t.Errorf("the notice is of payment %q, want %s", cb.PaymentID, p.ID)
			}
			s.wantState(s.comes("", notice), "repeated")
			s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
			s.wantPayment(p.ID, push.Success, newReceipt, "")
			if n, cents := s.unclaimed(); n != 0 || cents != 0 {
				t.Errorf("the same money is counted %d times more, %d cents", n, cents)
			}
		})
	}
}

// unclaimed is the money of which there is no payment.
func (s *shop) unclaimed() (n, cents int) {
	s.Helper()
	db, err := sql.Open("sqlite", s.cfg.Path)
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*), coalesce(sum(amount), 0) FROM money WHERE payment = ''").Scan(&n, &cents); err != nil {
		s.Fatal(err)
	}
	return n, cents
}

func TestANoticeAndACallbackThatDisagreeOnTheAmount(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.wantState(s.comes("", moved(newReceipt, "70.00")), "recorded")
	s.wantState(s.comes("", moved(newReceipt, "100.00")), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt)), "suspect")
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtSuspect)
	if n, cents := s.unclaimed(); n != 1 || cents != 70_00 {
		t.Errorf("money without a payment is %d of %d cents", n, cents)
	}
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1CCCCCC")), "applied")
	s.wantState(s.comes("", moved(today+"1CCCCCC", "1.00")), "suspect")
	s.wantPayment(p.ID, push.Success, today+"1CCCCCC", "")
	s.wantState(s.comes("", moved("AAA1CCCCCC", "1.00")), "suspect")
	e := s.entry("", moved(today+"1DDDDDD", "1.00"))
	e.Source = wire.SourceEnforced
	s.wantState(s.apply(e), "suspect")
}

// ---- large amounts

func large(c *correlate.Config) { c.QueryAbove = map[string]push.Money{"main": 99_99, "other": 1} }

func TestALargeSuccessWaitsForTheQuery(t *testing.T) {
	s := open(t, large)
	p := s.pay("a")
	s.published = nil
	held := s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt))
	s.wantState(held, "held")
	s.wantEvents("PAYMENT_UPDATE PENDING")
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtLarge)
	s.wantSentence(p.ID, daraja.SentenceHeld())
	if due := s.due(); len(due) != 1 {
		t.Errorf("due are %v, want the payment", due)
	}
	s.restart()
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt)), "repeated")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1CCCCCC")), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1032")), "overruled")
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtLarge)
	s.answer(p.ID, "1032")
	s.answer(p.ID, "4999")
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtLarge)
	s.answer(p.ID, "0")
	if p := s.wantPayment(p.ID, push.Success, newReceipt, ""); !p.AmountChecked || p.Callback != held.ID {
		t.Errorf("payment is %+v", p)
	}
	s.wantState(s.callback(mustCursor(t, held.ID)), "applied")
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.wantCounts(map[string]int64{"applied": 1, "repeated": 1, "suspect": 1, "overruled": 1})
}

func TestALargeSuccessThatComesBeforeItsAckOrBehindSilence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, large, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		s.open("a", 100_00)
		p := s.begin(request("a"))
		s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt)), "held")
		if due := s.due(); len(due) != 1 {
			t.Errorf("due are %v, want the payment, whose ids the callback has brought", due)
		}
		s.accept(p)
		time.Sleep(2 * time.Minute)
		if _, err := s.Silence(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.wantPayment(p.ID, push.Unknown, "", correlate.DoubtLarge)
		s.wantSentence(p.ID, daraja.SentenceHeld())
		s.answer(p.ID, "0")
		s.wantPayment(p.ID, push.Success, newReceipt, "")

		// Two answers that it has failed do not outweigh that M-Pesa has said that it is paid: a person has to look.
		q := s.pay("b")
		s.comes(s.Ref(q.ID), success(q, "100.00", today+"1CCCCCC"))
		for range 3 {
			s.answer(q.ID, "1032")
			time.Sleep(20 * time.Second)
		}
		s.wantPayment(q.ID, push.Pending, "", correlate.DoubtLarge)
		for range 100 { // 48 hours
			if err := s.Asked(context.Background(), q.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		s.wantSentence(q.ID, daraja.SentenceHeldUnasked())
		if _, err := s.Confirm(context.Background(), q.ID, correlate.Decision{Who: "asha", Reason: "it is on the statement"}); err != nil {
			t.Fatal(err)
		}
		if q := s.wantPayment(q.ID, push.Success, today+"1CCCCCC", ""); q.DecidedBy != "asha" {
			t.Errorf("it was decided by %q", q.DecidedBy)
		}
	})
}

func TestWhatIsNotOverTheLimitIsBelievedAtOnce(t *testing.T) {
	s := open(t, func(c *correlate.Config) { c.QueryAbove = map[string]push.Money{"main": 100_00} })
	p := s.pay("a")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt)), "applied")

	// A payment that the disk forgot has no shortcode: the least limit goes for it.
	id := "00112233445566778899aabbccddeeff"
	s.wantState(s.comes(s.Ref(id), success(p0(id), "100.01", today+"1CCCCCC")), "held")
	s.wantPayment(id, push.Pending, "", correlate.DoubtLarge)
	s.wantSentence(id, daraja.SentenceHeldUnasked())
}

func TestAHeldReceiptThatAnotherPaymentHasByThenIsNotGivenTwice(t *testing.T) {
	s := open(t, large)
	p := s.pay("a")
	held := s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt))
	q, err := s.Register(context.Background(), correlate.Registration{Session: "b", MerchantRequestID: "mr-b", CheckoutRequestID: "ws_CO_b", Amount: 50_00, Shortcode: "main"})
	if err != nil {
		t.Fatal(err)
	}
	s.wantState(s.comes("", success(p0("b"), "50.00", newReceipt)), "applied")
	s.answer(p.ID, "0")
	s.wantPayment(p.ID, push.Success, "", "")
	s.wantPayment(q.ID, push.Success, newReceipt, "")
	s.wantState(s.callback(mustCursor(t, held.ID)), "suspect")
}

// ---- what a person decides

func TestAPersonDecides(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	by := correlate.Decision{Who: "asha", Reason: "it is on the statement"}
	p := s.pay("a")
	s.comes("", success(p, "100.00", newReceipt))
	s.published = nil
	for _, bad := range []correlate.Decision{{}, {Who: "asha"}, {Reason: "so"}} {
		if _, err := s.Confirm(ctx, p.ID, bad); !errors.Is(err, correlate.ErrInvalid) {
			t.Errorf("%+v is answered %v", bad, err)
		}
		if _, err := s.Deny(ctx, p.ID, bad); !errors.Is(err, correlate.ErrInvalid) {
			t.Errorf("%+v is answered %v", bad, err)
		}
	}
	if _, err := s.Confirm(ctx, "nobody", by); !errors.Is(err, correlate.ErrNotFound) {
		t.Errorf("an unknown payment is answered %v", err)
	}
	with := by
	with.Receipt = " " + strings.ToLower(newReceipt) + " "
	if _, err := s.Confirm(ctx, p.ID, with); err != nil {
		t.Fatal(err)
	}
	s.wantSentence(p.ID, daraja.SentenceConfirmed())
	if _, err := s.Confirm(ctx, p.ID, by); err != nil {
		t.Errorf("confirmed again: %v", err)
	}
	if _, err := s.Deny(ctx, p.ID, by); !errors.Is(err, correlate.ErrPaid) {
		t.Errorf("what is made is denied: %v", err)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.restart()
	if p := s.wantPayment(p.ID, push.Success, today+"1BBBBBB", ""); p.DecidedBy != "asha" || p.AmountChecked {
		t.Errorf("payment is %+v", p)
	}
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1BBBBBB")), "applied")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1BBBBBB")), "repeated")
	s.wantSentence(p.ID, daraja.OutcomePaid.Sentence())

	r := request("b")
	r.Phone = "254700000001"
	s.open("b", 100_00)
	q := s.accept(s.begin(r))
	s.published = nil
	if _, err := s.Confirm(ctx, q.ID, with); !errors.Is(err, correlate.ErrReceipt) {
		t.Errorf("a receipt that was used is answered %v", err)
	}
	if q, err := s.Deny(ctx, q.ID, by); err != nil || q.Outcome != daraja.OutcomeDenied || q.DecidedBy != "asha" || q.Asking() {
		t.Errorf("denied it is %+v, %v", q, err)
	}
	s.wantPayment(q.ID, push.Failed, "", "")
	if _, err := s.Deny(ctx, q.ID, by); err != nil {
		t.Errorf("denied again: %v", err)
	}
	s.wantEvents("PAYMENT_COMPLETED FAILED denied")
	s.wantState(s.comes(s.Ref(q.ID), success(q, "100.00", today+"1CCCCCC")), "applied") // M-Pesa knows better
	s.wantPayment(q.ID, push.Success, today+"1CCCCCC", "")
}

func TestAHeldSuccessCanBeDenied(t *testing.T) {
	s := open(t, large)
	p := s.pay("a")
	held := s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt))
	if _, err := s.Confirm(context.Background(), p.ID, correlate.Decision{Who: "asha", Reason: "r", Receipt: today + "1CCCCCC"}); !errors.Is(err, correlate.ErrReceipt) {
		t.Errorf("another receipt than M-Pesa's is answered %v", err)
	}
	if _, err := s.Deny(context.Background(), p.ID, correlate.Decision{Who: "asha", Reason: "it is not on the statement"}); err != nil {
		t.Fatal(err)
	}
	s.wantPayment(p.ID, push.Failed, "", "")
	s.wantState(s.callback(mustCursor(t, held.ID)), "overruled")
	s.wantCounts(map[string]int64{"overruled": 1})
}

func TestASuccessThatDoesNotSayHowMuchIsNotBelowTheLimit(t *testing.T) {
	s := open(t, large)
	p, err := s.Register(t.Context(), correlate.Registration{Session: "b", MerchantRequestID: "mr-b", CheckoutRequestID: "ws_CO_b", Shortcode: "main"})
	if err != nil {
		t.Fatal(err)
	}
	s.wantState(s.comes("", `{"Body":{"stkCallback":{"MerchantRequestID":"mr-b","CheckoutRequestID":"ws_CO_b","ResultCode":0,"ResultDesc":"ok"}}}`), "held")
	s.wantPayment(p.ID, push.Pending, "", correlate.DoubtLarge)
	s.answer(p.ID, "0")
	s.wantPayment(p.ID, push.Success, "", "")
}
