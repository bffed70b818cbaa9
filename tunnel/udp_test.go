package tunnel_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// The tests in a bubble have a network of their own; these have the kernel's.

func serveUDP(t testing.TB, ca authority, h tunnel.History, addr string) (edge string, stop func()) {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &tunnel.Server{History: h, TLS: ca.server(), ResetKey: &[32]byte{1}, Authorize: byName}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, pc) }()
	return pc.LocalAddr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		pc.Close()
	}
}

func runUDP(t testing.TB, ca authority, edge, endpoint string, s tunnel.Sink) (c *tunnel.Client, stop func()) {
	t.Helper()
	c = &tunnel.Client{Edge: edge, TLS: ca.client(endpoint), Sink: s}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestOverUDPWithAnEdgeThatRestarts(t *testing.T) {
	ca, h := newAuthority(t), newHistory()
	edge, stopEdge := serveUDP(t, ca, h, loopback.Address(t))
	const shops = 5
	var sinks []*sink
	var stops []func()
	for i := range shops {
		s := newSink()
		sinks = append(sinks, s)
		_, stop := runUDP(t, ca, edge, fmt.Sprint("duka ", i), s)
		stops = append(stops, stop)
	}
	for round := range 3 {
		for i := range shops {
			h.add(fmt.Sprint("duka ", i), 1000, "")
		}
		for _, s := range sinks {
			s.until(uint64(1000 * (round + 1)))
		}
		stopEdge()
		_, stopEdge = serveUDP(t, ca, h, edge)
	}
	for _, s := range sinks {
		s.wantEach(t, 3000)
	}
	for _, stop := range stops {
		stop()
	}
	stopEdge()
	nothingIsLeft(t)
}

// nothingIsLeft fails if a goroutine of this package still runs. What was waited for has ended, but one that has said so
// may still have to return, so it is given way to.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	for began := time.Now(); ; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left := slices.DeleteFunc(strings.Split(string(stacks), "\n\n"), func(g string) bool { return !strings.Contains(g, "hodi/tunnel.") })
		if len(left) == 0 {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("left behind:\n%s", strings.Join(left, "\n\n"))
		}
	}
}

func TestAServerWhoseSocketFailsSaysSo(t *testing.T) {
	ca := newAuthority(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tunnel.Server{History: newHistory(), TLS: ca.server(), Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
		return tunnel.Endpoint{}, nil
	}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), pc) }()
	pc.Close()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	nothingIsLeft(t)
}

// stream is a history of one endpoint that is all there from the start, and a sink that says when it was all applied.
type stream struct {
	mu      sync.Mutex
	grown   chan struct{}
	state   wire.State
	body    []byte
	batches int
	applied uint64
	done    chan uint64
}

func newStream(size int) *stream {
	return &stream{state: wire.State{Epoch: 1, Oldest: 1}, body: make([]byte, size), grown: make(chan struct{}), done: make(chan uint64, 1)}
}

func (s *stream) grow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Head += uint64(n)
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *stream) State(context.Context, string) (wire.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

func (s *stream) Entry(context.Context, string, uint64) (wire.Entry, error) {
	return wire.Entry{}, nil
}

func (s *stream) Next(ctx context.Context, _ string, after uint64, maxBytes int) ([]wire.Entry, error) {
	for {
		s.mu.Lock()
		head, grown := s.state.Head, s.grown
		s.mu.Unlock()
		if n := min(int(head-after), max(1, maxBytes/(len(s.body)+64))); n > 0 {
			list := make([]wire.Entry, n)
			for i := range list {
				list[i] = wire.Entry{Seq: after + 1 + uint64(i), Kind: wire.KindNotice, Remote: "196.201.214.200", Body: s.body}
			}
			return list, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *stream) Ack(context.Context, string, wire.Epoch, uint64) error { return nil }
func (s *stream) Append(context.Context, string, wire.Entry) (uint64, error) {
	return 0, errors.New("nobody asks for canaries here")
}
func (s *stream) Renew(context.Context, string, wire.Epoch) (wire.State, error) {
	return wire.State{}, nil
}
func (s *stream) Cursor(context.Context) (wire.Cursor, error) { return wire.Cursor{}, nil }
func (s *stream) Welcome(context.Context, wire.Welcome) error { return nil }
func (s *stream) Apply(_ context.Context, _ wire.Cursor, e []wire.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	s.applied = e[len(e)-1].Seq
	if s.applied == s.state.Head {
		s.done <- s.applied
	}
	return nil
}

// BenchmarkThroughput sends entries of 1 KiB as fast as they go, over loopback.
func BenchmarkThroughput(b *testing.B) {
	ca, s := newAuthority(b), newStream(1024)
	edge, stopEdge := serveUDP(b, ca, s, "127.0.0.1:0")
	_, stop := runUDP(b, ca, edge, "duka", s)
	s.grow(1)
	<-s.done
	b.SetBytes(1024)
	s.batches = 0
	b.ResetTimer()
	s.grow(b.N)
	<-s.done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(b.N)/float64(s.batches), "entries/apply")
	stop()
	stopEdge()
}

// BenchmarkLatency sends one entry at a time: from its append to the end of its Apply, over loopback.
func BenchmarkLatency(b *testing.B) {
	ca, s := newAuthority(b), newStream(1024)
	edge, stopEdge := serveUDP(b, ca, s, "127.0.0.1:0")
	_, stop := runUDP(b, ca, edge, "duka", s)
	s.grow(1)
	<-s.done
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		s.grow(1)
		<-s.done
		took = append(took, time.Since(began))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	stop()
	stopEdge()
}

// BenchmarkIdleLinks holds many links of idle sidecars: what the two ends of one cost together.
func BenchmarkIdleLinks(b *testing.B) {
	ca, h := newAuthority(b), newHistory()
	edge, stopEdge := serveUDP(b, ca, h, "127.0.0.1:0")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var stops []func()
	b.ResetTimer()
	for i := range b.N {
		name := string(binary.BigEndian.AppendUint32(nil, uint32(i)))
		h.add(name, 1, "")
		s := newSink()
		_, stop := runUDP(b, ca, edge, name, s)
		stops = append(stops, stop)
		s.until(1)
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/float64(b.N), "heap-B/link")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(b.N), "stack-B/link")
	b.ReportMetric(float64(runtime.NumGoroutine())/float64(b.N), "goroutines/link")
	for _, stop := range stops {
		stop()
	}
	stopEdge()
}
