package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A starter starts the unit of a sidecar that has joined, which only root may. Joining itself is done as the sidecar's user
// (becomeOwner), from which there is no way back: so the starter is a process of its own, begun before that, which waits for a
// word. It is nil where there is nothing to start.
type starter struct {
	unit string
	word io.WriteCloser
	cmd  *exec.Cmd
}

// unitOf is the unit whose state is in a data folder; "" if the package's units have none there.
func unitOf(data string) string {
	path, err := filepath.Abs(data)
	if err != nil {
		return ""
	}
	dir, name := filepath.Split(path)
	unit := "hodi-sidecar@" + name
	if name == "default" {
		unit = "hodi-sidecar"
	}
	if !strings.HasSuffix(dir, "/var/lib/hodi/sidecar/") || exec.Command("systemctl", "cat", unit).Run() != nil {
		return ""
	}
	return unit
}

// prepareStart begins the starter of a unit; said is where systemd writes.
func prepareStart(unit string, said io.Writer) (*starter, error) {
	if unit == "" || os.Geteuid() != 0 {
		return nil, nil
	}
	s := &starter{unit: unit, cmd: exec.Command("sh", "-c", `read -r word && exec systemctl enable --now "$0"`, unit)}
	s.cmd.Stdout, s.cmd.Stderr = said, said
	var err error
	if s.word, err = s.cmd.StdinPipe(); err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("join: cannot start %s afterwards (--no-start leaves that to you): %w", unit, err)
	}
	return s, nil
}

// start gives the word, and waits until the sidecar is ready.
func (s *starter) start() error {
	_, err := io.WriteString(s.word, "start\n")
	if ended := s.end(); ended != nil {
		err = ended
	}
	if err != nil {
		return fmt.Errorf("join: the sidecar has joined, and %s does not start (systemctl status %s says why): %w", s.unit, s.unit, err)
	}
	return nil
}

// end ends a starter that waits, or waits for one that has the word.
func (s *starter) end() error {
	s.word.Close()
	return s.cmd.Wait()
}
