// Package secret reads files that nobody else may read: keys, passwords, join codes.
package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Read reads the file at path. One that others than its owner can read is refused: what was once open to others has to be
// thought of as known to them, and that is for a person to decide.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := Check(path, info); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Check says whether a file of this kind may hold a secret.
func Check(path string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case runtime.GOOS == "windows": // where these bits say nothing
	case isCredential(path): // systemd lets in the unit's own user by an access list, which looks like a group
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be read by others than its owner, so it may be known to them: make another, or, if nobody has seen it, chmod 600 %s", path, path)
	}
	return nil
}

// CheckFolder says whether keys may be kept in a folder. Where anybody may write, anybody may put a key in the place of ours,
// or be there first.
func CheckFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("anybody may write to %s, and so put keys of their own there: look at what is in it, and chmod o-w %s", dir, dir)
	}
	return nil
}

// isCredential reports whether systemd has put the file there for this unit alone: LoadCredential=.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return false
	}
	relative, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(relative)
}

// Find is path, or the credential of systemd by that name if there is none at path and one there. One that our units load
// with the folder /etc/hodi/credentials has "hodi_" before its name.
func Find(path string) string {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(path, `/\`) {
		return path
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		for _, name := range []string{path, "hodi_" + path} {
			credential := filepath.Join(dir, name)
			if _, err := os.Stat(credential); err == nil {
				return credential
			}
		}
	}
	return path
}
