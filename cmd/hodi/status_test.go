package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// status runs hodi status, and returns what it prints and whether it ends with 0.
func status(t *testing.T, dir string, args ...string) (string, bool) {
	t.Helper()
	cmd := exec.Command("hodi", append([]string{"status"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !strings.HasPrefix(line, " ") {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	return string(out), err == nil
}

func TestStatusSaysOnOneScreenHowItIsAndEndsSo(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	args := []string{"--listen", strings.TrimPrefix(p.url, "http://"), "--data", "sidecar", "--edge-data", "edge"}
	check := func(well bool, words ...string) {
		t.Helper()
		var out string
		eventually(t, "the status "+strings.Join(words, ", "), func() bool {
			var ok bool
			out, ok = status(t, p.dir, args...)
			for _, w := range words {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return ok == well
		})
		if strings.Contains(out, "Not well") == well || strings.Contains(out, "All is well.") != well {
			t.Errorf("the screen is of another mind\n%s", out)
		}
	}
	p.register(0, 2)
	p.post(0, 2)
	p.wantPaid(0, 2)
	check(true, "up for", "over QUIC", "undelivered    nothing", "2 applied", "delivers       last heard of", "certificate    until 2", "duka", "connected for", "2 stored, 0 to be delivered")

	out, ok := status(t, p.dir, append(args, "--json")...)
	var h struct {
		Healthy  bool
		Problems []string
		Sidecar  struct {
			Running bool
			Status  struct {
				Link struct {
					Connected   bool
					Transport   string
					Undelivered *int
				}
				Callbacks map[string]int
			}
		}
		Edge struct {
			Running   bool
			Endpoints []struct {
				Name              string
				Connected         bool
				Stored, Delivered int
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &h); err != nil || !ok || !h.Healthy || len(h.Problems) != 0 || !h.Sidecar.Running || !h.Edge.Running ||
		!h.Sidecar.Status.Link.Connected || h.Sidecar.Status.Link.Transport != "quic" || h.Sidecar.Status.Link.Undelivered == nil ||
		h.Sidecar.Status.Callbacks["applied"] != 2 || len(h.Edge.Endpoints) != 1 || h.Edge.Endpoints[0].Stored != 2 {
		t.Errorf("as JSON, %v, %v:\n%s", ok, err, out)
	}

	p.sidecar.kill()
	p.post(2, 5)
	check(false, "no sidecar answers at", "away; 5 stored, 3 to be delivered, the oldest", "for ")
	p.startSidecar()
	p.wantApplied(5)
	p.edge.kill()
	check(false, "link           down for", "because", "no edge answers in edge: start it first (hodi edge)")
}

func TestStatusAsksWithTheKeyOfTheFolderAndTellsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, dir, "sidecar", "--accept-callbacks", "--data", "sidecar", "--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(d.says("url"), "http://")
	out, ok := status(t, dir, "--listen", address, "--data", "sidecar")
	key, err := os.ReadFile(filepath.Join(dir, "sidecar", "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	if !ok || !strings.Contains(out, "none: no edge is set") || strings.Contains(out, strings.TrimSpace(string(key))) {
		t.Errorf("%v\n%s", ok, out)
	}
	if out, ok := status(t, dir, "--listen", address, "--data", "elsewhere"); ok || !strings.Contains(out, "wants a key") {
		t.Errorf("without the key: %v\n%s", ok, out)
	}
}

func TestStatusTellsOfACertificateThatNobodyRenews(t *testing.T) {
	now := time.Date(2026, 10, 2, 9, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		ends time.Time
		want string
	}{
		{time.Time{}, ""},
		{now.Add(30 * 24 * time.Hour), ""},
		{now.Add(13 * 24 * time.Hour), "ends on 2026-10-15"},
		{now.Add(-24 * time.Hour), "ended on 2026-10-01"},
	} {
		h := new(health)
		h.ending("this sidecar", c.ends, now)
		if said := strings.Join(h.Problems, "; "); !strings.Contains(said, c.want) || (said == "") != (c.want == "") {
			t.Errorf("of one that ends %v it says %q, want %q", c.ends, said, c.want)
		}
	}
}

func TestStatusSaysWhenNothingRunsHere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command("hodi", "status", "--data", "sidecar", "--edge-data", "edge", "--listen", "127.0.0.1:1")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no sidecar answers") || !strings.Contains(string(out), "no edge answers") {
		t.Errorf("%v\n%s", err, out)
	}
}
