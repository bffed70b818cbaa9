package correlate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// statements are what the writer does, prepared once.
type statements struct {
	begin, commit, rollback *sql.Stmt

	insertPayment                   *sql.Stmt
	updatePayment, updateIDs        *sql.Stmt
	paymentByID, paymentsByMerchant *sql.Stmt
	paymentByReceipt, updateBelief  *sql.Stmt
	livePrompts                     *sql.Stmt
	openInSession, paidInSession    *sql.Stmt
	byIdempotency, silent           *sql.Stmt

	session, putSession *sql.Stmt

	somePayments, someSessions *sql.Stmt

	insertEvent, oldEvents, dropEvents *sql.Stmt

	insertCallback, parked, matched, sum *sql.Stmt

	putProgress, putCursor *sql.Stmt

	all []*sql.Stmt
}

// The columns of a session, in the order of scanSession.
const sessionAll = "id, amount, reference, shortcode, created, opened, attempts, present"

// The columns of a payment, in the order of scanPayment and of payment values.
const (
	paymentFixed  = "id, session, attempt, phone, amount, reference, shortcode, number, environment, idempotency, ref, created"
	paymentState  = "amount, status, outcome, code, description, receipt, completed, checked, callback, notices, answered, answer_at, silent_at, ask_at, asked_at, event"
	paymentBelief = ", doubt, held, decided" // what few payments have any of is written by itself
	paymentAll    = "row, " + paymentFixed + ", merchant, checkout, status, outcome, code, description, receipt, completed, checked, callback, notices, answered, answer_at, silent_at, ask_at, asked_at, event" + paymentBelief
)

// close gives the statements back. The file is held until the last of them is: a connection does not know of those that
// were prepared on it.
func (s *statements) close() error {
	var errs []error
	for _, stmt := range s.all {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

func prepare(ctx context.Context, conn *sql.Conn) (s statements, err error) {
	all := []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.rollback, "ROLLBACK"},

		{&s.insertPayment, "INSERT INTO payments (" + strings.TrimSuffix(strings.TrimPrefix(paymentAll, "row, "), paymentBelief) + ") VALUES (?" + strings.Repeat(", ?", 28) + ")"},
		{&s.updatePayment, "UPDATE payments SET (" + paymentState + ") = (?" + strings.Repeat(", ?", 15) + ") WHERE row = ?"},
		{&s.updateIDs, "UPDATE payments SET merchant = ?, checkout = ? WHERE row = ?"},
		{&s.paymentByID, "SELECT " + paymentAll + " FROM payments WHERE id = ?"},
		{&s.paymentsByMerchant, "SELECT id FROM payments WHERE merchant = ? AND merchant <> '' ORDER BY row DESC"},
		{&s.paymentByReceipt, "SELECT id FROM payments WHERE receipt = ? AND receipt <> '' LIMIT 1"},
		{&s.updateBelief, "UPDATE payments SET doubt = ?, held = ?, decided = ? WHERE row = ?"},
		{&s.livePrompts, "SELECT id FROM payments WHERE phone = ? AND phone <> '' AND created > ? AND created < ? AND status IN ('PENDING', 'UNKNOWN') ORDER BY row DESC"},
		{&s.openInSession, "SELECT id FROM payments WHERE session = ? AND status IN ('PENDING', 'UNKNOWN') LIMIT 1"},
		{&s.paidInSession, "SELECT id FROM payments WHERE session = ? AND status = 'SUCCESS' ORDER BY attempt DESC LIMIT 1"},
		{&s.byIdempotency, "SELECT id FROM payments WHERE session = ? AND idempotency = ? AND idempotency <> ''"},
		{&s.silent, "SELECT id FROM payments WHERE due_at > 0 AND due_at <= ?1 AND silent_at > 0 AND silent_at <= ?1 ORDER BY due_at LIMIT ?2"},

		{&s.session, "SELECT " + sessionAll + " FROM sessions WHERE id = ?"},
		{&s.somePayments, "SELECT " + paymentAll + " FROM payments WHERE id IN (?" + strings.Repeat(", ?", together-1) + ")"},
		{&s.someSessions, "SELECT " + sessionAll + " FROM sessions WHERE id IN (?" + strings.Repeat(", ?", together-1) + ")"},
		{&s.putSession, "INSERT OR REPLACE INTO sessions (" + sessionAll + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},

		{&s.insertEvent, "INSERT INTO events (seq, prev, session, at, message, progress) VALUES (?, ?, ?, ?, ?, ?)"},
		{&s.oldEvents, "SELECT seq, at FROM events ORDER BY seq LIMIT ?"},
		{&s.dropEvents, "DELETE FROM events WHERE seq <= ?"},

		{&s.insertCallback, "INSERT INTO callbacks (place, state, error, payment, session, merchant, received, kind, ref, remote, marks, sum, header, body, stored) VALUES (?" + strings.Repeat(", ?", 14) + ")"},
		{&s.parked, "SELECT place, " + epochOf + ", session, received, marks, body FROM callbacks WHERE merchant = ? AND state = 'unmatched' ORDER BY place"},
		{&s.matched, "UPDATE callbacks SET state = ?, error = ?, payment = ? WHERE place = ?"},
		{&s.sum, "SELECT sum FROM callbacks WHERE place = ?"},

		{&s.putProgress, "UPDATE store SET progress = ?, event = ?"},
		{&s.putCursor, "INSERT OR REPLACE INTO cursors (number, epoch, seq, sum) VALUES (?, ?, ?, ?)"},
	}
	for _, p := range all {
		if *p.stmt, err = conn.PrepareContext(ctx, p.text); err != nil {
			return s, fmt.Errorf("%s: %w", p.text, err)
		}
		s.all = append(s.all, *p.stmt)
	}
	return s, nil
}

