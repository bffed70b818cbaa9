package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodihq/hodi/internal/loopback"
)

// TestAPersonIsToldOfAForgeryThroughTheWholeHouse posts a forged callback to the edge. The sidecar does not believe it, and says
// so; the edge has a command tell a person, and after kill -9 does not tell it again. That takes ten minutes for a sidecar which is
// silent, and so package notify and daemon/edge show it where they cost nothing.
func TestAPersonIsToldOfAForgeryThroughTheWholeHouse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	heard := filepath.Join(dir, "heard")
	tell := filepath.Join(dir, "tell")
	if err := os.WriteFile(tell, []byte("#!/bin/sh\n{ echo \"$HODI_SUBJECT\"; cat; } >> \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		b, _ := os.ReadFile(heard)
		return string(b)
	}
	args := []string{"edge", "--data", "edge", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t), "--notify-command", tell, "--notify-command", heard}
	edge := startDaemon(t, dir, args...)
	edge.says("sidecars")
	base := joinShop(t, dir, "edge", "duka", "sidecar")

	test := exec.Command("hodi", "edge", "notify", "test", "--data", "edge")
	test.Dir = dir
	if out, err := test.CombinedOutput(); err != nil || !strings.Contains(string(out), "command") || !strings.Contains(string(out), "handed over") {
		t.Errorf("a test says %s, %v", out, err)
	}
	if got := text(); !strings.HasPrefix(got, "Hodi: a test") {
		t.Errorf("and a person heard %q", got)
	}

	sidecar := startDaemon(t, dir, "sidecar", "--dev", "--data", "sidecar", "--listen", "127.0.0.1:0")
	sidecar.says("url")
	forge := func() {
		t.Helper()
		response, err := http.Post(base+"/"+strings.Repeat("ab", 16)+strings.Repeat("0", 32), "application/json", strings.NewReader(`{"Body": {}}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("a forgery is answered %d: nothing is refused for what it says", response.StatusCode)
		}
	}
	forge()
	const what = "a callback at duka is not believed"
	eventually(t, "a person to be told of the forgery", func() bool { return strings.Contains(text(), what) })
	if strings.Contains(text(), strings.Repeat("ab", 16)) {
		t.Errorf("a person was told more than concerns them:\n%s", text())
	}
	// What is kept: how many forgeries there are of which a person was told or is to be, and that all of it was told.
	kept := func() (forgeries uint64, told bool) {
		var file struct {
			Conditions []struct {
				Kind  string
				Count uint64
			}
			Last uint64
			Ways map[string]struct{ After uint64 }
		}
		if b, err := os.ReadFile(filepath.Join(dir, "edge", "notify.json")); err != nil || json.Unmarshal(b, &file) != nil {
			return 0, false
		}
		for _, c := range file.Conditions {
			if c.Kind == "suspect" {
				forgeries = c.Count
			}
		}
		return forgeries, file.Last == file.Ways["command"].After
	}
	eventually(t, "it to be kept that a person was told", func() bool { n, told := kept(); return n == 1 && told })
	edge.kill()
	before := text()
	edge = startDaemon(t, dir, args...)
	edge.says("callbacks")
	forge() // the day is not over
	eventually(t, "the sidecar to say that it has not believed another", func() bool { n, _ := kept(); return n == 2 })
	test = exec.Command("hodi", "edge", "notify", "test", "--data", "edge")
	test.Dir = dir
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("a test says %s, %v", out, err)
	}
	if after, ok := strings.CutPrefix(text(), before); !ok || strings.Contains(after, "duka") || !strings.HasPrefix(after, "Hodi: a test") {
		t.Errorf("after a restart a person was told\n%s", after)
	}
}
