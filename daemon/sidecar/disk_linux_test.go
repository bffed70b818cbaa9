package sidecar_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/internal/scrape"
	"github.com/hodihq/hodi/sync/push"
)

// TestARealFullDisk fills a small file system of its own under a sidecar.
func TestARealFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): a real full disk is not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	at, metrics := watched(t)
	s := open(t, false, metrics, func(c *sidecar.Config) { c.Dir = filepath.Join(mount, "state") })
	initiate := func(n int) answer {
		return s.do("POST", fmt.Sprintf("/sessions/s%d/initiate", n), request(fmt.Sprintf("254700000%03d", n), 100, ""))
	}
	before := initiate(0).data(t)
	ballast := filepath.Join(mount, "ballast")
	if os.WriteFile(ballast, make([]byte, 8<<20), 0o600) == nil {
		t.Fatal("8 MiB fit into 4")
	}
	began := 0
	var refused answer
	for n := 1; n < 200; n++ { // what is left of the last pages is used up first
		if refused = initiate(n); refused.status == 503 {
			break
		}
		began++
	}
	s.want(refused, 503, "disk")
	asked := s.daraja.count()
	if asked > began+1 {
		t.Errorf("Daraja was asked for %d payments, and %d began", asked, began+1)
	}
	s.want(s.do("GET", "/readyz", ""), 503, "not-ready")
	scrape.Of(t, at).Want(0, "hodi_sidecar_disk_writable")
	s.want(s.do("POST", callbackPath(s, 1), paid(1, 100)), 503, "not-stored")
	if p := s.do("GET", "/payments/"+before.PaymentID, "").data(t); p.Status != push.Pending {
		t.Errorf("a payment of which nothing could be stored is %s", p.Status)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.want(s.do("GET", "/readyz", ""), 200, "")
	scrape.Of(t, at).Want(1, "hodi_sidecar_disk_writable")
	s.want(s.do("POST", callbackPath(s, 1), paid(1, 100)), 200, "")
	if p := s.do("GET", "/payments/"+before.PaymentID, "").data(t); p.Status != push.Success {
		t.Errorf("with room again the payment is %s", p.Status)
	}
	s.want(initiate(300), 200, "")
}