// store writes a payment.
func (x *tx) store(p *Payment) error {
	notices, answered := "", ""
	if len(p.notices) > 0 {
		b, err := json.Marshal(p.notices)
		if err != nil {
			return err
		}
		notices = string(b)
	}
	if p.answered.Code != "" {
		b, err := json.Marshal(p.answered)
		if err != nil {
			return err
		}
		answered = string(b)
	}
	bg := context.Background()
	if p.row != 0 {
		// The ids once, when they are learnt: an update rewrites the indexes of all that it names, changed or not.
		if p.MerchantRequestID != "" && !p.indexed {
			if _, err := x.do.updateIDs.ExecContext(bg, p.MerchantRequestID, p.CheckoutRequestID, p.row); err != nil {
				return err
			}
			p.indexed = true
		}
		_, err := x.do.updatePayment.ExecContext(bg, int64(p.Amount), string(p.Status), string(p.Outcome),
			p.ResultCode, p.ResultDesc, p.Receipt, millis(p.CompletedAt), p.AmountChecked, p.Callback, notices, answered,
			millis(p.answerAt), millis(p.silentAt), millis(p.askAt), millis(p.askedAt), int64(p.event), p.row)
		if err != nil {
			return err
		}
		return x.storeBelief(p)
	}
	r, err := x.do.insertPayment.ExecContext(bg, p.ID, p.Session, p.Attempt, p.Phone, int64(p.Amount), p.AccountReference, p.Shortcode, p.Number,
		p.Environment, p.IdempotencyKey, p.HasRef, millis(p.Created),
		p.MerchantRequestID, p.CheckoutRequestID, string(p.Status), string(p.Outcome),
		p.ResultCode, p.ResultDesc, p.Receipt, millis(p.CompletedAt), p.AmountChecked, p.Callback, notices, answered,
		millis(p.answerAt), millis(p.silentAt), millis(p.askAt), millis(p.askedAt), int64(p.event))
	if err != nil {
		return err
	}
	p.row, err = r.LastInsertId() // nobody else has seen p yet
	p.indexed = p.MerchantRequestID != ""
	if err != nil {
		return err
	}
	return x.storeBelief(p)
}

// storeBelief writes what stands against a payment, where that has changed.
func (x *tx) storeBelief(p *Payment) error {
	b := p.belief()
	if b == p.weighed {
		return nil
	}
	_, err := x.do.updateBelief.ExecContext(context.Background(), b.doubt, b.held, b.decided, p.row)
	p.weighed = b
	return err
}

func scanPayment(row interface{ Scan(...any) error }) (*Payment, error) {
	var p Payment
	var created, completed, answerAt, silentAt, askAt, askedAt, event int64
	var notices, answered string
	err := row.Scan(&p.row, &p.ID, &p.Session, &p.Attempt, &p.Phone, (*int64)(&p.Amount), &p.AccountReference, &p.Shortcode, &p.Number,
		&p.Environment, &p.IdempotencyKey, &p.HasRef, &created,
		&p.MerchantRequestID, &p.CheckoutRequestID, (*string)(&p.Status), (*string)(&p.Outcome),
		&p.ResultCode, &p.ResultDesc, &p.Receipt, &completed, &p.AmountChecked, &p.Callback, &notices, &answered,
		&answerAt, &silentAt, &askAt, &askedAt, &event, &p.Doubt, &p.held, &p.DecidedBy)
	if err != nil {
		return nil, err
	}
	if notices != "" {
		if err := json.Unmarshal([]byte(notices), &p.notices); err != nil {
			return nil, fmt.Errorf("payment %s: notices: %w", p.ID, err)
		}
	}
	if answered != "" {
		if err := json.Unmarshal([]byte(answered), &p.answered); err != nil {
			return nil, fmt.Errorf("payment %s: answer: %w", p.ID, err)
		}
	}
	p.Created, p.CompletedAt, p.answerAt = instant(created), instant(completed), instant(answerAt)
	p.indexed, p.weighed = p.MerchantRequestID != "", p.belief()
	p.silentAt, p.askAt, p.askedAt, p.event = instant(silentAt), instant(askAt), instant(askedAt), uint64(event)
	return &p, nil
}

func scanSession(row interface{ Scan(...any) error }) (*checkout, error) {
	var c checkout
	var created int64
	err := row.Scan(&c.ID, (*int64)(&c.Amount), &c.AccountReference, &c.Shortcode, &created, &c.Opened, &c.attempts, &c.present)
	if err != nil {
		return nil, err
	}
	c.Created = instant(created)
	return &c, nil
}

// millis and instant turn times into what is stored, and back. No time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
