package correlate

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// tx is one transaction of the writer. What it reads it keeps, and what it changes it writes once, at the end; the caches
// and the subscribers learn of it when it is committed.
type tx struct {
	t     *Table
	do    *statements
	now   time.Time
	rules *rules

	payments  map[string]*Payment // as this transaction sees them
	order     []string            // those that changed, in the order of their first change
	dirty     map[string]bool
	merchants map[string]string // MerchantRequestIDs learnt here
	receipts  map[string]string // receipts learnt here, and whose they are
	sessions  map[string]*checkout
	opened    []string // sessions that changed
	counts    map[string]int64
	events    []Event
	scratch   []byte // in which events are encoded
	spot      map[uint64]spot
	rows      int         // of callbacks, which are written at once
	bytes     int         // of their bodies
	lost      push.Cursor // the first entry here that the edge's disk has lost
	wrote     bool        // something is to be committed
	arrived   bool        // callbacks are
	wake      bool        // something may be due earlier
	askAll    bool        // Daraja is to be asked about every payment without a result
	purge     bool        // rows change behind the back of the caches and of payments
	after     []func()
}

// checkout is a session and what the writer needs to know of it.
type checkout struct {
	Session
	attempts int
	present  string // the payment that is its present state
}

// write runs f in a transaction and publishes what came of it. It does not end with ctx once it has begun: a request
// that goes away takes nobody along.
func (t *Table) write(ctx context.Context, f func(*tx) error) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	committed := false
	defer func() { t.note(err, committed) }()
	bg := context.Background()
	if _, err := t.do.begin.ExecContext(bg); err != nil {
		return err
	}
	x := &tx{t: t, do: &t.do, now: now(), rules: t.rules.Load(), payments: map[string]*Payment{}, dirty: map[string]bool{}, merchants: map[string]string{}, receipts: map[string]string{},
		sessions: map[string]*checkout{}, counts: map[string]int64{}, spot: map[uint64]spot{}}
	defer func() {
		if !committed { // after a failed commit there may be nothing left to roll back
			t.do.rollback.ExecContext(bg)
		}
	}()
	if err := t.guarded(func() error { return f(x) }); err != nil || !x.changed() {
		return err
	}
	if err := t.guarded(x.flush); err != nil {
		return err
	}
	if _, err := t.do.commit.ExecContext(bg); err != nil {
		return err
	}
	committed = true
	t.logged(x.rows+len(x.order)+len(x.opened)+len(x.events), x.bytes)
	x.publish()
	return nil
}

func (x *tx) changed() bool {
	return x.wrote || len(x.order) > 0 || len(x.opened) > 0 || len(x.events) > 0 || len(x.spot) > 0 || len(x.counts) > 0
}

// flush writes what changed.
func (x *tx) flush() error {
	bg := context.Background()
	progress, err := x.storeProgress()
	if err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	for i, e := range x.events {
		in := ""
		if i == len(x.events)-1 {
			in = progress
		}
		// The event's own payment holds the chain: see emit.
		if _, err := x.do.insertEvent.ExecContext(bg, int64(e.Seq), int64(e.prev), e.Session, x.now.UnixMilli(), e.Encoded, in); err != nil {
			return fmt.Errorf("event: %w", err)
		}
	}
	for _, id := range x.order {
		if err := x.store(x.payments[id]); err != nil {
			return fmt.Errorf("payment %s: %w", id, err)
		}
	}
	if x.askAll {
		if err := x.storeAskAll(); err != nil {
			return fmt.Errorf("questions: %w", err)
		}
	}
	for _, id := range x.opened {
		s := x.sessions[id]
		if _, err := x.do.putSession.ExecContext(bg, s.ID, int64(s.Amount), s.AccountReference, s.Shortcode, millis(s.Created), s.Opened, s.attempts, s.present); err != nil {
			return fmt.Errorf("session: %w", err)
		}
	}
	return x.prune()
}

