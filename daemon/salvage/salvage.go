// Package salvage looks after the database of a daemon when the disk has failed it: it finds damage before SQLite passes
// over it, moves a damaged file aside, never away, and reads the rows that are left in a file which SQLite opens no more.
package salvage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrDamaged is behind errors about a file that is not what was written to it.
var ErrDamaged = errors.New("the file is damaged")

// ErrLog is behind those that are about the write-ahead log only.
var ErrLog = fmt.Errorf("the write-ahead log: %w", ErrDamaged)

// IsDamage reports whether an error, of this package or of SQLite, says that a file is not what was written to it: that to
// try again is of no use.
func IsDamage(err error) bool {
	if errors.Is(err, ErrDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS: // a sector that cannot be read, too
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// Check looks at a database that nobody has open, as far as is cheap: whether it begins as one, and whether its write-ahead
// log is whole. If there were reasons to suspect it when it was last open (Suspect), it is read from end to end, which
// takes about a second per gigabyte.
//
// The log matters because SQLite is silent about it: at the first frame that is not right it takes the log to end, which
// is what a power cut leaves. But a power cut harms what was written last and not synced, one transaction; if others stand
// behind what is not right, they were committed, and somebody was told so.
func Check(ctx context.Context, path string) error {
	if err := checkHead(path); err != nil {
		return err
	}
	if err := checkLog(path + "-wal"); err != nil {
		return err
	}
	if _, err := os.Stat(path + suspicion); err == nil {
		if err := readThrough(ctx, path); err != nil {
			return err
		}
		return os.Remove(path + suspicion)
	}
	return nil
}

const magic = "SQLite format 3\x00"

func checkHead(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 100)
	switch n, err := f.ReadAt(head, 0); {
	case n == 0:
		return nil
	case n < len(head):
		return fmt.Errorf("%s: %w: it has %d bytes, and cannot be read on (%v)", path, ErrDamaged, n, err)
	case string(head[:len(magic)]) != magic:
		return fmt.Errorf("%s: %w: it does not begin like a database", path, ErrDamaged)
	}
	return nil
}

// Missing reports whether there is no database at path, or an empty one.
func Missing(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

const suspicion = ".suspect"

// Suspect has the next Check read the whole file. A running daemon calls it when SQLite reports damage, and ends.
func Suspect(path string, why error) error {
	return os.WriteFile(path+suspicion, []byte(why.Error()+"\n"), 0o600)
}

// readThrough has SQLite read all pages.
func readThrough(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("%s: %w: %s", path, ErrDamaged, said)
	}
	return nil
}

// A damaged database is moved aside in these steps, each of which a power cut may follow:
//
//	edge.db-wal   ─▶ edge.db.damaged-T-wal
//	edge.db       ─▶ edge.db.damaged-T
//	edge.db.new-T ─▶ edge.db                  if there is a new one
//
// The new one is whole and synced before they begin. Finish takes those that are left.
const (
	asideMark = ".damaged-"
	freshMark = ".new-"
)

// Stamp is what tells the files of one mishap from those of others.
func Stamp(now time.Time) string { return now.UTC().Format("20060102T150405.000Z") }

// Fresh is where the file that is to take the place of path is made. It is a draft, until Replace is called.
func Fresh(path, stamp string) string { return path + ".draft-" + stamp }

// Replace moves the database at path aside and puts the one at Fresh, which is closed, in its place. It returns where the
// damaged one is.
func Replace(path, stamp string) (aside string, err error) {
	fresh := Fresh(path, stamp)
	f, err := os.OpenFile(fresh, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, path+freshMark+stamp); err != nil {
		return "", err
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	return path + asideMark + stamp, Finish(path)
}

// Finish ends a Replace that a power cut interrupted, and removes drafts. Nobody may have the database open.
func Finish(path string) error {
	drafts, err := filepath.Glob(escape(path) + ".draft-*")
	if err != nil {
		return err
	}
	for _, draft := range drafts {
		if err := os.Remove(draft); err != nil {
			return err
		}
	}
	ready, err := filepath.Glob(escape(path) + freshMark + "*")
	if err != nil || len(ready) == 0 {
		return err
	}
	fresh := ready[len(ready)-1]
	if err := Aside(path, strings.TrimPrefix(fresh, path+freshMark)); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Aside moves a damaged database aside, with its log.
func Aside(path, stamp string) error {
	for _, suffix := range []string{"-wal", ""} {
		err := os.Rename(path+suffix, path+asideMark+stamp+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	for _, leftover := range []string{"-shm", "-journal", suspicion} {
		if err := os.Remove(path + leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Found lists the databases that were moved aside, by name, oldest first.
func Found(path string) []string {
	list, _ := filepath.Glob(escape(path) + asideMark + "*")
	names := []string{}
	for _, name := range list {
		if !strings.HasSuffix(name, "-wal") {
			names = append(names, filepath.Base(name))
		}
	}
	return names
}

// escape takes the meaning from characters that have one for Glob.
func escape(path string) string {
	if os.PathSeparator == '\\' { // there is no escaping there, nor a need of it but for [
		return strings.ReplaceAll(path, "[", "?")
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// WriteFile makes or replaces a file for its owner alone, wholly or not at all, also in a power cut.
func WriteFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".draft-*") // which makes it 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder durable. Windows has no call for that, and does it by itself.
func SyncDir(dir string) error {
	if os.PathSeparator == '\\' {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
