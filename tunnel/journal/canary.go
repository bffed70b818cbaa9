package journal

import (
	"context"
	"database/sql"
	"errors"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Canaries are entries like any other, of which an idle endpoint has one every half minute, and nothing else. So of a run of
// them only the last has a row, which tells all of it: with the row of a canary, that of the one before it goes. What is
// asked for in between is made anew, and is what it was, checksum and all.

// canary makes the entry the next canary of the endpoint.
func (c *staged) canary(e *wire.Entry) {
	r := &c.run
	if r.last+1 != e.Seq || r.began.IsZero() {
		*r = run{first: e.Seq, began: e.Received}
	} else {
		c.stood = append(c.stood, r.last)
	}
	r.last = e.Seq
	c.canaries++
	*e = wire.CanaryOf(e.Seq, r.first, r.began)
}

// storeRuns writes down where the runs are that the transaction changes, and takes the rows out for which another stands.
func (w *writer) storeRuns() error {
	for _, c := range w.changes {
		if c.canaries == 0 {
			continue
		}
		for _, seq := range c.stood {
			if _, err := w.silence.ExecContext(background, c.h.row(seq)); err != nil {
				return err
			}
		}
		if _, err := w.singing.ExecContext(background, int64(c.canaries), int64(c.run.last), int64(c.run.first), c.h.id); err != nil {
			return err
		}
	}
	return nil
}

// ofRun is the canary of a number, if the run that the entry tells of has one.
func ofRun(run wire.Entry, seq uint64) (wire.Entry, bool) {
	if run.Kind != wire.KindCanary || seq < run.Run() || seq > run.Seq {
		return wire.Entry{}, false
	}
	return wire.CanaryOf(seq, run.Run(), run.Received), true
}

// stands finds the canary of a number that has no row.
func (s *SQLite) stands(ctx context.Context, h *history, seq uint64) (wire.Entry, error) {
	var id int64
	var data []byte
	var crc sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT id, data, crc FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1`, h.row(seq), h.row(maxSeq)).Scan(&id, &data, &crc)
	if err != nil {
		return wire.Entry{}, err
	}
	e, err := decode(data, crc, uint64(id)&maxSeq)
	if err == nil {
		if e, is := ofRun(e, seq); is {
			return e, nil
		}
	}
	if errors.Is(err, ErrDamaged) || err == nil {
		return wire.Entry{}, sql.ErrNoRows
	}
	return wire.Entry{}, err
}

// untilRun is the last number up to bound that does not leave a run cut in two: the row that is left of it tells all of it,
// and while that is there nothing of it need be missed.
func (w *writer) untilRun(h *history, state wire.State, bound uint64) (uint64, error) {
	if bound < state.Oldest {
		return bound, nil
	}
	var data []byte
	err := w.conn.QueryRowContext(background, `SELECT data FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1`, h.row(bound+1), h.row(maxSeq)).Scan(&data)
	if err != nil {
		return bound, err
	}
	if e, err := wire.ParseEntry(data); err == nil && e.Kind == wire.KindCanary {
		bound = min(bound, e.Run()-1)
	}
	return bound, nil
}
