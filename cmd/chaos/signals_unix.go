//go:build unix

package main

import "syscall"

// What takes the processor away from a process, and gives it back.
const (
	freezing = syscall.SIGSTOP
	thawing  = syscall.SIGCONT
)
