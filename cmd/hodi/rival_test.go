package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestACopiedDataFolderIsNamedAndNeitherMachineIsLeftWithoutItsCallbacks copies a sidecar's folder while it runs, as a
// backup by hand or a cloned disk does, and starts a sidecar on the copy. The first is told at once; that the two take
// turns every minute, and that the edge names them then, package tunnel shows where a minute costs nothing.
func TestACopiedDataFolderIsNamedAndNeitherMachineIsLeftWithoutItsCallbacks(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.register(0, 3)
	p.post(0, 1)
	p.wantPaid(0, 1)
	cp := exec.Command("cp", "-a", "sidecar", "copy")
	cp.Dir = p.dir
	if out, err := cp.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, url := p.sidecar, p.url
	copied := startDaemon(t, p.dir, "sidecar", "--dev", "--data", "copy", "--listen", "127.0.0.1:0")
	p.url = copied.says("url")
	eventually(t, "the first sidecar to say so", func() bool { return strings.Contains(first.log.String(), "two machines use one identity") })
	out, ok := status(t, p.dir, "--listen", strings.TrimPrefix(url, "http://"), "--data", "sidecar", "--edge-data", "none")
	if ok || !strings.Contains(out, "two machines use the identity of this sidecar") || !strings.Contains(out, "link           down") {
		t.Errorf("the status of the first, %v:\n%s", ok, out)
	}
	eventually(t, "the edge to say that another machine took the link", func() bool { return strings.Contains(p.edge.log.String(), "displaced by another machine") })
	p.post(1, 2)
	p.wantPaid(0, 2) // at the copy, which has the link and went on where the first was

	// It is the copy that is ended, as the words ask. Started anew, the first is where it was and takes what it missed.
	copied.end()
	first.end()
	p.url = url
	p.startSidecar()
	p.post(2, 3)
	p.wantPaid(0, 3)
	if n := p.applied(); n != 3 {
		t.Errorf("the first counts %v callbacks, not 3", n)
	}
	if strings.Count(p.edge.log.String(), "two machines use one identity") != 0 {
		t.Errorf("the edge takes the return of the first for a fight:\n%s", p.edge.log)
	}
}