// publish makes the committed changes known, in this order: caches, head, subscribers. It cannot fail.
func (x *tx) publish() {
	t := x.t
	if x.purge {
		t.payments.Purge()
	}
	for _, id := range x.order {
		p := x.payments[id]
		if !x.purge { // else the file knows better
			t.payments.Add(id, p)
		}
		if p.MerchantRequestID != "" {
			t.merchants.Add(p.MerchantRequestID, id)
		}
	}
	for _, id := range x.opened {
		t.sessions.Add(id, x.sessions[id])
	}
	for epoch, s := range x.spot {
		t.spot[epoch] = s
	}
	for _, f := range x.after {
		f()
	}
	if n := len(x.events); n > 0 {
		t.head.Store(x.events[n-1].Seq)
		if t.cfg.Publish != nil {
			t.cfg.Publish(x.events)
		}
	}
	if x.wake {
		t.wakeUp()
	}
	if x.arrived {
		t.arrive()
	}
	if x.lost != (push.Cursor{}) {
		t.log.Error("the edge's disk has lost callbacks; every payment without a result is asked about. GET /callbacks?state=unparsed lists them", "first", x.lost.String())
	}
}

// payment finds a payment by its id.
func (x *tx) payment(id string) (*Payment, bool, error) {
	if p, ok := x.payments[id]; ok {
		return p, p != nil, nil
	}
	if p, ok := x.t.payments.Get(id); ok {
		x.payments[id] = p
		return p, true, nil
	}
	p, err := scanPayment(x.do.paymentByID.QueryRowContext(context.Background(), id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	x.keep(p)
	return p, true, nil
}

// keep remembers a payment that was read from the file, also for those who come later: this is the writer, so it is not
// old. It may be rolled back only together with changes that are not in it.
func (x *tx) keep(p *Payment) {
	x.payments[p.ID] = p
	x.t.payments.Add(p.ID, p)
	if p.MerchantRequestID != "" {
		x.t.merchants.Add(p.MerchantRequestID, p.ID)
	}
}

// pair finds the payment that has both ids. Other reports that the first id is some other payment's.
func (x *tx) pair(merchant, checkout string) (p *Payment, other *Payment, err error) {
	id, ok := x.merchants[merchant]
	if !ok {
		id, ok = x.t.merchants.Get(merchant)
	}
	if ok {
		p, found, err := x.payment(id)
		if err != nil {
			return nil, nil, err
		}
		if found && p.MerchantRequestID == merchant && p.CheckoutRequestID == checkout {
			return p, nil, nil
		}
	}
	ids, err := x.ids(x.do.paymentsByMerchant.QueryContext(context.Background(), merchant))
	if err != nil {
		return nil, nil, err
	}
	if ok {
		ids = append(ids, id) // it may have been learnt in this very transaction
	}
	for _, id := range ids {
		p, found, err := x.payment(id)
		switch {
		case err != nil:
			return nil, nil, err
		case !found || p.MerchantRequestID != merchant:
		case p.CheckoutRequestID == checkout:
			return p, nil, nil
		case other == nil:
			other = p
		}
	}
	return nil, other, nil
}

// ids reads the ids that a query returned.
func (x *tx) ids(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// put replaces a payment. Values that others may hold are never changed.
func (x *tx) put(p Payment) *Payment {
	q := &p
	// The clock was set back, and something else is due before: pullIn would not find it.
	if latest := x.now.Add(x.rules.unknownAfter); q.silentAt.After(latest) {
		q.silentAt = latest
	}
	x.payments[p.ID] = q
	if !x.dirty[p.ID] {
		x.dirty[p.ID] = true
		x.order = append(x.order, p.ID)
	}
	if p.MerchantRequestID != "" {
		x.merchants[p.MerchantRequestID] = p.ID
	}
	return q
}

// session finds a session, or returns nil.
func (x *tx) session(id string) (*checkout, error) {
	if s, ok := x.sessions[id]; ok {
		return s, nil
	}
	if s, ok := x.t.sessions.Get(id); ok {
		x.sessions[id] = s
		return s, nil
	}
	s, err := scanSession(x.do.session.QueryRowContext(context.Background(), id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x.keepSession(s)
	return s, nil
}

func (x *tx) keepSession(s *checkout) {
	x.sessions[s.ID] = s
	x.t.sessions.Add(s.ID, s)
}

func (x *tx) putSession(s checkout) {
	x.sessions[s.ID] = &s
	for _, id := range x.opened {
		if id == s.ID {
			return
		}
	}
	x.opened = append(x.opened, s.ID)
}

// begin adds a payment to its session, as the session's present state.
func (x *tx) begin(p Payment) (*Payment, error) {
	s, err := x.session(p.Session)
	if err != nil {
		return nil, err
	}
	c := checkout{Session: Session{ID: p.Session, Created: x.now}}
	if s != nil {
		c = *s
	}
	c.attempts++
	c.present = p.ID
	p.Attempt = c.attempts
	x.putSession(c)
	x.wake = true
	return x.put(p), nil
}

// apply folds a fact into a payment and tells subscribers. It returns the payment as it is then, and the type of the
// event, if there was one.
func (x *tx) apply(p *Payment, f fact) (*Payment, string, error) {
	next, changed, event := fold(*p, f)
	if !changed {
		return p, "", nil
	}
	// Most facts stop the clocks: who waits for them need not be woken to learn that, at every payment that is settled.
	if sooner(next.askAt, p.askAt) || sooner(next.silentAt, p.silentAt) {
		x.wake = true
	}
	if event == push.PaymentCompleted {
		s, err := x.session(p.Session)
		if err != nil {
			return nil, "", err
		}
		switch {
		case s == nil || s.present == p.ID:
		case next.Status == push.Success: // money is the session's present state, whichever attempt brought it
			c := *s
			c.present = p.ID
			x.putSession(c)
		default: // an attempt that the customer has left behind
			event = push.PaymentUpdate
		}
	}
	if event != "" {
		callback := ""
		if f.place != (push.Cursor{}) {
			callback = f.place.String()
		}
		x.emit(&next, event, callback)
	}
	return x.put(next), event, nil
}

// sooner reports whether a clock goes off before it would have; one that is zero never does.
func sooner(next, was time.Time) bool {
	return !next.IsZero() && (was.IsZero() || next.Before(was))
}

// emit gives an event its number. The events of a payment are a chain from the newest to the oldest, so that a session's
// events are found without an index that every event would have to be entered in.
func (x *tx) emit(p *Payment, kind, callback string) {
	seq := x.t.head.Load() + uint64(len(x.events)) + 1
	m := push.Message{
		Type:     kind,
		ID:       push.Cursor{Epoch: x.t.epoch, Seq: seq},
		Time:     push.Time{Time: x.now},
		Session:  p.Session,
		Final:    p.Status.Ended(),
		Callback: callback,
		Data:     p.Data(),
	}
	x.scratch = m.Append(x.scratch[:0])
	x.events = append(x.events, Event{Seq: seq, Session: p.Session, Message: m, Encoded: bytes.Clone(x.scratch), prev: p.event})
	p.event = seq
}

// prune removes events that are older than what is kept: now and then, a bounded number at a time, and never the newest,
// from which the numbers go on.
func (x *tx) prune() error {
	const some = 1000
	if x.now.Sub(x.t.pruned).Abs() < time.Minute {
		return nil
	}
	rows, err := x.do.oldEvents.QueryContext(context.Background(), some)
	if err != nil {
		return err
	}
	defer rows.Close()
	cutoff, last, n := x.now.Add(-x.t.cfg.KeepEvents).UnixMilli(), int64(0), 0
	for rows.Next() {
		var seq, at int64
		if err := rows.Scan(&seq, &at); err != nil {
			return err
		}
		if at >= cutoff || uint64(seq) >= x.t.head.Load() {
			break
		}
		last, n = seq, n+1
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if n > 0 {
		if _, err := x.do.dropEvents.ExecContext(context.Background(), last); err != nil {
			return err
		}
	}
	if n < some {
		x.after = append(x.after, func() { x.t.pruned = x.now })
	}
	return nil
}
