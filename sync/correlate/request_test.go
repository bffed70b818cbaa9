package correlate_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// inBubble runs f with a shop whose clock only moves when everybody waits.
func inBubble(t *testing.T, f func(*shop), change ...func(*correlate.Config)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hodi.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, append([]func(*correlate.Config){func(c *correlate.Config) { c.Path = path }}, change...)...)
		defer func() { s.Close() }()
		f(s)
	})
}

// wantSame expects that nothing is sent, and that the answer is p.
func (s *shop) wantSame(r correlate.Request, p correlate.Payment) {
	s.Helper()
	b, err := s.Begin(context.Background(), r)
	if err != nil || b.Send || b.Payment.ID != p.ID {
		s.Errorf("the answer is %s, to be sent: %t, %v; want %s as it stands", b.Payment.ID, b.Send, err, p.ID)
	}
}

func (s *shop) wantRefused(r correlate.Request, want error) {
	s.Helper()
	b, err := s.Begin(context.Background(), r)
	if !errors.Is(err, want) {
		s.Errorf("the answer is %+v, %v; want %v", b, err, want)
	}
}

func (s *shop) wantLive(r correlate.Request, retry time.Duration) {
	s.Helper()
	b, err := s.Begin(context.Background(), r)
	var live *correlate.PromptLiveError
	if !errors.As(err, &live) || live.RetryAfter != retry {
		s.Errorf("the answer is %+v, %v; want a live prompt for %s", b, err, retry)
	}
}

func TestOnePromptPerPhone(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.open("a", 0)
		s.open("b", 0)
		a, b := request("a"), request("b")
		p := s.begin(a)
		time.Sleep(20 * time.Second)
		s.wantSame(a, p)
		s.wantLive(b, 70*time.Second)
		a.Amount = 50_00
		s.wantLive(a, 70*time.Second)
		a.Again = true
		s.wantLive(a, 70*time.Second)
		a = request("a")
		s.accept(p)
		s.wantSame(a, p)
		s.restart()
		s.wantSame(a, p)
		s.wantLive(b, 70*time.Second)
		s.comes(s.Ref(p.ID), failure(p, "1032"))
		q := s.begin(b) // the prompt ended, so the phone is free
		if q.Attempt != 1 {
			s.Errorf("the first payment of b is attempt %d", q.Attempt)
		}
		s.wantLive(a, 90*time.Second)
		s.accept(q)
		s.comes(s.Ref(q.ID), failure(q, "1032"))
		if p2 := s.begin(a); p2.Attempt != 2 {
			s.Errorf("the second payment of a is attempt %d", p2.Attempt)
		}
	})
}

func TestChargingAgainAfterUnknownNeedsAWord(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.open("a", 100_00)
		s.open("b", 100_00)
		r := request("a")
		p := s.begin(r)
		if _, err := s.Ambiguous(context.Background(), p.ID, "timeout"); err != nil {
			s.Fatal(err)
		}
		s.wantSame(r, p) // its prompt may be on the phone
		other := r
		other.Phone = "254700000001"
		s.wantRefused(other, correlate.ErrAgain)
		time.Sleep(90 * time.Second)
		s.wantRefused(r, correlate.ErrAgain)
		b := request("b")
		q := s.begin(b) // another sale to the same phone is no concern of the first
		s.accept(q)
		s.comes(s.Ref(q.ID), failure(q, "1"))
		r.Again = true
		p2 := s.begin(r)
		s.accept(p2)
		s.comes(s.Ref(p2.ID), failure(p2, "1032"))
		r.Again = false
		s.wantRefused(r, correlate.ErrAgain) // the first has no result even now
		s.comes(s.Ref(p.ID), failure(p, "1032"))
		s.begin(r)
	})
}

func TestOneCheckoutHasOnePromptOnAnyPhone(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	r := request("a")
	p := s.begin(r)
	wife := r
	wife.Phone = "254700000001"
	s.wantRefused(wife, correlate.ErrAgain) // or both of them pay
	s.accept(p)
	s.wantRefused(wife, correlate.ErrAgain)
	wife.Again = true // the cashier mistyped the first number, say
	q := s.begin(wife)
	s.wantSame(wife, q)
	s.wantSame(r, p)
}

func TestAPendingPaymentWhosePromptIsOverCountsAsUnknown(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.open("a", 100_00)
		s.begin(request("a"))
		s.restart()
		time.Sleep(2 * time.Minute) // and nobody has looked at the clock
		s.wantRefused(request("a"), correlate.ErrAgain)
	})
}

func TestACheckoutIsPaidOnce(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	r := request("a")
	s.wantSame(r, p)
	r.Again, r.Phone = true, "254700000001"
	s.wantSame(r, p)
}

