package web_test

import (
	"os"
	"os/exec"
	"testing"
)

// The module's own tests are written in its own language; this lets `go test` run them.
func TestInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("SKIPPED: the browser client is not tested, because there is no node on this machine")
	}
	out, err := exec.Command(node, "--test", "testdata/").CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
