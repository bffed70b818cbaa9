package correlate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hodihq/hodi/sync/push"
)

// Snapshot is a session's present state, and the place in the history that it is of.
type Snapshot struct {
	Message    push.Message // a PAYMENT_UPDATE
	Exists     bool         // the session has a payment; otherwise Message says nothing
	Head       uint64       // of all events: those up to it are in Message
	SessionSeq uint64       // of the session's newest event; 0 if it has none
}

// Snapshot reads a session's present state and its place in the history in one step: whoever goes on from Head misses
// nothing and sees nothing twice.
func (t *Table) Snapshot(ctx context.Context, session string) (Snapshot, error) {
	s, err := t.snapshot(ctx, session)
	if err != nil {
		return Snapshot{}, fmt.Errorf("correlate: snapshot: %w", err)
	}
	return s, nil
}

func (t *Table) snapshot(ctx context.Context, session string) (Snapshot, error) {
	tx, err := t.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Snapshot{}, err
	}
	defer tx.Rollback()
	var head, newest, at int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM events").Scan(&head); err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Head: uint64(head)}
	p, err := scanPayment(tx.QueryRowContext(ctx, "SELECT "+paymentAll+" FROM payments WHERE id = (SELECT present FROM sessions WHERE id = ?)", session))
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return Snapshot{}, err
	}
	row := tx.QueryRowContext(ctx, "SELECT max(event), coalesce((SELECT at FROM events WHERE seq = ?), ?) FROM payments WHERE session = ?", int64(p.event), millis(p.Created), session)
	if err := row.Scan(&newest, &at); err != nil {
		return Snapshot{}, err
	}
	s.Exists, s.SessionSeq = true, uint64(newest)
	s.Message = push.Message{
		Type:     push.PaymentUpdate,
		ID:       push.Cursor{Epoch: t.epoch, Seq: s.SessionSeq},
		Time:     push.Time{Time: instant(at)},
		Session:  session,
		Final:    p.Status.Ended(),
		Callback: p.Callback,
		Data:     p.Data(),
	}
	return s, nil
}

// Events returns the first events of a session ("" for all) behind after, in order, at most limit of them.
func (t *Table) Events(ctx context.Context, session string, after uint64, limit int) ([]Event, error) {
	read := t.sessionEvents
	if session == "" {
		read = t.allEvents
	}
	events, err := read(ctx, session, after, limit)
	if err != nil {
		return nil, fmt.Errorf("correlate: events: %w", err)
	}
	return events, nil
}

func (t *Table) allEvents(ctx context.Context, _ string, after uint64, limit int) ([]Event, error) {
	rows, err := t.read.QueryContext(ctx, "SELECT seq, session, message FROM events WHERE seq > ? ORDER BY seq LIMIT ?", int64(after), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		var seq int64
		if err := rows.Scan(&seq, &e.Session, &e.Encoded); err != nil {
			return nil, err
		}
		e.Seq = uint64(seq)
		events = append(events, e)
	}
	return events, rows.Err()
}

// sessionEvents walks back along the chain of each of the session's payments. Where a chain was pruned it ends.
func (t *Table) sessionEvents(ctx context.Context, session string, after uint64, limit int) ([]Event, error) {
	rows, err := t.read.QueryContext(ctx, `
		WITH RECURSIVE chain (seq, prev, message) AS (
			SELECT e.seq, e.prev, e.message FROM payments p JOIN events e ON e.seq = p.event WHERE p.session = ? AND p.event > ?
			UNION ALL
			SELECT e.seq, e.prev, e.message FROM chain JOIN events e ON e.seq = chain.prev WHERE chain.prev > ?
		)
		SELECT seq, message FROM chain`, session, int64(after), int64(after))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		e := Event{Session: session}
		var seq int64
		if err := rows.Scan(&seq, &e.Encoded); err != nil {
			return nil, err
		}
		e.Seq = uint64(seq)
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return events[:min(limit, len(events))], rows.Err()
}

// Oldest is the Seq of the oldest event that is still kept, Head+1 if there is none.
func (t *Table) Oldest(ctx context.Context) (uint64, error) {
	var seq sql.NullInt64
	if err := t.read.QueryRowContext(ctx, "SELECT min(seq) FROM events").Scan(&seq); err != nil {
		return 0, fmt.Errorf("correlate: oldest: %w", err)
	}
	if !seq.Valid {
		return t.Head() + 1, nil
	}
	return uint64(seq.Int64), nil
}
