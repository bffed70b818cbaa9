package correlate_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// digits counts how often something stands in the files of the database.
func (s *shop) digits(what string) (n int) {
	s.Helper()
	for _, name := range []string{s.cfg.Path, s.cfg.Path + "-wal", s.cfg.Path + "-shm"} {
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			s.Fatal(err)
		}
		n += bytes.Count(b, []byte(what))
	}
	return n
}

func TestACustomerIsForgottenAndTheSumsStay(t *testing.T) {
	const other = "254700000001"
	s := open(t)
	var ids []string
	for i := range 150 { // more than a step
		number := phone
		if i%3 == 0 {
			number = other
		}
		session := fmt.Sprint("s", i)
		if _, err := s.OpenSession(t.Context(), correlate.Session{ID: session, Amount: 100_00, AccountReference: "0" + number[3:]}); err != nil { // shops do that
			t.Fatal(err)
		}
		r := request(session)
		r.Phone, r.IdempotencyKey, r.AccountReference = number, "key-"+number, ""
		p := s.begin(r)
		if _, err := s.Accepted(t.Context(), p.ID, "mr-"+p.ID, fmt.Sprintf("ws_CO_%d_%s", i, number[3:])); err != nil {
			t.Fatal(err)
		}
		s.comes(s.Ref(p.ID), fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":"mr-%s","CheckoutRequestID":"ws_CO_%d_%s","ResultCode":0,"ResultDesc":"ok","CallbackMetadata":{"Item":[`+
			`{"Name":"Amount","Value":100},{"Name":"MpesaReceiptNumber","Value":"TIL7XK%04d"},{"Name":"PhoneNumber","Value":%s}]}}}}`, p.ID, i, number[3:], i, number))
		ids = append(ids, p.ID)
	}
	s.comes("", `{"TransID":"TIL7XK9999","TransAmount":"5.00","MSISDN":"`+phone+`","FirstName":"WANJIKU"}`) // of no payment
	if s.digits(phone[3:]) == 0 || s.digits("WANJIKU") == 0 {
		t.Fatal("the test looks in the wrong place")
	}
	others := s.digits(other[3:])

	f, err := s.Forget(t.Context(), phone, "ann")
	if err != nil || f.Payments != 100 || f.Callbacks != 101 || f.Left != 0 {
		t.Fatalf("forgot %+v, %v", f, err)
	}
	if n := s.digits(phone[3:]); n != 0 {
		t.Errorf("the number is on the disk %d times", n)
	}
	if s.digits("WANJIKU") != 0 {
		t.Error("the name is on the disk")
	}
	if s.digits(other[3:]) == 0 || others == 0 {
		t.Error("another customer was forgotten")
	}
	var sum push.Money
	for i, id := range ids {
		p := s.get(id)
		sum += p.Amount
		if p.Status != push.Success || p.Receipt != fmt.Sprintf("TIL7XK%04d", i) || (p.Phone == "") != (i%3 != 0) {
			t.Fatalf("payment %d is %+v", i, p)
		}
	}
	if sum != 150*100_00 {
		t.Errorf("the sum is %v", sum)
	}
	events, err := s.Events(t.Context(), "s1", 0, 10)
	if err != nil || len(events) != 2 {
		t.Fatalf("the events are %v, %v", events, err)
	}
	for _, e := range events {
		var m push.Message
		if err := json.Unmarshal(e.Encoded, &m); err != nil || m.Data.PhoneNumber != "" || m.Data.CheckoutRequestID != "" || m.Data.Amount != 100_00 {
			t.Errorf("an event is %s, %v", e.Encoded, err)
		}
	}
	if list, err := s.Search(t.Context(), correlate.Query{Phone: phone}); err != nil || len(list) != 0 {
		t.Errorf("a search finds %v, %v", list, err)
	}
	if got := s.acts(); len(got) == 0 || got[len(got)-1] != "ann, customer forgotten, , 100 payments, 101 callbacks" {
		t.Errorf("the audit is %q", got)
	}
	s.restart() // and it stays forgotten
	if n := s.digits(phone[3:]); n != 0 {
		t.Errorf("after a restart the number is on the disk %d times", n)
	}
	if f, err := s.Forget(t.Context(), phone, "ann"); err != nil || f.Payments != 0 || f.Callbacks != 0 {
		t.Errorf("once more: %+v, %v", f, err)
	}
}

