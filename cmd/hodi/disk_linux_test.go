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
			body := stkCallback(ids, 0, strings.Repeat("x", 10_000), fmt.Sprintf(today+"AB%05d", posted), 100)
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

// TestStatusTellsOfDisks fills the disk of an edge and a sidecar: a monitor that runs hodi status is to hear of it.
func TestStatusTellsOfDisks(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): a real full disk is not tested", err)
	}
	t.Cleanup(func() { // after both have ended
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	startDaemon(t, dir, "edge", "--data", "disk/edge", "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0")
	var added struct{ Callback string }
	eventually(t, "the edge to take orders", func() bool {
		return askAdmin(t.Context(), filepath.Join(disk, "edge"), "POST", "/endpoints/duka/invite", nil, &added) == nil
	})
	url := startDaemon(t, dir, "sidecar", "--dev", "--accept-callbacks", "--data", "disk/sidecar", "--listen", "127.0.0.1:0").says("url")
	see := func(well bool, words ...string) {
		t.Helper()
		out, ok := status(t, dir, "--listen", strings.TrimPrefix(url, "http://"), "--data", "disk/sidecar", "--edge-data", "disk/edge")
		for _, w := range append(words, map[bool]string{true: "All is well.", false: "Not well"}[well]) {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), w) || ok != well {
				t.Errorf("it ends with 0: %v, and does not say %q:\n%s", ok, w, out)
			}
		}
	}
	see(true)

	ballast := filepath.Join(disk, "ballast")
	if os.WriteFile(ballast, make([]byte, 16<<20), 0o600) == nil {
		t.Fatal("16 MiB fit into 8")
	}
	eventually(t, "the edge to have no room", func() bool {
		status, _ := call(t, "POST", added.Callback, strings.Repeat("x", 20_000))
		return status == 503
	})
	eventually(t, "the sidecar to have no room", func() bool {
		status, _ := call(t, "POST", url+"/sessions", map[string]any{"amount": 1, "accountReference": "INV-7"})
		return status == 503
	})
	see(false, "the edge cannot store, and answers 503 to Safaricom", "the sidecar cannot store: the database cannot be written: is the disk full?")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	see(true)

	for _, file := range []string{"edge/edge.db.damaged-20260101T000000Z", "sidecar/sidecar.db.damaged-20260102T000000Z"} {
		if err := os.WriteFile(filepath.Join(disk, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		see(false, filepath.Base(file))
		if err := os.Remove(filepath.Join(disk, file)); err != nil {
			t.Fatal(err)
		}
	}
}
