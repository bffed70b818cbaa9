//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// becomeOwner has root become the user to whom a data folder belongs, or the nearest folder above one that is not there
// yet: the daemon, which is that user, is to find there what is its own. For others than root, it does nothing.
func becomeOwner(data string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	for os.IsNotExist(err) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("becoming the owner of %s: %w", path, err)
	}
	if err := syscall.Setgid(int(owner.Gid)); err != nil {
		return fmt.Errorf("becoming the owner of %s: %w", path, err)
	}
	if err := syscall.Setuid(int(owner.Uid)); err != nil {
		return fmt.Errorf("becoming the owner of %s: %w", path, err)
	}
	return nil
}
