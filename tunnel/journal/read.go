package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hodihq/hodi/tunnel/wire"
)

// readRows bounds how many entries one Next takes from disk, however small they are.
const readRows = 4096

// Entry is that of Journal.
func (s *SQLite) Entry(ctx context.Context, endpoint string, seq uint64) (wire.Entry, error) {
	h, err := s.history(ctx, endpoint)
	if err != nil {
		return wire.Entry{}, fmt.Errorf("journal: entry %d of %s: %w", seq, endpoint, err)
	}
	h.mu.Lock()
	state := h.state
	e, ok := h.remembered(seq)
	h.mu.Unlock()
	if seq == 0 || seq > state.Head || seq < state.Oldest && seq != state.Acked {
		return wire.Entry{}, fmt.Errorf("journal: entry %d of %s: %w", seq, endpoint, ErrNoEntry)
	}
	if ok {
		return e.entry, nil
	}
	entry, err := s.held(ctx, h, seq)
	if err == nil {
		return entry, nil
	}
	if now := h.now(); seq < now.Oldest && seq != now.Acked { // it was pruned while we read
		err = ErrNoEntry
	}
	if errors.Is(err, ErrDamaged) || errors.Is(err, sql.ErrNoRows) {
		return s.gone(h, seq, err), nil
	}
	s.meet(err)
	return wire.Entry{}, fmt.Errorf("journal: entry %d of %s: %w", seq, endpoint, err)
}

// Next is that of Journal. A reader that keeps up is served from memory; one that fell behind, from disk.
func (s *SQLite) Next(ctx context.Context, endpoint string, after uint64, maxBytes int) ([]wire.Entry, error) {
	h, err := s.history(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("journal: next of %s: %w", endpoint, err)
	}
	for {
		select {
		case <-s.stop:
			return nil, fmt.Errorf("journal: next of %s: %w", endpoint, ErrClosed)
		default:
		}
		h.mu.Lock()
		state, from := h.state, max(after+1, h.state.Oldest)
		if from > state.Head {
			news := h.wait()
			h.mu.Unlock()
			select {
			case <-news:
			case <-ctx.Done():
				return nil, fmt.Errorf("journal: next of %s: %w", endpoint, ctx.Err())
			case <-s.stop:
			}
			continue
		}
		if from >= h.first() {
			entries := newest(h.tail[from-h.first():], maxBytes)
			h.mu.Unlock()
			return entries, nil
		}
		h.mu.Unlock()

		entries, err := s.older(ctx, h, from, state.Head, maxBytes)
		if len(entries) > 0 {
			return entries, nil // what is wrong behind them is met again by the next
		}
		if err == nil || errors.Is(err, ErrDamaged) {
			entries, err = s.beside(ctx, h, from, state.Head)
		}
		if len(entries) == 0 && h.now().Oldest > from { // it was pruned while we read
			continue
		}
		if err != nil {
			s.meet(err)
			return nil, fmt.Errorf("journal: next of %s: %w", endpoint, err)
		}
		return entries, nil
	}
}

func newest(tail []stored, maxBytes int) []wire.Entry {
	n, size := 0, 0
	for n < len(tail) {
		if size += tail[n].entry.Size(); n > 0 && size > maxBytes {
			break
		}
		n++
	}
	entries := make([]wire.Entry, n)
	for i := range entries {
		entries[i] = tail[i].entry
	}
	return entries
}

// older reads entries from disk, up to the first that is not there and that no row stands for.
func (s *SQLite) older(ctx context.Context, h *history, from, to uint64, maxBytes int) (entries []wire.Entry, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, data, crc FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?`,
		h.row(from), h.row(to), readRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for size := 0; rows.Next(); {
		var id int64
		var data []byte
		var crc sql.NullInt64
		if err := rows.Scan(&id, &data, &crc); err != nil {
			return entries, err
		}
		last, err := decode(data, crc, uint64(id)&maxSeq)
		if err != nil {
			return entries, err
		}
		for next := from + uint64(len(entries)); next <= last.Seq; next++ {
			e := last
			if next < last.Seq {
				var is bool
				if e, is = ofRun(last, next); !is {
					return entries, nil
				}
			}
			if size += e.Size(); len(entries) > 0 && (size > maxBytes || len(entries) == readRows) {
				return entries, nil
			}
			entries = append(entries, e)
		}
	}
	return entries, rows.Err()
}

// Ack is that of Journal. It is known at once and saved soon: a crash may take back the last second of it, which costs
// no more than keeping a few entries longer. What is forgotten needs no Ack: Acked does not go where no entry is.
func (s *SQLite) Ack(ctx context.Context, endpoint string, epoch wire.Epoch, seq uint64) error {
	h, err := s.history(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("journal: ack of %s: %w", endpoint, err)
	}
	h.mu.Lock()
	state := h.state
	e, ok := h.remembered(seq)
	h.mu.Unlock()
	switch {
	case epoch != state.Epoch:
		return fmt.Errorf("journal: ack of %s in epoch %d, which is now %d: %w", endpoint, epoch, state.Epoch, ErrEpoch)
	case seq > state.Head:
		return fmt.Errorf("journal: ack of entry %d of %s, whose newest is %d: %w", seq, endpoint, state.Head, ErrNoEntry)
	case seq <= state.Acked, seq < state.Oldest:
		return nil
	}
	if !ok {
		err := s.read.QueryRowContext(ctx, `SELECT total FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1`, h.row(1), h.row(seq)).Scan(&e.total)
		if err != nil && !errors.Is(err, sql.ErrNoRows) && !IsDamage(err) { // pruned unacknowledged, or lost: it counts for nothing
			return fmt.Errorf("journal: ack of %s: %w", endpoint, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Epoch != epoch {
		return fmt.Errorf("journal: ack of %s in epoch %d, which is now %d: %w", endpoint, epoch, h.state.Epoch, ErrEpoch)
	}
	if seq <= h.state.Acked || seq < h.state.Oldest {
		return nil
	}
	if h.state.Acked == h.saved { // else it is among the dirty already
		s.mu.Lock()
		s.dirty = append(s.dirty, h)
		s.mu.Unlock()
		select {
		case s.acks <- struct{}{}:
		default:
		}
	}
	h.state.Acked, h.ackedTotal = seq, max(e.total, h.ackedTotal)
	return nil
}
