package correlate

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
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
	StateRecorded  = "recorded"  // a C2B notice: it settles nothing, and tells of money that came by any way
	StateHeld      = "held"      // it is believed, and so large that Daraja is asked before it counts
	StateSuspect   = "suspect"   // it was not believed
	StateForged    = "forged"    // the code in its address is wrong
)

// States are all of them.
func States() []string {
	return []string{StateApplied, StateRepeated, StateOverruled, StateUnmatched, StateUnparsed, StateRecorded, StateHeld, StateSuspect, StateForged}
}

// Callback is a callback as it came, and what became of it.
type Callback struct {
	ID        string    // journal epoch and seq, in the form of a cursor
	Received  time.Time // at the edge
	Stored    time.Time // here; zero: by a version that did not note it
	State     string
	Error     string // why it is unparsed, held, suspect, forged or overruled
	PaymentID string // "" if that is not known
	Session   string // whose address it was posted to, in development
	Ref       string // without its code
	Remote    string
	Source    wire.Source // what the edge thinks of that
	Misdated  bool        // the letters of its receipt are of another day
	Header    []byte
	Body      []byte
	App       Handling // what became of it at the merchant's app

	posted bool // it is a notice, and no other kind of entry
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
	beyond := func(err error) bool {
		return ctx.Err() != nil || cannotStore(err) || errors.Is(err, errOther) || errors.Is(err, errBeyond)
	}
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
			if !old && e.Kind != wire.KindCanary { // of which nothing is left but that the cursor moves
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
		x.moveTo(wire.Cursor{Epoch: wire.Epoch(at.Epoch), Seq: at.Seq, Sum: sum})
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
	cb := Callback{Misdated: v.misdate}
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
	case StateUnmatched, StateRepeated:
		return nil
	case StateRecorded:
		if v.notice.Moved {
			return x.record(*v.notice, cb.PaymentID, at, received)
		}
		return nil
	case StateSuspect, StateForged, StateUnparsed:
		return x.disbelieve(v, at)
	case StateHeld:
		return x.hold(cb, v, at, received)
	}
	c := v.said
	f := factOf(c, at, received)
	p, event, err := x.apply(v.payment, f)
	if err != nil {
		return err
	}
	if f.outcome == daraja.OutcomePaid && event != "" {
		if err := x.claim(p); err != nil {
			return err
		}
	}
	switch {
	case event != "":
		cb.State = StateApplied
	case p.ResultCode == c.ResultCode && (p.Receipt == f.receipt || f.receipt == ""):
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

// factOf is what a callback says that is believed.
func factOf(c daraja.Callback, at push.Cursor, received time.Time) fact {
	f := fact{
		kind:      factCallback,
		at:        time.UnixMilli(received.UnixMilli()).UTC(),
		merchant:  c.MerchantRequestID,
		checkout:  c.CheckoutRequestID,
		outcome:   daraja.OutcomeOf(c.ResultCode),
		code:      c.ResultCode,
		desc:      c.ResultDesc,
		place:     at,
		receipt:   strings.ToUpper(c.Receipt),
		completed: c.Completed.UTC(),
	}
	if c.HasAmount {
		f.amount = push.Money(c.Amount)
	}
	if c.Completed.IsZero() {
		f.completed = f.at
	}
	return f
}

// disbelieve is for a callback that changes no status. It may be the success that somebody waits for, said in a wrong way,
// so Daraja is asked, and whoever stands at the till is told to wait for that. A forged one tells nobody anything: who
// makes those up could else have Daraja asked, and screens changed, as often as he likes.
func (x *tx) disbelieve(v verdict, at push.Cursor) error {
	id := ""
	if p := v.payment; p != nil {
		id = p.ID
		switch {
		case v.state == StateSuspect:
			if _, _, err := x.apply(p, fact{kind: factDoubted, at: x.now, place: at, doubt: v.doubt}); err != nil {
				return err
			}
		case v.state == StateUnparsed || p.askedAt.IsZero():
			x.askSoon(p)
		}
	}
	if v.state == StateUnparsed {
		return nil
	}
	x.t.log.Warn("a callback is not believed", "callback", at.String(), "state", v.state, "payment", id, "why", v.why)
	act := "callback not believed"
	if v.state == StateForged {
		act = "callback forged"
	}
	return x.audit(Act{Who: "sidecar", Act: act, Subject: cmp.Or(id, at.String()), Detail: v.why, Strangers: true})
}

// hold keeps a success back that is believed, until Daraja or a person agrees.
func (x *tx) hold(cb *Callback, v verdict, at push.Cursor, received time.Time) error {
	if v.payment.held != "" { // by the same receipt, or it would be suspect
		cb.State, cb.Error = StateRepeated, ""
		return nil
	}
	f := factOf(v.said, at, received)
	f.kind, f.at = factHeld, x.now
	_, _, err := x.apply(v.payment, f)
	x.t.log.Info("a success is so large that Daraja is asked before it counts", "callback", at.String(), "payment", v.payment.ID)
	return err
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
		at   push.Cursor
		from post
		body []byte
	}
	var list []parked
	rows, err := x.do.parked.QueryContext(bg, p.MerchantRequestID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e parked
		var place, epoch, received, marks int64
		if err := rows.Scan(&place, &epoch, &e.from.session, &received, &marks, &e.body); err != nil {
			return nil, err
		}
		e.at, e.from.received = push.Cursor{Epoch: uint64(epoch), Seq: seqAt(place)}, instant(received)
		e.from.source, _ = unmark(marks)
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
		v, err := x.judgeMatched(p, c, e.from)
		if err != nil {
			return nil, err
		}
		var cb Callback
		if err := x.settle(&cb, v, e.at, e.from.received); err != nil {
			return nil, err
		}
		if err := x.resolve(e.at, StateUnmatched, cb.State, cb.Error, cb.PaymentID); err != nil {
			return nil, err
		}
		p = x.payments[p.ID]
	}
	return p, nil
}

// resolve notes what became of a callback that was kept until something else was known.
func (x *tx) resolve(at push.Cursor, was, state, why, payment string) error {
	place, err := x.place(at.Epoch, at.Seq)
	if err != nil {
		return err
	}
	if _, err := x.do.matched.ExecContext(context.Background(), state, why, payment, place); err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	x.counts[was]--
	x.counts[state]++
	if was == StateHeld {
		return x.judgedAnew(place)
	}
	return nil
}

// insert stores a callback as it came, and completes cb.
func (x *tx) insert(at push.Cursor, e wire.Entry, sum wire.Checksum, session string, cb *Callback, merchant string) error {
	cb.ID, cb.Received, cb.Stored, cb.Session, cb.Ref = at.String(), e.Received.UTC(), x.now, session, e.Ref
	cb.Remote, cb.Source, cb.Header, cb.Body = e.Remote, e.Source, e.Header, e.Body
	if id, _, ours := splitRef(e.Ref); ours {
		cb.Ref = id
	}
	place, err := x.place(at.Epoch, at.Seq)
	if err != nil {
		return err
	}
	_, err = x.do.insertCallback.ExecContext(context.Background(), place, cb.State, cb.Error, cb.PaymentID, session, merchant,
		millis(e.Received), int(e.Kind), cb.Ref, e.Remote, mark(e.Source, cb.Misdated), sum[:], notNil(e.Header), notNil(e.Body), millis(x.now))
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	x.counts[cb.State]++
	x.rows++
	x.arrived = true
	x.bytes += len(e.Header) + len(e.Body)
	return nil
}

// misdated is among the marks of a callback, beside its source.
const misdated = 1 << 4

func mark(s wire.Source, off bool) int64 {
	if off {
		return int64(s) | misdated
	}
	return int64(s)
}

func unmark(marks int64) (s wire.Source, off bool) {
	return wire.Source(marks % misdated), marks&misdated != 0
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
