package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// RenewAll puts every history in the SQLite file at path, which nobody has open, under a new epoch: the file was put back
// from a copy, and what was appended after that was made has numbers which will be given again. Sidecars that have seen
// those entries are then sent all that is held, and skip nothing.
func RenewAll(ctx context.Context, path string) error {
	dsn, err := DataSource(path)
	if err != nil {
		return fmt.Errorf("journal: renew %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return fmt.Errorf("journal: renew %s: %w", path, err)
	}
	if err = up(ctx, db, path); err == nil {
		_, err = db.ExecContext(ctx, `UPDATE journal_endpoint SET epoch = max(epoch + 1, ?)`, time.Now().UnixMilli())
	}
	if err := errors.Join(err, db.Close()); err != nil { // which winds the WAL back: the file is all there is
		return fmt.Errorf("journal: renew %s: %w", path, err)
	}
	return nil
}
