package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodihq/hodi/cmd/hodi/bench"
	"github.com/hodihq/hodi/internal/loopback"
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
	s := newStorm(t)
	defer s.calm()
	s.rise(sidecars)
	before := s.weigh(nil)
	t.Logf("%d sidecars connected: %v", sidecars, before)

	for _, end := range []string{"kill", "term"} {
		tries := s.tries.Load()
		if end == "kill" {
			s.edge.kill()
		} else {
			s.edge.end()
		}
		s.wantNobodyRefused()
		began := time.Now()
		s.startEdge()
		took, p99 := s.wantLinks(began)
		tries, busy := s.tries.Load()-tries, s.busy()
		after := s.weigh(&before)
		t.Logf("edge restarted (%s): 99 in 100 sidecars linked %.1f s after, all after %.1f s, over QUIC with %.1f tries each; the edge took %.2f s of processor: %v",
			end, p99.Seconds(), took.Seconds(), float64(tries)/float64(sidecars), busy.Seconds(), after)
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
	s.wantNobodyRefused()
}

// wantNobodyRefused asks the edge: it says so itself if it refused a handshake while it served. Sidecars also see
// refusals of an edge that ends, which is as it should be.
func (s *storm) wantNobodyRefused() {
	s.Helper()
	if said := s.edge.log.String(); strings.Contains(said, "handshake refused") {
		s.Errorf("the edge refused a handshake")
	}
}

// busy is how long the edge has had a processor.
func (s *storm) busy() time.Duration {
	s.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.edge.cmd.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0 // of 10 ms
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			s.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

type storm struct {
	*testing.T
	dir                        string
	edge                       *daemon
	callbacks, sidecars, debug string
	guests                     []*guest
	tries                      atomic.Int64
}

func newStorm(t *testing.T) *storm {
	s := &storm{T: t, dir: t.TempDir(), callbacks: loopback.Address(t), sidecars: loopback.Address(t)}
	s.startEdge()
	return s
}

func (s *storm) rise(sidecars int) {
	s.Helper()
	began := time.Now()
	for i := range sidecars {
		var made struct{ Code string }
		if err := askAdmin(s.Context(), filepath.Join(s.dir, "edge"), http.MethodPost, fmt.Sprintf("/endpoints/duka-%d/invite", i), nil, &made); err != nil {
			s.Fatal(err)
		}
		papers, err := bench.Join(s.Context(), made.Code)
		if err != nil {
			s.Fatal(err)
		}
		conf, err := papers.TLS()
		if err != nil {
			s.Fatal(err)
		}
		guest := &guest{number: uint64(i) + 1, edge: s.sidecars, web: s.callbacks, tls: conf, tries: &s.tries}
		s.guests = append(s.guests, guest)
		guest.start()
	}
	s.wantLinks(began)
}

// calm ends all sidecars at once, so that those which wait for their end do not disturb the others'.
func (s *storm) calm() {
	var ending sync.WaitGroup
	for _, guest := range s.guests {
		ending.Go(guest.stop)
	}
	ending.Wait()
}

func (s *storm) startEdge() {
	s.Helper()
	s.edge = startDaemon(s.T, s.dir, "edge", "--debug-listen", "127.0.0.1:0", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars)
	s.debug = s.edge.says("debug")
	s.edge.says("sidecars") // it serves
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
		s.patiently(fmt.Sprintf("a link of sidecar %d of %d", i+1, len(guests)), func() bool {
			status := guest.client().Status()
			took[i] = status.Since.Sub(since)
			return status.Connected && took[i] > 0
		})
	}
	slices.Sort(took)
	return took[len(took)-1], took[(len(took)-1)*99/100]
}

// patiently waits for what comes in the end, however busy the machine: a storm is a lot of work.
func (s *storm) patiently(what string, done func() bool) {
	s.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited 5 minutes in vain for %s", what)
		}
	}
}

// weight is what the edge holds of its machine.
type weight struct{ goroutines, heap, files, resident int }

func (w weight) String() string {
	return fmt.Sprintf("%d goroutines, heap %.1f MB, %d files, resident %.1f MB", w.goroutines, float64(w.heap)/1e6, w.files, float64(w.resident)/1e6)
}

// weigh looks into the edge once it is at rest: what ends with a link may take a moment longer than the link, a handshake
// that nobody goes on with some seconds, and a link that came up over WebSocket, because the edge was gone for a moment,
// goes back to QUIC some seconds later. If the edge was weighed before, at rest is as few goroutines and files as then.
func (s *storm) weigh(before *weight) (w weight) {
	s.Helper()
	last := -1
	s.patiently("the edge to come to rest", func() bool {
		w.goroutines = s.number("goroutine?debug=1", `^goroutine profile: total (\d+)`)
		rest := w.goroutines == last
		if before != nil {
			rest = w.goroutines <= before.goroutines+10+len(s.guests)/50 && s.files() <= before.files+5
		}
		last = w.goroutines
		if !rest {
			time.Sleep(500 * time.Millisecond)
		}
		return rest
	})
	w.heap = s.number("heap?gc=1&debug=1", `(?m)^# HeapAlloc = (\d+)`)
	w.files = s.files()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.edge.cmd.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	w.resident = find(s.T, status, `VmRSS:\s+(\d+)`) * 1024
	return w
}

// files is how many files and sockets the edge has open.
func (s *storm) files() int {
	s.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.edge.cmd.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	return len(files)
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
	edge   string
	web    string
	tls    *tls.Config
	tries  *atomic.Int64

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
	c := &tunnel.Client{Edge: s.edge, WebSocket: s.web, TLS: s.tls, Sink: nothing{}, Route: nowhereElse, Listen: func() (net.PacketConn, error) {
		s.tries.Add(1)
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

// nowhereElse spares the machine what a thousand would ask its kernel all the time.
func nowhereElse(netip.AddrPort) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// nothing is a sink to which nothing comes.
type nothing struct{}

func (nothing) Cursor(context.Context) (wire.Cursor, error)            { return wire.Cursor{}, nil }
func (nothing) Welcome(context.Context, wire.Welcome) error            { return nil }
func (nothing) Apply(context.Context, wire.Cursor, []wire.Entry) error { return nil }
