package main

import "syscall"

// Windows has no signals but the one that kills; os.Process refuses these, and chaos says so.
const (
	freezing = syscall.Signal(0x13)
	thawing  = syscall.Signal(0x12)
)
