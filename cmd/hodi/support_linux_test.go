package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestASupportBundleOnAFullDiskLeavesNothingBehind(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): a real full disk is not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	if os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 2<<20), 0o600) == nil {
		t.Fatal("2 MiB fit into 1")
	}
	cmd := exec.Command("hodi", "support-bundle", "--no-doctor", "--output", filepath.Join(disk, "bundle.zip"))
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the disk is full, and nothing was written") {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(disk)
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
