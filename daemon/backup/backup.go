// Package backup is one file that holds all a daemon must not lose: a copy of its database as it is at one instant, also
// while the daemon runs, and its keys.
//
//	about.json    which daemon's state this is, of when, in which form
//	edge.db       the database, page by page
//	ca.key ...    the keys, and whatever else the daemon names
//	SHA256SUMS    of all of these, for restore and for sha256sum -c. It comes last: a file without it is torn
//
// It is a tar, written in one go and read in one go, so that it can be piped to another machine or into a program that
// encrypts it. The files: write.go makes one, database.go holds the database still for it, restore.go puts it back.
package backup

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// State is what a daemon keeps in its folder and must not lose.
type State struct {
	Of       string   // whose state it is: edge, sidecar
	Database string   // the name of the SQLite file
	Files    []string // the names of the files beside it, all of which there are
	Extra    []string // names of files that a backup may hold besides; they come from anywhere
}

// About says what a backup is.
type About struct {
	Format int       `json:"format"`
	Of     string    `json:"of"`   // State.Of
	Made   time.Time `json:"made"` // no later than the instant that the database is of
	Host   string    `json:"host"` // where
	Dir    string    `json:"dir"`  // the folder, there
	By     string    `json:"by"`   // the version of hodi
}

// format is the form described above. A backup of a greater one is not read.
const format = 1

const (
	aboutFile = "about.json"
	sumsFile  = "SHA256SUMS"
	smallFile = 1 << 20 // no file but the database is larger
)

// move renames a file, or does nothing where there is none.
func move(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, os.ErrNotExist) {
		if _, gone := os.Lstat(from); errors.Is(gone, os.ErrNotExist) {
			return nil
		}
	}
	return err
}

// exists reports whether a folder has a file of this name.
func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}
