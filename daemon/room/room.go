// Package room says how much room the disk has on which a daemon keeps its state.
package room

import (
	"os"
	"path/filepath"
)

// Room is what there is of a file system.
type Room struct {
	Free int64 // bytes that a daemon may still write
	Size int64 // bytes in all
}

// lowBelow is the room that an edge or a sidecar ought to have: some hundred thousand callbacks, and a copy of the database.
const lowBelow = 512 << 20

// Low reports whether somebody should see to it that there is more. Of a small disk a tenth has to do.
func (r Room) Low() bool { return r.Free < min(lowBelow, r.Size/10) }

// State is how it is with the disk that a database is on, in bytes, for whoever asks its daemon.
type State struct {
	Free     int64 `json:"free"`
	Size     int64 `json:"size"`
	Low      bool  `json:"low"` // so little is free that somebody should see to it
	Database int64 `json:"database"`
}

// StateOf is that of the database at path.
func StateOf(path string) (State, error) {
	there, err := Of(filepath.Dir(path))
	if err != nil {
		return State{}, err
	}
	return State{there.Free, there.Size, there.Low(), Used(path)}, nil
}

// Used is how many bytes a SQLite database has on disk, its log included; 0 if there is none.
func Used(path string) (n int64) {
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
