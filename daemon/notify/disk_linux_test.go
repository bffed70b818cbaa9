package notify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/notify"
)

func TestAFullDiskIsToldOfAndAfterARestartNotOnceMore(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: no file system may be mounted here (%v): real full disks are not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, file: filepath.Join(dir, "notify.json"), post: &post{name: "post"}, is: map[string]notify.Condition{}}
		b.start()
		defer func() { b.stop() }()
		b.want(time.Minute)
		ballast, err := os.Create(filepath.Join(dir, "ballast"))
		if err != nil {
			t.Fatal(err)
		}
		defer ballast.Close()
		for n := 1 << 16; n > 0; n /= 2 {
			for err == nil {
				_, err = ballast.Write(make([]byte, n))
			}
			err = nil
		}
		if os.WriteFile(filepath.Join(dir, "more"), []byte("x"), 0o600) == nil {
			t.Fatal("it is not full")
		}
		b.so(notify.Condition{Kind: notify.Disk, Detail: "Nothing can be stored: " + fmt.Sprint(syscall.ENOSPC)})
		full := "the disk of the edge is full"
		b.want(time.Minute, full)
		for range 3 {
			b.stop()
			b.start()
			b.want(time.Hour, full)
		}
		b.want(24*time.Hour, full, "the disk of the edge is still full")
	})
}
