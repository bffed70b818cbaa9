package correlate

import (
	"context"
	"fmt"
	"time"
)

// What is kept for how long. Bodies of callbacks hold numbers and names, and nobody needs them once a payment is settled;
// payments are a ledger, which the law may want for years. So each has a time of its own.

const (
	retainStep  = 200              // rows in a transaction
	retainEvery = 10 * time.Minute // looked for
	retainPause = 50 * time.Millisecond
)

// Retain erases what is older than Config says, until ctx ends: a little at a time, so that no callback waits for it.
func (t *Table) Retain(ctx context.Context) error {
	for {
		more, err := t.retain(ctx)
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
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// retain does one step, and says whether there is more to do.
func (t *Table) retain(ctx context.Context) (more bool, err error) {
	if t.cfg.KeepBodies > 0 {
		if more, err = t.retainBodies(ctx); err != nil || more {
			return more, err
		}
	}
	if t.cfg.KeepPayments > 0 {
		return t.retainPayments(ctx)
	}
	return false, nil
}

// retainBodies empties callbacks, journal by journal, from where it ended.
func (t *Table) retainBodies(ctx context.Context) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		bg := context.Background()
		cutoff := x.now.Add(-t.cfg.KeepBodies).UnixMilli()
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
		if waits && x.t.cfg.Forwarding {
			x.t.log.Warn("what callbacks said is kept for longer than it was to be: the app has not handled it yet")
			break
		}
		places = append(places, place)
	}
	return places, rows.Err()
}

// retainPayments removes payments, and sessions that have none left.
func (t *Table) retainPayments(ctx context.Context) (more bool, err error) {
	err = t.write(ctx, func(x *tx) error {
		bg := context.Background()
		cutoff := x.now.Add(-t.cfg.KeepPayments).UnixMilli()
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
