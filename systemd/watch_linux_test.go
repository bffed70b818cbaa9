package systemd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/systemd"
)

// manager is systemd, as far as a service can tell.
type manager struct {
	*testing.T
	fd   int
	said []string
}

func newManager(t *testing.T, watchdog string) *manager {
	path := filepath.Join(t.TempDir(), "notify")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	if watchdog != "" {
		t.Setenv("WATCHDOG_USEC", watchdog)
	}
	return &manager{T: t, fd: fd}
}

// hear reads what was said since the last time. In a bubble it does not wait: what is there is there.
func (m *manager) hear() []string {
	m.said = nil
	for b := make([]byte, 4096); ; {
		n, _, err := syscall.Recvfrom(m.fd, b, 0)
		if err != nil {
			return m.said
		}
		m.said = append(m.said, string(b[:n]))
	}
}

func (m *manager) want(after time.Duration, why string, words ...string) {
	m.Helper()
	time.Sleep(after)
	synctest.Wait()
	said := m.hear()
	for _, word := range words {
		unwanted, not := strings.CutPrefix(word, "!")
		if found := slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, unwanted) }); found == not {
			m.Errorf("%s: wanted %s, and heard %q", why, word, said)
		}
	}
}

// patient is a daemon whose parts can be stopped.
type patient struct {
	dir string

	mu               sync.Mutex
	writer, port     chan struct{} // nil: it answers; else when it is closed
	cannot, answered error
	busy             bool
}

func (p *patient) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *patient) pulse() systemd.Pulse {
	part := func(stuck *chan struct{}, err *error) func(context.Context) error {
		return func(ctx context.Context) error {
			p.mu.Lock()
			c := *stuck
			p.mu.Unlock()
			if c != nil {
				select {
				case <-c:
				case <-ctx.Done():
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return *err
		}
	}
	return systemd.Pulse{Dir: p.dir, Commits: part(&p.writer, &p.cannot), Answers: part(&p.port, &p.answered), Busy: func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.busy
	}}
}

// watched runs a test beside the watch of a patient.
func watched(t *testing.T, p *patient, watchdog string, test func(t *testing.T, m *manager)) {
	p.dir = t.TempDir()
	m := newManager(t, watchdog)
	service, err := systemd.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m.T = t
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			service.Watch(ctx, p.pulse())
		}()
		test(t, m)
		cancel()
		<-ended
		m.want(0, "asked to end", "STOPPING=1")
	})
}

const halfAMinute = "30000000"

func TestAServiceIsReadyOnceItHasStoredAndAnsweredAndThenSaysThatItLives(t *testing.T) {
	p := &patient{answered: errors.New("connection refused")}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		m.want(5*time.Second, "nobody answers yet", "!READY=1", "!WATCHDOG=1", "STATUS=Does not answer")
		p.set(func() { p.answered = nil })
		m.want(10*time.Second, "it answers", "READY=1", "STATUS=Serves.", "WATCHDOG=1")
		for range 10 {
			m.want(8*time.Second, "it is well", "WATCHDOG=1", "!STATUS", "!READY=1")
		}
	})
}

func TestAFullDiskIsNoReasonToStartAnewNorToCallItReady(t *testing.T) {
	p := &patient{cannot: errors.New("database or disk is full")}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		for range 5 {
			m.want(20*time.Second, "it waits for room", "!READY=1", "EXTEND_TIMEOUT_USEC=")
		}
		p.set(func() { p.cannot = nil })
		m.want(20*time.Second, "there is room", "READY=1", "STATUS=Serves.")
		p.set(func() { p.cannot = errors.New("database or disk is full") })
		m.want(20*time.Second, "the disk is full again", "STATUS=Serves, and cannot store: database or disk is full.", "WATCHDOG=1")
		m.want(20*time.Second, "the disk is still full", "WATCHDOG=1")
	})
}

func TestAWriterThatSaysNothingIsStartedAnew(t *testing.T) {
	p := &patient{}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		m.want(time.Second, "it is well", "READY=1")
		p.set(func() { p.writer = make(chan struct{}) })
		m.want(21*time.Second, "the writer hangs, and its disk is well", "STATUS=Does not store, although the disk does.")
		m.want(30*time.Second, "it still hangs", "!WATCHDOG=1")
		close(p.writer)
		m.want(10*time.Second, "it works again", "WATCHDOG=1", "STATUS=Serves.")
	})
}

func TestAWriterThatWaitsForItsDiskOrTidiesIsLeftAlone(t *testing.T) {
	p := &patient{}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		m.want(time.Second, "it is well", "READY=1")
		if err := os.Remove(p.dir); err != nil { // a disk that takes nothing
			t.Fatal(err)
		}
		p.set(func() { p.writer = make(chan struct{}) })
		m.want(21*time.Second, "writer and disk hang", "STATUS=Serves, and waits for the disk to store something.")
		m.want(30*time.Second, "they still do", "WATCHDOG=1")
		close(p.writer)
	})
	p = &patient{busy: true}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		m.want(time.Second, "it is well", "READY=1")
		p.set(func() { p.writer = make(chan struct{}) })
		m.want(21*time.Second, "it tidies", "STATUS=Serves, and tidies its database.")
		m.want(30*time.Second, "it still does", "WATCHDOG=1")
		close(p.writer)
	})
}

func TestAPortThatAnswersNobodyIsStartedAnew(t *testing.T) {
	p := &patient{}
	watched(t, p, halfAMinute, func(t *testing.T, m *manager) {
		m.want(time.Second, "it is well", "READY=1")
		p.set(func() { p.answered = errors.New("connection refused") })
		m.want(10*time.Second, "its port is gone", "STATUS=Does not answer on its own port: connection refused.")
		m.want(30*time.Second, "its port is still gone", "!WATCHDOG=1")
		p.set(func() { p.answered = nil })
		m.want(20*time.Second, "it is there again", "WATCHDOG=1")
		p.set(func() { p.port = make(chan struct{}) })
		m.want(21*time.Second, "its port says nothing", "STATUS=Does not answer on its own port.")
		m.want(30*time.Second, "its port still says nothing", "!WATCHDOG=1")
		close(p.port)
	})
}

func TestAReloadIsToldAndWhatWasNotTakenStaysInTheStatus(t *testing.T) {
	m := newManager(t, "")
	service, err := systemd.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m.T = t
		service.Reload(func() error { return nil })
		m.want(0, "it is not ready yet", "!READY=1", "!RELOADING=1")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			service.Watch(ctx, (&patient{}).pulse())
		}()
		m.want(time.Second, "it starts", "READY=1")
		service.Reload(func() error { return errors.New("hodi.toml: line 3:\nno such setting") })
		m.want(0, "a bad file", "RELOADING=1\nMONOTONIC_USEC=", "READY=1", "STATUS=Serves. The settings on disk are not good: hodi.toml: line 3: no such setting")
		service.Reload(func() error { return nil })
		m.want(0, "a good file", "RELOADING=1\nMONOTONIC_USEC=", "READY=1", "STATUS=Serves.")
		cancel()
		<-ended
	})
}

func TestKnockingIsAnsweredByWhateverIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", ":0") // at whichever of this machine's addresses
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close() // turned away
		}
	}()
	if err := systemd.Knock(t.Context(), l.Addr(), "anybody there?"); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := systemd.Knock(t.Context(), l.Addr(), "anybody there?"); err == nil {
		t.Error("nobody listens, and somebody was heard")
	}
}
