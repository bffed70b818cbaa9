package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodihq/hodi/internal/loopback"
)

// TestTheOldestReleaseAndTodaysWorkTogether takes a payment through the oldest released edge to today's sidecar, and the other
// way round, and then updates the older of the two where it stands. HODI_OLDER names another version to try it with.
func TestTheOldestReleaseAndTodaysWorkTogether(t *testing.T) {
	older := build(t)
	for _, ends := range [][2]string{{older, "hodi"}, {"hodi", older}} {
		name := "an older sidecar"
		if ends[0] == older {
			name = "an older edge"
		}
		t.Run(name, func(t *testing.T) {
			s := &pair{T: t, dir: t.TempDir(), callbacks: loopback.Address(t), sidecars: loopback.Address(t), url: "http://" + loopback.Address(t)}
			edge := func(program string) {
				s.edge = startCommand(t, s.dir, exec.Command(program, "--log-format", "json", "edge", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars))
				s.edge.says("sidecars")
			}
			sidecar := func(program string) {
				s.sidecar = startCommand(t, s.dir, exec.Command(program, "--log-format", "json", "sidecar", "--dev", "--data", "sidecar",
					"--listen", strings.TrimPrefix(s.url, "http://"), "--edge", s.sidecars))
				s.sidecar.says("url")
			}
			edge(ends[0])
			invite := exec.Command(ends[0], "edge", "invite", "--data", "edge", "duka")
			invite.Dir = s.dir
			code, err := invite.Output()
			if err != nil {
				t.Fatal(err)
			}
			join := exec.Command(ends[1], "join", "--data", "sidecar")
			join.Dir, join.Stdin = s.dir, strings.NewReader(string(code))
			out, err := join.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for field := range strings.FieldsSeq(string(out)) {
				if strings.HasPrefix(field, "http://"+s.callbacks) {
					s.address = field
				}
			}
			sidecar(ends[1])
			s.register(0, 3)
			s.post(0, 1)
			s.wantPaid(0, 1)
			s.edge.end()
			edge("hodi")
			s.post(1, 2)
			s.wantPaid(0, 2)
			s.sidecar.end()
			sidecar("hodi")
			s.post(2, 3)
			s.wantPaid(0, 3)
		})
	}
}

// build makes the program of the oldest release that the repository knows by its tag, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = filepath.Join("..", "..")
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("git %s: %v: this is no clone of the repository", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	version := os.Getenv("HODI_OLDER")
	if version == "" {
		version, _, _ = strings.Cut(git("tag", "--list", "v*", "--sort=version:refname"), "\n")
	}
	if version == "" {
		t.Skip("this clone has no tag of a release (git fetch --tags)")
	}
	if testing.Short() {
		t.Skip("it builds another program")
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	git("archive", "--output", archive, version)
	source := filepath.Join(dir, "source")
	program := filepath.Join(dir, "hodi-"+strings.ReplaceAll(version, "/", "-"))
	for _, args := range [][]string{{"mkdir", source}, {"tar", "-x", "-f", archive, "-C", source}, {"go", "build", "-C", source, "-buildvcs=false", "-o", program, "./cmd/hodi"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return program
}
