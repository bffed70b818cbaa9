package journal

import (
	"strconv"
	"time"
)

// FillDisk lets the file grow by no more than so many pages, as if the disk had no more room; 0 lifts that.
func (s *SQLite) FillDisk(pages int) error {
	var have int64
	row := s.writer.conn.QueryRowContext(background, `PRAGMA page_count`)
	if err := row.Scan(&have); err != nil {
		return err
	}
	limit := have + int64(pages)
	if pages == 0 {
		limit = 1<<32 - 2
	}
	return s.writer.conn.QueryRowContext(background, `PRAGMA max_page_count = `+strconv.FormatInt(limit, 10)).Scan(&have)
}

// Synchronous is when the writer waits for the disk: 2 is at every commit.
func (s *SQLite) Synchronous() (level int, err error) {
	err = s.writer.conn.QueryRowContext(background, `PRAGMA synchronous`).Scan(&level)
	return level, err
}

// Patience sets how long the writer waits for a file that another process holds.
func (s *SQLite) Patience(d time.Duration) error {
	_, err := s.writer.conn.ExecContext(background, `PRAGMA busy_timeout = `+strconv.FormatInt(d.Milliseconds(), 10))
	return err
}

// Writing reports whether somebody is writing.
func (s *SQLite) Writing() bool { return len(s.pen) > 0 }
