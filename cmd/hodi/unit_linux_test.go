package main

import (
	"bytes"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/loopback"
)

// manager stands in for systemd: it holds the ports of a unit, and hears what the unit says of itself.
type manager struct {
	*testing.T
	socket string
	files  []*os.File // the unit's ports
	mu     sync.Mutex
	said   []string
	kept   map[string]*os.File // what the unit gave to be kept for its next process
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "hodi") // of a test it may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{T: t, socket: filepath.Join(dir, "notify"), kept: map[string]*os.File{}}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for b, rights := make([]byte, 4096), make([]byte, 256); ; {
			n, r, _, _, err := c.ReadMsgUnix(b, rights)
			if err != nil {
				return
			}
			m.take(string(b[:n]), given(rights[:r]))
		}
	})
	t.Cleanup(func() {
		c.Close()
		hearing.Wait()
		for _, f := range m.kept {
			f.Close()
		}
		if t.Failed() {
			t.Logf("systemd was told %q", m.said)
		}
	})
	return m
}

// given are the files that came with a message.
func given(rights []byte) (files []*os.File) {
	messages, _ := syscall.ParseSocketControlMessage(rights)
	for _, message := range messages {
		fds, _ := syscall.ParseUnixRights(&message)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "given"))
		}
	}
	return files
}

// take does what systemd does with a message.
func (m *manager) take(message string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, message)
	_, name, named := strings.Cut(message, "\nFDNAME=")
	switch {
	case strings.HasPrefix(message, "FDSTORE=1\n") && named && len(files) == 1:
		if old := m.kept[name]; old != nil {
			old.Close()
		}
		m.kept[name] = files[0]
		return
	case strings.HasPrefix(message, "FDSTOREREMOVE=1\n") && m.kept[name] != nil:
		m.kept[name].Close()
		delete(m.kept, name)
	}
	for _, f := range files { // of a barrier: it hears by this
		f.Close()
	}
}

// hold opens ports as a socket unit does.
func (m *manager) hold(tcp, udp string) (stream, datagram string) {
	m.Helper()
	l, err := net.Listen("tcp", tcp)
	if err != nil {
		m.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		m.Fatal(err)
	}
	l.Close() // f goes on
	m.files = append(m.files, f)
	m.Cleanup(func() { f.Close() })
	stream = l.Addr().String()
	if udp == "" {
		return stream, ""
	}
	c, err := net.ListenPacket("udp", udp)
	if err != nil {
		m.Fatal(err)
	}
	f2, err := c.(*net.UDPConn).File()
	if err != nil {
		m.Fatal(err)
	}
	c.Close()
	m.files = append(m.files, f2)
	m.Cleanup(func() { f2.Close() })
	return stream, c.LocalAddr().String()
}

