package doctor_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/internal/loopback"
)

func TestADiskThatIsReadOnlyOrFullIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): real full disks are not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := newShop(t, loopback.Address(t))
	there := func(d *doctor.Sidecar) { d.Dir = dir }
	if err := os.WriteFile(filepath.Join(dir, "much"), make([]byte, 48<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s.finds(there, want("disk", doctor.Fail, "no space left", "The disk is full"))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("SKIPPED: no file system may be made read-only here: %v", err)
	}
	s.finds(there, want("disk", doctor.Fail, "mounted read-only", "dmesg"))
}
