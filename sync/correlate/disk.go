package correlate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What the Table knows of its disk, and of the edge's.

// isDamage reports whether an error says that the file is not what was written to it, so that to try again is of no use.
func isDamage(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS: // a sector that cannot be read, too
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// Unavailable reports whether it is the disk that failed, and not what was asked for: nothing was stored, and the same may
// go well later.
func Unavailable(err error) bool { return cannotStore(err) }

// note remembers how a transaction ended, if that says something about the disk.
func (t *Table) note(err error, stored bool) {
	switch {
	case stored:
		t.failing.Store(nil)
	case err != nil && cannotStore(err):
		t.failing.Store(&err)
		t.Met(err)
	}
}

// Met tells the owner of the Table, once, if an error is about damage to its file.
func (t *Table) Met(err error) {
	if t.cfg.Damaged != nil && isDamage(err) {
		t.damaged.Do(func() { t.cfg.Damaged(err) })
	}
}

// Probe reports whether the Table can store, and if the last attempt to store something failed, tries.
func (t *Table) Probe(ctx context.Context) error {
	if t.failing.Load() == nil {
		return nil
	}
	return t.Commit(ctx)
}

// Busy reports whether the database is being tidied, for which nothing is stored for a while: minutes, if it is large.
func (t *Table) Busy() bool { return t.tidying.Load() }

// Commit has the Table store something and take it back: it answers for who writes, and for the disk.
func (t *Table) Commit(ctx context.Context) error {
	err := t.write(ctx, func(x *tx) error {
		x.wrote = true
		// Something that is taken back: what changes nothing, SQLite does not write.
		_, err := t.conn.ExecContext(context.Background(), "INSERT OR REPLACE INTO gaps (epoch, first, last, found) VALUES (0, 0, 0, 0); DELETE FROM gaps WHERE epoch = 0")
		return err
	})
	if err != nil {
		return fmt.Errorf("correlate: probe: %w", err)
	}
	return nil
}

// guarded runs a part of a transaction. A mistake of ours that panics is an error like another: an entry that brings it
// about is set aside, and stops nobody.
func (t *Table) guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it made this program panic: %v", r)
			t.log.Error("a transaction panicked and was rolled back: please report this", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// lostAcknowledged is what a lost entry says that we had acknowledged: package wire.
const lostAcknowledged = "acknowledged"

// takeLost takes note of an entry that the edge's disk has lost. If we have what was there, nothing is lost.
func (x *tx) takeLost(epoch wire.Epoch, e wire.Entry) error {
	for known, s := range x.t.spot {
		sameHistory := known == uint64(epoch) || string(e.Body) == lostAcknowledged
		if s.reach < e.Seq || known == x.t.direct() || !sameHistory {
			continue
		}
		if _, found, err := x.storedAt(known, e.Seq); err != nil || found {
			return err
		}
	}
	cb := Callback{State: StateUnparsed, Error: "the edge's disk lost this callback before it was delivered"}
	if err := x.insert(place(epoch, e.Seq), e, e.Sum(), "", &cb, ""); err != nil {
		return err
	}
	if _, err := x.noteGap(uint64(epoch), gap{e.Seq, e.Seq}); err != nil {
		return err
	}
	if x.lost == (push.Cursor{}) {
		x.lost = place(epoch, e.Seq)
		x.askAboutAll()
	}
	return nil
}

// askAboutAll has Daraja asked about every payment without a result: a callback may be lost. That is written last, over
// what else this transaction changes.
func (x *tx) askAboutAll() {
	x.wrote, x.purge, x.wake, x.askAll = true, true, true, true
}

func (x *tx) storeAskAll() error {
	at := x.now.UnixMilli()
	for _, open := range []string{"status = 'PENDING' AND due_at > 0", "status = 'UNKNOWN' AND status IN ('UNKNOWN', 'FAILED')"} {
		if _, err := x.t.conn.ExecContext(context.Background(), `UPDATE payments SET ask_at = CASE WHEN asked_at > 0 AND asked_at <= ? THEN max(?, asked_at + ?) ELSE ? END
			WHERE checkout <> '' AND shortcode <> '' AND `+open, at, at, askApart.Milliseconds(), at); err != nil {
			return err
		}
	}
	return nil
}
