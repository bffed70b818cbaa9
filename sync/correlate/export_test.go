package correlate

import "context"

// Synchronous is when the writer waits for the disk: 2 is at every commit.
func (t *Table) Synchronous() (level int, err error) {
	err = t.conn.QueryRowContext(context.Background(), `PRAGMA synchronous`).Scan(&level)
	return level, err
}

// Warm brings a payment and its session into the caches, as its beginning does.
func (t *Table) Warm(paymentID string) error {
	return t.write(context.Background(), func(x *tx) error {
		p, _, err := x.payment(paymentID)
		if err == nil {
			_, err = x.session(p.Session)
		}
		return err
	})
}
