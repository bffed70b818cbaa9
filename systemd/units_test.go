package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// units are what packages install, by the name that systemd-analyze is to see: a template needs an instance.
var units = map[string]string{
	"hodi-edge.service":         "hodi-edge.service",
	"hodi-sidecar.service":      "hodi-sidecar.service",
	"hodi-sidecar@duka.service": "hodi-sidecar@.service",
}

func analyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatal("systemd-analyze is not there: install systemd")
	}
	t.Skip("systemd-analyze is not there: install systemd")
	return ""
}

func TestTheUnitsExposeLittleOfTheMachine(t *testing.T) {
	analyze := analyze(t)
	for name, file := range units {
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=15", instance(t, name, file)).CombinedOutput()
		if strings.Contains(string(out), "unrecognized option") {
			t.Skip("systemd-analyze is older than systemd 250, and cannot judge units that are not loaded")
		}
		if err != nil {
			t.Errorf("%s is exposed by more than 1.5: %v\n%s", name, err, out)
		}
	}
}

// instance makes a folder in which a unit has the name under which it runs, and one that is not in the house beside it.
func instance(t *testing.T, name, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSystemdUnderstandsEveryLineOfTheUnits(t *testing.T) {
	analyze := analyze(t)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, pattern := range []string{"*.service", "*.socket"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			there := strings.ReplaceAll(string(b), "/usr/bin/hodi", binary) // which is not installed here
			if err := os.WriteFile(filepath.Join(dir, strings.Replace(name, "@.", "@duka.", 1)), []byte(there), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	written, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(analyze, append([]string{"verify", "--man=no"}, written...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		older := strings.Contains(line, "Failed to parse service type, ignoring: notify-reload") // systemd before 253, for which Type=notify stands before it
		if strings.HasPrefix(line, dir) && !older {
			t.Error(line)
		}
	}
}
