package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/correlate"
)

// What the sidecar does about a database that is damaged or gone.
//
// It moves the damaged one aside and begins a new one, whose events have a new epoch, and which has read nothing of the
// edge. So the edge sends all it holds: every callback of the last seven days, and those that were never delivered.
// Payments come back with their callbacks, by the ref that they were given: callback.key says that it was ours. What is
// not in those callbacks (sessions, idempotency keys, payments older than that) is in the file that was moved aside.

// CheckForm refuses the database in dir, damaged or not, if a newer program has used it.
func CheckForm(dir string) error { return correlate.Check(filepath.Join(dir, databaseFile)) }

// openTable opens the database, or what takes its place.
func (s *Sidecar) openTable(ctx context.Context, c Config) error {
	path := filepath.Join(s.config.Dir, databaseFile)
	if err := salvage.Finish(path); err != nil {
		return err
	}
	if err := CheckForm(s.config.Dir); err != nil { // also of one that is damaged: it is for the newer hodi to mend
		return err
	}
	err := salvage.Check(ctx, path)
	if errors.Is(err, salvage.ErrLog) {
		if err = s.cutLog(ctx, path, err); err == nil {
			err = salvage.Check(ctx, path)
		}
	}
	if err == nil {
		err = s.openCorrelate(ctx, c, path)
	}
	if err == nil || !salvage.IsDamage(err) {
		return err
	}
	stamp := salvage.Stamp(time.Now())
	s.log.Error("the database is damaged. It is moved aside, and a new one begun: the edge sends what it holds, and payments come back with their callbacks. "+
		"Keep the file: what is older is in it only", "file", path, "aside", path+".damaged-"+stamp, "err", err)
	if err := salvage.Aside(path, stamp); err != nil {
		return fmt.Errorf("move %s aside: %w", path, err)
	}
	return s.openCorrelate(ctx, c, path)
}

func (s *Sidecar) openCorrelate(ctx context.Context, c Config, path string) (err error) {
	if salvage.Missing(path) && s.restarted {
		s.log.Error("the database is gone. A new one is begun: the edge sends what it holds, and payments come back with their callbacks", "file", path)
		if err := salvage.Aside(path, salvage.Stamp(time.Now())); err != nil { // its log, if that is there
			return err
		}
	}
	key, old := split(s.refKeys)
	config := c.table()
	config.Path, config.Key, config.OldKeys, config.Trusting = path, key, old, c.Dev
	config.Publish, config.Logger, config.Damaged = s.publish, s.log, func(err error) { s.damaged <- err }
	s.table, err = correlate.Open(ctx, config)
	return err
}

// table is what of a table's Config may change.
func (c Config) table() correlate.Config {
	return correlate.Config{
		QueryAbove: c.QueryAbove, Limits: c.limits(), UnknownAfter: c.UnknownAfter, FirstAsk: c.FirstAsk,
		KeepBodies: max(cmp.Or(c.KeepBodies, 90*24*time.Hour), 0), KeepPayments: c.KeepPayments, Forwarding: c.Forward != "",
	}
}

// cutLog keeps a copy of a log that is damaged before its end, and has SQLite take what is before the damage. That is the
// table of some minutes ago, so its events get a new epoch; its cursor is of then too, and the edge shows what came since.
// But where the file holds what is behind the damage, SQLite must not see the log.
func (s *Sidecar) cutLog(ctx context.Context, path string, why error) error {
	aside := path + ".damaged-" + salvage.Stamp(time.Now()) + "-wal"
	switch moved, err := salvage.MovedLog(path); {
	case err != nil:
		return err
	case moved == salvage.MovedAll:
		s.log.Error("the database's log is damaged. All of it is in the database: nothing is lost", "log", path+"-wal", "aside", aside, "err", why)
		return os.Rename(path+"-wal", aside)
	case moved == salvage.MovedSome:
		return fmt.Errorf("%w; and the database holds some of what is behind that", why)
	}
	s.log.Error("the database's log is damaged. What is before the damage is kept, and the edge sends what came since", "log", path+"-wal", "copy", aside, "err", why)
	in, err := os.Open(path + "-wal")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("keep the damaged log: %w", err)
	}
	return correlate.Renew(ctx, path)
}

// met is why Run ends when SQLite has met damage. The next Open reads the whole file.
func (s *Sidecar) met(why error) error {
	path := filepath.Join(s.config.Dir, databaseFile)
	err := fmt.Errorf("sidecar: %s is damaged (%w): started again, the sidecar looks at all of it, and begins a new one if need be", path, why)
	if e := salvage.Suspect(path, err); e != nil {
		err = fmt.Errorf("%w (and that could not be noted: %w)", err, e)
	}
	return err
}
