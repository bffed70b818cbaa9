package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
)

// Restoring goes through two folders within the daemon's own, so that a power cut leaves the old state or the new one,
// and a rename is never across file systems:
//
//	restoring/  what is being unpacked, not yet known to be whole. Left behind, it means nothing
//	restored/   all that the new state is, checked, under its new epoch and on the disk: it only has to be moved into place
//	replaced-*/ what was in that place before
const (
	unpacking = "restoring"
	unpacked  = "restored"
	replaced  = "replaced-"
)

// ErrOccupied refuses to restore over a state that is there.
var ErrOccupied = errors.New("there is a state already")

// Restored says what Restore has put into place.
type Restored struct {
	About About
	Aside string   // the folder with what was there before; "" if nothing was
	Extra []string // the State's Extra files that there are now, by name
}

// Vacate is to be called before a restore makes dir and takes the lock in it, and what it returns once the lock is given
// back: if the restore was refused and there was no such folder before, there is none again.
func Vacate(dir, lock string) func(refused *error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return func(*error) {}
	}
	return func(refused *error) {
		if *refused == nil {
			return
		}
		if list, err := os.ReadDir(dir); err == nil && (len(list) == 0 || len(list) == 1 && list[0].Name() == lock) {
			os.Remove(filepath.Join(dir, lock))
			os.Remove(dir)
		}
	}
}

// Restore puts the state of a backup into dir, whose lock the caller holds. It touches nothing there until it has read all
// of the backup and found it whole. renew is called before that too, with the database's path: it gives the history that
// the database keeps another epoch, because others may know more of the present one than this copy does. A state that is
// there is moved aside if replace says so, and otherwise an error.
func (s State) Restore(ctx context.Context, dir string, r io.Reader, renew func(ctx context.Context, path string) error, replace bool) (Restored, error) {
	done, err := s.restore(ctx, dir, r, renew, replace)
	if err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	return done, nil
}

func (s State) restore(ctx context.Context, dir string, r io.Reader, renew func(ctx context.Context, path string) error, replace bool) (done Restored, err error) {
	if err := s.Finish(dir); err != nil {
		return done, err
	}
	for _, name := range append([]string{s.Database}, s.Files...) {
		if exists(dir, name) && !replace {
			return done, fmt.Errorf("%w: %s", ErrOccupied, filepath.Join(dir, name))
		}
	}
	here := filepath.Join(dir, unpacking)
	if err := os.RemoveAll(here); err != nil { // of a restore that was killed
		return done, err
	}
	if err := os.Mkdir(here, 0o700); err != nil {
		return done, err
	}
	defer os.RemoveAll(here)
	about, names, err := s.unpack(ctx, here, r)
	if err != nil {
		return done, err
	}
	done.About = about
	database := filepath.Join(here, s.Database)
	db, err := openDatabase(database, "rw")
	if err != nil {
		return done, err
	}
	if err := errors.Join(check(ctx, db), db.Close()); err != nil {
		return done, fmt.Errorf("%s of the backup: %w", s.Database, err)
	}
	if err := renew(ctx, database); err != nil {
		return done, err
	}
	if err := s.settle(dir, here, names); err != nil {
		return done, err
	}
	if err := os.Rename(here, filepath.Join(dir, unpacked)); err != nil { // from here on there is no way back
		return done, err
	}
	if err := salvage.SyncDir(dir); err != nil {
		return done, err
	}
	done.Aside, err = s.install(dir)
	for _, name := range s.Extra {
		if slices.Contains(names, name) {
			done.Extra = append(done.Extra, name)
		}
	}
	return done, err
}

