package correlate

import (
	"context"
	"fmt"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// askFor is how long a payment without a result is asked about.
const askFor = 48 * time.Hour

// Silence turns PENDING payments into UNKNOWN whose time for news is over, and says when to look again: not after the next
// one's will be (zero: none is waiting). It goes by the file, so a restart forgets none.
func (t *Table) Silence(ctx context.Context) (next time.Time, err error) {
	if err := t.pullIn(ctx); err != nil {
		return time.Time{}, fmt.Errorf("correlate: silence: %w", err)
	}
	const some = 500 // in one transaction
	for more := true; more; {
		err := t.write(ctx, func(x *tx) error {
			bg := context.Background()
			ids, err := x.ids(x.do.silent.QueryContext(bg, x.now.UnixMilli(), some))
			if err != nil {
				return err
			}
			more = len(ids) == some
			for _, id := range ids {
				p, _, err := x.payment(id)
				if err != nil {
					return err
				}
				if _, _, err := x.apply(p, fact{kind: factSilence, at: x.now}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("correlate: silence: %w", err)
		}
	}
	if next, err = t.next(ctx, "silent_at", time.Now().UnixMilli()); err != nil {
		return time.Time{}, fmt.Errorf("correlate: silence: %w", err)
	}
	return next, nil
}

// pullIn brings back times that lie further ahead than any schedule sets them: they were set when the clock was ahead. A
// customer at the till would otherwise wait for as long as it was.
func (t *Table) pullIn(ctx context.Context) error {
	const silent = "due_at > ? AND due_at > 0 AND silent_at > ?"                             // now, and UnknownAfter; see put
	const ask = "due_at > ? AND due_at > 0 AND ask_at > max(?, ? + max(0, ? - created) / 4)" // now, and FirstAsk or askApart; else a quarter of its age: see Asked
	at, r := time.Now(), t.rules.Load()
	silence, first, now := at.Add(r.unknownAfter).UnixMilli(), at.Add(max(r.firstAsk, askApart)).UnixMilli(), at.UnixMilli()
	var some bool
	err := t.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM payments WHERE "+silent+") OR EXISTS (SELECT 1 FROM payments WHERE "+ask+")",
		silence, silence, first, first, now, now).Scan(&some)
	if err != nil || !some {
		return err
	}
	t.log.Warn("the clock was set back: payments are seen to sooner than it was ahead")
	return t.write(ctx, func(x *tx) error {
		bg := context.Background()
		if _, err := t.conn.ExecContext(bg, "UPDATE payments SET silent_at = ? WHERE "+silent, silence, silence, silence); err != nil {
			return err
		}
		x.wrote, x.purge, x.wake = true, true, true
		_, err := t.conn.ExecContext(bg, "UPDATE payments SET ask_at = ? WHERE "+ask, first, first, first, now, now)
		return err
	})
}

// Among says which of the payments that are due are meant, and which of them go first. The zero Among is all of them.
type Among struct {
	Shortcodes []string // only those of these; nil: of all
	Others     bool     // all but those of Shortcodes
	Longest    bool     // who has waited longest goes before who stands at the till and was asked about already
}

// atTheTill is how long after its beginning somebody waits for a payment.
const atTheTill = 5 * time.Minute

// Due returns payments that Daraja is to be asked about now. First are those of which somebody waits at the till and that were
// never asked about, the newest before the others; then those that are asked about again, by who waits at the till and by how long
// they have been due: see Among. Next is when to look again: not after the first of the others will be due (zero: none).
func (t *Table) Due(ctx context.Context, a Among, limit int) (due []Payment, next time.Time, err error) {
	now := time.Now().UnixMilli()
	args := []any{now, now - atTheTill.Milliseconds(), limit}
	const fresh, till = "created > ?2 AND asked_at = 0", "created > ?2"
	again := "CASE WHEN " + till + " THEN 1 ELSE 2 END"
	if a.Longest {
		again = "1"
	}
	of := ""
	if a.Shortcodes != nil {
		in := ""
		for i, name := range a.Shortcodes {
			in += fmt.Sprintf("%s?%d", map[bool]string{true: ", "}[i > 0], i+4)
			args = append(args, name)
		}
		of = map[bool]string{false: " AND shortcode IN (", true: " AND shortcode NOT IN ("}[a.Others] + in + ")"
	}
	order := " ORDER BY CASE WHEN " + fresh + " THEN 0 ELSE " + again + " END, CASE WHEN " + fresh + " THEN -row ELSE ask_at END, row"
	due, err = t.list(ctx, "SELECT "+paymentAll+" FROM payments WHERE row IN (SELECT row FROM payments INDEXED BY payments_due WHERE due_at > 0 AND due_at <= ?1 AND ask_at > 0 AND ask_at <= ?1"+of+
		order+" LIMIT ?3)"+order, args...)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("correlate: due: %w", err)
	}
	if next, err = t.next(ctx, "ask_at", now); err != nil {
		return nil, time.Time{}, fmt.Errorf("correlate: due: %w", err)
	}
	return due, next, nil
}

// next is when a clock of some payment goes off next, or one that could be it: of those payments of which the other clock
// went off already, the first; of the rest, whatever is due first, by whichever clock.
func (t *Table) next(ctx context.Context, clock string, now int64) (time.Time, error) {
	var at int64
	err := t.read.QueryRowContext(ctx, "SELECT coalesce(min(at), 0) FROM (SELECT min("+clock+") AS at FROM payments WHERE due_at > 0 AND due_at <= ?1 AND "+clock+
		" > ?1 UNION ALL SELECT min(due_at) FROM payments WHERE due_at > ?1 AND due_at > 0)", now).Scan(&at)
	return instant(at), err
}

// Asked records that Daraja is being asked about a payment, and when to ask again: never sooner than after 15 s, ever more
// sparsely as the payment grows old, and no more after two days. It is called before the question leaves, so that a
// crash does not ask twice.
func (t *Table) Asked(ctx context.Context, paymentID string) error {
	_, err := t.change(ctx, "asked", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		var again time.Time
		age := x.now.Sub(p.Created)
		if p.open() && p.CheckoutRequestID != "" && age < askFor {
			again = x.now.Add(max(askApart, (age / 4).Truncate(time.Millisecond)))
		}
		if _, err := t.conn.ExecContext(context.Background(), `INSERT INTO asks (shortcode, asked, failures, since, until, why) VALUES (?, ?, 0, 0, 0, '')
			ON CONFLICT DO UPDATE SET asked = excluded.asked`, p.Shortcode, millis(x.now)); err != nil {
			return nil, err
		}
		q := *p
		q.askedAt = x.now
		return x.askAgain(q, again), nil
	})
	return err
}

