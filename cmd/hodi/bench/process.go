package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one part of the house: hodi again, on a command line of its own.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *os.File // its standard output
	log   saidLines
	ended chan struct{}
}

// start runs hodi with these arguments.
func start(name string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	p := &process{name: name, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Args[0] = os.Args[0]
	p.log.news = make(chan struct{})
	p.cmd.Stderr = &p.log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	p.out, p.cmd.Stdout = out, theirs
	err = p.cmd.Start()
	theirs.Close()
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended, died and stop look up
	}()
	return p, nil
}

// daemon runs an edge or a sidecar, which logs as JSON.
func daemon(name string, debug bool, args ...string) (*process, error) {
	global := []string{"--log-format", "json", "--log-level", "info"}
	if debug {
		args = append(args, "--debug-listen", "127.0.0.1:0")
	}
	return start(name, append(append(global, name), args...)...)
}

// join makes the sidecar of a data folder that of an endpoint.
func join(ctx context.Context, data, code string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: join: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "join", "--data", data)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: join: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// helper runs one of the processes of helper.go, and waits until it is ready.
func helper(ctx context.Context, role string, t task) (*process, error) {
	p, err := start(role, "bench", role)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(p.stdin).Encode(t); err != nil {
		p.stop()
		return nil, fmt.Errorf("bench: %s: %w", role, err)
	}
	defer context.AfterFunc(ctx, func() { p.stdin.Close() })()
	// A byte at a time: what comes behind the line is not ours to read.
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(p.out, line); err != nil || string(line) != "ready\n" {
		p.stop()
		return nil, p.died()
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// says waits for a line of the log that has a field, and returns the field.
func (p *process) says(ctx context.Context, field string) (string, error) {
	for {
		value, news := p.log.find(field)
		if value != "" {
			return value, nil
		}
		select {
		case <-news:
		case <-p.ended:
			return "", p.died()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// died says what a process said last.
func (p *process) died() error {
	return fmt.Errorf("bench: the %s ended: %s", p.name, p.log.last())
}

// stop asks the process to end, and waits.
func (p *process) stop() {
	p.stdin.Close()
	if p.cmd.Process.Signal(syscall.SIGTERM) != nil { // Windows has no way to ask
		p.cmd.Process.Kill()
	}
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
	p.out.Close()
}

// saidLines is what a process wrote to standard error.
type saidLines struct {
	mu   sync.Mutex
	text []byte
	news chan struct{} // closed when there is more
}

func (s *saidLines) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.text) < 1<<20 { // the beginning tells the addresses; a daemon that never stops talking is not to fill memory
		s.text = append(s.text, b...)
	}
	close(s.news)
	s.news = make(chan struct{})
	return len(b), nil
}

func (s *saidLines) find(field string) (value string, news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range bytes.Lines(s.text) {
		var entry map[string]any
		if json.Unmarshal(line, &entry) == nil {
			if value, ok := entry[field].(string); ok {
				return value, nil
			}
		}
	}
	return "", s.news
}

// last is the last thing that was said.
func (s *saidLines) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(s.text)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "hodi: ")
}

// usage is what a process has cost so far.
type usage struct {
	CPU    time.Duration
	Memory int64 // resident, bytes
}

// sightings reads what the subscriber wrote down.
func (p *process) sightings() ([]sighting, error) {
	var all []sighting
	r := bufio.NewReader(p.out)
	for {
		var b [16]byte
		if _, err := io.ReadFull(r, b[:]); err == io.EOF {
			return all, nil
		} else if err != nil {
			return all, fmt.Errorf("bench: subscriber: %w", err)
		}
		all = append(all, parseSighting(b))
	}
}
