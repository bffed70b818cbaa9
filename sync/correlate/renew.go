package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Renew gives the events of the file at path, which nobody has open, a new epoch: the file was put back from a copy, and
// subscribers know events which came after that was made, under numbers that will be given again. With a cursor of the old
// epoch they are told the present state; with one of the new they go on. How far each journal was applied stays as it is:
// that is true of the copy, and the edge shows what came since.
func Renew(ctx context.Context, path string) error {
	if err := renew(ctx, path); err != nil {
		return fmt.Errorf("correlate: renew %s: %w", path, err)
	}
	return nil
}

func renew(ctx context.Context, path string) error {
	file, err := dataSource(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", file+"&_pragma=journal_mode(wal)&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err == nil {
		if err = migrate(ctx, conn, path, nil); err == nil {
			err = renewEvents(ctx, conn)
		}
		err = errors.Join(err, conn.Close())
	}
	return errors.Join(err, db.Close()) // which winds the WAL back: the file is all there is
}

func renewEvents(ctx context.Context, conn *sql.Conn) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var was int64
	if err := tx.QueryRowContext(ctx, "SELECT epoch FROM store").Scan(&was); err != nil {
		return err
	}
	is := max(was+1, time.Now().UnixMilli())
	if _, err := tx.ExecContext(ctx, "UPDATE store SET epoch = ?", is); err != nil {
		return err
	}
	// Those that are kept say their place too. Within a JSON string the quotation marks would not stand alone.
	place := func(epoch int64) string { return fmt.Sprintf(`"id":"%.13s`, push.Cursor{Epoch: uint64(epoch)}) }
	_, err = tx.ExecContext(ctx, "UPDATE events SET message = CAST(replace(CAST(message AS TEXT), ?, ?) AS BLOB)", place(was), place(is))
	if err != nil {
		return err
	}
	return tx.Commit()
}
