//go:build unix

package correlate_test

import (
	"syscall"
	"time"
)

// processor is the time that this process has had on a processor: unlike the clock it does not count waiting for a disk.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
