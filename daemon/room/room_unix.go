//go:build linux || darwin || freebsd

package room

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Of is the room where a folder lies.
func Of(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, fmt.Errorf("room: of %s: %w", dir, err)
	}
	return Room{Free: int64(s.Bavail) * int64(s.Bsize), Size: int64(s.Blocks) * int64(s.Bsize)}, nil
}
