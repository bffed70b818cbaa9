package correlate

import (
	"context"
	"database/sql"
)

// SQLite writes what is committed behind a log, and from time to time into the file itself, which is a checkpoint. By
// itself it does so in the commit that makes the log long: one callback in a hundred would wait for all of it, several
// milliseconds. So that is left to Checkpoint, and SQLite only sees to it where nobody runs that.
const (
	checkpointAfter = 4_000  // pages, or so: 16 MB
	checkpointSelf  = 16_000 // pages: then SQLite does not wait any longer
	checkpointRest  = 64     // pages that may be left for when the writer waits
)

// logged notes what was committed. How many pages that is, only SQLite knows; a row seldom changes more than two, but for
// the body of a callback, and a commit has some of its own.
func (t *Table) logged(rows, bytes int) {
	const commit, row, page = 6, 2, 4 << 10
	t.behind += commit + row*rows + bytes/page
	if t.behind >= checkpointAfter {
		select {
		case t.long <- struct{}{}:
		default:
		}
	}
}

// Checkpoint keeps the log short until ctx ends. Most of it goes into the file while callbacks are being committed; but a
// log that always has a newer end never begins anew, so the writer is held up for the last pages, which is a moment.
func (t *Table) Checkpoint(ctx context.Context) error {
	for {
		select {
		case <-t.long:
		case <-ctx.Done():
			return nil
		}
		if err := t.checkpoint(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("what was committed could not be moved from the log into the file", "err", err)
			t.Met(err)
		}
	}
}

func (t *Table) checkpoint(ctx context.Context) error {
	for range 3 {
		rest, err := moveLog(ctx, t.read)
		if err != nil {
			return err
		}
		if rest <= checkpointRest {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.behind = 0
	_, err := moveLog(ctx, t.conn)
	return err
}

// moveLog moves what it can without waiting for anybody, and says how many pages are left.
func moveLog(ctx context.Context, on interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (rest int, err error) {
	var busy, pages, moved int
	err = on.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &moved)
	return pages - moved, err
}
