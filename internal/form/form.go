// Package form brings the tables in a SQLite file to the form that the program knows, and refuses those that a newer
// program has changed.
//
// A form is a number: of the steps that the tables have been through, from none. PRAGMA user_version has it, in the first
// page of the file, where it is found in a file that is otherwise damaged too. Tables go forward only. What an older
// program would do to tables that it does not know nobody can have tested, so it does nothing to them.
package form

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Tables are those of one owner in a file.
type Tables struct {
	// Of says whose tables they are, for words: "the journal".
	Of string

	// Place is which half of user_version has their form. Of the owners that share a file each has its own, so each takes
	// its own steps; one that has a file to itself has half 0, and its form is user_version as SQLite shows it. An owner who comes
	// to a file that was released without it takes a step in the tables of another too: that is what older programs refuse.
	Place Half

	// Steps are the ways from one form to the next. One that was released is never edited: files have been through it.
	Steps []string

	// Early brings what was made before forms were counted to what the first step makes of it. It is asked before that step
	// is taken, also where there is nothing yet; like that, within the transaction. nil: nothing was.
	Early func(context.Context, *sql.Conn) error

	// New adds what tables that are new need besides. nil: nothing.
	New func(context.Context, *sql.Conn) error
}

// Half is one of the halves of user_version.
type Half int

const halfBits = 16

func (h Half) of(version uint32) int { return int(version >> (halfBits * h) & (1<<halfBits - 1)) }

// ErrNewer is behind errors about a file that a newer program has changed.
var ErrNewer = errors.New("a newer hodi has used this database")

func (t *Tables) check(path string, form int) error {
	if form <= len(t.Steps) {
		return nil
	}
	return fmt.Errorf("%w: in %s %s has form %d, and this hodi knows form %d at most. Nothing was changed. "+
		"Install the newer hodi again; or put back a backup that was made before (restore --replace)", ErrNewer, filepath.Base(path), t.Of, form, len(t.Steps))
}

// Check looks at the file at path as it lies there, damaged or not, and refuses it if a newer program has used it. What is
// in the write-ahead log only is not seen: Up sees that.
func Check(path string, owners ...*Tables) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var head [64]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:16]) != "SQLite format 3\x00" {
		return nil // whatever this is, no newer program made it so
	}
	version := binary.BigEndian.Uint32(head[60:]) // where the file format has user_version
	for _, t := range owners {
		if err := t.check(path, t.Place.of(version)); err != nil {
			return err
		}
	}
	return nil
}

// Up brings the tables of all owners to their newest forms in one transaction: after a power cut they have the old forms or
// the new. conn is to the file at path, and in no transaction. A nil Logger discards.
func Up(ctx context.Context, conn *sql.Conn, path string, log *slog.Logger, owners ...*Tables) (err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	_, due, err := read(ctx, conn, path, owners)
	if err != nil || !due {
		return err
	}
	// A command may be at the same file; so nothing is read before the lock is had, and read again then.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, undone := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, undone)
		}
	}()
	version, _, err := read(ctx, conn, path, owners)
	if err != nil {
		return err
	}
	for _, t := range owners {
		was, is := t.Place.of(version), len(t.Steps)
		if was == is {
			continue
		}
		if was > 0 {
			log.Info("the database is brought to a newer form; if it is large, that takes a while", "file", path, "of", t.Of, "from", was, "to", is)
		}
		if err := t.take(ctx, conn, was); err != nil {
			return fmt.Errorf("%s: from form %d to %d: %w", t.Of, was, is, err)
		}
		version += uint32(is-was) << (halfBits * t.Place)
	}
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", int32(version))); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// read says what the file has, and whether there is anything to do.
func read(ctx context.Context, conn *sql.Conn, path string, owners []*Tables) (version uint32, due bool, err error) {
	var signed int32
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&signed); err != nil {
		return 0, false, err
	}
	version = uint32(signed)
	for _, t := range owners {
		is := t.Place.of(version)
		if err := t.check(path, is); err != nil {
			return version, false, err
		}
		due = due || is < len(t.Steps)
	}
	return version, due, nil
}

func (t *Tables) take(ctx context.Context, conn *sql.Conn, from int) error {
	if from == 0 && t.Early != nil {
		if err := t.Early(ctx, conn); err != nil {
			return err
		}
	}
	for _, step := range t.Steps[from:] {
		if _, err := conn.ExecContext(ctx, step); err != nil {
			return err
		}
	}
	if from == 0 && t.New != nil {
		return t.New(ctx, conn)
	}
	return nil
}
