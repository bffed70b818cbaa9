//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// journalOf starts a command whose standard error is a pipe that JOURNAL_STREAM names, as journald's is; or another one.
func journalOf(t *testing.T, is bool, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	inode := stat.Ino
	if !is {
		inode++
	}
	cmd := exec.Command("hodi", args...)
	cmd.Dir, cmd.Stderr = t.TempDir(), w
	cmd.Env = append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, inode))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(r)
}

func TestWhatGoesToTheJournalHasItsPriorityAndNoTime(t *testing.T) {
	t.Parallel()
	sidecar := []string{"sidecar", "--accept-callbacks", "--data", "d", "--listen", "127.0.0.1:0"}
	for name, c := range map[string]struct {
		journal     bool
		args        []string
		warns, says string
	}{
		"text":           {true, sidecar, `^<4>level=WARN msg=".*shortcode`, `^<6>level=INFO msg="sidecar serves" url=`},
		"json":           {true, append([]string{"--log-format", "json"}, sidecar...), `^<4>{"level":"WARN","msg":".*shortcode`, `^<6>{"level":"INFO","msg":"sidecar serves","url":`},
		"not a journal":  {false, sidecar, `^time=\S+ level=WARN msg=".*shortcode`, `^time=\S+ level=INFO msg="sidecar serves" url=`},
		"json, and none": {false, append([]string{"--log-format", "json"}, sidecar...), `^{"time":"[^"]+","level":"WARN","msg":".*shortcode`, `^{"time":"[^"]+","level":"INFO","msg":"sidecar serves","url":`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, lines := journalOf(t, c.journal, c.args...)
			defer func() {
				cmd.Process.Signal(syscall.SIGTERM)
				for lines.Scan() {
				}
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}()
			all, warned := "", false
			for lines.Scan() {
				all += lines.Text() + "\n"
				warned = warned || regexp.MustCompile(c.warns).MatchString(lines.Text())
				if regexp.MustCompile(c.says).MatchString(lines.Text()) {
					if !warned {
						t.Errorf("no line is %s\n%s", c.warns, all)
					}
					return
				}
				if strings.Contains(lines.Text(), "sidecar serves") {
					break
				}
			}
			t.Errorf("no line is %s\n%s", c.says, all)
		})
	}
}

func TestWhyAProcessEndsIsAnErrorInTheJournal(t *testing.T) {
	t.Parallel()
	for journal, want := range map[bool]string{true: "<3>hodi: sidecar: no way in for callbacks", false: "hodi: sidecar: no way in for callbacks"} {
		cmd, lines := journalOf(t, journal, "sidecar", "--data", "d", "--listen", "127.0.0.1:0")
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		if err := cmd.Wait(); err == nil || !strings.HasPrefix(last, want) {
			t.Errorf("%v: the last line is %q, want %q...", err, last, want)
		}
	}
	var two bytes.Buffer
	complain(&two, true, errors.New("one\ntwo"))
	if two.String() != "<3>hodi: one\n<3>two\n" {
		t.Errorf("of two lines: %q", &two)
	}
}

func TestEveryLineOfTheJournalIsWholeAndKeepsItsOwnPriority(t *testing.T) {
	r, w := io.Pipe()
	form := func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) }
	log := slog.New(newJournalHandler(w, slog.LevelDebug, form)).With("who", "test").WithGroup("of")
	levels := map[slog.Level]string{slog.LevelDebug: "<7>", slog.LevelInfo: "<6>", slog.LevelWarn: "<4>", slog.LevelError: "<3>"}
	var writers sync.WaitGroup
	for level := range levels {
		writers.Go(func() {
			for range 200 {
				log.Log(context.Background(), level, "two\nlines", "n", int(level))
			}
		})
	}
	go func() {
		writers.Wait()
		w.Close()
	}()
	n := 0
	for lines := bufio.NewScanner(r); lines.Scan(); n++ {
		var said struct {
			Time  any
			Level slog.Level
			Who   string
			Of    struct{ N int }
		}
		line := lines.Text()
		if err := json.Unmarshal([]byte(line[min(len(line), 3):]), &said); err != nil || said.Time != nil || said.Who != "test" || !strings.HasPrefix(line, levels[said.Level]) || said.Of.N != int(said.Level) {
			t.Fatalf("%v: %s", err, line)
		}
	}
	if n != 800 {
		t.Errorf("%d lines", n)
	}
}
