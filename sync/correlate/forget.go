package correlate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Forgotten is what was erased of a customer.
type Forgotten struct {
	Payments, Callbacks int
	Left                int // places of the file in which the digits stand still, as part of something else
}

// ErrOpen is that a payment's result is not known yet, and so its number is needed; or that a callback waits for its payment.
var ErrOpen = errors.New("a payment of this number is open still")

// Forget erases a customer's number: from the payments that it made, from their events, from all that callbacks have said,
// names included, and from the disk on which it was. Amounts, receipts and times stay, so the sums of the ledger do.
//
// It goes in small steps, so that no callback waits long, and ends where it began: whoever asks again after it broke off
// erases the rest. Not erased is what is elsewhere: backups, and what the edge keeps of the last days.
func (t *Table) Forget(ctx context.Context, phone, who string) (f Forgotten, err error) {
	c, err := customerOf(phone)
	if err != nil {
		return f, fmt.Errorf("correlate: forget: %w", err)
	}
	for _, step := range []func(context.Context, customer, *Forgotten) error{t.forgetNoParked, t.forgetPayments, t.forgetCallbacks, t.forgetMoney} {
		if err := step(ctx, c, &f); err != nil {
			return f, fmt.Errorf("correlate: forget: %w", err)
		}
	}
	a := Act{Who: who, Act: "customer forgotten", Detail: fmt.Sprintf("%d payments, %d callbacks", f.Payments, f.Callbacks)}
	if err := t.Audit(ctx, a); err != nil {
		return f, err
	}
	if f.Left, err = t.scrub(ctx, c); err != nil {
		return f, fmt.Errorf("correlate: forget: %w", err)
	}
	return f, nil
}

// customer is a number in the forms in which it is written.
type customer struct {
	phone  string         // 254 and nine digits
	digits []byte         // the nine
	hash   []byte         // as C2B notices write numbers
	spoken *regexp.Regexp // the nine with spaces or the like between them, and what stands before them
}

func customerOf(phone string) (customer, error) {
	if len(phone) != 12 || strings.Trim(phone, "0123456789") != "" {
		return customer{}, ErrInvalid
	}
	sum := sha256.Sum256([]byte(phone))
	spoken, err := regexp.Compile(`(?:\+?254|0)?[ .()-]*` + strings.Join(strings.Split(phone[3:], ""), `[ .()-]?`))
	return customer{phone: phone, digits: []byte(phone[3:]), hash: []byte(hex.EncodeToString(sum[:])), spoken: spoken}, err
}

// without is a text without the number.
func (c customer) without(text string) string { return c.spoken.ReplaceAllString(text, "***") }

// in reports whether a callback has the number.
func (c customer) in(header, body []byte) bool {
	return bytes.Contains(body, c.digits) || bytes.Contains(header, c.digits) || bytes.Contains(bytes.ToLower(body), c.hash) || c.spoken.Match(body)
}

const forgetStep = 100 // payments or callbacks in a transaction

// parkedFor is how long a callback waits for its payment. It may be all that tells of the money, so it is needed for that long.
const parkedFor = askFor

// forgetNoParked refuses while a callback with the number waits for a payment that is not registered yet.
func (t *Table) forgetNoParked(ctx context.Context, c customer, _ *Forgotten) error {
	rows, err := t.read.QueryContext(ctx, "SELECT header, body FROM callbacks WHERE state = 'unmatched' AND received > ?", time.Now().Add(-parkedFor).UnixMilli())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var header, body []byte
		if err := rows.Scan(&header, &body); err != nil {
			return err
		}
		if c.in(header, body) {
			return ErrOpen
		}
	}
	return rows.Err()
}

