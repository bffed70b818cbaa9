package correlate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// progress is what changes with every callback: how far the journal that is being read was applied, and how many callbacks
// there are of each state. In rows of its own it would cost every commit two pages more than the callback itself does; so
// it is written with the last event of each commit, of which the newest counts, and into the table store only by a commit
// that has no event. Store.event says which of the two is the newer.
//
// How far all other journals were applied stands in the table cursors. That row of the one in progress is from before it was.
type progress struct {
	Epoch  uint64           `json:"epoch"` // 0: none
	Seq    uint64           `json:"seq"`
	Sum    []byte           `json:"sum"`
	Counts map[string]int64 `json:"counts"`
}

// seqBits is how much of a callback's place is its number in its journal; the rest is the number of the journal. There
// are a trillion to a journal, and eight million journals.
const seqBits = 40

// in is where the callbacks of a journal begin.
func (s spot) in() int64 { return int64(s.number) << seqBits }

// seqAt is the other part of a place.
func seqAt(place int64) uint64 { return uint64(place) & (1<<seqBits - 1) }

// epochOf, as SQL, is that of the journal of a callback.
const epochOf = "(SELECT epoch FROM cursors WHERE number = callbacks.place >> 40)"

// place is that of a callback in the table of callbacks. A journal that is new gets its number.
func (x *tx) place(epoch, seq uint64) (int64, error) {
	if seq >= 1<<seqBits {
		return 0, fmt.Errorf("%d: %w", seq, errBeyond)
	}
	return x.known(epoch).in() | int64(seq), nil
}

// errBeyond is the error for an entry whose number no journal comes to.
var errBeyond = errors.New("the journal numbers an entry higher than can be")

// known is how far a journal was applied, which has a number from now on.
func (x *tx) known(epoch uint64) spot {
	s := x.applied(epoch)
	if s.number == 0 {
		for _, all := range []map[uint64]spot{x.t.spot, x.spot} {
			for _, other := range all {
				s.number = max(s.number, other.number)
			}
		}
		s.number++
		x.spot[epoch] = s
	}
	return s
}

func (t *Table) loadProgress(ctx context.Context) error {
	rows, err := t.conn.QueryContext(ctx, `SELECT number, epoch, seq, sum,
		(SELECT coalesce(max(place), 0) FROM callbacks WHERE place < (cursors.number + 1) << 40) FROM cursors`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var number, epoch, seq, last int64
		var sum []byte
		if err := rows.Scan(&number, &epoch, &seq, &sum, &last); err != nil {
			return err
		}
		s := spot{number: uint64(number), seq: uint64(seq)}
		s.reach = uint64(max(seq, last-s.in()))
		copy(s.sum[:], sum)
		t.spot[uint64(epoch)] = s
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}

	var text string
	err = t.conn.QueryRowContext(ctx, `SELECT progress FROM events WHERE seq = (SELECT max(seq) FROM events) AND seq > (SELECT event FROM store)`).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) || err == nil && text == "" {
		err = t.conn.QueryRowContext(ctx, "SELECT progress FROM store").Scan(&text)
	}
	if err != nil || text == "" {
		return err
	}
	var p progress
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	if s, ok := t.spot[p.Epoch]; ok {
		s.seq, s.reach = p.Seq, max(p.Seq, s.reach)
		copy(s.sum[:], p.Sum)
		t.spot[p.Epoch], t.reading = s, p.Epoch
	}
	maps.Copy(t.counts, p.Counts)
	return nil
}

// storeProgress writes what is not to be in progress, and returns what is, for the last event. Where there is none, it
// writes that too.
func (x *tx) storeProgress() (string, error) {
	t, bg := x.t, context.Background()
	var moved []uint64
	for epoch, s := range x.spot {
		if was := t.spot[epoch]; s.seq != was.seq || s.sum != was.sum {
			moved = append(moved, epoch)
		}
	}
	reading := t.reading
	if len(moved) == 1 {
		reading = moved[0]
	}
	for epoch, s := range x.spot {
		if was := t.spot[epoch]; s.number != was.number || epoch != reading && (s.seq != was.seq || s.sum != was.sum) {
			if err := x.storeCursor(epoch, s); err != nil {
				return "", err
			}
		}
	}
	if reading != t.reading && t.reading != 0 {
		if err := x.storeCursor(t.reading, x.applied(t.reading)); err != nil {
			return "", err
		}
	}
	if len(x.events) == 0 && len(moved) == 0 && len(x.counts) == 0 {
		return "", nil
	}

	p := progress{Epoch: reading, Counts: t.counts}
	if len(x.counts) > 0 {
		p.Counts = maps.Clone(t.counts)
		for state, n := range x.counts {
			p.Counts[state] += n
		}
	}
	s := x.applied(reading)
	p.Seq, p.Sum = s.seq, s.sum[:]
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	if len(x.events) == 0 {
		if _, err := x.do.putProgress.ExecContext(bg, string(text), int64(t.head.Load())); err != nil {
			return "", err
		}
	}
	x.after = append(x.after, func() {
		t.reading = reading
		t.counting.Lock()
		defer t.counting.Unlock()
		t.counts = p.Counts
	})
	return string(text), nil
}

func (x *tx) storeCursor(epoch uint64, s spot) error {
	_, err := x.do.putCursor.ExecContext(context.Background(), int64(s.number), int64(epoch), int64(s.seq), s.sum[:])
	return err
}

// Counts is how many callbacks there are, by state.
func (t *Table) Counts(context.Context) (map[string]int64, error) {
	t.counting.Lock()
	defer t.counting.Unlock()
	return maps.Clone(t.counts), nil
}

// Disbelieved is how many callbacks there are that were not believed.
func (t *Table) Disbelieved() uint64 {
	t.counting.Lock()
	defer t.counting.Unlock()
	return uint64(max(t.counts[StateSuspect]+t.counts[StateForged], 0))
}
