package sidecar

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/secret"
)

// The files in Dir.
const (
	databaseFile = "sidecar.db"
	callbackKey  = "callback.key" // makes the refs in callback addresses: see refkeys.go
	apiKey       = "api.key"      // what the app says to be let in
	inboxKey     = "inbox.key"    // the {key} of POST /c/{key}/{ref}
	lockFile     = "lock"
)

// lockDir keeps a second process out of the folder.
func lockDir(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, errors.New("no data folder: set Dir")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := secret.CheckFolder(dir); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	switch held, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock the data folder %s (a network file system may not be able to; use a disk of this machine): %w", dir, err)
	case !held:
		return nil, fmt.Errorf("another hodi uses the data folder %s: stop it, or choose another folder", dir)
	}
	return lock, nil
}

// hasKey reports whether the key behind refs is there. Where there is a database and no key, callbacks that are on their way
// would not be believed with another one, and the payments in the database could not be told from forgeries.
func hasKey(dir string) (bool, error) {
	path := filepath.Join(dir, callbackKey)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !salvage.Missing(filepath.Join(dir, databaseFile)) {
		return false, fmt.Errorf("%s is gone, and %s is there: with another key no callback that is on its way would be believed. "+
			"Put a backup back (hodi sidecar restore --replace FILE), or, if there is none, make another: openssl rand -hex 32 > %s", path, databaseFile, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// loadKey reads a key of n random bytes, in hex; it is made when it is missing. A key that cannot be read is never
// replaced: an app would be locked out, and Safaricom be answered 404.
func loadKey(dir, name string, n int, log *slog.Logger) ([]byte, error) {
	path := filepath.Join(dir, name)
	text, err := readSecret(path, log)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path, n)
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != n {
		return nil, fmt.Errorf("%s holds no key (%d bytes in hex): put the right file back", path, n)
	}
	return key, nil
}

// makeKey makes a new key. A power cut leaves a whole key or none.
func makeKey(path string, n int) (key []byte, err error) {
	key = make([]byte, n)
	rand.Read(key)
	if err := salvage.WriteFile(path, fmt.Appendf(nil, "%x\n", key)); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// instance tells this data folder on this machine from a copy of it elsewhere. It is the same after every restart, so
// that a sidecar that comes back at once is not taken for a second one.
func instance(key []byte, dir string) (id [16]byte, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return id, err
	}
	host, _ := os.Hostname()
	machine, _ := os.ReadFile("/etc/machine-id") // not everywhere; the host's name and the path remain
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "instance\x00%s\x00%s\x00%s", host, dir, strings.TrimSpace(string(machine)))
	copy(id[:], mac.Sum(nil))
	return id, nil
}

// contextOver returns a context that ends with either of two.
func contextOver(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(other, cancel)
	return ctx, func() { stop(); cancel() }
}
