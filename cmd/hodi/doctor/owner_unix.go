//go:build unix

package doctor

import (
	"io/fs"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf is whose a file is, and that user's name if there is one.
func ownerOf(info fs.FileInfo) (id int, name string) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, ""
	}
	if u, err := user.LookupId(strconv.Itoa(int(s.Uid))); err == nil {
		name = u.Username
	}
	return int(s.Uid), name
}
