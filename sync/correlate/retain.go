package correlate

import (
	"context"
	"fmt"
	"time"
)

// What is kept for how long. Bodies of callbacks hold numbers and names, and nobody needs them once a payment is settled;
// payments are a ledger, which the law may want for years. So each has a time of its own. With payments go the sessions that
// they were made in, those that were opened and never paid, and what C2B notices told of; and a callback goes when the times of
// both are over. What stays is the audit, and the newest event, with which it is written how far the journals were applied.

const (
	retainStep  = 50               // rows in a transaction: each leaves ten indexes, and is overwritten
	retainEvery = 10 * time.Minute // looked for
	retainPause = 50 * time.Millisecond
)

// Retain erases what is older than Config says, until ctx ends: a little at a time, so that no callback waits for it.
func (t *Table) Retain(ctx context.Context) error {
	var s sweep
	for {
		more, err := t.retain(ctx, &s)
		if err != nil && ctx.Err() == nil {
			t.log.Error("what is too old could not be erased", "err", err)
			t.Met(err)
		}
		pause := retainEvery
		if more && err == nil {
			pause = retainPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.ruled:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// retain does one step, and says whether there is more to do. What is kept for ever by the rules that it begins with is not
// touched by it, whatever they become meanwhile.
func (t *Table) retain(ctx context.Context, s *sweep) (more bool, err error) {
	r := t.rules.Load()
	if r.keepBodies > 0 {
		if more, err = t.retainBodies(ctx, r); err != nil || more {
			return more, err
		}
	}
	if r.keepPayments <= 0 {
		return false, nil
	}
	steps := []func(context.Context, *rules) (bool, error){t.retainPayments, t.retainMoney, s.retainSessions(t)}
	if r.keepBodies > 0 {
		steps = append(steps, t.retainCallbacks)
	}
	for _, step := range steps {
		if more, err = step(ctx, r); err != nil || more {
			return more, err
		}
	}
	return false, nil
}

// retainBodies empties callbacks, journal by journal, from where it ended.
func (t *Table) retainBodies(ctx context.Context, r *rules) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		bg := context.Background()
		cutoff := x.now.Add(-r.keepBodies).UnixMilli()
		var places []int64
		for _, journal := range t.spot {
			old, err := x.olderThan(cutoff, journal, retainStep-len(places))
			if err != nil {
				return err
			}
			places = append(places, old...)
		}
		if len(places) == 0 {
			return nil
		}
		x.wrote, more = true, len(places) == retainStep
		for _, place := range places {
			if _, err := t.conn.ExecContext(bg, "UPDATE callbacks SET header = x'', body = x'' WHERE place = ?", place); err != nil {
				return err
			}
			if _, err := t.conn.ExecContext(bg, "INSERT INTO emptied (journal, place) VALUES (?, ?) ON CONFLICT DO UPDATE SET place = max(place, excluded.place)", place>>seqBits, place); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("correlate: retain bodies: %w", err)
	}
	return more, nil
}

// olderThan is the first callbacks of a journal that were not emptied yet, as long as they are older. They are in the order in
// which they came, so whoever meets a younger one is done. One that the merchant's app is still to be given is needed, and so
// are those behind it, for a while.
func (x *tx) olderThan(cutoff int64, journal spot, limit int) (places []int64, err error) {
	if journal.number == 0 || limit <= 0 {
		return nil, nil
	}
	rows, err := x.t.conn.QueryContext(context.Background(), `SELECT callbacks.place, received, `+appState+` = 'waiting' FROM callbacks LEFT JOIN forwards f ON f.place = callbacks.place
		WHERE callbacks.place > max(?, coalesce((SELECT place FROM emptied WHERE journal = ?), 0)) AND callbacks.place < ? ORDER BY callbacks.place LIMIT ?`,
		journal.in(), int64(journal.number), journal.in()+1<<seqBits, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var place, received int64
		var waits bool
		if err := rows.Scan(&place, &received, &waits); err != nil {
			return nil, err
		}
		if received >= cutoff {
			break
		}
		if waits && x.rules.forwarding {
			x.t.log.Warn("what callbacks said is kept for longer than it was to be: the app has not handled it yet")
			break
		}
		places = append(places, place)
	}
	return places, rows.Err()
}

// retainPayments removes payments, and sessions that have none left.
func (t *Table) retainPayments(ctx context.Context, r *rules) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		bg := context.Background()
		cutoff := x.now.Add(-r.keepPayments).UnixMilli()
		ids, err := x.ids(t.conn.QueryContext(bg, "SELECT id FROM payments WHERE created < ? ORDER BY created LIMIT ?", cutoff, retainStep))
		if err != nil || len(ids) == 0 {
			return err
		}
		x.wrote, x.purge, more = true, true, len(ids) == retainStep
		for _, id := range ids {
			var session string
			if err := t.conn.QueryRowContext(bg, "DELETE FROM payments WHERE id = ? RETURNING session", id).Scan(&session); err != nil {
				return err
			}
			if _, err := t.conn.ExecContext(bg, "DELETE FROM sessions WHERE id = ? AND NOT EXISTS (SELECT 1 FROM payments WHERE session = ?)", session, session); err != nil {
				return err
			}
		}
		x.after = append(x.after, func() { t.sessions.Purge(); t.merchants.Purge() })
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("correlate: retain payments: %w", err)
	}
	return more, nil
}

