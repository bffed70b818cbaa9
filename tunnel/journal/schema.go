package journal

import (
	"context"
	"database/sql"

	"github.com/hodihq/hodi/internal/form"
)

// Tables are the journal's in the file, which may hold others too. Who shares it brings all of them to their newest forms at
// once, before any is used; OpenSQLite does so for its own where that is all there is.
func Tables() *form.Tables {
	return &form.Tables{Of: "the journal", Place: 0, Steps: schema[:], Early: early}
}

// schema is every form that the tables ever had, as the steps from one to the next. One that was released is never edited.
//
// An entry's id is its endpoint's id, shifted, and its seq: so one endpoint's entries lie side by side and are found
// without a second index. total counts the bytes of the endpoint's entries up to this one, pruned ones too; the
// difference of two totals is what lies between them.
var schema = [...]string{
	// 1: the beginning. Some of it may be there, from before forms were counted.
	`
	CREATE TABLE IF NOT EXISTS journal_endpoint (
		id    INTEGER PRIMARY KEY,
		name  TEXT NOT NULL UNIQUE,
		epoch INTEGER NOT NULL,
		acked INTEGER NOT NULL DEFAULT 0,
		canaries   INTEGER NOT NULL DEFAULT 0, -- how many of its numbers were given to canaries
		canary     INTEGER NOT NULL DEFAULT 0, -- the last of these
		canary_run INTEGER NOT NULL DEFAULT 0  -- the first of the run that it is the last of
	) STRICT;
	CREATE TABLE IF NOT EXISTS journal_entry (
		id    INTEGER PRIMARY KEY, -- endpoint << 40 | seq; of a run of canaries only the last has a row
		total INTEGER NOT NULL,    -- a canary counts for nothing
		data  BLOB NOT NULL,       -- the body of the entry's frame: package wire
		crc   INTEGER              -- CRC-32C of data: a disk that forgets a bit is noticed. NULL: it came before there was one
	) STRICT;
	CREATE TABLE IF NOT EXISTS journal_mark ( -- what was acknowledged when
		endpoint INTEGER NOT NULL,
		at       INTEGER NOT NULL,     -- Unix milliseconds
		seq      INTEGER NOT NULL,
		PRIMARY KEY (endpoint, at)
	) STRICT, WITHOUT ROWID;
	`,
}

// early gives the tables of a file that was made before entries had checksums, and before there were canaries, room for them.
func early(ctx context.Context, conn *sql.Conn) error {
	for _, add := range []struct{ table, column, is string }{
		{"journal_entry", "crc", "INTEGER"},
		{"journal_endpoint", "canaries", "INTEGER NOT NULL DEFAULT 0"},
		{"journal_endpoint", "canary", "INTEGER NOT NULL DEFAULT 0"},
		{"journal_endpoint", "canary_run", "INTEGER NOT NULL DEFAULT 0"},
	} {
		var lacks bool
		err := conn.QueryRowContext(ctx, `SELECT count(*) > 0 AND sum(name = ?) = 0 FROM pragma_table_info(?)`, add.column, add.table).Scan(&lacks)
		if err == nil && lacks {
			_, err = conn.ExecContext(ctx, `ALTER TABLE `+add.table+` ADD COLUMN `+add.column+` `+add.is)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// up brings the file that db has open to the newest form.
func up(ctx context.Context, db *sql.DB, path string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return form.Up(ctx, conn, path, nil, Tables())
}
