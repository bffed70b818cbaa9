package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A callback that is stored here has had its effect: both are committed together. But a success that is held waits here, for
// Daraja or a person, and one that the edge still has waits there.

const heldBack = "SELECT count(*), coalesce(min(CASE stored WHEN 0 THEN received ELSE stored END), 0) FROM callbacks WHERE state = 'held' AND state <> 'applied'"

// Held is how many callbacks are held, and since when the oldest of them is.
func (t *Table) Held(ctx context.Context) (n int, oldest time.Time, err error) {
	var at int64
	if err := t.read.QueryRowContext(ctx, heldBack).Scan(&n, &at); err != nil {
		return 0, time.Time{}, fmt.Errorf("correlate: held: %w", err)
	}
	return n, instant(at), nil
}

// Reached is when the edge took the newest callback up to which there are all, of the journal that was last welcomed: what
// has not come yet, it took later. Zero: there is none.
func (t *Table) Reached(ctx context.Context) (time.Time, error) {
	t.mu.Lock()
	s := t.spot[t.at]
	t.mu.Unlock()
	var received int64
	err := t.read.QueryRowContext(ctx, "SELECT received FROM callbacks WHERE place > ? AND place <= ? ORDER BY place DESC LIMIT 1", s.in(), s.in()|int64(s.seq)).Scan(&received)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("correlate: reached: %w", err)
	}
	return instant(received), nil
}
