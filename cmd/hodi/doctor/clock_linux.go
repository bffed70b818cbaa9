package doctor

import "golang.org/x/sys/unix"

// synchronised asks the kernel whether something keeps its clock right; known is false where it does not say.
func synchronised() (kept, known bool) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unix.STA_UNSYNC == 0, true
}