func TestACustomerWhosePaymentIsOpenIsNotForgotten(t *testing.T) {
	s := open(t)
	p := s.pay("s")
	if _, err := s.Forget(t.Context(), phone, "ann"); !errors.Is(err, correlate.ErrOpen) {
		t.Errorf("it was forgotten: %v", err)
	}
	if p := s.get(p.ID); p.Phone != phone {
		t.Errorf("the payment is %+v", p)
	}
	for _, wrong := range []string{"", "254", "0708374149", "25470837414x"} {
		if _, err := s.Forget(t.Context(), wrong, "ann"); !errors.Is(err, correlate.ErrInvalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestBodiesAndPaymentsAreKeptForTheirOwnTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.KeepBodies, c.KeepPayments = 4*24*time.Hour, 30*24*time.Hour })
		var ids []string
		pay := func(i int) {
			p := s.pay(fmt.Sprint("s", i))
			s.comes(s.Ref(p.ID), success(p, "100", fmt.Sprintf("TIL7XK%04d", i)))
			ids = append(ids, p.ID)
		}
		bodies := func() (n int) {
			list, _, err := s.Callbacks(t.Context(), correlate.CallbackFilter{Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				if len(c.Body) > 0 {
					n++
				}
			}
			return n
		}
		for i := range 450 { // more than two steps
			pay(i)
		}
		done := make(chan error, 1)
		go func() { done <- s.Retain(t.Context()) }()
		time.Sleep(3 * 24 * time.Hour)
		pay(450)
		if n := bodies(); n != 451 {
			t.Errorf("after three days %d bodies are left", n)
		}
		time.Sleep(30 * time.Hour)
		if n := bodies(); n != 1 {
			t.Errorf("after four days %d bodies are left", n)
		}
		if p := s.get(ids[0]); p.Status != push.Success {
			t.Errorf("the payment is %+v", p)
		}
		time.Sleep(27 * 24 * time.Hour)
		if _, err := s.Payment(t.Context(), ids[0]); !errors.Is(err, correlate.ErrNotFound) {
			t.Errorf("after a month the payment is there: %v", err)
		}
		if _, err := s.Session(t.Context(), "s0"); !errors.Is(err, correlate.ErrNotFound) {
			t.Errorf("and its session: %v", err)
		}
		if p := s.get(ids[450]); p.Status != push.Success || bodies() != 0 {
			t.Errorf("the younger one is %+v", p)
		}
	})
}

// TestNothingOfAnOldPaymentIsLeft: its callbacks, its session, those that were opened and never paid, and what C2B notices told
// go with it, and what is younger stays. And the journal goes on where it was.
func TestNothingOfAnOldPaymentIsLeft(t *testing.T) {
	dir := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, func(c *correlate.Config) { c.KeepBodies, c.KeepPayments = 40*24*time.Hour, 30*24*time.Hour })
		defer s.Close()
		live := func(days int) {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Retain(ctx) }()
			time.Sleep(time.Duration(days) * 24 * time.Hour)
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		file := func() (n map[string]int) {
			t.Helper()
			db, err := sql.Open("sqlite", s.cfg.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			n = map[string]int{}
			for _, table := range []string{"payments", "sessions", "callbacks", "money", "events"} {
				var count int
				if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&count); err != nil {
					t.Fatal(err)
				}
				n[table] = count
			}
			return n
		}
		want := func(when string, payments, sessions, callbacks, money int) {
			t.Helper()
			got := file()
			if got["payments"] != payments || got["sessions"] != sessions || got["callbacks"] != callbacks || got["money"] != money || got["events"] == 0 {
				t.Errorf("%s there are %v, want %d payments, %d sessions, %d callbacks, %d of money, and an event", when, got, payments, sessions, callbacks, money)
			}
		}
		notice := func(receipt string) string {
			return fmt.Sprintf(`{"TransID":%q,"TransAmount":"5.00","OrgAccountBalance":"5.00"}`, receipt)
		}
		const old = 205 // more than a step
		for i := range old {
			p := s.pay(fmt.Sprint("old", i))
			s.comes(s.Ref(p.ID), success(p, "100", fmt.Sprintf("%sA%05d", today, i)))
			s.open(fmt.Sprint("window shopper", i), 100_00)
			s.comes("", "{}")
		}
		s.wantState(s.comes("", notice(daraja.ReceiptPrefix(time.Now())+"ZZZZZZ1")), "recorded")
		live(20)
		young := s.pay("young")
		s.comes(s.Ref(young.ID), success(young, "100", today+"YOUNG01"))
		s.open("lately", 100_00)
		s.wantState(s.comes("", notice(daraja.ReceiptPrefix(time.Now())+"ZZZZZZ2")), "recorded")
		want("after 20 days", old+1, 2*old+2, 2*old+3, 2)
		live(12)                                // sessions are looked through once a day
		want("after 32 days", 1, 2, 2*old+3, 1) // bodies have a time of their own, and it is longer
		live(10)
		want("after 41 days", 1, 2, 2, 1)
		s.wantCounts(map[string]int64{"applied": 1, "recorded": 1})

		before := s.seq
		s.restart()
		s.wantCounts(map[string]int64{"applied": 1, "recorded": 1})
		cursor, err := s.Cursor(t.Context())
		if err != nil || cursor.Seq != before && cursor.Seq != 0 {
			t.Errorf("the cursor is %v, %v; want %d", cursor, err, before)
		}
		s.wantPayment(young.ID, push.Success, today+"YOUNG01", "")
		s.wantState(s.comes(s.Ref(young.ID), success(young, "100", today+"YOUNG01")), "repeated")
		live(90)
		want("after everything's time", 0, 0, 0, 0)
		s.restart()
		p := s.pay("new")
		s.wantState(s.comes(s.Ref(p.ID), success(p, "100", today+"NEW0001")), "applied")
		s.wantCounts(map[string]int64{"applied": 1})
	})
}

