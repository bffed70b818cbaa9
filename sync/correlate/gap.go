package correlate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// What the edge answered 200 to and cannot deliver any more is told of for as long as this file lives: somebody may have
// paid. A row of the table gaps is numbers of a journal that were not applied; a row that begins with 0 says that the edge
// had another journal all of a sudden, and its last is how far the one before had been applied.

// A Gap is callbacks that the edge took and that never came here.
type Gap struct {
	Callbacks uint64 // how many; 0: nobody knows, and it may be none, for the edge's journal was lost with what was in it
	From, To  time.Time
	Found     time.Time
}

// gap is entries that were not applied.
type gap struct{ first, last uint64 }

// noteGap writes a gap down, and reports whether that is news.
func (x *tx) noteGap(epoch uint64, g gap) (bool, error) {
	r, err := x.t.conn.ExecContext(context.Background(), `INSERT INTO gaps (epoch, first, last, found) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET last = excluded.last, found = excluded.found WHERE excluded.last > last`, int64(epoch), int64(g.first), int64(g.last), x.now.UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	x.wrote = x.wrote || n > 0
	return n > 0, err
}

// Gaps lists what never came, the newest last. Of each it tells between which callbacks it belongs, as far as those are
// still kept: From is when the last one before it came to the edge, the zero time if that is not known; To is when the
// next one did, or else when it was found.
func (t *Table) Gaps(ctx context.Context) ([]Gap, error) {
	list, err := t.gaps(ctx)
	if err != nil {
		return nil, fmt.Errorf("correlate: gaps: %w", err)
	}
	return list, nil
}

func (t *Table) gaps(ctx context.Context) (list []Gap, err error) {
	type row struct {
		epoch uint64
		gap
		found int64
	}
	rows, err := t.read.QueryContext(ctx, `SELECT epoch, first, last, found FROM gaps WHERE epoch > 0 ORDER BY epoch, first`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []row
	for rows.Next() {
		var epoch, first, last, at int64
		if err := rows.Scan(&epoch, &first, &last, &at); err != nil {
			return nil, err
		}
		r := row{uint64(epoch), gap{uint64(first), uint64(last)}, at}
		if n := len(found); n > 0 && r.first > 1 && found[n-1].epoch == r.epoch && found[n-1].first > 0 && found[n-1].last == r.first-1 {
			found[n-1].last, found[n-1].found = r.last, max(r.found, found[n-1].found) // one disk's damage, entry by entry
			continue
		}
		found = append(found, r)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, nil
	}
	journals := t.journals()
	for _, r := range found {
		g := Gap{Found: instant(r.found)}
		older := journals.before(r.epoch)
		if r.first == 0 {
			switch same, err := t.sameJournal(ctx, r.epoch, r.last, journals); {
			case err != nil:
				return nil, err
			case same:
				continue
			}
			if began := instant(int64(r.epoch)); began.Before(g.Found) {
				g.To = began // an epoch is when the journal was made
			}
			g.From, err = t.came(ctx, older, `place <= ? ORDER BY place DESC`, r.last)
		} else {
			g.Callbacks = r.last - r.first + 1
			if g.From, err = t.came(ctx, append([]spot{journals[r.epoch]}, older...), `place < ? ORDER BY place DESC`, r.first); err == nil {
				g.To, err = t.came(ctx, []spot{journals[r.epoch]}, `place > ? ORDER BY place`, r.last)
			}
		}
		if err != nil {
			return nil, err
		}
		if g.To.IsZero() {
			g.To = g.Found
		}
		list = append(list, g)
	}
	slices.SortStableFunc(list, func(a, b Gap) int { return cmp.Compare(a.Found.UnixMilli(), b.Found.UnixMilli()) })
	return list, nil
}

// came is when the first callback that a condition finds came to the edge, in the first of some journals that has one. The
// callbacks of a journal that went on under another epoch are stored under the epochs at which they came.
func (t *Table) came(ctx context.Context, of []spot, where string, seq uint64) (time.Time, error) {
	for _, s := range of {
		var at int64
		err := t.read.QueryRowContext(ctx, `SELECT received FROM callbacks WHERE place BETWEEN ? AND ? AND kind <> ? AND `+where+` LIMIT 1`,
			s.in(), s.in()|(1<<seqBits-1), int(wire.KindLost), s.in()|int64(seq)).Scan(&at)
		if err == nil {
			return instant(at), nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return time.Time{}, err
		}
	}
	return time.Time{}, nil
}

// journals is how far each journal was applied, by its epoch.
type journals map[uint64]spot

func (t *Table) journals() journals {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(journals)
	for epoch, s := range t.spot {
		if epoch != t.direct() {
			all[epoch] = s
		}
	}
	return all
}

// before is the journals that are older than one, the newest first.
func (j journals) before(epoch uint64) (list []spot) {
	for _, e := range slices.Backward(slices.Sorted(maps.Keys(j))) {
		if e < epoch {
			list = append(list, j[e])
		}
	}
	return list
}

// sameJournal reports whether a journal turned out to be the one before it under another epoch: it came past the entry up
// to which that one had been applied, and what it showed by that number was not new.
func (t *Table) sameJournal(ctx context.Context, epoch, seq uint64, all journals) (bool, error) {
	s := all[epoch]
	if seq == 0 || s.seq < seq {
		return false, nil
	}
	var n int
	err := t.read.QueryRowContext(ctx, `SELECT count(*) FROM callbacks WHERE place = ?`, s.in()|int64(seq)).Scan(&n)
	return n == 0, err
}
