package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hodihq/hodi/daemon/room"
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
	check(true, "up for", "over QUIC", "undelivered    nothing at the edge, nor here", "bytes today", "disk  ", "clock          within", "2 applied", "delivers       last heard of", "certificate    until 2", "duka", "connected for", "2 stored, 0 to be delivered")

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

func TestStatusSaysWhatWaitsAtEachOfThreePlaces(t *testing.T) {
	now := time.Date(2026, 10, 2, 9, 30, 0, 0, time.Local)
	for said, want := range map[string][]string{
		`{"link": {"undelivered": 0}, "forward": {"waiting": 0}}`: {"undelivered    nothing at the edge, nor here, nor at the app"},
		`{}`: {"undelivered    nothing here"},
		`{"link": {}, "forward": {"waiting": 0}}`: {"undelivered    at the edge: not known without a link"},
		`{"link": {"undelivered": 1204, "reached": "` + now.Add(-3*time.Hour).Format(time.RFC3339) + `"},
		  "held": {"callbacks": 2, "oldest": "` + now.Add(-4*time.Minute).Format(time.RFC3339) + `"},
		  "forward": {"waiting": 1, "oldest": "` + now.Add(-5*time.Hour).Format(time.RFC3339) + `", "lastStatus": 500}}`: {
			"undelivered    at the edge: 1,204 callbacks of before the link, still to come,", "all younger than 3 h",
			"here: 2 callbacks until Daraja was asked, the oldest for 4 min", "at the app: 1 callback, the oldest for 5 h", "answer was 500"},
	} {
		var is sidecarStatus
		if err := json.Unmarshal([]byte(said), &is); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		is.writeUndelivered(&out, now)
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("of %s it says\n%s, which lacks %q", said, &out, w)
			}
		}
	}
}

func TestStatusSaysWhatTheLinkHasCostSinceWhen(t *testing.T) {
	midnight := time.Date(2026, 10, 2, 0, 0, 0, 0, time.Local)
	for _, c := range []struct {
		bytesToday
		want string
	}{
		{bytesToday{In: 300_000, Out: 110_000, Since: midnight}, "410 kB: 300 kB in, 110 kB out"},
		{bytesToday{In: 2_000_000, Out: 1_600_000, Since: midnight.Add(9*time.Hour + 12*time.Minute), Budget: 3_000_000}, "3.6 MB: 2 MB in, 1.6 MB out, since 09:12; a quiet day may cost 3 MB"},
	} {
		if got := c.text(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestStatusIsNotWellOnADiskThatIsAlmostFull(t *testing.T) {
	h := new(health)
	h.room("edge", "/var/lib/hodi/edge", nil)
	h.room("edge", "/var/lib/hodi/edge", &room.State{Free: 40 << 30, Size: 250 << 30})
	if len(h.Problems) != 0 {
		t.Errorf("%q", h.Problems)
	}
	h.room("sidecar", "/var/lib/hodi/sidecar/default", &room.State{Free: 100 << 20, Size: 250 << 30, Low: true})
	if len(h.Problems) != 1 || !strings.Contains(h.Problems[0], "100.0 MiB left of 250.0 GiB") {
		t.Errorf("%q", h.Problems)
	}
}

func TestStatusOfManyEndpointsShowsThoseThatNeedSomebody(t *testing.T) {
	p := &edgeHealth{Running: true}
	for i := range 300 {
		p.Endpoints = append(p.Endpoints, endpointHealth{Name: fmt.Sprintf("shop-%d", i), Connected: i != 250, Waiting: map[bool]uint64{true: 3}[i == 250], Deaf: i == 299, Limit: 1})
	}
	var out strings.Builder
	p.write(&out, time.Now())
	if lines := strings.Count(out.String(), "\n"); lines > 20 || !strings.Contains(out.String(), "shop-250 ") || !strings.Contains(out.String(), "shop-299 ") || !strings.Contains(out.String(), "and 292 endpoints more") {
		t.Errorf("%d lines\n%s", lines, &out)
	}
}
