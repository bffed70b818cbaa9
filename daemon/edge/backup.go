package edge

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hodihq/hodi/daemon/backup"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel/journal"
)

// state is what an edge must not lose. What else lies in its folder is made anew: the lock, the operator's socket, the copy
// of the endpoints.
var state = backup.State{Of: "edge", Database: databaseFile, Files: []string{caFile, caKeyFile, resetKeyFile}}

// Backup writes all that the edge in dir must not lose, whether it runs or not: endpoints, the journal, the authority
// that sidecars have pinned. Every callback that was answered 200 before Backup was called is in it. who is for the audit,
// version is our own.
func Backup(ctx context.Context, dir, who, version string, w io.Writer) (backup.About, error) {
	about, err := state.Write(ctx, dir, nil, version, w)
	if err != nil {
		return about, fmt.Errorf("edge: %w", err)
	}
	// All that an edge must not lose is on its way to somebody now: that is what the audit is to say. The copy is whole
	// already, and a disk on which nothing can be written any more must be possible to copy.
	_ = recordIn(ctx, dir, who, actBackup, "")
	return about, nil
}

// renew brings a database that was put back to today's form, or refuses it if it comes from a newer edge, and gives its
// histories new epochs.
func renew(ctx context.Context, path string) error {
	err := withDatabase(path, func(db *sql.DB) error { return up(ctx, db, path, nil) })
	if err != nil {
		return err
	}
	return journal.RenewAll(ctx, path)
}

// Restore puts what Backup wrote into dir, where no edge may run. A state that is there is moved aside if replace says
// so. who is for the audit. Sidecars that have seen more than the backup holds miss nothing that comes from now on: the journal has a new epoch.
func Restore(ctx context.Context, dir, who string, r io.Reader, replace bool) (done backup.Restored, err error) {
	defer backup.Vacate(dir, lockFile)(&err)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return done, fmt.Errorf("edge: restore: %w", err)
	}
	lock, err := lock(dir)
	if err != nil {
		return done, fmt.Errorf("edge: restore: %w: stop it first", err)
	}
	defer lock.Unlock()
	if err := salvage.Finish(filepath.Join(dir, databaseFile)); err != nil { // or the next start would put that in place of what is restored
		return done, fmt.Errorf("edge: restore: %w", err)
	}
	if done, err = state.Restore(ctx, dir, r, renew, replace); err != nil {
		return done, fmt.Errorf("edge: %w", err)
	}
	detail := fmt.Sprintf("made on %s at %s", done.About.Host, done.About.Made.UTC().Format(time.RFC3339))
	if err := recordIn(ctx, dir, who, actRestore, detail); err != nil {
		return done, fmt.Errorf("edge: restore: all is put back, but the audit lacks a line: %w", err)
	}
	return done, nil
}
