package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

// snapshot is a SQLite file held still: a read transaction, in which the file is what it was at one instant, whatever is
// written meanwhile. Writers are not kept waiting; only their WAL cannot be wound back before the snapshot is let go, and
// grows by what they write. So the pages are taken as they are, as fast as the reader's disk: SQLite's own VACUUM INTO
// builds every tree anew, and its backup call begins again with every commit of another process.
type snapshot struct {
	db   *sql.DB
	tx   *sql.Tx
	size int64
}

// openDatabase opens a SQLite file that is there. What is only read is not changed either: the WAL of a daemon that was
// killed is left for its next start.
func openDatabase(path, mode string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path = filepath.ToSlash(path); !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/...
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// check looks through a database for damage. A copy of a damaged one must not take the place of a good one.
func check(ctx context.Context, db *sql.DB) error {
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("it is damaged: %s", strings.ReplaceAll(found, "\n", ", "))
	}
	return nil
}

func takeSnapshot(ctx context.Context, path string) (_ *snapshot, err error) {
	s := new(snapshot)
	if s.db, err = openDatabase(path, "ro"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := check(ctx, s.db); err != nil { // before the snapshot is taken, so that it is not held for longer
		return nil, err
	}
	if s.tx, err = s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return nil, err
	}
	var pages, size int64
	if err := s.tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&pages); err != nil { // the instant
		return nil, err
	}
	if err := s.tx.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return nil, err
	}
	if err := s.tx.QueryRowContext(ctx, "PRAGMA page_size").Scan(&size); err != nil {
		return nil, err
	}
	s.size = pages * size
	return s, nil
}

// write writes the file as it is in the snapshot: size bytes.
func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	rows, err := s.tx.QueryContext(ctx, "SELECT data FROM sqlite_dbpage ORDER BY pgno")
	if err != nil {
		return err
	}
	defer rows.Close()
	var page sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&page); err != nil {
			return err
		}
		if _, err := w.Write(page); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *snapshot) release() error {
	var errs []error
	if s.tx != nil {
		errs = append(errs, s.tx.Rollback())
	}
	return errors.Join(append(errs, s.db.Close())...)
}
