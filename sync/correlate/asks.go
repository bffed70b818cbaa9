package correlate

import (
	"context"
	"fmt"
	"time"
)

// Rest is how Daraja was last asked with a shortcode, and how long it is to be left alone.
type Rest struct {
	Asked    time.Time // zero: never
	Failures int       // in a row, up to now; 0: it answers
	Since    time.Time // the first of them
	Until    time.Time // it is not asked before; zero: at any time
	Why      string    // the last of them, for people
}

// Rests returns those that are known, by the shortcode's name.
func (t *Table) Rests(ctx context.Context) (map[string]Rest, error) {
	rows, err := t.read.QueryContext(ctx, "SELECT shortcode, asked, failures, since, until, why FROM asks")
	if err != nil {
		t.Met(err)
		return nil, fmt.Errorf("correlate: rests: %w", err)
	}
	defer rows.Close()
	all := map[string]Rest{}
	for rows.Next() {
		var name string
		var r Rest
		var asked, since, until int64
		if err := rows.Scan(&name, &asked, &r.Failures, &since, &until, &r.Why); err != nil {
			return nil, fmt.Errorf("correlate: rests: %w", err)
		}
		r.Asked, r.Since, r.Until = instant(asked), instant(since), instant(until)
		all[name] = r
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("correlate: rests: %w", err)
	}
	return all, nil
}

// SetRest records how Daraja has answered those who asked with some shortcodes. When they asked, Asked has recorded.
func (t *Table) SetRest(ctx context.Context, shortcodes []string, r Rest) error {
	err := t.write(ctx, func(x *tx) error {
		for _, name := range shortcodes {
			x.wrote = true
			if _, err := t.conn.ExecContext(context.Background(), `INSERT INTO asks (shortcode, asked, failures, since, until, why) VALUES (?, 0, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET failures = excluded.failures, since = excluded.since, until = excluded.until, why = excluded.why`,
				name, r.Failures, millis(r.Since), millis(r.Until), r.Why); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("correlate: rest: %w", err)
	}
	return nil
}

// Waiting counts the payments that are due to be asked about.
func (t *Table) Waiting(ctx context.Context) (n int, err error) {
	err = t.read.QueryRowContext(ctx, "SELECT count(*) FROM payments INDEXED BY payments_due WHERE due_at > 0 AND due_at <= ?1 AND ask_at > 0 AND ask_at <= ?1", time.Now().UnixMilli()).Scan(&n)
	if err != nil {
		t.Met(err)
		return 0, fmt.Errorf("correlate: waiting: %w", err)
	}
	return n, nil
}
