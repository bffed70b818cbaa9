package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/internal/loopback"
)

// manager stands in for systemd: it holds the ports of a unit, and hears what the unit says of itself.
type manager struct {
	*testing.T
	socket string
	files  []*os.File // the unit's ports
	mu     sync.Mutex
	said   []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "hodi") // of a test it may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{T: t, socket: filepath.Join(dir, "notify")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(b[:n]))
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		c.Close()
		hearing.Wait()
		if t.Failed() {
			t.Logf("systemd was told %q", m.said)
		}
	})
	return m
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
	m.mu.Unlock()
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec hodi "$@"`, "hodi", "--log-format", "json"}, args...)...)
	cmd.ExtraFiles = m.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket, "WATCHDOG_USEC=30000000")
	if len(m.files) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(m.files)))
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