func TestACheckoutThatWasPaidIsNotChargedAgainWhateverCameAfter(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	q := s.register("a", p0("made by the app"))
	s.comes("", failure(p0("made by the app"), "1032"))
	if q = s.get(q.ID); q.Status != push.Failed || q.Attempt != 2 {
		t.Fatalf("payment is %+v", q)
	}
	s.wantSame(request("a"), p)
}

func TestInDevelopmentACustomerMayPayAgain(t *testing.T) {
	s := open(t, trusting)
	p := s.accept(s.begin(request("nobody-opened-this")))
	s.comes("", success(p, "100.00", today+"1AAAAAA"))
	q := s.begin(request("nobody-opened-this"))
	if q.Attempt != 2 {
		t.Errorf("it is attempt %d", q.Attempt)
	}
	o := open(t)
	o.wantRefused(request("nobody-opened-this"), correlate.ErrNotFound)
}

func TestASessionPinsWhatItIsFor(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	r := request("a")
	r.Amount = 1_00
	s.wantRefused(r, correlate.ErrPinned)
	r = request("a")
	r.AccountReference = "INV-2"
	s.wantRefused(r, correlate.ErrPinned)
	r.Amount, r.AccountReference = 0, ""
	if p := s.begin(r); p.Amount != 100_00 || p.AccountReference != "INV-1" {
		t.Errorf("payment is %+v", p)
	}
	s.open("open", 0)
	r = request("open")
	r.Amount, r.Phone = 0, "254700000001"
	s.wantRefused(r, correlate.ErrInvalid)
	if _, err := s.OpenSession(context.Background(), correlate.Session{ID: "a", Amount: 5_00}); !errors.Is(err, correlate.ErrConflict) {
		t.Errorf("opening a session again for another amount: %v", err)
	}
	o, err := s.OpenSession(context.Background(), correlate.Session{Amount: 5_00})
	if err != nil || len(o.ID) != 32 || !o.Opened {
		t.Errorf("opened %+v, %v", o, err)
	}
	if got, err := s.Session(context.Background(), o.ID); err != nil || got != o {
		t.Errorf("session is %+v, %v, want %+v", got, err, o)
	}
	if _, err := s.Session(context.Background(), "nobody"); !errors.Is(err, correlate.ErrNotFound) {
		t.Errorf("a session that is not: %v", err)
	}
}

func TestAnIdempotencyKeyAnswersTheSameRequestOnce(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.open("a", 0)
		s.open("b", 0)
		r := request("a")
		r.IdempotencyKey = "k"
		p := s.begin(r)
		s.accept(p)
		s.comes(s.Ref(p.ID), failure(p, "1032"))
		s.restart()
		s.wantSame(r, p)
		time.Sleep(time.Hour)
		s.wantSame(r, p)
		other := r
		other.Amount = 5_00
		s.wantRefused(other, correlate.ErrIdempotency)
		r.IdempotencyKey = "l"
		q := s.begin(r)
		s.accept(q)
		s.comes(s.Ref(q.ID), failure(q, "1032"))
		b := request("b")
		b.IdempotencyKey = "k"
		s.begin(b)
	})
}

func TestManyWhoBeginAtOnceGetOnePrompt(t *testing.T) {
	s := open(t)
	for i := range 8 {
		s.open(fmt.Sprint(i), 100_00)
	}
	var mu sync.Mutex
	var sent, same, live int
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			b, err := s.Begin(context.Background(), request(fmt.Sprint(i%8)))
			var l *correlate.PromptLiveError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && b.Send:
				sent++
			case err == nil:
				same++
			case errors.As(err, &l):
				live++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sent != 1 || same != 7 || live != 56 {
		t.Errorf("%d prompts were sent, %d answered with the live one, %d refused; want 1, 7, 56", sent, same, live)
	}
}

func TestARefusalEndsThePaymentAndFreesThePhone(t *testing.T) {
	s := open(t)
	s.open("a", 100_00)
	p := s.begin(request("a"))
	p, err := s.Refused(context.Background(), p.ID, daraja.OutcomeBusy, "500.001.1001", "Unable to lock subscriber")
	if err != nil || p.Status != push.Failed || p.Data().ResultCode != "500.001.1001" {
		t.Errorf("payment is %+v, %v", p, err)
	}
	s.wantEvents("PAYMENT_COMPLETED FAILED busy")
	s.begin(request("a"))
	if _, err := s.Refused(context.Background(), "nobody", daraja.OutcomeBusy, "", ""); !errors.Is(err, correlate.ErrNotFound) {
		t.Error(err)
	}
}

