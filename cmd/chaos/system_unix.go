//go:build unix

package main

import (
	"syscall"
	"time"
)

// What takes the processor away from a process, and gives it back.
const (
	freezing = syscall.SIGSTOP
	thawing  = syscall.SIGCONT
)

// spent is the processor time that this program has used.
func spent() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
