package correlate

import (
	"context"
	"fmt"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// promptLife is how long a prompt can be on a phone: nothing was ever seen later.
const promptLife = 90 * time.Second

// Request is what a payment begins with.
type Request struct {
	Session          string
	Phone            string     // normalised
	Amount           push.Money // 0: what the session is pinned to
	AccountReference string     // "": what the session is pinned to
	Shortcode        string     // its name in the configuration
	Number           string     // what customers pay to
	Environment      string
	IdempotencyKey   string // within the session
	ByShop           bool   // the app or a till asks, and not a page that anybody may have: limits on the phone do not hold
	Again            bool   // the caller knows that a payment has no result yet, and wants to charge all the same
}

// Begun is the answer to a Request.
type Begun struct {
	Payment Payment
	Send    bool // the payment is new and is to be sent to Daraja now; otherwise Payment is the answer as it stands
}

// Begin decides what becomes of a request for a payment, and commits the payment before anything leaves. It refuses
// with ErrNotFound, ErrPinned, ErrIdempotency, ErrAgain, ErrExpired, a *PromptLiveError or a *LimitError.
func (t *Table) Begin(ctx context.Context, r Request) (Begun, error) {
	var b Begun
	err := t.write(ctx, func(x *tx) (err error) {
		b, err = x.request(r)
		return err
	})
	if err != nil {
		return Begun{}, fmt.Errorf("correlate: begin: %w", err)
	}
	return b, nil
}

func (x *tx) request(r Request) (Begun, error) {
	s, err := x.session(r.Session)
	if err != nil {
		return Begun{}, err
	}
	opened := s != nil && s.Opened
	if !opened && !x.t.cfg.Trusting {
		return Begun{}, ErrNotFound
	}
	if s != nil && !s.pin(&r) {
		return Begun{}, ErrPinned
	}
	if r.Session == "" || r.Phone == "" || r.Amount <= 0 {
		return Begun{}, ErrInvalid
	}

	// The same request again, by its key.
	if r.IdempotencyKey != "" {
		p, err := x.one(x.ids(x.do.byIdempotency.QueryContext(context.Background(), r.Session, r.IdempotencyKey)))
		if err != nil {
			return Begun{}, err
		}
		if p != nil {
			if p.Phone != r.Phone || p.Amount != r.Amount || p.AccountReference != r.AccountReference || p.Shortcode != r.Shortcode {
				return Begun{}, ErrIdempotency
			}
			return Begun{Payment: *p}, nil
		}
	}

	// One checkout is paid once. In development a session that nobody opened stands for a customer, who may come again.
	if opened && s.present != "" {
		p, err := x.one(x.ids(x.do.paidInSession.QueryContext(context.Background(), r.Session)))
		if err != nil {
			return Begun{}, err
		}
		if p != nil {
			return Begun{Payment: *p}, nil
		}
	}

	// One live prompt per phone, whoever asked for it.
	live, err := x.live(r.Phone)
	if err != nil {
		return Begun{}, err
	}
	var wait time.Duration
	for _, p := range live {
		if p.Session == r.Session && p.Amount == r.Amount {
			return Begun{Payment: *p}, nil
		}
		wait = max(wait, min(p.Created.Add(promptLife).Sub(x.now), promptLife))
	}
	if len(live) > 0 {
		return Begun{}, &PromptLiveError{RetryAfter: wait}
	}

	// A payment that may be made, or may have been made, is not asked for again without a word: not after its prompt, and
	// not on another phone while the first still shows it, or both customers pay.
	if !r.Again {
		open, err := x.ids(x.do.openInSession.QueryContext(context.Background(), r.Session))
		if err != nil {
			return Begun{}, err
		}
		if len(open) > 0 {
			return Begun{}, ErrAgain
		}
	}

	if opened && x.now.Sub(s.Created) >= sessionLife {
		return Begun{}, ErrExpired
	}
	if err := x.bounded(r); err != nil {
		return Begun{}, err
	}

	p, err := x.begin(Payment{
		ID:               newID(),
		Session:          r.Session,
		Phone:            r.Phone,
		Amount:           r.Amount,
		AccountReference: r.AccountReference,
		Shortcode:        r.Shortcode,
		Number:           r.Number,
		Environment:      r.Environment,
		IdempotencyKey:   r.IdempotencyKey,
		HasRef:           true,
		Created:          x.now,
		Status:           push.Pending,
		silentAt:         x.now.Add(x.rules.unknownAfter),
	})
	if err != nil {
		return Begun{}, err
	}
	return Begun{Payment: *p, Send: true}, nil
}

// pin fills in what the session says, and reports whether the request agrees with it.
func (s *checkout) pin(r *Request) bool {
	if r.Amount == 0 {
		r.Amount = s.Amount
	}
	if r.AccountReference == "" {
		r.AccountReference = s.AccountReference
	}
	if r.Shortcode == "" {
		r.Shortcode = s.Shortcode
	}
	return (s.Amount == 0 || s.Amount == r.Amount) &&
		(s.AccountReference == "" || s.AccountReference == r.AccountReference) &&
		(s.Shortcode == "" || s.Shortcode == r.Shortcode)
}

// live returns the payments whose prompt may be on this phone now: from the commit before the request until its end or
// 90 s, whichever is first.
func (x *tx) live(phone string) ([]*Payment, error) {
	from, to := x.now.Add(-promptLife).UnixMilli(), x.now.Add(promptLife).UnixMilli() // to: the clock may have been set back
	ids, err := x.ids(x.do.livePrompts.QueryContext(context.Background(), phone, from, to))
	if err != nil {
		return nil, err
	}
	var live []*Payment
	for _, id := range ids {
		p, found, err := x.payment(id)
		if err != nil {
			return nil, err
		}
		if found {
			live = append(live, p)
		}
	}
	return live, nil
}

// one finds the first of some payments, or nil.
func (x *tx) one(ids []string, err error) (*Payment, error) {
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	p, _, err := x.payment(ids[0])
	return p, err
}

// Accepted records that Daraja has queued the prompt under these ids. Callbacks that came before are matched now.
func (t *Table) Accepted(ctx context.Context, paymentID, merchantRequestID, checkoutRequestID string) (Payment, error) {
	return t.change(ctx, "accepted", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		return x.accept(p, merchantRequestID, checkoutRequestID)
	})
}

