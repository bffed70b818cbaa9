package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAShopWhoseDiskIsFullMissesNothing fills the disk of a sidecar, and only that, while callbacks go on.
func TestAShopWhoseDiskIsFullMissesNothing(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "sidecar")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=6m,mode=0700"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): a real full disk is not tested", err)
	}
	t.Cleanup(func() { // after the house has ended
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	d := startDev(t, dir, nil, quick...)
	posted := 0
	post := func(n int) {
		t.Helper()
		for range n {
			posted++
			ids := map[string]any{"merchantRequestId": fmt.Sprintf("m-%d", posted), "checkoutRequestId": fmt.Sprintf("ws_CO_%d", posted)}
			body := stkCallback(ids, 0, strings.Repeat("x", 10_000), fmt.Sprintf("UJ2AB%05d", posted), 100)
			if status, answer := call(t, "POST", d.Callback, body); status != 200 {
				t.Fatalf("the edge, whose disk has room, answers %d %v", status, answer)
			}
		}
	}
	stored := func() int {
		_, status := call(t, "GET", d.Sidecar+"/status", nil)
		n, _ := status["callbacks"].(map[string]any)["unmatched"].(float64)
		return int(n)
	}
	post(10)
	eventually(t, "the first callbacks to arrive", func() bool { return stored() == 10 })
	ballast := filepath.Join(disk, "ballast")
	if os.WriteFile(ballast, make([]byte, 8<<20), 0o600) == nil {
		t.Fatal("8 MiB fit into 6")
	}
	post(100)
	eventually(t, "the sidecar to say that it cannot store", func() bool {
		status, answer := call(t, "GET", d.Sidecar+"/readyz", nil)
		return status == 503 && strings.Contains(fmt.Sprint(answer["detail"]), "cannot be written")
	})
	if n := stored(); n >= posted {
		t.Errorf("%d callbacks are stored on a disk that is full", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything to arrive, without anybody's help", func() bool { return stored() == posted })
	eventually(t, "the sidecar to be ready", func() bool { status, _ := call(t, "GET", d.Sidecar+"/readyz", nil); return status == 200 })
}
