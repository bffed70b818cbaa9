package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A host is where processes run and from where one dials: a namespace, or this machine.
type host struct {
	in func(func() error) error // runs a function there
}

// here is this machine as it is.
var here = host{in: func(f func() error) error { return f() }}

// politely is how long a process may take to end when it is asked to.
const politely = 90 * time.Second

// A process is one daemon of Hodi, which is started again as often as it is ended. Its log is one file over all its lives.
type process struct {
	name    string
	host    host
	command []string
	log     string
	died    func(process string, err error) // told when it ended and nobody had ended it; it is then started again

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	result  error         // of cmd, once it has ended
	ordered bool          // to end
	retired bool          // for good
	spent   time.Duration // processor time of the lives that have ended
	waiters sync.WaitGroup
}

// start starts it, if it does not run.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil || p.retired {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("chaos: start %s: %w", p.name, err)
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	leash(cmd)
	if err := p.host.in(cmd.Start); err != nil {
		return fmt.Errorf("chaos: start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.ordered, p.result = cmd, ended, false, nil
	p.waiters.Go(func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.cmd, p.result = nil, err
		p.spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		ordered := p.ordered
		p.mu.Unlock()
		close(ended)
		if !ordered {
			p.died(p.name, err)
			time.Sleep(time.Second)
			if err := p.start(); err != nil {
				p.died(p.name, err)
			}
		}
	})
	return nil
}

// end sends a signal that ends it, and waits until it has. It reports whether it did not end well.
func (p *process) end(signal os.Signal) error {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.ordered = true
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("chaos: end %s: %w", p.name, err)
	}
	late := time.AfterFunc(politely, func() { _ = cmd.Process.Kill() })
	<-ended
	inTime := late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case signal == os.Kill:
		return nil
	case !inTime:
		return fmt.Errorf("chaos: %s did not end within %v of SIGTERM", p.name, politely)
	case p.result != nil:
		return fmt.Errorf("chaos: %s ended with %w", p.name, p.result)
	}
	return nil
}

func (p *process) kill() error { return p.end(os.Kill) }
func (p *process) stop() error { return p.end(syscall.SIGTERM) }

// retire ends it for good.
func (p *process) retire() error {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	err := p.stop()
	p.waiters.Wait()
	return err
}

// freeze takes the processor away from it; thaw gives it back.
func (p *process) freeze() error { return p.signal(freezing) }
func (p *process) thaw() error   { return p.signal(thawing) }

func (p *process) signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("chaos: signal %s: %w", p.name, err)
	}
	return nil
}

// pid is its number, 0 if it does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// cpu is the processor time that it has used in all its lives; of the present one only where /proc tells.
func (p *process) cpu() time.Duration {
	used := time.Duration(0)
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid())); err == nil {
		// Behind the name, in parentheses, utime and stime are the 12th and 13th, in hundredths of a second.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 12 {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			used = time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spent + used
}
