//go:build unix

package notify_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/notify"
)

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tell")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACommandIsGivenTheMessageAndTheFactsAndNothingElseOfOurs(t *testing.T) {
	t.Setenv("HODI_EDGE_SECRET_OF_OURS", "x")
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	out := filepath.Join(t.TempDir(), "out")
	var log bytes.Buffer
	c := &notify.Command{
		Args:   []string{script(t, "{ cat; echo; echo \"$2\"; env; } > \"$1\"; head -c 100000 /dev/zero | tr '\\0' x\n"), out, `two "words"; $(touch /nowhere) `},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(b), "\n")
	if !strings.HasPrefix(string(b), message.Text) || !slices.Contains(got, `two "words"; $(touch /nowhere) `) {
		t.Errorf("it was given\n%s", b)
	}
	for _, fact := range []string{"HODI_SUBJECT=Hodi: duka is silent", "HODI_EDGE=hooks.example.co.ke", "HODI_ID=" + message.ID, "HODI_NUMBER=7", "HODI_TIME=2026-11-22T11:02:00Z",
		"HODI_BEGUN=silent:duka", "HODI_OVER=disk", "HODI_STILL="} {
		if !slices.Contains(got, fact) {
			t.Errorf("it was not told %q:\n%s", fact, b)
		}
	}
	if strings.Contains(string(b), "SECRET_OF_OURS") || strings.Contains(string(b), "NOTIFY_SOCKET") {
		t.Errorf("it was told more than the facts:\n%s", b)
	}
	if n := strings.Count(log.String(), "x"); n < 1000 || n > 4000 {
		t.Errorf("of what it said %d bytes are in the log", n)
	}
}

func TestACommandThatFailsSaysSo(t *testing.T) {
	err := (&notify.Command{Args: []string{script(t, "exit 3\n")}}).Send(t.Context(), message)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("it says %v", err)
	}
}

// The context stands for the half minute that a way has.
func TestACommandIsEndedWithItsChildren(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo") // whoever holds it open to write lives
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"one that does not end":         "exec 3>\"$1\"; sleep 600 & echo up >&3; wait\n",
		"one that ends, and leaves one": "exec 3>\"$1\"; sleep 600 >/dev/null 2>&1 </dev/null & echo up >&3; exit 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			var once sync.WaitGroup
			once.Go(func() { ended <- (&notify.Command{Args: []string{script(t, text), fifo}}).Send(ctx, message) })
			f, err := os.Open(fifo) // when it has opened it, too
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			first := make([]byte, 3)
			if _, err := f.Read(first); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "does not end") {
				cancel()
			}
			err = <-ended
			once.Wait()
			if (err != nil) != strings.Contains(name, "does not end") {
				t.Errorf("it says %v", err)
			}
			f.SetReadDeadline(time.Now().Add(time.Minute))
			if n, err := f.Read(first); n != 0 || err == nil || os.IsTimeout(err) {
				t.Errorf("a child lives: %d bytes, %v", n, err)
			}
		})
	}
}
