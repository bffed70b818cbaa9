package correlate

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// The states of a callback.
const (
	StateApplied   = "applied"   // it changed its payment
	StateRepeated  = "repeated"  // it said what was known
	StateOverruled = "overruled" // it said something else than what stands and may not be unsaid
	StateUnmatched = "unmatched" // its payment is not known yet
	StateUnparsed  = "unparsed"  // it could not be read
	StateSuspect   = "suspect"   // it was not believed
)

// Callback is a callback as it came, and what became of it.
type Callback struct {
	ID        string // journal epoch and seq, in the form of a cursor
	Received  time.Time
	State     string
	Error     string // why it is unparsed, suspect or overruled
	PaymentID string // "" if that is not known
	Session   string // whose address it was posted to, in development
	Ref       string // without its code
	Remote    string
	Header    []byte
	Body      []byte
}

// Apply commits what entries of a journal do, and the cursor, in one transaction. Entries that were applied before are
// skipped: those up to the cursor, live ones that had overtaken it, and those that a journal shows again under a new
// epoch. An entry that cannot be applied is stored as unparsed, so that nothing stops those behind it: only a disk that
// cannot store, or a journal that is not the one it says it is, returns an error.
func (t *Table) Apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	err := t.apply(ctx, cursor, entries)
	if err == nil {
		return nil
	}
	beyond := func(err error) bool { return ctx.Err() != nil || cannotStore(err) || errors.Is(err, errOther) }
	if beyond(err) {
		return fmt.Errorf("correlate: apply: %w", err)
	}
	// It is one of them. Each alone tells which; the cursor stays where it is until all are done.
	epoch := cursor.Epoch
	for _, e := range entries {
		why := t.apply(ctx, wire.Cursor{Epoch: epoch}, []wire.Entry{e})
		if why == nil {
			continue
		}
		err := why
		if !beyond(why) {
			err = t.write(ctx, func(x *tx) error { return x.setAside(epoch, e, why, x.named) })
		}
		if err != nil && !beyond(err) { // its payment is what goes wrong
			nobody := func(wire.Entry) (*Payment, error) { return nil, nil }
			err = t.write(ctx, func(x *tx) error { return x.setAside(epoch, e, why, nobody) })
		}
		if err != nil {
			return fmt.Errorf("correlate: apply %s: %w", place(epoch, e.Seq), err)
		}
		t.log.Error("a callback could not be applied and was set aside", "callback", place(epoch, e.Seq).String(), "err", why)
	}
	if err := t.apply(ctx, cursor, nil); err != nil {
		return fmt.Errorf("correlate: apply: %w", err)
	}
	return nil
}

// cannotStore reports whether it is the disk (or the file on it) that failed, and not what was to be stored.
func cannotStore(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_MISUSE:
		return true
	}
	return false
}

func (t *Table) apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	return t.write(ctx, func(x *tx) error {
		if err := x.fetch(entries); err != nil {
			return err
		}
		for _, e := range entries {
			if e.Kind == wire.KindLost && e.Seq > x.applied(uint64(cursor.Epoch)).seq {
				if err := x.takeLost(cursor.Epoch, e); err != nil {
					return err
				}
				x.reached(cursor.Epoch, e.Seq)
				continue
			}
			sum := e.Sum()
			old, err := x.seenBefore(cursor.Epoch, e.Seq, sum)
			if err != nil {
				return err
			}
			if !old {
				if _, err := x.take(place(cursor.Epoch, e.Seq), e, sum, ""); err != nil {
					return err
				}
			}
			x.reached(cursor.Epoch, e.Seq)
		}
		x.moveTo(cursor)
		return nil
	})
}

// setAside stores an entry that cannot be applied. It may be the success that somebody waits for, so Daraja is asked.
func (x *tx) setAside(epoch wire.Epoch, e wire.Entry, why error, of func(wire.Entry) (*Payment, error)) error {
	cb := Callback{State: StateUnparsed, Error: why.Error()}
	p, err := of(e)
	if err != nil {
		return err
	}
	if p != nil {
		cb.PaymentID = p.ID
		x.askSoon(p)
	}
	x.reached(epoch, e.Seq)
	return x.insert(place(epoch, e.Seq), e, e.Sum(), "", &cb, "")
}

// named is the payment that an entry names, believed or not, if there is one.
func (x *tx) named(e wire.Entry) (*Payment, error) {
	if id, _, ours := splitRef(e.Ref); ours {
		p, _, err := x.payment(id)
		return p, err
	}
	c, err := parse(e.Body)
	if err != nil || c.MerchantRequestID == "" {
		return nil, nil
	}
	p, _, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID)
	return p, err
}

// Receive takes a callback that was posted to this sidecar itself: it is numbered in a history of the Table's own, and
// then is like any other. Session is whose address it was posted to, "" if that names none.
func (t *Table) Receive(ctx context.Context, e wire.Entry, session string) (Callback, error) {
	var cb Callback
	err := t.write(ctx, func(x *tx) (err error) {
		at := push.Cursor{Epoch: t.direct(), Seq: x.applied(t.direct()).seq + 1}
		e.Seq = at.Seq
		if e.Kind == 0 {
			e.Kind = wire.KindNotice
		}
		if e.Received.IsZero() {
			e.Received = x.now
		}
		sum := e.Sum()
		x.spot[at.Epoch] = spot{at.Seq, sum, at.Seq}
		cb, err = x.take(at, e, sum, session)
		return err
	})
	if err != nil {
		return Callback{}, fmt.Errorf("correlate: receive: %w", err)
	}
	return cb, nil
}

