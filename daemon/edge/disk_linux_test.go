package edge_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
)

// TestARealFullDisk fills a small file system of its own. It needs the right to mount one.
func TestARealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): a real full disk is not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	w := start(t, edge.Config{Dir: dir})
	var want []string
	post := func(body string) int {
		t.Helper()
		response, _ := w.post(w.callback, body)
		if response.StatusCode == 200 {
			want = append(want, body)
		} else if response.StatusCode != 503 {
			t.Fatalf("a callback is answered %d", response.StatusCode)
		}
		return response.StatusCode
	}
	post("the first")
	ballast := filepath.Join(dir, "ballast")
	if os.WriteFile(ballast, make([]byte, 8<<20), 0o600) == nil {
		t.Fatal("8 MiB fit into 4")
	}
	refused := 0
	for i := range 40 { // what is left of the last pages is used up first
		if post(strings.Repeat("x", 1000*(i+1))) == 503 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("a full disk refuses nothing")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if status := post("the last"); status != 200 {
		t.Errorf("with room again a callback is answered %d", status)
	}
	entries := w.stored("duka")
	if len(entries) != len(want) {
		t.Fatalf("%d entries are stored, %d were answered 200", len(entries), len(want))
	}
	for i, e := range entries {
		if string(e.Body) != want[i] {
			t.Errorf("entry %d has %d bytes, want %d", i+1, len(e.Body), len(want[i]))
		}
	}
	t.Logf("%d refused, %d stored", refused, len(want))
}
