package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// What a person can be told who decides.
var (
	ErrPaid    = errors.New("the payment is made, and money is never unsaid")
	ErrReceipt = errors.New("this receipt is that of another payment")
)

// Decision is what a person at the shop has found out about a payment, where nobody else could tell.
type Decision struct {
	Who     string // for the audit, and named with the payment
	Reason  string // for the audit
	Receipt string // that was seen with the money; confirming only, and may be left out
}

// Confirm makes a payment SUCCESS by a person's word. One that is made already loses its doubt.
func (t *Table) Confirm(ctx context.Context, paymentID string, d Decision) (Payment, error) {
	d.Receipt = strings.ToUpper(strings.TrimSpace(d.Receipt))
	return t.change(ctx, "confirm", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		if d.Who == "" || d.Reason == "" {
			return nil, ErrInvalid
		}
		if d.Receipt != "" {
			owner, err := x.owner(d.Receipt)
			if err != nil {
				return nil, err
			}
			if owner != "" && owner != p.ID || p.told() != "" && p.told() != d.Receipt {
				return nil, ErrReceipt
			}
		}
		was := *p
		f, held, err := x.release(p)
		if err != nil {
			return nil, err
		}
		if !held {
			f = fact{kind: factConfirmed, at: x.now, receipt: d.Receipt}
		}
		f.who = d.Who
		if p, _, err = x.apply(p, f); err != nil {
			return nil, err
		}
		if err := x.claim(p); err != nil {
			return nil, err
		}
		return p, x.decided("payment confirmed", was, d)
	})
}

// Deny makes a payment FAILED by a person's word. ErrPaid refuses that of one that is made. Should M-Pesa tell later that it
// is paid, it is.
func (t *Table) Deny(ctx context.Context, paymentID string, d Decision) (Payment, error) {
	return t.change(ctx, "deny", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		if d.Who == "" || d.Reason == "" || d.Receipt != "" {
			return nil, ErrInvalid
		}
		if p.Status == push.Success {
			return nil, ErrPaid
		}
		was := *p
		if at, ok := p.heldAt(); ok {
			if err := x.resolve(at, StateHeld, StateOverruled, "a person has found that it was not paid", p.ID); err != nil {
				return nil, err
			}
		}
		p, _, err := x.apply(p, fact{kind: factDenied, at: x.now, outcome: daraja.OutcomeDenied, who: d.Who})
		if err != nil {
			return nil, err
		}
		return p, x.decided("payment denied", was, d)
	})
}

// decided writes down who has decided what.
func (x *tx) decided(act string, was Payment, d Decision) error {
	detail := fmt.Sprintf("it was %s", was.Status)
	if was.Doubt != "" {
		detail += " and in doubt (" + was.Doubt + ")"
	}
	if d.Receipt != "" {
		detail += ", receipt " + d.Receipt
	}
	x.t.log.Info(act, "payment", was.ID, "by", d.Who)
	return x.audit(Act{Who: d.Who, Act: act, Subject: was.ID, Detail: detail + ": " + d.Reason})
}

// told is the receipt that M-Pesa has given the payment, be it that it does not count yet.
func (p *Payment) told() string {
	if _, receipt, held := strings.Cut(p.held, " "); held {
		return receipt
	}
	return p.Receipt
}

// heldAt is where the success is that waits until Daraja was asked.
func (p *Payment) heldAt() (at push.Cursor, held bool) {
	if p.held == "" {
		return at, false
	}
	place, _, _ := strings.Cut(p.held, " ")
	at, err := push.ParseCursor(place)
	return at, err == nil
}

// release gives a success that was held its effect: somebody who can tell has agreed. It reports whether there is one that
// can still be believed.
func (x *tx) release(p *Payment) (fact, bool, error) {
	at, held := p.heldAt()
	if !held {
		return fact{}, false, nil
	}
	var received int64
	var body []byte
	err := x.t.conn.QueryRowContext(context.Background(), "SELECT received, body FROM callbacks WHERE place = ?", x.applied(at.Epoch).in()|int64(at.Seq)).Scan(&received, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return fact{}, false, nil
	}
	if err != nil {
		return fact{}, false, err
	}
	var c daraja.Callback
	if len(body) > 0 {
		if c, err = parse(body); err != nil {
			return fact{}, false, err
		}
	} else { // it was too old to be kept, or its customer was forgotten; it was weighed when it came
		c = daraja.Callback{ResultCode: "0", HasAmount: p.Amount != 0, Amount: int64(p.Amount), Receipt: p.told()}
	}
	if receipt := strings.ToUpper(c.Receipt); receipt != "" {
		why, err := x.spent(receipt, p.ID, push.Money(c.Amount))
		if err != nil {
			return fact{}, false, err
		}
		if why != "" {
			return fact{}, false, x.resolve(at, StateHeld, StateSuspect, why, p.ID)
		}
	}
	return factOf(c, at, instant(received)), true, x.resolve(at, StateHeld, StateApplied, "", p.ID)
}
