package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A storm is what an edge meets when it comes back: every sidecar at once. `make storm` raises one of 1,000 sidecars,
// and then has them come and go 10,000 times.
func stormSize(t *testing.T) (sidecars, reconnects int) {
	number := func(name string, otherwise int) int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			return otherwise
		}
		return n
	}
	return number("HODI_STORM_SIDECARS", 24), number("HODI_STORM_RECONNECTS", 72)
}

func TestAStormOfSidecarsIsTakenInAndLeavesNothingBehind(t *testing.T) {
	sidecars, reconnects := stormSize(t)
	s := newStorm(t, sidecars)
	before := s.weigh(nil)
	t.Logf("%d sidecars connected: %v", sidecars, before)

	for _, end := range []string{"kill", "term"} {
		if end == "kill" {
			s.edge.kill()
		} else {
			s.edge.end()
		}
		began := time.Now()
		s.startEdge()
		took, p99 := s.wantLinks(began)
		after := s.weigh(&before)
		t.Logf("edge restarted (%s): 99 in 100 sidecars linked %.1f s after, all after %.1f s: %v", end, p99.Seconds(), took.Seconds(), after)
		s.sameWeight(before, after)
		before = after
	}

	// The same edge meets one sidecar after another that comes back without a word of farewell, and then those that say it.
	for done := 0; done < reconnects; {
		began := time.Now()
		n := min(sidecars, reconnects-done)
		for _, guest := range s.guests[:n] {
			if done%2 == 0 {
				guest.vanish()
			} else {
				guest.restart()
			}
			done++
		}
		s.wantLinksOf(s.guests[:n], began)
	}
	after := s.weigh(&before)
	t.Logf("%d reconnects later: %v", reconnects, after)
	s.sameWeight(before, after)
	if text := s.log.String(); strings.Contains(text, "CONNECTION_REFUSED") {
		t.Errorf("the edge refused a handshake:\n%s", text)
	}
}

type storm struct {
	*testing.T
	dir                        string
	edge                       *daemon
	callbacks, sidecars, debug string
	guests                     []*guest
	log                        *lockedBuffer
}

func newStorm(t *testing.T, sidecars int) *storm {
	s := &storm{T: t, dir: t.TempDir(), callbacks: "127.0.0.1:0", sidecars: "127.0.0.1:0", log: new(lockedBuffer)}
	s.startEdge()
	began := time.Now()
	for i := range sidecars {
		var added struct{ Token, CA string }
		if err := askAdmin(t.Context(), filepath.Join(s.dir, "edge"), http.MethodPost, "/endpoints", fmt.Sprintf(`{"name":"duka-%d"}`, i), &added); err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(added.CA)) {
			t.Fatal("no CA")
		}
		guest := &guest{token: []byte(strings.TrimSpace(added.Token)), number: uint64(i) + 1, edge: s.sidecars, ca: pool, log: slog.New(slog.NewTextHandler(s.log, nil))}
		s.guests = append(s.guests, guest)
		t.Cleanup(guest.stop)
		guest.start()
	}
	s.wantLinks(began)
	return s
}

func (s *storm) startEdge() {
	s.Helper()
	s.edge = startDaemon(s.T, s.dir, "edge", "--debug-listen", "127.0.0.1:0", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars)
	if s.debug = s.edge.says("debug"); s.callbacks == "127.0.0.1:0" {
		s.callbacks, s.sidecars = s.edge.says("callbacks"), s.edge.says("sidecars")
	}
}

func (s *storm) wantLinks(since time.Time) (all, p99 time.Duration) {
	return s.wantLinksOf(s.guests, since)
}

// wantLinksOf waits until sidecars have links that began after since, and says how long after that the last and nearly the
// last of them began.
func (s *storm) wantLinksOf(guests []*guest, since time.Time) (all, p99 time.Duration) {
	s.Helper()
	took := make([]time.Duration, len(guests))
	for i, guest := range guests {
		eventually(s.T, fmt.Sprintf("a link of sidecar %d of %d", i+1, len(guests)), func() bool {
			status := guest.client().Status()
			took[i] = status.Since.Sub(since)
			return status.Connected && took[i] > 0
		})
	}
	slices.Sort(took)
	return took[len(took)-1], took[(len(took)-1)*99/100]
}

