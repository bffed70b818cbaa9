package journal

import (
	"context"
	"database/sql"
)

// SQLite writes what is committed behind a log, and from time to time into the file itself, which is a checkpoint. By
// itself it does so in the commit that makes the log long: a callback in a thousand, and all that come meanwhile, would
// wait for four thousand pages. So a goroutine does it beside the commits, and SQLite only sees to it where that one does not
// keep up.
const (
	checkpointAfter = 4_000 // pages, or so: 16 MB. See tuning
	checkpointRest  = 64    // pages that may be left for when the writer waits
)

// logged notes what was committed. How many pages that is, only SQLite knows: a commit has one or two, a row about one in
// addition where every row is of another endpoint.
func (w *writer) logged(rows, bytes int) {
	const commit, page = 1, 4 << 10
	if w.behind += commit + rows + bytes/page; w.behind >= checkpointAfter {
		select {
		case w.s.long <- struct{}{}:
		default:
		}
	}
}

// keepShort keeps the log short until the journal is closed. Most of it goes into the file while callbacks are being
// committed; but a log that always has a newer end never begins anew, so the writer is held up for the last pages, which
// is a moment.
func (s *SQLite) keepShort(ctx context.Context) {
	for {
		select {
		case <-s.long:
		case <-ctx.Done():
			return
		}
		if err := s.checkpoint(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("what was committed could not be moved from the log into the file", "err", err)
			s.meet(err)
		}
	}
}

func (s *SQLite) checkpoint(ctx context.Context) error {
	for range 3 {
		rest, err := moveLog(ctx, s.read)
		if err != nil {
			return err
		}
		if rest <= checkpointRest {
			break
		}
	}
	w := s.writer
	select {
	case s.pen <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer w.layDown()
	w.behind = 0
	_, err := moveLog(background, w.conn)
	return err
}

// moveLog moves what it can without waiting for anybody, and says how many pages are left.
func moveLog(ctx context.Context, on interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (rest int, err error) {
	var busy, pages, moved int
	err = on.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &moved)
	return pages - moved, err
}
