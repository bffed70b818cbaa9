package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// The keys behind refs, in callback.key: a line for each, the oldest first. The last one makes the refs of new payments; a
// ref of any of them is believed. An address is known to Safaricom for as long as its payment is asked about, so an older
// key goes on until an operator retires it by name.
//
//	HEX                     the first key, as it was made
//	HEX key-2 2026-10-02    one that was added, its name, and the day

// refKey is one of them.
type refKey struct {
	name string
	made time.Time // the day; zero for the first
	key  []byte
}

const refKeySize = 32

// loadRefKeys reads them. The first is made when there is none.
func loadRefKeys(dir string, log *slog.Logger) ([]refKey, error) {
	path := filepath.Join(dir, callbackKey)
	text, err := readSecret(path, log)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := makeKey(path, refKeySize)
		return []refKey{{name: "key-1", key: key}}, err
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	var keys []refKey
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		k := refKey{name: "key-1"}
		k.key, err = hex.DecodeString(words[0])
		if err == nil && len(words) > 1 {
			k.name = words[1]
		}
		if err == nil && len(words) > 2 {
			k.made, err = time.Parse(time.DateOnly, words[2])
		}
		if err != nil || len(k.key) != refKeySize || len(words) > 3 || slices.ContainsFunc(keys, func(other refKey) bool { return other.name == k.name }) {
			return nil, fmt.Errorf("%s holds something else than keys (%d bytes in hex each): put the right file back", path, refKeySize)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key (%d bytes in hex): put the right file back", path, refKeySize)
	}
	return keys, nil
}

// keepRefKeys writes the file, and then has the table go by it: a ref is never made with a key that could be lost.
func (s *Sidecar) keepRefKeys(keys []refKey) error {
	var text []byte
	for _, k := range keys {
		text = hex.AppendEncode(text, k.key)
		if !k.made.IsZero() {
			text = fmt.Appendf(text, " %s %s", k.name, k.made.Format(time.DateOnly))
		} else if k.name != "key-1" {
			text = fmt.Appendf(text, " %s", k.name)
		}
		text = append(text, '\n')
	}
	if err := salvage.WriteFile(filepath.Join(s.config.Dir, callbackKey), text); err != nil {
		return err
	}
	s.refKeys = keys
	key, old := split(keys)
	return s.table.SetKeys(key, old...)
}

// split is the key that makes refs, and those that are believed besides.
func split(keys []refKey) (key []byte, old [][]byte) {
	for _, k := range slices.Backward(keys) {
		if key == nil {
			key = k.key
			continue
		}
		old = append(old, k.key)
	}
	return key, old
}

// refKeyView is a key as the operator sees it, without the secret.
type refKeyView struct {
	Name string     `json:"name"`
	Made *push.Time `json:"made,omitempty"`
	New  bool       `json:"new"` // it makes the addresses of new payments
}

func (s *Sidecar) listRefKeys(w http.ResponseWriter, _ *http.Request) *problem {
	s.keys.Lock()
	defer s.keys.Unlock()
	list := make([]refKeyView, len(s.refKeys))
	for i, k := range s.refKeys {
		list[i] = refKeyView{Name: k.name, New: i == len(list)-1}
		if !k.made.IsZero() {
			list[i].Made = &push.Time{Time: k.made}
		}
	}
	reply(w, http.StatusOK, map[string][]refKeyView{"keys": list})
	return nil
}

// rotateRefKey makes a key for the refs of new payments.
func (s *Sidecar) rotateRefKey(w http.ResponseWriter, r *http.Request) *problem {
	s.keys.Lock()
	defer s.keys.Unlock()
	n := 1
	for _, k := range s.refKeys { // the newest is never retired, so no name is given twice
		number, _ := strconv.Atoi(strings.TrimPrefix(k.name, "key-"))
		n = max(n, number)
	}
	k := refKey{name: fmt.Sprintf("key-%d", n+1), made: time.Now().UTC(), key: make([]byte, refKeySize)}
	rand.Read(k.key)
	if p := s.changeRefKeys(r, append(slices.Clone(s.refKeys), k), "callback key added", k.name); p != nil {
		return p
	}
	reply(w, http.StatusCreated, refKeyView{Name: k.name, Made: &push.Time{Time: k.made}, New: true})
	return nil
}

// retireRefKey ends a key: what comes to an address that was made with it is forged from now on.
func (s *Sidecar) retireRefKey(w http.ResponseWriter, r *http.Request) *problem {
	s.keys.Lock()
	defer s.keys.Unlock()
	name := r.PathValue("name")
	at := slices.IndexFunc(s.refKeys, func(k refKey) bool { return k.name == name })
	switch at {
	case -1:
		return problemf(http.StatusNotFound, "not-found", "there is no key %s", name)
	case len(s.refKeys) - 1:
		return problemf(http.StatusConflict, "newest-key", "%s makes the addresses of new payments: add another first", name)
	}
	if p := s.changeRefKeys(r, slices.Delete(slices.Clone(s.refKeys), at, at+1), "callback key retired", name); p != nil {
		return p
	}
	reply(w, http.StatusOK, refKeyView{Name: name})
	return nil
}

// changeRefKeys writes down who does it, and does it. s.keys is held.
func (s *Sidecar) changeRefKeys(r *http.Request, keys []refKey, act, name string) *problem {
	ctx := context.WithoutCancel(r.Context())
	if err := s.table.Audit(ctx, correlate.Act{Who: console.Who(r), Act: act, Subject: name}); err != nil {
		return s.internal("write to the audit", err)
	}
	if err := s.keepRefKeys(keys); err != nil {
		return s.internal("keep the callback keys", err)
	}
	s.log.Info("sidecar: "+act, "key", name, "by", console.Who(r))
	return nil
}

// readSecret reads a key of ours. One that others can read is closed to them, and said to be known to whoever has looked: the
// shop goes on, because a key that is not used locks out the app, and every callback that is on its way.
func readSecret(path string, log *slog.Logger) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if secret.Check(path, info) != nil {
		if err := os.Chmod(path, 0o600); err != nil {
			return "", fmt.Errorf("%s can be read by others: %w", path, err)
		}
		log.Warn("others than the sidecar's user could read a key, so it may be known to them: it is closed to them now; replace it if anybody may have looked",
			"file", path, "mode", info.Mode().Perm().String())
	}
	return string(text), nil
}