// start starts a daemon as systemd does, and waits until it says that it is ready.
func (m *manager) start(dir string, args ...string) *daemon {
	m.Helper()
	m.mu.Lock()
	m.said = nil
	files := slices.Clone(m.files)
	names := make([]string, len(files))
	for i := range names {
		names[i] = "hodi.socket"
	}
	for name, f := range m.kept {
		names, files = append(names, name), append(files, f)
	}
	m.mu.Unlock()
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec hodi "$@"`, "hodi", "--log-format", "json"}, args...)...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket, "WATCHDOG_USEC=30000000")
	if len(files) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	d := startCommand(m.T, dir, cmd)
	m.hears("READY=1")
	return d
}

// hears waits until the daemon has said something that begins so.
func (m *manager) hears(words string) {
	m.Helper()
	eventually(m.T, "systemd to hear "+words, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range m.said {
			if strings.HasPrefix(s, words) {
				return true
			}
		}
		return false
	})
}

// An upgrade is a stop and a start. Whoever comes in between, by TCP or UDP, waits at the port, which is systemd's.
func TestAnUpgradeRefusesNobodyAndLosesNothing(t *testing.T) {
	m := newManager(t)
	callbacks, sidecars := m.hold("127.0.0.1:0", "127.0.0.1:0")
	p := &pair{T: t, dir: t.TempDir(), url: "http://" + loopback.Address(t), paid: map[string]int{}}
	start := func() {
		p.edge = m.start(p.dir, "edge", "--data", "edge")
		if at := p.edge.says("callbacks"); at != callbacks {
			t.Fatalf("it serves %s, and systemd holds %s", at, callbacks)
		}
	}
	start()
	p.known = sidecars
	p.address = joinShop(t, p.dir, "edge", "duka", "sidecar")
	p.startSidecar()

	// One who speaks to the UDP port all the time hears of it when nobody holds that.
	guest, err := net.Dial("udp", sidecars)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	send := func() {
		if _, err := guest.Write(bytes.Repeat([]byte{0x40}, 60)); err != nil {
			t.Errorf("the UDP port refused somebody: %v", err)
		}
	}

	l := p.load(8)
	for range 2 {
		l.wait(t, 100)
		m.mu.Lock()
		m.said = nil
		m.mu.Unlock()
		p.edge.end()
		m.hears("STOPPING=1")
		for range 20 { // posters come meanwhile, and nobody is there
			send()
		}
		start()
		before := p.applied()
		eventually(t, "a callback to come through", func() bool { return p.applied() > before })
		send()
	}
	l.stop()
	p.wantApplied(float64(l.answered.Load()))
	if l.refused.Load() > 0 {
		t.Errorf("%d posters were refused", l.refused.Load())
	}
	// While nobody was there TCP may have been as good; it does not stay with that.
	eventually(t, "the link over QUIC", func() bool {
		_, status := call(t, "GET", p.url+"/status", nil)
		link, _ := status["link"].(map[string]any)
		return link["transport"] == "quic"
	})
	t.Logf("%d callbacks were answered, %d posters cut off", l.answered.Load(), l.cut.Load())
}

func TestASidecarUnderSystemdIsReadyWithoutItsEdgeAndTakesThePortItIsGiven(t *testing.T) {
	m := newManager(t)
	port, _ := m.hold("127.0.0.1:0", "")
	dir := t.TempDir()
	d := m.start(dir, "sidecar", "--dev", "--data", "sidecar")
	if url := d.says("url"); url != "http://"+port {
		t.Errorf("it serves %s, and systemd holds %s", url, port)
	}
	m.hears("WATCHDOG=1")
	m.hears("STATUS=Serves.")

	// Asked to look at its settings, it says what is wrong with them, and goes on.
	if err := os.WriteFile(filepath.Join(dir, "hodi.toml"), []byte("[sidecar]\nlisten = \"nowhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.hears("RELOADING=1\nMONOTONIC_USEC=")
	m.hears("STATUS=Serves. The settings on disk are not good: ")
	if status, _ := call(t, "GET", "http://"+port+"/healthz", nil); status != 200 {
		t.Errorf("it answers %d", status)
	}
	d.end()
	m.hears("STOPPING=1")
}

// A unit of several, hodi-sidecar@NAME, has no socket unit: its settings say which port is its own. It opens that itself.
func TestAPortThatNoSocketUnitHoldsOutlivesTheProcess(t *testing.T) {
	m := newManager(t)
	dir := t.TempDir()
	port, another := loopback.Address(t), loopback.Address(t)
	d := m.start(dir, "sidecar", "--dev", "--data", "sidecar", "--listen", port)
	d.end()

	early, err := net.Dial("tcp", port)
	if err != nil {
		t.Fatalf("nobody is there, and the port refuses: %v", err)
	}
	defer early.Close()
	if _, err := early.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	d = m.start(dir, "sidecar", "--dev", "--data", "sidecar", "--listen", port)
	early.SetReadDeadline(time.Now().Add(time.Minute))
	if answer, err := io.ReadAll(early); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("who came early has %v and %q", err, answer)
	}
	d.end()

	// What the settings name no more is not kept, and what was in the way of theirs goes first.
	for _, listen := range []string{another, strings.Replace(another, "127.0.0.1", "localhost", 1)} {
		d = m.start(dir, "sidecar", "--dev", "--data", "sidecar", "--listen", listen)
		m.mu.Lock()
		kept := slices.Sorted(maps.Keys(m.kept))
		m.mu.Unlock()
		if want := "listen-tcp-" + strings.Replace(listen, ":", "=", 1); !slices.Equal(kept, []string{want}) {
			t.Errorf("kept are %q, and it listens on %s", kept, listen)
		}
		if status, _ := call(t, "GET", "http://"+another+"/healthz", nil); status != 200 {
			t.Errorf("it answers %d", status)
		}
		d.end()
	}
	if c, err := net.Dial("tcp", port); err == nil {
		c.Close()
		t.Error("a port that the settings name no more is still open")
	}
}

// Whoever installs the package enables the unit, and joins then, or first.
func TestASidecarUnderSystemdThatHasNotJoinedWaitsAndSaysWhatIsToBeDone(t *testing.T) {
	dir, known := t.TempDir(), loopback.Address(t)
	startDaemon(t, dir, "edge", "--data", "edge", "--listen", known).says("callbacks")
	m := newManager(t)
	port, _ := m.hold("127.0.0.1:0", "")
	d := m.start(dir, "sidecar", "--data", "sidecar")
	m.hears("STATUS=This sidecar has not joined an edge yet.")
	if status, answer := call(t, "GET", "http://"+port+"/till/status", nil); status != 503 || !strings.Contains(answer["detail"].(string), "hodi join") {
		t.Errorf("it answers %d %v", status, answer)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.hears("RELOADING=1")

	joinShop(t, dir, "edge", "duka", "sidecar")
	d.killed = true // it ends by itself, and systemd is to start another
	if err := d.cmd.Wait(); err == nil || d.cmd.ProcessState.ExitCode() != 75 {
		t.Errorf("it ended with %v", err)
	}
	m.hears("STOPPING=1")
	m.start(dir, "sidecar", "--data", "sidecar")
	m.hears("STATUS=Serves.")
	if status, _ := call(t, "GET", "http://"+port+"/readyz", nil); status != 200 {
		t.Errorf("it answers %d", status)
	}
}
