package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hodihq/hodi/tunnel/wire"
)

// spot is how far a journal was applied.
type spot struct {
	seq uint64
	sum wire.Checksum
}

// direct is the epoch under which callbacks that came to this sidecar itself are numbered: that of the Table, with a bit
// that no journal's epoch will have for the next five thousand years.
func (t *Table) direct() uint64 { return t.epoch | 1<<47 }

func (t *Table) loadSpots(ctx context.Context) error {
	rows, err := t.conn.QueryContext(ctx, "SELECT epoch, seq, sum FROM cursors")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var epoch, seq int64
		var sum []byte
		if err := rows.Scan(&epoch, &seq, &sum); err != nil {
			return err
		}
		s := spot{seq: uint64(seq)}
		copy(s.sum[:], sum)
		t.spot[uint64(epoch)] = s
	}
	return rows.Err()
}

// applied is how far a journal was applied, as this transaction sees it.
func (x *tx) applied(epoch uint64) spot {
	if s, ok := x.spot[epoch]; ok {
		return s
	}
	return x.t.spot[epoch]
}

// seenBefore reports whether an entry was applied under an earlier epoch: an edge that could not show what we asked for
// takes a new epoch and sends the same entries, under the same numbers, once more.
func (x *tx) seenBefore(epoch wire.Epoch, seq uint64, sum wire.Checksum) (bool, error) {
	for old, s := range x.t.spot {
		if old == uint64(epoch) || old == x.t.direct() || s.seq < seq {
			continue
		}
		var one int
		err := x.do.seen.QueryRowContext(context.Background(), int64(old), int64(seq), sum[:]).Scan(&one)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
	}
	return false, nil
}

// Cursor is how far the journal that was last welcomed has been applied: what a Hello carries.
func (t *Table) Cursor(ctx context.Context) (wire.Cursor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == 0 {
		return wire.Cursor{}, nil
	}
	s := t.spot[t.at]
	return wire.Cursor{Epoch: wire.Epoch(t.at), Seq: s.seq, Sum: s.sum}, nil
}

// CallbackBase is the base of callback addresses, as the edge told it last; "" before that. It outlives a restart, so
// that payments can begin while the edge is away.
func (t *Table) CallbackBase() string { return *t.base.Load() }

// Welcome takes note of the journal that is about to be read. Entries that it cannot show any more, or another journal
// than before, may mean that callbacks are lost: that is recorded, and every payment without a result is asked about.
func (t *Table) Welcome(ctx context.Context, w wire.Welcome) error {
	err := t.write(ctx, func(x *tx) error {
		bg := context.Background()
		epoch := uint64(w.Epoch)
		s, known := t.spot[epoch]
		before := t.at
		if !known {
			x.spot[epoch] = spot{}
		}
		if before != epoch || t.CallbackBase() != w.Callback {
			if _, err := t.conn.ExecContext(bg, "UPDATE store SET journal = ?, callback = ?", int64(epoch), w.Callback); err != nil {
				return err
			}
			x.wrote = true
			x.after = append(x.after, func() { t.at = epoch; t.base.Store(&w.Callback) })
		}

		// What an earlier epoch had applied, the same journal under a new one need not show.
		have := s.seq
		if !known {
			have = t.spot[before].seq
		}
		lost := false
		if w.Oldest > have+1 {
			r, err := t.conn.ExecContext(bg, `INSERT INTO gaps (epoch, first, last, found) VALUES (?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET last = excluded.last, found = excluded.found WHERE excluded.last > last`, int64(epoch), int64(have+1), int64(w.Oldest-1), x.now.UnixMilli())
			if err != nil {
				return err
			}
			if n, err := r.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				x.wrote, lost = true, true
				t.log.Warn("the edge cannot show these callbacks any more; every payment without a result is asked about",
					"first", place(w.Epoch, have+1).String(), "last", place(w.Epoch, w.Oldest-1).String())
			}
		}
		if !known && before != 0 {
			lost = true
			t.log.Warn("the edge has another journal than before; every payment without a result is asked about", "was", before, "is", epoch)
		}
		if !lost {
			return nil
		}
		at := x.now.UnixMilli()
		_, err := t.conn.ExecContext(bg, `UPDATE payments SET ask_at = CASE WHEN asked_at > 0 AND asked_at <= ? THEN max(?, asked_at + ?) ELSE ? END
			WHERE status IN ('PENDING', 'UNKNOWN') AND status <> 'SUCCESS' AND checkout <> '' AND shortcode <> ''`, at, at, askApart.Milliseconds(), at)
		x.wrote, x.purge, x.wake = true, true, true
		return err
	})
	if err != nil {
		return fmt.Errorf("correlate: welcome: %w", err)
	}
	return nil
}
