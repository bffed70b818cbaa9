package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hodihq/hodi/internal/form"
	"github.com/hodihq/hodi/tunnel/wire"
)

// With a thousand endpoints in use, every transaction touches as many pages as it has entries. Room for these in memory,
// and rarer checkpoints, which write each of them once, made that a third faster. The WAL is then some 16 MiB long: it is
// kept so by checkpoint.go, and SQLite steps in at four times as much.
const tuning = `
PRAGMA cache_size = -16000;
PRAGMA wal_autocheckpoint = 16000;`

func (w *writer) open(ctx context.Context, path string) (err error) {
	w.byName = make(map[string]*staged)
	if w.conn, err = w.db.Conn(ctx); err != nil {
		return err
	}
	if err := form.Up(ctx, w.conn, path, w.s.log, Tables()); err != nil {
		return err
	}
	if _, err := w.conn.ExecContext(ctx, tuning); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.rollback, `ROLLBACK`},
		{&w.name, `INSERT INTO journal_endpoint (name, epoch) VALUES (?, ?)`},
		{&w.epoch, `UPDATE journal_endpoint SET epoch = ? WHERE id = ?`},
		{&w.acking, `UPDATE journal_endpoint SET acked = ? WHERE id = ?`},
		{&w.singing, `UPDATE journal_endpoint SET canaries = canaries + ?, canary = ?, canary_run = ? WHERE id = ?`},
		{&w.silence, `DELETE FROM journal_entry WHERE id = ?`},
	} {
		if *p.stmt, err = w.conn.PrepareContext(ctx, p.text); err != nil {
			return err
		}
	}
	return w.load(ctx)
}

// load learns where the histories on disk stand.
func (w *writer) load(ctx context.Context) error {
	rows, err := w.conn.QueryContext(ctx, `SELECT id, name, epoch, acked, canaries, canary, canary_run FROM journal_endpoint`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		h := new(history)
		if err := rows.Scan(&h.id, &h.name, &h.state.Epoch, &h.state.Acked, &h.canaries, &h.run.last, &h.run.first); err != nil {
			return err
		}
		h.saved = h.state.Acked
		w.s.histories[h.name] = h
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, h := range w.s.histories {
		if err := w.measure(ctx, h); err != nil {
			return fmt.Errorf("history of %s: %w", h.name, err)
		}
		marks, err := w.conn.QueryContext(ctx, `SELECT at, seq FROM journal_mark WHERE endpoint = ? ORDER BY at`, h.id)
		if err != nil {
			return err
		}
		for marks.Next() {
			var at int64
			var m mark
			if err := marks.Scan(&at, &m.seq); err != nil {
				marks.Close()
				return err
			}
			m.at = time.UnixMilli(at)
			h.marks = append(h.marks, m)
		}
		if err := marks.Err(); err != nil {
			return err
		}
	}
	return nil
}

// measure finds the ends of a history on disk. The entry at Acked may stand alone before the others. What an entry holds
// may be damaged: its number and its place tell enough.
func (w *writer) measure(ctx context.Context, h *history) error {
	type end struct {
		seq, first    uint64 // and what it stands for
		before, total int64
		received      time.Time
	}
	find := func(order string, from, to uint64) (e end, err error) {
		var id int64
		var data []byte
		err = w.conn.QueryRowContext(ctx, `SELECT id, total, data FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id `+order+` LIMIT 1`,
			h.row(from), h.row(to)).Scan(&id, &e.total, &data)
		if err != nil {
			return e, err
		}
		e.seq, e.received = uint64(id)&maxSeq, time.Now()
		entry, err := wire.ParseEntry(data)
		if err == nil {
			e.received = entry.Received
		}
		e.first, e.before = e.seq, e.total-counted(entry.Kind, len(data))
		if err == nil && entry.Seq == e.seq {
			e.first = entry.Run()
		}
		return e, nil
	}
	newest, err := find("DESC", 0, maxSeq)
	if errors.Is(err, sql.ErrNoRows) {
		h.state.Oldest, h.canaries, h.run = 1, 0, run{}
		return nil
	}
	if err != nil {
		return err
	}
	h.state.Head, h.total = newest.seq, newest.total
	h.canaries = min(h.canaries, h.state.Head)
	switch {
	case h.run.last > newest.seq: // the file is not what it was
		h.run = run{}
	case h.run.last == newest.seq && h.run.first == newest.first:
		h.run.began = newest.received
	}
	if newest.seq == h.state.Acked {
		h.ackedTotal = h.total
	}
	oldest, err := find("ASC", 0, maxSeq)
	if err == nil && oldest.seq == h.state.Acked && oldest.seq < newest.seq {
		h.ackedTotal = oldest.total
		var next end
		if next, err = find("ASC", oldest.seq+1, maxSeq); err == nil && next.first > oldest.seq+1 { // it stands alone
			oldest = next
		}
	}
	if err != nil {
		return err
	}
	h.state.Oldest, h.prunedTotal, h.oldestAt = oldest.first, oldest.before, oldest.received
	if acked := h.state.Acked; acked > oldest.seq && acked < newest.seq {
		e, err := find("DESC", 0, acked)
		if err != nil {
			return err
		}
		h.ackedTotal = e.total
	}
	return nil
}
