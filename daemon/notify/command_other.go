//go:build !unix

package notify

import "os/exec"

// together is of no effect where there are no groups of processes: the command alone is ended.
func together(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
