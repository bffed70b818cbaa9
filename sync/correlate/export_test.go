package correlate

import "context"

// Synchronous is when the writer waits for the disk: 2 is at every commit.
func (t *Table) Synchronous() (level int, err error) {
	err = t.conn.QueryRowContext(context.Background(), `PRAGMA synchronous`).Scan(&level)
	return level, err
}
