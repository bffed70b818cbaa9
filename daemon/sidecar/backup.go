package sidecar

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hodihq/hodi/daemon/backup"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/correlate"
)

// state is what a sidecar must not lose. Its identity comes along if it has joined an edge, and the
// secret that callbacks are signed with, if its app has one. What else lies in its folder is
// made anew: the lock, the key of a join that was broken off.
var state = backup.State{Of: "sidecar", Database: databaseFile, Files: []string{callbackKey, apiKey, inboxKey}, Extra: []string{identityFile, ForwardSecret}}

// Backup writes all that the sidecar of c must not lose, whether it runs or not: payments, callbacks and how far the
// edge's journal was read; its keys; and its identity at the edge. who is for the audit, version is our own.
func Backup(ctx context.Context, dir, who, version string, w io.Writer) (backup.About, error) {
	extra := map[string]string{}
	if HasJoined(dir) {
		extra[identityFile] = filepath.Join(dir, identityFile)
	}
	if secret := filepath.Join(dir, ForwardSecret); !salvage.Missing(secret) {
		extra[ForwardSecret] = secret
	}
	about, err := state.Write(ctx, dir, extra, version, w)
	if err != nil {
		return about, fmt.Errorf("sidecar: %w", err)
	}
	// The copy is whole already, and a disk on which nothing can be written any more must be possible to copy.
	_ = correlate.Record(ctx, filepath.Join(dir, databaseFile), correlate.Act{Who: who, Act: "backup", Subject: "sidecar"})
	return about, nil
}

// Restore puts what Backup wrote into dir, where no sidecar may run. A state that is there is moved aside if replace says
// so. who is for the audit. The edge shows what came since; subscribers who know of more than the backup holds are told the present state: the
// events have a new epoch.
func Restore(ctx context.Context, dir, who string, r io.Reader, replace bool) (done backup.Restored, err error) {
	defer backup.Vacate(dir, lockFile)(&err)
	lock, err := lockDir(dir)
	if err != nil {
		return done, fmt.Errorf("sidecar: restore: %w", err)
	}
	defer lock.Unlock()
	if err := salvage.Finish(filepath.Join(dir, databaseFile)); err != nil { // or the next start would put that in place of what is restored
		return done, fmt.Errorf("sidecar: restore: %w", err)
	}
	if done, err = state.Restore(ctx, dir, r, correlate.Renew, replace); err != nil {
		return done, fmt.Errorf("sidecar: %w", err)
	}
	detail := fmt.Sprintf("made on %s at %s", done.About.Host, done.About.Made.UTC().Format(time.RFC3339))
	if err := correlate.Record(ctx, filepath.Join(dir, databaseFile), correlate.Act{Who: who, Act: "restore", Subject: "sidecar", Detail: detail}); err != nil {
		return done, fmt.Errorf("sidecar: restore: all is put back, but the audit lacks a line: %w", err)
	}
	return done, nil
}