// accept gives a payment its ids, and what had been waiting for them.
func (x *tx) accept(p *Payment, merchant, checkout string) (*Payment, error) {
	if merchant == "" || checkout == "" {
		return nil, ErrInvalid
	}
	if p.MerchantRequestID != "" && (p.MerchantRequestID != merchant || p.CheckoutRequestID != checkout) {
		return nil, ErrConflict
	}
	if p.MerchantRequestID == "" {
		if owner, _, err := x.pair(merchant, checkout); err != nil {
			return nil, err
		} else if owner != nil { // one push under two payments would be paid twice
			return nil, ErrConflict
		}
	}
	var first time.Time
	if p.Shortcode != "" { // otherwise it is one of the app's, and there is nobody to ask with
		first = p.Created.Add(x.rules.firstAsk)
		if first.Before(x.now) {
			first = x.now
		}
	}
	p, _, err := x.apply(p, fact{kind: factAccepted, at: x.now, merchant: merchant, checkout: checkout, ask: first})
	if err != nil {
		return nil, err
	}
	return x.matchParked(p)
}

// Refused records that Daraja definitely did not take the request, or that it never got there.
func (t *Table) Refused(ctx context.Context, paymentID string, outcome daraja.Outcome, code, desc string) (Payment, error) {
	return t.change(ctx, "refused", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		p, _, err := x.apply(p, fact{kind: factRefused, at: x.now, outcome: outcome, code: code, desc: desc})
		return p, err
	})
}

// Ambiguous records that nobody can say whether Daraja took the request. It is not sent again; why goes to the log.
func (t *Table) Ambiguous(ctx context.Context, paymentID, why string) (Payment, error) {
	p, err := t.change(ctx, "ambiguous", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		p, _, err := x.apply(p, fact{kind: factAmbiguous, at: x.now})
		return p, err
	})
	if err == nil {
		t.log.Warn("a push may or may not have reached the customer", "payment", p.ID, "phone", daraja.MaskPhone(p.Phone), "why", why)
	}
	return p, err
}

// change is a transaction about one payment that is known.
func (t *Table) change(ctx context.Context, op, id string, f func(*tx, *Payment) (*Payment, error)) (Payment, error) {
	var p *Payment
	err := t.write(ctx, func(x *tx) error {
		have, found, err := x.payment(id)
		if err != nil {
			return err
		}
		if !found {
			return ErrNotFound
		}
		p, err = f(x, have)
		return err
	})
	if err != nil {
		return Payment{}, fmt.Errorf("correlate: %s: %w", op, err)
	}
	return *p, nil
}
