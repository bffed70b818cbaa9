package main

import (
	"syscall"
	"time"
)

// Windows has no signals but the one that kills; os.Process refuses these, and chaos says so.
const (
	freezing = syscall.Signal(0x13)
	thawing  = syscall.Signal(0x12)
)

// spent is the processor time that this program has used; nobody asks on Windows.
func spent() time.Duration { return 0 }