func TestWhatMPesaSaysOfAPaymentWhoseCustomerWasForgottenCounts(t *testing.T) {
	s := open(t)
	p := s.pay("s")
	s.comes(s.Ref(p.ID), failure(p, "1032"))
	if _, err := s.Forget(t.Context(), phone, "ann"); err != nil {
		t.Fatal(err)
	}
	s.wantState(s.comes(s.Ref(p.ID), failure(p, "1032")), "repeated")
	s.wantPayment(p.ID, push.Failed, "", "")
	other := s.pay("other")
	s.wantState(s.comes(s.Ref(p.ID), success(other, "100", newReceipt)), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100", newReceipt)), "applied")
	if p := s.wantPayment(p.ID, push.Success, newReceipt, ""); p.CheckoutRequestID != "" {
		t.Errorf("the payment has the number again: %+v", p)
	}
}

// TestAPaymentWithoutARefWhoseCustomerWasForgottenIsDecidedByAPerson: one of its two ids is gone, and nothing else spoke for its
// callbacks. They are not believed, and not lost.
func TestAPaymentWithoutARefWhoseCustomerWasForgottenIsDecidedByAPerson(t *testing.T) {
	s := open(t)
	registered := func(session string) correlate.Payment {
		merchant, checkout := ids(p0(session))
		p, err := s.Register(t.Context(), correlate.Registration{Session: session, MerchantRequestID: merchant, CheckoutRequestID: checkout, Amount: 100_00, Phone: phone, Shortcode: "main"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	paid, failed := registered("paid"), registered("failed")
	s.comes("", success(p0("paid"), "100.00", usedReceipt))
	s.comes("", failure(p0("failed"), "1032"))
	if f, err := s.Forget(t.Context(), phone, "ann"); err != nil || f.Payments != 2 || f.Left != 0 {
		t.Fatalf("forgot %+v, %v", f, err)
	}
	s.published = nil
	for range 2 { // what is said again is nothing new
		s.wantState(s.comes("", success(p0("paid"), "100.00", usedReceipt)), "repeated")
		s.wantState(s.comes("", failure(p0("failed"), "1032")), "repeated")
		s.restart()
	}
	s.wantEvents()
	s.wantPayment(paid.ID, push.Success, usedReceipt, "")
	s.wantPayment(failed.ID, push.Failed, "", "")

	// The customer has paid after all. Who knows one id and makes the other up could say that, too.
	late := s.comes("", success(p0("failed"), "100.00", newReceipt))
	s.wantState(late, "suspect")
	s.wantEvents("PAYMENT_UPDATE FAILED cancelled")
	s.wantPayment(failed.ID, push.Failed, "", correlate.DoubtSuspect)
	s.wantSentence(failed.ID, daraja.SentenceDoubtedUnasked())
	if due := s.due(); len(due) != 0 || !strings.Contains(late.Error, "decide") || !strings.Contains(string(late.Body), newReceipt) {
		t.Errorf("due are %v, and a person is told %q of %s", due, late.Error, late.Body)
	}
	if _, err := s.Confirm(t.Context(), failed.ID, correlate.Decision{Who: "ann", Reason: "it is on the statement", Receipt: newReceipt}); err != nil {
		t.Fatal(err)
	}
	sum := push.Money(0)
	for _, p := range []correlate.Payment{paid, failed} {
		if p = s.get(p.ID); p.Status == push.Success {
			sum += p.Amount
		}
	}
	if sum != 200_00 {
		t.Errorf("the sum is %v", sum)
	}
	s.wantPayment(failed.ID, push.Success, newReceipt, "")
	s.wantState(s.comes("", success(p0("failed"), "100.00", newReceipt)), "repeated")
}

func TestACallbackThatWaitsForItsPaymentIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, trusting, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		early, never := p0("a"), p0("b")
		cb := s.comes("", success(early, "50.00", newReceipt))
		s.wantState(cb, "unmatched")
		if _, err := s.Forget(t.Context(), phone, "ann"); !errors.Is(err, correlate.ErrOpen) {
			t.Errorf("it was forgotten: %v", err)
		}
		if _, err := s.Forget(t.Context(), "254700000001", "ann"); err != nil {
			t.Errorf("another number: %v", err)
		}
		merchant, checkout := ids(early)
		p, err := s.Register(t.Context(), correlate.Registration{Session: "a", MerchantRequestID: merchant, CheckoutRequestID: checkout, Amount: 50_00})
		if err != nil {
			t.Fatal(err)
		}
		s.wantPayment(p.ID, push.Success, newReceipt, "")

		// What nobody claims in two days is not a reason to remember somebody for ever.
		s.comes("", success(never, "50.00", today+"1CCCCCC"))
		time.Sleep(49 * time.Hour)
		if f, err := s.Forget(t.Context(), phone, "ann"); err != nil || f.Callbacks != 2 || f.Left != 0 {
			t.Errorf("after two days: %+v, %v", f, err)
		}
	})
}

func TestASuccessThatIsHeldKeepsItsReceiptWhenItsBodyIsErased(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, large, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		p := s.pay("a")
		held := s.comes(s.Ref(p.ID), success(p, "100.00", newReceipt))
		s.wantState(held, "held")
		for range 100 { // 48 hours: nobody asks any more
			if err := s.Asked(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		if _, err := s.Silence(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Forget(t.Context(), phone, "ann"); err != nil || f.Callbacks != 1 {
			t.Fatalf("forgot %+v, %v", f, err)
		}
		if _, err := s.Confirm(t.Context(), p.ID, correlate.Decision{Who: "asha", Reason: "it is on the statement"}); err != nil {
			t.Fatal(err)
		}
		if p := s.wantPayment(p.ID, push.Success, newReceipt, ""); !p.AmountChecked || p.Amount != 100_00 {
			t.Errorf("payment is %+v", p)
		}
		s.wantState(s.callback(mustCursor(t, held.ID)), "applied")
	})
}

func TestACallbackThatMayStillFindItsPaymentKeepsItsBody(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, trusting, func(c *correlate.Config) { c.Path, c.KeepBodies = dir+"/hodi.db", time.Minute })
		defer s.Close()
		cb := s.comes("", success(p0("a"), "50.00", newReceipt))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Retain(ctx) }()
		time.Sleep(47 * time.Hour)
		if len(s.callback(mustCursor(t, cb.ID)).Body) == 0 {
			t.Error("within two days its body was erased")
		}
		time.Sleep(2 * time.Hour)
		if len(s.callback(mustCursor(t, cb.ID)).Body) != 0 {
			t.Error("after two days its body is there")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWhatACustomerTypedAsReferenceIsForgotten(t *testing.T) {
	s := open(t)
	s.wantState(s.comes("", `{"TransID":"`+newReceipt+`","TransAmount":"5.00","TransTime":"`+moment+`","OrgAccountBalance":"5.00","BillRefNumber":"0708374149","MSISDN":"x","FirstName":"WANJIKU"}`), "recorded")
	if f, err := s.Forget(t.Context(), phone, "ann"); err != nil || f.Callbacks != 1 || f.Left != 0 {
		t.Errorf("forgot %+v, %v", f, err)
	}
	if n := s.digits(phone[3:]); n != 0 {
		t.Errorf("the number is on the disk %d times", n)
	}
}