func (t *Table) forgetPayments(ctx context.Context, c customer, f *Forgotten) error {
	for more := true; more; {
		err := t.write(ctx, func(x *tx) error {
			bg := context.Background()
			ids, err := x.ids(t.conn.QueryContext(bg, "SELECT id FROM payments WHERE phone = ? AND phone <> '' ORDER BY row LIMIT ?", c.phone, forgetStep))
			if err != nil {
				return err
			}
			more = len(ids) == forgetStep
			var open int
			err = t.conn.QueryRowContext(bg, "SELECT count(*) FROM payments WHERE phone = ? AND phone <> '' AND (silent_at > 0 OR ask_at > 0)", c.phone).Scan(&open)
			if err != nil {
				return err
			}
			if open > 0 {
				return ErrOpen
			}
			x.wrote, x.purge = true, true
			for _, id := range ids {
				if err := x.forgetPayment(c, id); err != nil {
					return err
				}
			}
			x.after = append(x.after, func() { f.Payments += len(ids); t.sessions.Purge() })
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetPayment writes behind the back of the caches: the transaction purges them.
func (x *tx) forgetPayment(c customer, id string) error {
	bg := context.Background()
	p, err := scanPayment(x.do.paymentByID.QueryRowContext(bg, id))
	if err != nil {
		return err
	}
	notices, err := json.Marshal(p.notices)
	if err != nil {
		return err
	}
	if len(p.notices) == 0 {
		notices = nil
	}
	key := p.IdempotencyKey
	if c.spoken.MatchString(key) { // it cannot come to stand for another request
		sum := sha256.Sum256([]byte(p.ID + key))
		key = "forgotten-" + hex.EncodeToString(sum[:8])
	}
	_, err = x.t.conn.ExecContext(bg, "UPDATE payments SET phone = '', checkout = '', answered = '', reference = ?, idempotency = ?, description = ?, notices = ? WHERE row = ?",
		c.without(p.AccountReference), key, c.without(p.ResultDesc), c.without(string(notices)), p.row)
	if err != nil {
		return err
	}
	if _, err := x.t.conn.ExecContext(bg, "UPDATE sessions SET reference = ? WHERE id = ? AND reference = ?", c.without(p.AccountReference), p.Session, p.AccountReference); err != nil {
		return err
	}
	for seq := p.event; seq != 0; { // back along the payment's chain, to where that was pruned
		var prev int64
		var text []byte
		err := x.t.conn.QueryRowContext(bg, "SELECT prev, message FROM events WHERE seq = ?", int64(seq)).Scan(&prev, &text)
		if notFound(err) == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		var m push.Message
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		m.Data.PhoneNumber, m.Data.CheckoutRequestID = "", ""
		m.Data.AccountReference, m.Data.ResultDesc = c.without(m.Data.AccountReference), c.without(m.Data.ResultDesc)
		if _, err := x.t.conn.ExecContext(bg, "UPDATE events SET message = ? WHERE seq = ?", m.Append(nil), int64(seq)); err != nil {
			return err
		}
		seq = uint64(prev)
	}
	return nil
}

// forgetCallbacks looks at every callback there is: a customer may be in one that belongs to no payment.
func (t *Table) forgetCallbacks(ctx context.Context, c customer, f *Forgotten) error {
	const page = 2000
	for after, more := int64(-1), true; more; {
		places, n, err := t.callbacksOf(ctx, c, &after, page)
		if err != nil {
			return err
		}
		more = n == page
		for len(places) > 0 {
			some := places[:min(forgetStep, len(places))]
			places = places[len(some):]
			err := t.write(ctx, func(x *tx) error {
				x.wrote = true
				for _, place := range some {
					// One that has come just now, and waits, is left: Left tells of it.
					_, err := t.conn.ExecContext(context.Background(), "UPDATE callbacks SET header = x'', body = x'' WHERE place = ? AND NOT (state = 'unmatched' AND received > ?)",
						place, x.now.Add(-parkedFor).UnixMilli())
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			f.Callbacks += len(some)
		}
	}
	return nil
}

func (t *Table) callbacksOf(ctx context.Context, c customer, after *int64, page int) (places []int64, n int, err error) {
	rows, err := t.read.QueryContext(ctx, "SELECT place, header, body FROM callbacks WHERE place > ? ORDER BY place LIMIT ?", *after, page)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var header, body []byte
		if err := rows.Scan(after, &header, &body); err != nil {
			return nil, 0, err
		}
		n++
		if c.in(header, body) {
			places = append(places, *after)
		}
	}
	return places, n, rows.Err()
}

// forgetMoney erases the number from the references of C2B notices: what the customer typed, which is often that.
func (t *Table) forgetMoney(ctx context.Context, c customer, _ *Forgotten) error {
	return t.write(ctx, func(x *tx) error {
		bg := context.Background()
		rows, err := t.conn.QueryContext(bg, "SELECT receipt, reference FROM money WHERE reference <> ''")
		if err != nil {
			return err
		}
		defer rows.Close()
		found := map[string]string{}
		for rows.Next() {
			var receipt, reference string
			if err := rows.Scan(&receipt, &reference); err != nil {
				return err
			}
			if c.spoken.MatchString(reference) {
				found[receipt] = c.without(reference)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for receipt, reference := range found {
			if _, err := t.conn.ExecContext(bg, "UPDATE money SET reference = ? WHERE receipt = ?", reference, receipt); err != nil {
				return err
			}
			x.wrote = true
		}
		return nil
	})
}

// scrub sees to it that the digits are gone from the disk too. SQLite overwrites what is deleted (secure_delete), but the log
// holds pages as they were: it is emptied. Should the digits be in the file all the same, in a page that was deleted by a
// program that did not overwrite, the file is written anew. What stands then still is part of something else.
func (t *Table) scrub(ctx context.Context, c customer) (left int, err error) {
	for _, whole := range []bool{false, true} {
		if err := t.empty(ctx, whole); err != nil {
			return 0, err
		}
		left = 0
		for _, name := range []string{t.cfg.Path, t.cfg.Path + "-wal"} {
			n, err := count(name, c.digits)
			if err != nil {
				return 0, err
			}
			left += n
		}
		if left == 0 {
			return 0, nil
		}
	}
	return left, nil
}

// empty empties the log; whole writes the file anew before.
func (t *Table) empty(ctx context.Context, whole bool) error {
	t.tidying.Store(true)
	defer t.tidying.Store(false)
	t.mu.Lock()
	defer t.mu.Unlock()
	if whole {
		if _, err := t.conn.ExecContext(ctx, "VACUUM"); err != nil {
			return err
		}
	}
	for patience := time.Now().Add(time.Minute); ; {
		var busy, pages, moved int
		if err := t.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
			return err
		}
		if busy == 0 {
			t.behind = 0
			return nil
		}
		if time.Now().After(patience) {
			return errors.New("somebody reads the database all the time, so its log cannot be emptied: ask again")
		}
	}
}

// count counts how often something stands in a file.
func count(name string, what []byte) (n int, err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for kept := 0; ; {
		got, err := f.Read(b[kept:])
		seen := b[:kept+got]
		n += bytes.Count(seen, what)
		kept = min(len(seen), len(what)-1) // it may go on in what comes next
		copy(b, seen[len(seen)-kept:])
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
