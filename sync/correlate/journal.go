package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hodihq/hodi/tunnel/wire"
)

// spot is how far a journal was applied: everything up to seq, and some of what is behind it, up to reach. Those are live
// callbacks, which overtook a backlog that is not whole yet. What they did is in the table like anything else, and that
// they were there is known by their place among the callbacks; the cursor, which says what need not be sent again, waits
// for the backlog.
type spot struct {
	number uint64 // of the journal, in the order in which they became known; 0: it was not heard of
	seq    uint64
	sum    wire.Checksum
	reach  uint64
}

// errOther is the error for an entry of a number under which another one was applied.
var errOther = errors.New("the journal knows another entry by a number that was applied")

// direct is the epoch under which callbacks that came to this sidecar itself are numbered: that of the Table, with a bit
// that no journal's epoch will have for the next five thousand years.
func (t *Table) direct() uint64 { return t.epoch | 1<<47 }

// applied is how far a journal was applied, as this transaction sees it.
func (x *tx) applied(epoch uint64) spot {
	if s, ok := x.spot[epoch]; ok {
		return s
	}
	return x.t.spot[epoch]
}

// moveTo moves the cursor, forwards only.
func (x *tx) moveTo(c wire.Cursor) {
	if s := x.applied(uint64(c.Epoch)); c.Seq > s.seq {
		s.seq, s.sum, s.reach = c.Seq, c.Sum, max(c.Seq, s.reach)
		x.spot[uint64(c.Epoch)] = s
	}
}

// reached notes that an entry was applied.
func (x *tx) reached(epoch wire.Epoch, seq uint64) {
	if s := x.applied(uint64(epoch)); seq > s.reach {
		s.reach = seq
		x.spot[uint64(epoch)] = s
	}
}

// seenBefore reports whether an entry was applied: in its place, or under an earlier epoch, for an edge that could not
// show what we asked for takes a new epoch and sends the same entries, under the same numbers, once more.
func (x *tx) seenBefore(epoch wire.Epoch, seq uint64, sum wire.Checksum) (bool, error) {
	here := x.applied(uint64(epoch))
	if seq <= here.seq {
		return true, nil
	}
	if seq <= here.reach {
		at, found, err := x.storedAt(uint64(epoch), seq)
		switch {
		case err != nil:
			return false, err
		case found && at != sum:
			x.t.other = wire.Cursor{Epoch: epoch, Seq: seq, Sum: at}
			return false, fmt.Errorf("%s: %w", place(epoch, seq), errOther)
		case found:
			return true, nil
		}
	}
	for old, s := range x.t.spot {
		if old == uint64(epoch) || old == x.t.direct() || s.reach < seq {
			continue
		}
		if at, found, err := x.storedAt(old, seq); err != nil || found && at == sum {
			return found, err
		}
	}
	return false, nil
}

// storedAt is the checksum of the callback that is stored under a number.
func (x *tx) storedAt(epoch, seq uint64) (sum wire.Checksum, found bool, err error) {
	s := x.applied(epoch)
	if s.number == 0 || seq >= 1<<seqBits {
		return sum, false, nil
	}
	var b []byte
	err = x.do.sum.QueryRowContext(context.Background(), s.in()|int64(seq)).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return sum, false, nil
	}
	copy(sum[:], b)
	return sum, err == nil, err
}

// Cursor is how far the journal that was last welcomed has been applied: what a Hello carries. An edge that goes on from
// there, and then comes to a number under which we know another entry, was put back to a state in which it had not
// given that number yet. So the next Hello asks it for that entry, which it cannot show.
func (t *Table) Cursor(ctx context.Context) (wire.Cursor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == 0 {
		return wire.Cursor{}, nil
	}
	if t.other.Epoch == wire.Epoch(t.at) {
		return t.other, nil
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
		if t.other.Epoch == w.Epoch && w.Epoch != 0 {
			at := place(w.Epoch, t.other.Seq)
			t.other = wire.Cursor{}
			return fmt.Errorf("the edge goes on behind %s, and has shown another entry by that number", at)
		}
		bg := context.Background()
		epoch := uint64(w.Epoch)
		s, known := t.spot[epoch]
		before := t.at
		if !known {
			x.known(epoch)
		}
		if before != epoch || t.CallbackBase() != w.Callback {
			if _, err := t.conn.ExecContext(bg, "UPDATE store SET journal = ?, callback = ?", int64(epoch), w.Callback); err != nil {
				return err
			}
			x.wrote = true
			x.after = append(x.after, func() { t.at = epoch; t.base.Store(&w.Callback) })
		}

		// What an earlier epoch had applied, the same journal under a new one need not show.
		have, under := s.seq, epoch
		if !known {
			have, under = t.spot[before].seq, before
		}
		gaps, err := x.missing(under, have+1, w.Oldest)
		if err != nil {
			return err
		}
		lost := false
		for _, g := range gaps {
			news, err := x.noteGap(epoch, g)
			if err != nil {
				return err
			}
			if news {
				lost = true
				t.log.Warn("the edge cannot show these callbacks any more; every payment without a result is asked about",
					"first", place(w.Epoch, g.first).String(), "last", place(w.Epoch, g.last).String())
			}
		}
		if !known && before != 0 {
			lost = true
			if _, err := x.noteGap(epoch, gap{last: have}); err != nil {
				return err
			}
			t.log.Warn("the edge has another journal than before; every payment without a result is asked about", "was", before, "is", epoch)
		}
		if lost {
			x.askAboutAll()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("correlate: welcome: %w", err)
	}
	return nil
}

// missing is what was not applied of the entries from first on and before end. Some may have been: live ones, that
// overtook the backlog which is now gone.
func (x *tx) missing(epoch, first, end uint64) (gaps []gap, err error) {
	if first >= end {
		return nil, nil
	}
	in := x.applied(epoch).in()
	rows, err := x.t.conn.QueryContext(context.Background(), "SELECT place - ?1 FROM callbacks WHERE place >= ?1 + ?2 AND place < ?1 + ?3 ORDER BY place", in, int64(first), int64(min(end, 1<<seqBits)))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		if applied := uint64(seq); applied > first {
			gaps = append(gaps, gap{first, applied - 1})
		}
		first = uint64(seq) + 1
	}
	if first < end {
		gaps = append(gaps, gap{first, end - 1})
	}
	return gaps, rows.Err()
}
