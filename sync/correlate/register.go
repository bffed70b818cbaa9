package correlate

import (
	"context"
	"fmt"

	"github.com/hodihq/hodi/sync/push"
)

// Registration is a push that the app makes itself.
type Registration struct {
	PaymentID         string     // of a reservation that is to be completed; "" otherwise
	Session           string     // "": a session of its own
	Phone             string     // normalised
	MerchantRequestID string     // both ids, or none: without them the payment is reserved, and has a ref
	CheckoutRequestID string     //
	AccountReference  string     //
	Shortcode         string     // its name in the configuration
	Number            string     // what customers pay to
	Environment       string     //
	Amount            push.Money // 0: not known
}

// Register makes a payment of a push that the app makes itself. It comes in three forms: with Daraja's ids, after the
// push; without ids, before it, so that the callback address can carry the payment's ref; and with PaymentID and ids,
// which completes the second. Registering the same push again returns its payment.
func (t *Table) Register(ctx context.Context, r Registration) (Payment, error) {
	var p *Payment
	err := t.write(ctx, func(x *tx) (err error) {
		p, err = x.register(r)
		return err
	})
	if err != nil {
		return Payment{}, fmt.Errorf("correlate: register: %w", err)
	}
	return *p, nil
}

func (x *tx) register(r Registration) (*Payment, error) {
	hasIDs := r.MerchantRequestID != "" && r.CheckoutRequestID != ""
	if !hasIDs && (r.MerchantRequestID != "" || r.CheckoutRequestID != "" || r.PaymentID != "") {
		return nil, ErrInvalid
	}
	if r.PaymentID != "" {
		p, found, err := x.payment(r.PaymentID)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, ErrNotFound
		}
		return x.accept(p, r.MerchantRequestID, r.CheckoutRequestID)
	}
	if hasIDs {
		p, _, err := x.pair(r.MerchantRequestID, r.CheckoutRequestID)
		if err != nil {
			return nil, err
		}
		if p != nil {
			if r.Session != "" && p.Session != r.Session || r.Amount != 0 && p.Amount != r.Amount {
				return nil, ErrConflict
			}
			return p, nil
		}
	}
	id := newID()
	if r.Session == "" {
		r.Session = id
	}
	p, err := x.begin(Payment{
		ID:               id,
		Session:          r.Session,
		Phone:            r.Phone,
		Amount:           r.Amount,
		AccountReference: r.AccountReference,
		Shortcode:        r.Shortcode,
		Number:           r.Number,
		Environment:      r.Environment,
		HasRef:           !hasIDs,
		Created:          x.now,
		Status:           push.Pending,
		silentAt:         x.now.Add(x.rules.unknownAfter),
	})
	if err != nil || !hasIDs {
		return p, err
	}
	return x.accept(p, r.MerchantRequestID, r.CheckoutRequestID)
}