// retainMoney removes what C2B notices told of.
func (t *Table) retainMoney(ctx context.Context, r *rules) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		gone, err := t.conn.ExecContext(context.Background(), "DELETE FROM money WHERE receipt IN (SELECT receipt FROM money WHERE time < ? ORDER BY time LIMIT ?)",
			x.now.Add(-r.keepPayments).UnixMilli(), retainStep)
		if err != nil {
			return err
		}
		n, err := gone.RowsAffected()
		x.wrote, more = n > 0, n == retainStep
		return err
	})
	if err != nil {
		return false, fmt.Errorf("correlate: retain money: %w", err)
	}
	return more, nil
}

// retainCallbacks removes callbacks, journal by journal, from the first. One that is ahead of its journal's cursor stays: that
// it is there is all that tells that it was applied.
func (t *Table) retainCallbacks(ctx context.Context, r *rules) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		bg := context.Background()
		cutoff := x.now.Add(-max(r.keepBodies, r.keepPayments)).UnixMilli()
		left := retainStep
		for _, journal := range t.spot {
			if journal.number == 0 || left == 0 {
				continue
			}
			old, err := x.callbacksBefore(cutoff, journal, left)
			if err != nil {
				return err
			}
			left -= len(old)
			for _, c := range old {
				for _, from := range []string{"callbacks", "forwards"} {
					if _, err := t.conn.ExecContext(bg, "DELETE FROM "+from+" WHERE place = ?", c.place); err != nil {
						return err
					}
				}
				x.counts[c.state]--
			}
		}
		more = left == 0
		return nil // the counts are what is to be committed
	})
	if err != nil {
		return false, fmt.Errorf("correlate: retain callbacks: %w", err)
	}
	return more, nil
}

type placed struct {
	place int64
	state string
}

// callbacksBefore is the first callbacks of a journal, as long as they are older.
func (x *tx) callbacksBefore(cutoff int64, journal spot, limit int) (list []placed, err error) {
	rows, err := x.t.conn.QueryContext(context.Background(), "SELECT place, state, received FROM callbacks WHERE place >= ? AND place <= ? ORDER BY place LIMIT ?",
		journal.in(), journal.in()|int64(journal.seq), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c placed
		var received int64
		if err := rows.Scan(&c.place, &c.state, &received); err != nil {
			return nil, err
		}
		if received >= cutoff {
			break
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// A sweep goes through the sessions, which no index holds by their age: a page at a time, and once a day. It reads beside the
// writer, and has that remove what it found.
type sweep struct {
	after string // the session up to which it has come; "" before the first
	ended time.Time
}

const (
	sweepPage  = 1000
	sweepEvery = 24 * time.Hour
)

func (s *sweep) retainSessions(t *Table) func(context.Context, *rules) (bool, error) {
	return func(ctx context.Context, r *rules) (more bool, err error) {
		at := now()
		if s.after == "" && !s.ended.IsZero() && at.Sub(s.ended).Abs() < sweepEvery {
			return false, nil
		}
		cutoff := at.Add(-r.keepPayments).UnixMilli()
		last, n, old, err := t.sessionsBehind(ctx, s.after, cutoff)
		if err != nil {
			return false, fmt.Errorf("correlate: retain sessions: %w", err)
		}
		for len(old) > 0 {
			some := old[:min(retainStep, len(old))]
			old = old[len(some):]
			err := t.write(ctx, func(x *tx) error {
				for _, id := range some {
					r, err := t.conn.ExecContext(context.Background(), "DELETE FROM sessions WHERE id = ? AND created < ? AND NOT EXISTS (SELECT 1 FROM payments WHERE session = ?)", id, cutoff, id)
					if err != nil {
						return err
					}
					n, err := r.RowsAffected()
					if err != nil {
						return err
					}
					if n == 0 { // it has a payment still
						continue
					}
					x.wrote = true
					x.after = append(x.after, func() { t.sessions.Remove(id) })
				}
				return nil
			})
			if err != nil {
				return false, fmt.Errorf("correlate: retain sessions: %w", err)
			}
		}
		if s.after = last; n < sweepPage {
			s.after, s.ended = "", at
		}
		return n == sweepPage, nil
	}
}

// sessionsBehind reads a page of sessions: how many there are, the last of them, and those that are old.
func (t *Table) sessionsBehind(ctx context.Context, after string, cutoff int64) (last string, n int, old []string, err error) {
	rows, err := t.read.QueryContext(ctx, "SELECT id, created FROM sessions WHERE id > ? ORDER BY id LIMIT ?", after, sweepPage)
	if err != nil {
		return "", 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var created int64
		if err := rows.Scan(&last, &created); err != nil {
			return "", 0, nil, err
		}
		if n++; created < cutoff {
			old = append(old, last)
		}
	}
	return last, n, old, rows.Err()
}