// Unaskable records that nobody can ask about a payment any more: its shortcode was taken out of the configuration.
func (t *Table) Unaskable(ctx context.Context, paymentID string) error {
	_, err := t.change(ctx, "unaskable", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		if !p.Asking() {
			return p, nil
		}
		return x.askAgain(*p, time.Time{}), nil
	})
	return err
}

// Askable has payments asked about again of whose shortcodes Unaskable was told: those are in the configuration once more, from
// which a slip of the pen had taken them. What is older than two days stays as it is.
func (t *Table) Askable(ctx context.Context, shortcodes []string) error {
	in := ""
	args := []any{time.Now().Add(-askFor).UnixMilli()}
	for i, name := range shortcodes {
		in += fmt.Sprintf("%s?%d", map[bool]string{true: ", "}[i > 0], i+2)
		args = append(args, name)
	}
	given, err := t.list(ctx, "SELECT "+paymentAll+" FROM payments WHERE created > ?1 AND ask_at = 0 AND checkout <> '' AND (status IN ('PENDING', 'UNKNOWN') OR status = 'FAILED' AND doubt <> '') AND shortcode IN ("+in+")", args...)
	if err != nil {
		return fmt.Errorf("correlate: askable: %w", err)
	}
	for _, one := range given {
		if _, err := t.change(ctx, "askable", one.ID, func(x *tx, p *Payment) (*Payment, error) {
			if p.Asking() || !p.open() || x.now.Sub(p.Created) >= askFor {
				return p, nil
			}
			q := *p
			q.askAt, x.wake = soonest(q, x.now), true
			if q.Asking() && (q.Status == push.Unknown || q.Doubt != "") { // who was told that nobody checks
				x.emit(&q, push.PaymentUpdate, "")
			}
			return x.put(q), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// askAgain notes when Daraja is asked next about a payment; zero: never. Then subscribers are told, who were promised
// that we check.
func (x *tx) askAgain(p Payment, at time.Time) *Payment {
	told := (p.Status == push.Unknown || p.Doubt != "") && p.Asking() && at.IsZero()
	p.askAt = at
	if told {
		x.emit(&p, push.PaymentUpdate, "")
	}
	return x.put(p)
}

// Answer folds in what Daraja answered when it was asked. A success counts at once; a failure when two answers at least
// 15 s apart agree; a code that is not known not at all.
func (t *Table) Answer(ctx context.Context, paymentID string, a daraja.Answer) (Payment, error) {
	return t.change(ctx, "answer", paymentID, func(x *tx, p *Payment) (*Payment, error) {
		if a.MerchantRequestID != "" && p.MerchantRequestID != "" && a.MerchantRequestID != p.MerchantRequestID {
			x.t.log.Warn("Daraja answered about another payment", "payment", p.ID)
			return p, nil
		}
		f := fact{kind: factAnswer, at: x.now, outcome: daraja.OutcomeOf(a.ResultCode), code: a.ResultCode, desc: a.ResultDesc}
		if f.outcome == daraja.OutcomePaid { // a success that was held for this answer counts, and has a receipt
			said, held, err := x.release(p)
			if err != nil {
				return nil, err
			}
			if held {
				f = said
			}
		}
		q, event, err := x.apply(p, f)
		if err == nil && f.kind == factCallback {
			err = x.claim(q)
		}
		if event == push.PaymentCompleted || event == push.PaymentUpdate {
			x.t.log.Info("Daraja was asked and told the result", "payment", p.ID, "code", a.ResultCode)
		}
		return q, err
	})
}
