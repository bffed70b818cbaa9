package edge

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"

	"github.com/hodihq/hodi/internal/form"
	"github.com/hodihq/hodi/tunnel/journal"
)

// tables are all that there are in edge.db: the journal's, and the edge's own. The journal could be kept elsewhere one day, and
// the edge's be there without it; so each counts its own forms. But they go forward together, before either is used.
func tables() []*form.Tables {
	return []*form.Tables{journal.Tables(), {Of: "the edge", Place: 1, Steps: schema[:], Early: early}}
}

// CheckForm refuses the database in dir, damaged or not, if a newer program has used it.
func CheckForm(dir string) error { return form.Check(filepath.Join(dir, databaseFile), tables()...) }

// up brings the file at path, which db has open, to the newest form.
func up(ctx context.Context, db *sql.DB, path string, log *slog.Logger) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return form.Up(ctx, conn, path, log, tables()...)
}

// schema is every form that the edge's own tables ever had, as the steps from one to the next. One that was released is
// never edited.
var schema = [...]string{
	// 1: the beginning. Some of it may be there, from before forms were counted. The file itself keeps anybody from rewriting
	// the audit, INSERT OR REPLACE included.
	`
	CREATE TABLE IF NOT EXISTS edge_endpoint (
		name    TEXT PRIMARY KEY,
		created INTEGER NOT NULL, -- Unix milliseconds, as all times
		device  BLOB,             -- SHA-256 of its sidecar's public key; NULL: none has joined
		joined  INTEGER,
		expires INTEGER,
		revoked INTEGER,
		seen    INTEGER
	) STRICT;
	CREATE TABLE IF NOT EXISTS edge_key (
		key      TEXT PRIMARY KEY, -- 32 hex digits
		endpoint TEXT NOT NULL REFERENCES edge_endpoint (name),
		name     TEXT NOT NULL,
		kind     TEXT NOT NULL CHECK (kind IN ('notice', 'validation', 'lookup', 'bill')),
		created  INTEGER NOT NULL,
		retired  INTEGER,
		used     INTEGER,
		UNIQUE (endpoint, name)
	) STRICT;
	CREATE TABLE IF NOT EXISTS edge_invite (
		endpoint TEXT PRIMARY KEY REFERENCES edge_endpoint (name),
		sum      BLOB NOT NULL UNIQUE, -- SHA-256 of the secret in the join code
		created  INTEGER NOT NULL,
		expires  INTEGER NOT NULL,
		used     INTEGER,
		device   BLOB, -- that used it
		revoked  INTEGER
	) STRICT;

	CREATE TABLE IF NOT EXISTS audit (
		id      INTEGER PRIMARY KEY AUTOINCREMENT,
		time    INTEGER NOT NULL, -- Unix milliseconds
		who     TEXT NOT NULL,
		act     TEXT NOT NULL,
		subject TEXT NOT NULL,
		detail  TEXT NOT NULL
	) STRICT;
	CREATE TRIGGER IF NOT EXISTS audit_unchanged BEFORE UPDATE ON audit
	BEGIN SELECT RAISE(ABORT, 'a line of the audit is never changed'); END;
	CREATE TRIGGER IF NOT EXISTS audit_kept BEFORE DELETE ON audit
	BEGIN SELECT RAISE(ABORT, 'a line of the audit is never removed'); END;
	CREATE TRIGGER IF NOT EXISTS audit_not_replaced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
	BEGIN SELECT RAISE(ABORT, 'a line of the audit is never replaced'); END;
	`,
}

// early brings the tables of an edge whose sidecars had tokens to what they are now. Endpoints keep their addresses, which
// Safaricom has been told; their sidecars have to join.
func early(ctx context.Context, conn *sql.Conn) error {
	var old bool
	if err := conn.QueryRowContext(ctx, `SELECT count(*) FROM pragma_table_info('edge_endpoint') WHERE name = 'token'`).Scan(&old); err != nil || !old {
		return err
	}
	_, err := conn.ExecContext(ctx, `
		CREATE TABLE edge_endpoint_new (name TEXT PRIMARY KEY, created INTEGER NOT NULL, device BLOB, joined INTEGER, expires INTEGER, revoked INTEGER, seen INTEGER) STRICT;
		INSERT INTO edge_endpoint_new (name, created) SELECT name, created FROM edge_endpoint;
		DROP TABLE edge_endpoint;
		ALTER TABLE edge_endpoint_new RENAME TO edge_endpoint;
		ALTER TABLE edge_key ADD COLUMN used INTEGER;`)
	return err
}
