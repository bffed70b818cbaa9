package correlate

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/hodihq/hodi/internal/form"
)

// schema is every form that the file ever had, as the steps from one to the next. A step that was released is never
// edited: a file in a shop has been through it. PRAGMA user_version counts the steps taken (package form).
//
// Times are Unix milliseconds, and 0 is none; ids that are not known are ”. The secondary indexes leave those out, so
// that what never ends (a payment without ids, a callback that was applied) costs nothing there. Every index that a
// payment leaves or enters when it is paid costs each callback a page: those that are PENDING are found by due_at, which
// they all have, and those that were paid by what else is asked for. For the same reason what changes with every callback,
// how far the journal was applied and the counts, is written with the event that the callback brings about: see progress.go.
var schema = [...]string{
	// 1: the beginning.
	`
	CREATE TABLE store (
		one      INTEGER PRIMARY KEY CHECK (one = 1),
		epoch    INTEGER NOT NULL,             -- of the events: when the file was made
		journal  INTEGER NOT NULL DEFAULT 0,   -- the journal epoch last welcomed
		callback TEXT    NOT NULL DEFAULT '',  -- base of callback addresses, as last told
		progress TEXT    NOT NULL DEFAULT '',  -- as JSON: see progress.go
		event    INTEGER NOT NULL DEFAULT 0    -- the newest event when that was written
	) STRICT;

	CREATE TABLE sessions (
		id        TEXT    PRIMARY KEY,
		amount    INTEGER NOT NULL,            -- pinned; 0: open
		reference TEXT    NOT NULL,
		shortcode TEXT    NOT NULL,
		created   INTEGER NOT NULL,
		opened    INTEGER NOT NULL,            -- 0: it came about with its first payment
		attempts  INTEGER NOT NULL,            -- how many payments it has
		present   TEXT    NOT NULL             -- the payment that is its present state
	) STRICT, WITHOUT ROWID;

	CREATE TABLE payments (
		row         INTEGER PRIMARY KEY,       -- the order of beginnings
		id          TEXT    NOT NULL UNIQUE,
		session     TEXT    NOT NULL,
		attempt     INTEGER NOT NULL,
		phone       TEXT    NOT NULL,
		amount      INTEGER NOT NULL,          -- cents; 0: not known
		reference   TEXT    NOT NULL,
		shortcode   TEXT    NOT NULL,
		number      TEXT    NOT NULL,
		environment TEXT    NOT NULL,
		idempotency TEXT    NOT NULL,
		ref         INTEGER NOT NULL,          -- settled only by its ref
		created     INTEGER NOT NULL,

		merchant    TEXT    NOT NULL,          -- MerchantRequestID
		checkout    TEXT    NOT NULL,          -- CheckoutRequestID: holds a phone number
		status      TEXT    NOT NULL,
		outcome     TEXT    NOT NULL,
		code        TEXT    NOT NULL,
		description TEXT    NOT NULL,
		receipt     TEXT    NOT NULL,
		completed   INTEGER NOT NULL,
		checked     INTEGER NOT NULL,          -- the amount paid is the amount asked for
		callback    TEXT    NOT NULL,          -- that changed it last
		notices     TEXT    NOT NULL,          -- what callbacks said other than success, as JSON
		answered    TEXT    NOT NULL,          -- the failure that waits for a second answer, as JSON
		answer_at   INTEGER NOT NULL,
		silent_at   INTEGER NOT NULL,          -- PENDING becomes UNKNOWN
		ask_at      INTEGER NOT NULL,          -- Daraja is asked
		asked_at    INTEGER NOT NULL,
		event       INTEGER NOT NULL,          -- its newest event
		due_at      INTEGER AS (CASE WHEN ask_at = 0 THEN silent_at WHEN silent_at = 0 THEN ask_at ELSE min(silent_at, ask_at) END)
	) STRICT;
	CREATE        INDEX payments_session     ON payments (session, attempt);
	CREATE        INDEX payments_phone       ON payments (phone, created)        WHERE phone <> '';
	CREATE        INDEX payments_created     ON payments (created);
	CREATE        INDEX payments_merchant    ON payments (merchant)              WHERE merchant <> '';
	CREATE        INDEX payments_checkout    ON payments (checkout)              WHERE checkout <> '';
	CREATE        INDEX payments_receipt     ON payments (receipt)               WHERE receipt <> '';
	CREATE UNIQUE INDEX payments_idempotency ON payments (session, idempotency)  WHERE idempotency <> '';
	CREATE        INDEX payments_unpaid      ON payments (status, created)       WHERE status IN ('UNKNOWN', 'FAILED');
	CREATE        INDEX payments_due         ON payments (due_at)                WHERE due_at > 0;

	CREATE TABLE events (
		seq     INTEGER PRIMARY KEY,
		prev    INTEGER NOT NULL,              -- the payment's event before this one; 0: none
		session TEXT    NOT NULL,
		at      INTEGER NOT NULL,
		message  BLOB   NOT NULL,              -- JSON, as it was published
		progress TEXT   NOT NULL DEFAULT ''    -- in the last of a commit: what it makes of store.progress
	) STRICT;

	CREATE TABLE callbacks (
		place    INTEGER PRIMARY KEY,          -- the number of the journal << 40 | its seq there
		state    TEXT    NOT NULL,
		error    TEXT    NOT NULL,
		payment  TEXT    NOT NULL,
		session  TEXT    NOT NULL,             -- whose address it was posted to (dev)
		merchant TEXT    NOT NULL,
		received INTEGER NOT NULL,
		kind     INTEGER NOT NULL,
		ref      TEXT    NOT NULL,             -- without its MAC
		remote   TEXT    NOT NULL,
		sum      BLOB    NOT NULL,             -- the entry's checksum
		header   BLOB    NOT NULL,
		body     BLOB    NOT NULL
	) STRICT;
	CREATE INDEX callbacks_state  ON callbacks (state)    WHERE state <> 'applied';
	CREATE INDEX callbacks_parked ON callbacks (merchant) WHERE state = 'unmatched';

	CREATE TABLE cursors (                         -- how far each journal was applied; but for the one in progress
		number INTEGER PRIMARY KEY,            -- in the order in which they became known
		epoch  INTEGER NOT NULL,
		seq    INTEGER NOT NULL,
		sum    BLOB    NOT NULL                -- checksum of that entry
	) STRICT;

	CREATE TABLE gaps (                            -- entries that a journal could not show any more
		epoch INTEGER NOT NULL,
		first INTEGER NOT NULL,
		last  INTEGER NOT NULL,
		found INTEGER NOT NULL,
		PRIMARY KEY (epoch, first)
	) STRICT, WITHOUT ROWID;
	`,
	// 2: what was done, by whom. The file itself keeps anybody from rewriting it, INSERT OR REPLACE included.
	`
	CREATE TABLE audit (
		id      INTEGER PRIMARY KEY AUTOINCREMENT,
		time    INTEGER NOT NULL,
		who     TEXT    NOT NULL,
		act     TEXT    NOT NULL,
		subject TEXT    NOT NULL,
		detail  TEXT    NOT NULL
	) STRICT;
	CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
	CREATE TRIGGER audit_as_it_is BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
	CREATE TRIGGER audit_once BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
		BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
	`,
	// 3: what is believed of it all. Few payments have any doubt, and no statement that writes others names it.
	`
	ALTER TABLE payments ADD COLUMN doubt   TEXT NOT NULL DEFAULT '';  -- suspect, large, paid_twice
	ALTER TABLE payments ADD COLUMN held    TEXT NOT NULL DEFAULT '';  -- the success that waits for Daraja: callback, space, receipt
	ALTER TABLE payments ADD COLUMN decided TEXT NOT NULL DEFAULT '';  -- the person who confirmed or denied it
	CREATE INDEX payments_doubt ON payments (created) WHERE doubt <> '';

	ALTER TABLE callbacks ADD COLUMN marks INTEGER NOT NULL DEFAULT 0; -- what the edge thinks of its source; 16: its receipt is of another day

	CREATE TABLE money (                           -- that C2B notices have told of
		receipt   TEXT    PRIMARY KEY,
		amount    INTEGER NOT NULL,
		number    TEXT    NOT NULL,
		reference TEXT    NOT NULL,
		time      INTEGER NOT NULL,
		payment   TEXT    NOT NULL,            -- whose money it is, if that is known
		epoch     INTEGER NOT NULL,            -- of its callback
		seq       INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	`,
	// 4: the devices that may see payments.
	`
	CREATE TABLE tills (
		id      INTEGER PRIMARY KEY AUTOINCREMENT,
		name    TEXT    NOT NULL,
		token   BLOB    NOT NULL UNIQUE,       -- SHA-256 of what the device holds
		created INTEGER NOT NULL,
		seen    INTEGER NOT NULL,
		revoked INTEGER NOT NULL               -- 0: let in
	) STRICT;
	`,
	// 5: how far the bodies of each journal's callbacks were erased.
	`
	CREATE TABLE emptied (
		journal INTEGER PRIMARY KEY,           -- its number
		place   INTEGER NOT NULL
	) STRICT;
	`,
	// 6: what became of callbacks at the merchant's app. Nothing is written here for one that was not tried yet: how far all
	// were, is in forwarding, so that callbacks cost no more where they are forwarded.
	`
	ALTER TABLE callbacks ADD COLUMN stored INTEGER NOT NULL DEFAULT 0; -- when it was, here

	CREATE TABLE forwards (
		place    INTEGER PRIMARY KEY,          -- of the callback
		state    TEXT    NOT NULL,             -- waiting, handled, dead, withheld
		attempts INTEGER NOT NULL,
		status   INTEGER NOT NULL,             -- the app's last answer; 0: there was none
		error    TEXT    NOT NULL,             -- why it is not handled
		first    INTEGER NOT NULL,             -- attempt
		last     INTEGER NOT NULL,
		due      INTEGER NOT NULL,
		replay   INTEGER NOT NULL              -- somebody asked for it again
	) STRICT;
	CREATE INDEX forwards_open ON forwards (state, place) WHERE state <> 'handled';

	CREATE TABLE forwarding (                      -- up to where all callbacks of a journal are in forwards, or are older than forwarding
		journal INTEGER PRIMARY KEY,           -- its number
		place   INTEGER NOT NULL
	) STRICT;
	CREATE TABLE forwarder (
		one    INTEGER PRIMARY KEY CHECK (one = 1),
		began  INTEGER NOT NULL,
		paused INTEGER NOT NULL,               -- since when; 0: it is not
		why    TEXT    NOT NULL
	) STRICT;
	`,
	// 7: the books go by when money moved. That is soon after a payment began, so payments_created finds it, but for few.
	`
	CREATE INDEX payments_aside ON payments (completed)
		WHERE status = 'SUCCESS' AND (completed < created - 3600000 OR completed >= created + 3600000);
	CREATE INDEX money_time ON money (time);
	`,
	// 8: how Daraja was last asked, so that a restart neither asks at once again nor forgets that it wanted to be left alone.
	`
	CREATE TABLE asks (
		shortcode TEXT    PRIMARY KEY,         -- its name
		asked     INTEGER NOT NULL,            -- last
		failures  INTEGER NOT NULL,            -- since then and before, without an answer between; 0: it answers
		since     INTEGER NOT NULL,            -- the first of them
		until     INTEGER NOT NULL,            -- it is not asked before
		why       TEXT    NOT NULL             -- the last of them
	) STRICT, WITHOUT ROWID;
	`,
	// 9: from when on an app that was paused has its three days for what waited.
	`
	ALTER TABLE forwarder ADD COLUMN resumed INTEGER NOT NULL DEFAULT 0; -- last
	`,
}

// tables are all there are in the file.
func tables() *form.Tables {
	return &form.Tables{Of: "the table of payments", Steps: schema[:], New: mintEpoch}
}

// mintEpoch begins the history of events.
func mintEpoch(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "INSERT INTO store (one, epoch) VALUES (1, ?)", time.Now().UnixMilli())
	return err
}

// Check refuses a file, damaged or not, that a newer program has used.
func Check(path string) error {
	if err := form.Check(path, tables()); err != nil {
		return fmt.Errorf("correlate: open: %w", err)
	}
	return nil
}

// migrate brings the file to the newest form.
func migrate(ctx context.Context, conn *sql.Conn, path string, log *slog.Logger) error {
	return form.Up(ctx, conn, path, log, tables())
}