// unpack reads a whole backup, and says what it holds.
func (s State) unpack(ctx context.Context, into string, r io.Reader) (about About, names []string, err error) {
	in, sums := tar.NewReader(r), map[string]string{}
	torn := func(err error) (About, []string, error) {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return about, nil, errors.New("the backup is cut off: it was not written to its end, or not carried over whole")
		}
		if errors.Is(err, tar.ErrHeader) {
			return about, nil, errors.New("this is no backup of hodi, or it is damaged")
		}
		return about, nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return about, nil, err
		}
		header, err := in.Next()
		if err != nil {
			return torn(err)
		}
		name := header.Name
		_, twice := sums[name]
		switch {
		case name == sumsFile:
			said, err := io.ReadAll(io.LimitReader(in, smallFile))
			if err != nil {
				return torn(err)
			}
			var is bytes.Buffer
			for _, name := range append([]string{aboutFile}, names...) {
				fmt.Fprintf(&is, "%s  %s\n", sums[name], name)
			}
			if !bytes.Equal(is.Bytes(), said) {
				return about, nil, errors.New("the backup is damaged: its contents are not those that were written (see its SHA256SUMS)")
			}
			for _, name := range append([]string{s.Database}, s.Files...) {
				if !slices.Contains(names, name) {
					return about, nil, fmt.Errorf("the backup has no %s", name)
				}
			}
			return about, names, nil
		case len(sums) == 0:
			if name != aboutFile {
				return about, nil, errors.New("this is no backup of hodi")
			}
			b, err := io.ReadAll(io.LimitReader(in, smallFile))
			if err != nil {
				return torn(err)
			}
			if err := json.Unmarshal(b, &about); err != nil {
				return about, nil, errors.New("the backup is damaged: what it says about itself cannot be read")
			}
			if about.Format > format {
				return about, nil, fmt.Errorf("the backup is of form %d, and this hodi reads form %d at most: use the newer one that made it (%s)", about.Format, format, about.By)
			}
			if about.Of != s.Of {
				return about, nil, fmt.Errorf("this is a backup of the %s, not of the %s: hodi %s restore takes it", about.Of, s.Of, about.Of)
			}
			sums[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		case twice || header.Typeflag != tar.TypeReg || name != s.Database && !slices.Contains(s.Files, name) && !slices.Contains(s.Extra, name):
			return about, nil, fmt.Errorf("the backup holds %q, which does not belong there", name)
		default:
			sum := sha256.New()
			if err := unpackFile(filepath.Join(into, name), in, sum); err != nil {
				return torn(err)
			}
			sums[name] = fmt.Sprintf("%x", sum.Sum(nil))
			names = append(names, name)
		}
	}
}

func unpackFile(path string, in io.Reader, sum hash.Hash) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(f, sum), in)
	return errors.Join(err, f.Close())
}

// settle makes the new state durable, and gives it to whom the daemon's folder belongs: root restores what a daemon
// without privileges must be able to open.
func (s State) settle(dir, here string, names []string) error {
	if err := give(dir, filepath.Join(dir, "lock"), here); err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(here, name)
		if err := give(dir, path); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return salvage.SyncDir(here)
}

// Finish moves a restored state into place, if a power cut came between. A daemon calls it before it opens its state,
// once it has its folder's lock.
func (s State) Finish(dir string) error {
	if !exists(dir, unpacked) {
		return nil
	}
	_, err := s.install(dir)
	return err
}

// install moves what is in restored into place. The database goes last: as long as it is in restored, what has its name
// in the daemon's folder, and the WAL there, is of the old one.
func (s State) install(dir string) (aside string, err error) {
	from := filepath.Join(dir, unpacked)
	entries, err := os.ReadDir(from)
	if err != nil {
		return "", err
	}
	old := map[string]bool{}
	var names []string
	for _, e := range entries {
		if e.Name() == s.Database {
			old[s.Database+"-wal"], old[s.Database+"-shm"] = true, true
		} else {
			names = append(names, e.Name())
		}
		old[e.Name()] = true
	}
	maps.DeleteFunc(old, func(name string, _ bool) bool { return !exists(dir, name) })
	if len(old) > 0 {
		aside = filepath.Join(dir, replaced+time.Now().UTC().Format("20060102T150405.000Z"))
		if err := os.Mkdir(aside, 0o700); err != nil {
			return "", err
		}
		if err := give(dir, aside); err != nil {
			return "", err
		}
		for _, name := range slices.Sorted(maps.Keys(old)) {
			if err := move(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
				return "", err
			}
		}
		if err := errors.Join(salvage.SyncDir(aside), salvage.SyncDir(dir)); err != nil {
			return "", err
		}
	}
	for _, name := range append(names, s.Database) {
		if err := move(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	if err := os.Remove(from); err != nil {
		return "", err
	}
	return aside, salvage.SyncDir(dir)
}