// weight is what the edge holds of its machine.
type weight struct{ goroutines, heap, files, resident int }

func (w weight) String() string {
	return fmt.Sprintf("%d goroutines, heap %.1f MB, %d files, resident %.1f MB", w.goroutines, float64(w.heap)/1e6, w.files, float64(w.resident)/1e6)
}

// weigh looks into the edge once it is at rest: what ends with a link may take a moment longer than the link, a handshake
// that nobody goes on with some seconds, and a link that came up over WebSocket, because the edge was gone for a moment,
// goes back to QUIC some seconds later. If the edge was weighed before, at rest is as few goroutines as then.
func (s *storm) weigh(before *weight) (w weight) {
	s.Helper()
	last := -1
	eventually(s.T, "the edge to come to rest", func() bool {
		w.goroutines = s.number("goroutine?debug=1", `^goroutine profile: total (\d+)`)
		rest := w.goroutines == last
		if before != nil {
			rest = w.goroutines <= before.goroutines+10+len(s.guests)/50
		}
		last = w.goroutines
		if !rest {
			time.Sleep(500 * time.Millisecond)
		}
		return rest
	})
	w.heap = s.number("heap?gc=1&debug=1", `(?m)^# HeapAlloc = (\d+)`)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.edge.cmd.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	w.files = len(files)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.edge.cmd.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	w.resident = find(s.T, status, `VmRSS:\s+(\d+)`) * 1024
	return w
}

func (s *storm) number(profile, pattern string) int {
	s.Helper()
	response, err := http.Get("http://" + s.debug + "/debug/pprof/" + profile)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return find(s.T, b, pattern)
}

func find(t *testing.T, text []byte, pattern string) int {
	t.Helper()
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no %s in %.200q", pattern, text)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sameWeight compares an edge with what it was when as many sidecars were connected. What the runtime keeps back from
// the system (resident) is only shown: how much that is, is not ours to say.
func (s *storm) sameWeight(before, after weight) {
	s.Helper()
	guests := len(s.guests)
	if more := after.files - before.files; more > 5 {
		s.Errorf("%d files more than before", more)
	}
	if more := after.heap - before.heap; more > 2<<20+guests*8<<10 {
		s.Errorf("%d bytes of heap more than before", more)
	}
}

// guest is a sidecar of which only the link is there.
type guest struct {
	number uint64
	token  []byte
	edge   string
	ca     *x509.CertPool
	log    *slog.Logger

	mu      sync.Mutex
	c       *tunnel.Client
	sockets []net.PacketConn // of the link, and of tries that came second
	end     func()
}

func (s *guest) client() *tunnel.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

func (s *guest) start() {
	c := &tunnel.Client{Edge: s.edge, TLS: &tls.Config{RootCAs: s.ca}, Token: s.token, Sink: nothing{}, Logger: s.log, Listen: func() (net.PacketConn, error) {
		socket, err := net.ListenUDP("udp", nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.sockets = append(s.sockets, socket)
		}
		return socket, err
	}}
	binary.BigEndian.PutUint64(c.Instance[:], s.number)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c, s.end = c, func() {
		cancel()
		<-ended
	}
}

func (s *guest) stop() {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	end()
}

func (s *guest) restart() {
	s.stop()
	s.start()
}

// vanish takes the socket from under the link, as a router does that is switched off: the edge hears nothing of it.
func (s *guest) vanish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, socket := range s.sockets {
		socket.Close()
	}
	s.sockets = nil
}

// nothing is a sink to which nothing comes.
type nothing struct{}

func (nothing) Cursor(context.Context) (wire.Cursor, error)            { return wire.Cursor{}, nil }
func (nothing) Welcome(context.Context, wire.Welcome) error            { return nil }
func (nothing) Apply(context.Context, wire.Cursor, []wire.Entry) error { return nil }