func TestAReservationHasARefAndIsCompletedByItsIDs(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	p, err := s.Register(ctx, correlate.Registration{Session: "a", Phone: phone, Amount: 100_00})
	if err != nil || !p.HasRef {
		t.Fatalf("payment is %+v, %v", p, err)
	}
	s.wantEvents()
	merchant, checkout := ids(p)
	r := correlate.Registration{PaymentID: p.ID, MerchantRequestID: merchant, CheckoutRequestID: checkout}
	for range 2 {
		if p, err = s.Register(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	s.wantEvents("STK_INITIATED PENDING")
	r.CheckoutRequestID = "ws_CO_other"
	if _, err := s.Register(ctx, r); !errors.Is(err, correlate.ErrConflict) {
		t.Errorf("other ids for the same payment: %v", err)
	}
	for _, bad := range []correlate.Registration{{PaymentID: p.ID}, {MerchantRequestID: "m"}, {CheckoutRequestID: "c"}} {
		if _, err := s.Register(ctx, bad); !errors.Is(err, correlate.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	s.wantState(s.comes("", success(p, "100", today+"1AAAAAA")), "suspect")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100", today+"1AAAAAA")), "applied")
	if session, err := s.Session(ctx, "a"); err != nil || session.Opened {
		t.Errorf("session is %+v, %v", session, err)
	}
}

func TestIDsBelongToOnePayment(t *testing.T) {
	s := open(t)
	ctx := context.Background()
	p := s.register("a", p0("x"))
	merchant, checkout := ids(p0("x"))
	reserved, err := s.Register(ctx, correlate.Registration{Session: "b", Amount: 100_00})
	if err != nil {
		t.Fatal(err)
	}
	// One push, registered once as it is and once as what was reserved: it must not be paid twice.
	_, err = s.Register(ctx, correlate.Registration{PaymentID: reserved.ID, MerchantRequestID: merchant, CheckoutRequestID: checkout})
	if !errors.Is(err, correlate.ErrConflict) {
		t.Errorf("the ids of payment %s for payment %s: %v", p.ID, reserved.ID, err)
	}
	s.wantState(s.comes("", success(p0("x"), "100.00", today+"1AAAAAA")), "applied")
	if p, q := s.get(p.ID), s.get(reserved.ID); p.Status != push.Success || q.Status != push.Pending {
		t.Errorf("the payments are %s and %s", p.Status, q.Status)
	}
}

func TestNobodyPromisesToAskWhoCannot(t *testing.T) {
	inBubble(t, func(s *shop) {
		ctx := context.Background()
		merchant, checkout := ids(p0("x"))
		p, err := s.Register(ctx, correlate.Registration{MerchantRequestID: merchant, CheckoutRequestID: checkout, Amount: 100_00}) // a shortcode of the app's
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		if _, err := s.Silence(ctx); err != nil {
			t.Fatal(err)
		}
		if p = s.get(p.ID); p.Status != push.Unknown || p.Asking() || strings.Contains(p.Data().Reason, "checking") {
			t.Errorf("the payment is %s and says %q", p.Status, p.Data().Reason)
		}
		s.published = nil

		// One that was asked about for two days, and then is not.
		q := s.pay("a")
		s.Ambiguous(ctx, q.ID, "slow")
		s.wantEvents("STK_INITIATED PENDING", "PAYMENT_UPDATE UNKNOWN unknown")
		time.Sleep(48 * time.Hour)
		if err := s.Asked(ctx, q.ID); err != nil {
			t.Fatal(err)
		}
		s.wantEvents("PAYMENT_UPDATE UNKNOWN unknown")
		if q = s.get(q.ID); strings.Contains(q.Data().Reason, "checking") {
			t.Errorf("after two days it says %q", q.Data().Reason)
		}

		// One whose shortcode was taken out of the configuration.
		other := request("b")
		other.Phone = "254700000001"
		s.open("b", 100_00)
		r := s.accept(s.begin(other))
		s.Ambiguous(ctx, r.ID, "slow")
		s.published = nil
		for range 2 {
			if err := s.Unaskable(ctx, r.ID); err != nil {
				t.Fatal(err)
			}
		}
		s.wantEvents("PAYMENT_UPDATE UNKNOWN unknown")
		if r = s.get(r.ID); strings.Contains(r.Data().Reason, "checking") || len(s.due()) != 0 {
			t.Errorf("it says %q, and due are %v", r.Data().Reason, s.due())
		}
	})
}

func TestAnAmountThatNobodySaidIsShownUnchecked(t *testing.T) {
	s := open(t)
	p := p0("x")
	merchant, checkout := ids(p)
	q, err := s.Register(context.Background(), correlate.Registration{MerchantRequestID: merchant, CheckoutRequestID: checkout})
	if err != nil {
		t.Fatal(err)
	}
	s.wantState(s.comes("order-17", success(p, "84.5", today+"1AAAAAA")), "applied")
	if q := s.get(q.ID); q.Amount != 84_50 || q.AmountChecked || q.Session != q.ID {
		t.Errorf("payment is %+v", q)
	}
}
