package journal

import (
	"database/sql"
	"slices"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// What the writer does besides storing: it saves acknowledgements, and forgets what nobody needs.

// saveAcks writes down how far the readers are.
func (w *writer) saveAcks() {
	w.s.mu.Lock()
	dirty := w.s.dirty
	w.s.dirty = nil
	w.s.mu.Unlock()
	if len(dirty) == 0 {
		return
	}
	acked := make([]uint64, len(dirty))
	err := w.atomically(func() error {
		for i, h := range dirty {
			acked[i] = h.now().Acked
			if _, err := w.acking.ExecContext(background, int64(acked[i]), h.id); err != nil {
				return err
			}
		}
		return nil
	})
	w.report(err)
	for i, h := range dirty {
		h.mu.Lock()
		if err == nil {
			h.saved = acked[i]
		}
		if h.state.Acked != h.saved { // it moved on meanwhile, or was not saved
			w.s.mu.Lock()
			w.s.dirty = append(w.s.dirty, h)
			w.s.mu.Unlock()
			select {
			case w.s.acks <- struct{}{}:
			default:
			}
		}
		h.mu.Unlock()
	}
}

// lookAround forgets what is old, in small steps, and reports whether there is more to forget.
func (w *writer) lookAround() (more bool) {
	now := time.Now()
	w.s.mu.RLock()
	all := make([]*history, 0, len(w.s.histories))
	for _, h := range w.s.histories {
		all = append(all, h)
	}
	w.s.mu.RUnlock()
	for _, h := range all {
		if len(w.s.requests) > 0 {
			return true // callbacks first
		}
		if err := w.mark(h, now); err != nil {
			w.report(err)
			return false
		}
		again, err := w.prune(h, now)
		if err != nil {
			w.report(err)
			return false
		}
		more = more || again
	}
	return more
}

// mark notes what is acknowledged by now, a hundred times within the time that such entries are kept.
func (w *writer) mark(h *history, now time.Time) error {
	acked, last := h.now().Acked, mark{}
	if n := len(h.marks); n > 0 {
		last = h.marks[n-1]
	}
	if last.at.After(now) { // the clock was ahead when it was made: it counts from now
		_, err := w.conn.ExecContext(background, `DELETE FROM journal_mark WHERE endpoint = ? AND at > ?`, h.id, now.UnixMilli())
		if err != nil {
			return err
		}
		h.marks = slices.DeleteFunc(h.marks, func(m mark) bool { return m.at.After(now) })
		last = mark{}
	}
	if acked <= last.seq || now.Sub(last.at) < w.s.limits.Load().KeepAcked/100 {
		return nil
	}
	_, err := w.conn.ExecContext(background, `INSERT OR REPLACE INTO journal_mark (endpoint, at, seq) VALUES (?, ?, ?)`, h.id, now.UnixMilli(), int64(acked))
	if err == nil {
		h.marks = append(h.marks, mark{now, acked})
	}
	return err
}

// prune forgets at most pruneRows entries of a history: those acknowledged long enough ago, and those that nobody
// fetched in all the time that they are kept. It never forgets the entry at Acked, which a reader must be able to
// show, and never the newest, whose number must not be given again.
//
// What nobody fetched is forgotten only when a last notice has stood in the log for a day, as this process has lived
// it: a clock that jumps ahead must not cost a callback.
func (w *writer) prune(h *history, now time.Time) (more bool, err error) {
	state := h.now()
	if state.Oldest > state.Head {
		return false, nil
	}
	bound := state.Oldest - 1 // the last to be forgotten
	past := 0                 // marks that have had their time
	for _, m := range h.marks {
		if now.Sub(m.at) < w.s.limits.Load().KeepAcked {
			break
		}
		past++
		if state.Acked > 0 {
			bound = max(bound, min(m.seq, state.Acked-1, state.Head-1))
		}
	}
	unfetched := false
	given, err := w.notice(h, state, now)
	if err != nil {
		return false, err
	}
	if keep := w.s.limits.Load().KeepUnacked; now.Sub(h.oldestAt) >= keep {
		old, err := w.older(h, state, now.Add(-keep))
		if err != nil {
			return false, err
		}
		if !given {
			old = min(old, state.Acked)
		}
		if old = min(old, state.Head-1); old > bound {
			bound, unfetched = old, old > state.Acked
		}
	}
	if bound, err = w.untilRun(h, state, bound); err != nil {
		return false, err
	}
	if bound < state.Oldest {
		return false, w.unmark(h, past)
	}
	if more = bound-state.Oldest >= pruneRows; more {
		bound = state.Oldest + pruneRows - 1
	}
	fits, err := w.within(h, state.Oldest, bound)
	if err != nil {
		return false, err
	}
	if fits < bound {
		bound, more = fits, true
	}

	// Readers know of it first, or they would take for lost what is only forgotten. From here on Acked does not come to
	// stand on any of these entries.
	h.mu.Lock()
	oldest, acked := h.state.Oldest, h.state.Acked
	h.state.Oldest = bound + 1
	h.mu.Unlock()

	var total int64
	var data []byte
	err = w.atomically(func() error {
		// From 0: an entry at Acked that stood alone is of no use once Acked has moved on.
		_, err := w.conn.ExecContext(background, `DELETE FROM journal_entry WHERE id BETWEEN ? AND ? AND id != ?`, h.row(0), h.row(bound), h.row(acked))
		if err != nil {
			return err
		}
		return w.conn.QueryRowContext(background, `SELECT total, data FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1`, h.row(bound+1), h.row(maxSeq)).Scan(&total, &data)
	})
	if err != nil {
		h.mu.Lock()
		h.state.Oldest = oldest
		h.mu.Unlock()
		return false, err
	}
	w.logged(int(bound-oldest)+1, 0)
	if unfetched && acked < bound {
		w.s.log.Error("callbacks were never fetched and are forgotten", "endpoint", h.name, "from", max(oldest, acked+1), "to", bound)
	}
	e, err := wire.ParseEntry(data)
	if err == nil { // if it is damaged, as old as the one before it
		h.oldestAt = e.Received
	}
	h.mu.Lock()
	h.prunedTotal = total - counted(e.Kind, len(data))
	h.mu.Unlock()
	if more {
		return true, nil
	}
	return false, w.unmark(h, past)
}

// within is the last of the entries from oldest to bound that one step may forget, for their size: callbacks wait
// meanwhile. It is oldest at least.
func (w *writer) within(h *history, oldest, bound uint64) (uint64, error) {
	var beyond sql.NullInt64
	err := w.conn.QueryRowContext(background, `SELECT min(id) FROM journal_entry WHERE id BETWEEN ? AND ? AND total > ?`, h.row(oldest), h.row(bound), h.prunedTotal+pruneBytes).Scan(&beyond)
	if !beyond.Valid {
		return bound, err
	}
	return max(oldest, uint64(beyond.Int64)&maxSeq-1), err
}

// notice tells the log of entries that are going to be forgotten unfetched, and reports whether that was said long enough
// ago.
func (w *writer) notice(h *history, state wire.State, now time.Time) (given bool, err error) {
	keep := w.s.limits.Load().KeepUnacked
	notice := keep / lastNotice
	old := state.Acked
	if now.Sub(h.oldestAt) >= keep-notice {
		if old, err = w.older(h, state, now.Add(notice-keep)); err != nil {
			return false, err
		}
	}
	switch {
	case min(old, state.Head-1) <= state.Acked:
		h.noticed = time.Time{}
		return false, nil
	case h.noticed.IsZero():
		h.noticed = now
		w.s.log.Error("callbacks that were never fetched will be forgotten: where is their sidecar, and is the clock right?",
			"endpoint", h.name, "oldest", h.oldestAt, "when", now.Add(notice))
	}
	return now.Sub(h.noticed) >= notice, nil
}

// older is the last of the oldest pruneRows entries that came before a time, without one that came later before it; or of
// as many of these as one step may forget.
func (w *writer) older(h *history, state wire.State, before time.Time) (uint64, error) {
	rows, err := w.conn.QueryContext(background, `SELECT id, data FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?`, h.row(state.Oldest), h.row(state.Head), pruneRows)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	last := state.Oldest - 1
	for size := 0; size < pruneBytes && rows.Next(); {
		var id int64
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return 0, err
		}
		size += len(data)
		e, err := wire.ParseEntry(data)
		if err == nil && e.Received.After(before) {
			break
		}
		if err == nil && e.Kind == wire.KindCanary && e.Seq >= h.run.last { // it says when its run began, not when it came
			break
		}
		last = uint64(id) & maxSeq // one that is damaged is as old as the one before it
	}
	return last, rows.Err()
}

// unmark drops marks that have had their effect, but for the newest of them, which says what is marked already.
func (w *writer) unmark(h *history, past int) error {
	if past <= 1 {
		return nil
	}
	_, err := w.conn.ExecContext(background, `DELETE FROM journal_mark WHERE endpoint = ? AND at < ?`, h.id, h.marks[past-1].at.UnixMilli())
	if err == nil {
		h.marks = slices.Delete(h.marks, 0, past-1)
	}
	return err
}
