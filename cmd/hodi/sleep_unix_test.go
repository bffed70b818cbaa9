//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAMachineThatWakesHearsAtOnceWhatItMissed stops the sidecar as the lid of a laptop does, for longer than the edge
// keeps its link, and lets it go on.
func TestAMachineThatWakesHearsAtOnceWhatItMissed(t *testing.T) {
	s := newPair(t)
	s.subscribe()
	s.register(0, 2)
	s.post(0, 1)
	s.wantTold(0, 1)
	stopped := time.Now()
	if err := s.sidecar.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edge to give the link up", func() bool {
		return strings.Contains(s.edge.log.String(), "link ended") && time.Since(stopped) > 6*time.Second
	})
	s.post(1, 2)
	if err := s.sidecar.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woken := time.Now()
	s.wantTold(0, 2)
	t.Logf("told %v after waking", time.Since(woken).Round(time.Millisecond))
	eventually(t, "the sidecar to notice that it slept", func() bool { return strings.Contains(s.sidecar.log.String(), "the machine slept") })
}