// take judges a callback, applies it if it is believed, and stores it with what became of it.
func (x *tx) take(at push.Cursor, e wire.Entry, sum wire.Checksum, session string) (Callback, error) {
	v, err := x.judge(e, session)
	if err != nil {
		return Callback{}, err
	}
	var cb Callback
	if err := x.settle(&cb, v, at, e.Received); err != nil {
		return Callback{}, err
	}
	merchant := ""
	if cb.State == StateUnmatched {
		merchant = v.said.MerchantRequestID
	}
	if err := x.insert(at, e, sum, session, &cb, merchant); err != nil {
		return Callback{}, err
	}
	if p := v.payment; p != nil && p.MerchantRequestID == "" {
		if p = x.payments[p.ID]; p.MerchantRequestID != "" { // it has brought the ids, and others may have waited for them
			if _, err := x.matchParked(p); err != nil {
				return Callback{}, err
			}
		}
	}
	return cb, nil
}

// settle does what a verdict means for its payment, and says what became of the callback.
func (x *tx) settle(cb *Callback, v verdict, at push.Cursor, received time.Time) error {
	cb.State, cb.Error = v.state, v.why
	if v.payment != nil {
		cb.PaymentID = v.payment.ID
	}
	switch v.state {
	case StateUnmatched:
		return nil
	case StateSuspect, StateUnparsed:
		if v.payment != nil {
			x.askSoon(v.payment)
		}
		if v.state == StateSuspect {
			x.t.log.Warn("a callback is not believed", "callback", at.String(), "payment", cb.PaymentID, "why", v.why)
			a := Act{Who: "sidecar", Act: "callback not believed", Subject: cmp.Or(cb.PaymentID, at.String()), Detail: v.why, Strangers: true}
			if err := x.audit(a); err != nil {
				return err
			}
		}
		return nil
	}
	c := v.said
	f := fact{
		kind:      factCallback,
		at:        time.UnixMilli(received.UnixMilli()).UTC(),
		merchant:  c.MerchantRequestID,
		checkout:  c.CheckoutRequestID,
		outcome:   daraja.OutcomeOf(c.ResultCode),
		code:      c.ResultCode,
		desc:      c.ResultDesc,
		place:     at,
		receipt:   c.Receipt,
		completed: c.Completed.UTC(),
	}
	if c.HasAmount {
		f.amount = push.Money(c.Amount)
	}
	if c.Completed.IsZero() {
		f.completed = f.at
	}
	p, event, err := x.apply(v.payment, f)
	if err != nil {
		return err
	}
	switch {
	case event != "":
		cb.State = StateApplied
	case p.ResultCode == c.ResultCode && (p.Receipt == c.Receipt || c.Receipt == ""):
		cb.State = StateRepeated
	default:
		cb.State = StateOverruled
		cb.Error = fmt.Sprintf("it says %s, and the payment is %s with result code %s", c.ResultCode, p.Status, p.ResultCode)
		if p.Status == push.Success {
			x.t.log.Warn("a callback contradicts a payment that was made", "callback", at.String(), "payment", p.ID, "code", c.ResultCode)
		}
	}
	return nil
}

// askSoon has Daraja asked about a payment of which something was said that is not believed.
func (x *tx) askSoon(p *Payment) {
	next := soonest(*p, x.now)
	if p.Status == push.Success || next.IsZero() || !p.askAt.IsZero() && !next.Before(p.askAt) {
		return
	}
	q := *p
	q.askAt = next
	x.put(q)
	x.wake = true
}

// matchParked applies the callbacks that came before their payment's ids were known.
func (x *tx) matchParked(p *Payment) (*Payment, error) {
	bg := context.Background()
	type parked struct {
		at       push.Cursor
		session  string
		received time.Time
		body     []byte
	}
	var list []parked
	rows, err := x.do.parked.QueryContext(bg, p.MerchantRequestID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e parked
		var epoch, seq, received int64
		if err := rows.Scan(&epoch, &seq, &e.session, &received, &e.body); err != nil {
			return nil, err
		}
		e.at, e.received = push.Cursor{Epoch: uint64(epoch), Seq: uint64(seq)}, instant(received)
		list = append(list, e)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, e := range list {
		c, err := parse(e.body)
		if err != nil || c.CheckoutRequestID != p.CheckoutRequestID {
			continue
		}
		var cb Callback
		if err := x.settle(&cb, x.t.judgeMatched(p, c, e.session), e.at, e.received); err != nil {
			return nil, err
		}
		if _, err := x.do.matched.ExecContext(bg, cb.State, cb.Error, cb.PaymentID, int64(e.at.Epoch), int64(e.at.Seq)); err != nil {
			return nil, err
		}
		x.counts[StateUnmatched]--
		x.counts[cb.State]++
		p = x.payments[p.ID]
	}
	return p, nil
}

// insert stores a callback as it came, and completes cb.
func (x *tx) insert(at push.Cursor, e wire.Entry, sum wire.Checksum, session string, cb *Callback, merchant string) error {
	cb.ID, cb.Received, cb.Session, cb.Ref = at.String(), e.Received.UTC(), session, e.Ref
	cb.Remote, cb.Header, cb.Body = e.Remote, e.Header, e.Body
	if id, _, ours := splitRef(e.Ref); ours {
		cb.Ref = id
	}
	_, err := x.do.insertCallback.ExecContext(context.Background(), int64(at.Epoch), int64(at.Seq), cb.State, cb.Error, cb.PaymentID, session, merchant,
		millis(e.Received), int(e.Kind), cb.Ref, e.Remote, sum[:], notNil(e.Header), notNil(e.Body))
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	x.counts[cb.State]++
	x.rows++
	x.bytes += len(e.Header) + len(e.Body)
	return nil
}

// notNil keeps an empty body from being stored as NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func place(epoch wire.Epoch, seq uint64) push.Cursor {
	return push.Cursor{Epoch: uint64(epoch), Seq: seq}
}
