package bench

import (
	"syscall"
	"time"
)

// sharpen lets this thread sleep to the microsecond: Linux adds 50 of them otherwise.
func sharpen() {
	const setTimerSlack = 29 // PR_SET_TIMERSLACK
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
}

// sleep sleeps in the kernel. The timers of the Go runtime are a millisecond late when nothing else is going on.
func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}
