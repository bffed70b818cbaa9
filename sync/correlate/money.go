package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Money is known by its receipt. A payment that is made may be told of up to three times: by its own callback, and where
// the shortcode has C2B addresses registered, by a confirmation and mostly a validation, which often come before it. They
// settle nothing, for anybody may pay a shortcode any sum under any reference; but no receipt is two payments' money, and
// all who name it must name one sum.

// spent says why a receipt cannot be that of a success: another payment has it, or a C2B notice says another sum of it. It is ""
// if nothing stands against it.
func (x *tx) spent(receipt, payment string, amount push.Money) (why string, err error) {
	owner, err := x.owner(receipt)
	if err != nil {
		return "", err
	}
	if owner != "" && owner != payment {
		return "its receipt is that of another payment, " + owner, nil
	}
	n, err := x.noticed(receipt)
	if err != nil || n == nil {
		return "", err
	}
	if n.amount != amount {
		return fmt.Sprintf("it says that %s was paid, and M-Pesa's notice of the same receipt says %s", amount, n.amount), nil
	}
	return "", nil
}

// owner is the payment that has a receipt, "" if none has.
func (x *tx) owner(receipt string) (payment string, err error) {
	if id, ok := x.receipts[receipt]; ok {
		return id, nil
	}
	ids, err := x.ids(x.do.paymentByReceipt.QueryContext(context.Background(), receipt))
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// noticed is a C2B notice of money that has moved.
type noticed struct {
	at      push.Cursor // its callback
	amount  push.Money
	payment string // whose money it is, "" if that is not known
}

// noticed finds the notice of a receipt, or nil. Most shops register no C2B addresses and have none.
func (x *tx) noticed(receipt string) (*noticed, error) {
	if !x.t.noticing {
		return nil, nil
	}
	var n noticed
	var epoch, seq int64
	err := x.t.conn.QueryRowContext(context.Background(), "SELECT epoch, seq, amount, payment FROM money WHERE receipt = ?", receipt).Scan(&epoch, &seq, (*int64)(&n.amount), &n.payment)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	n.at = push.Cursor{Epoch: uint64(epoch), Seq: uint64(seq)}
	return &n, err
}

// judgeNotice is for a C2B notice. It never changes a payment.
func (x *tx) judgeNotice(n daraja.Notice, from post) (verdict, error) {
	n.Receipt = strings.ToUpper(n.Receipt)
	v := verdict{state: StateRecorded, notice: &n}
	v.misdate = misdate(n.Receipt, n.Time, from.received)
	owner, err := x.owner(n.Receipt)
	if err != nil {
		return verdict{}, err
	}
	if owner != "" {
		if v.payment, _, err = x.payment(owner); err != nil {
			return verdict{}, err
		}
	}
	before, err := x.noticed(n.Receipt)
	if err != nil {
		return verdict{}, err
	}
	amount := push.Money(n.Amount)
	switch p := v.payment; {
	case from.source == wire.SourceEnforced:
		return v.suspect("it came from an address that is not Safaricom's, and the edge was told not to believe such"), nil
	case v.misdate && !x.t.cfg.Trusting: // no notice has a ref that speaks for it
		return v.suspect("the letters of its receipt are of another day"), nil
	case p != nil && p.Amount != 0 && p.Amount != amount:
		return v.suspect("it says %s of a receipt with which %s was paid", amount, p.Amount), nil
	case before != nil && before.amount != amount:
		return v.suspect("it says %s of a receipt of which another notice said %s", amount, before.amount), nil
	case before != nil && n.Moved:
		v.state = StateRepeated
	}
	return v, nil
}

// record keeps that money has moved.
func (x *tx) record(n daraja.Notice, payment string, at push.Cursor, received time.Time) error {
	when := n.Time
	if when.IsZero() {
		when = received
	}
	_, err := x.t.conn.ExecContext(context.Background(), "INSERT INTO money (receipt, amount, number, reference, time, payment, epoch, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		n.Receipt, n.Amount, n.Number, n.Reference, millis(when), payment, int64(at.Epoch), int64(at.Seq))
	if err != nil {
		return fmt.Errorf("money: %w", err)
	}
	x.t.noticing = true // and should this be rolled back, it costs a look-up
	return nil
}

// claim notes that a payment has a receipt. If a notice of it came before, both tell of the same money.
func (x *tx) claim(p *Payment) error {
	if p.Receipt == "" {
		return nil
	}
	x.receipts[p.Receipt] = p.ID
	n, err := x.noticed(p.Receipt)
	if err != nil || n == nil || n.payment != "" {
		return err
	}
	bg := context.Background()
	if _, err := x.t.conn.ExecContext(bg, "UPDATE money SET payment = ? WHERE receipt = ?", p.ID, p.Receipt); err != nil {
		return fmt.Errorf("money: %w", err)
	}
	if _, err := x.t.conn.ExecContext(bg, "UPDATE callbacks SET payment = ? WHERE place = ?", p.ID, x.applied(n.at.Epoch).in()|int64(n.at.Seq)); err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	return nil
}
