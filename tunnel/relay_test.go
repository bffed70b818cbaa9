package tunnel_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hodihq/hodi/tunnel"
)

// relay stands between one sidecar and its edge, as NAT does, on real sockets.
type relay struct {
	inside *net.UDPConn
	edge   *net.UDPAddr
	ends   sync.WaitGroup

	mu      sync.Mutex
	sidecar *net.UDPAddr
	outside *net.UDPConn
}

func newRelay(t *testing.T, edge string) *relay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", edge)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{inside: inside, edge: to}
	r.rebind(t)
	r.ends.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := inside.ReadFromUDP(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.sidecar = from
			r.outside.WriteToUDP(b[:n], r.edge)
			r.mu.Unlock()
		}
	})
	return r
}

// rebind gives the sidecar another port outside; what comes to the one before is lost.
func (r *relay) rebind(t *testing.T) {
	t.Helper()
	outside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outside != nil {
		r.outside.Close()
	}
	r.outside = outside
	r.ends.Go(func() {
		b := make([]byte, 2048)
		for {
			n, _, err := outside.ReadFromUDP(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			to := r.sidecar
			r.mu.Unlock()
			r.inside.WriteToUDP(b[:n], to)
		}
	})
}

func (r *relay) close() {
	r.inside.Close()
	r.mu.Lock()
	r.outside.Close()
	r.mu.Unlock()
	r.ends.Wait()
}

func TestOverUDPThroughANATThatRebinds(t *testing.T) {
	ca, h, s := newAuthority(t), newHistory(), newSink()
	edge, stopEdge := serveUDP(t, ca, h, "127.0.0.1:0")
	r := newRelay(t, edge)
	_, stop := runUDP(t, ca, r.inside.LocalAddr().String(), "duka", s)
	h.add("duka", 1, "")
	s.until(1)
	const rounds, each = 4, 2000
	for i := range rounds {
		h.add("duka", each, "")
		s.until(uint64(1 + i*each + each/4)) // the rest is on its way
		r.rebind(t)
	}
	s.until(1 + rounds*each)
	s.wantEach(t, 1+rounds*each)
	if n := len(s.welcomed()); n > rounds { // a busy machine may cost one, but not each NAT that rebinds
		t.Errorf("%d links", n)
	}
	stop()
	stopEdge()
	r.close()
	nothingIsLeft(t)
}

func TestOverUDPTheLinkMovesToAnotherSocketWhileEntriesFlow(t *testing.T) {
	ca, h, s := newAuthority(t), newHistory(), newSink()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := &tunnel.Server{History: h, TLS: ca.server(), Authorize: byName}
	// To the client the machine changes its address; in truth there is only loopback.
	var from atomic.Int32
	client := &tunnel.Client{
		Edge: pc.LocalAddr().String(), TLS: ca.client("duka"), Sink: s,
		Route: func(netip.AddrPort) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(from.Load())}) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	for _, run := range []func() error{func() error { return server.Serve(ctx, pc) }, func() error { return client.Run(ctx) }} {
		ends.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	n := 0
	deliver := func() {
		n++
		h.add("duka", 1, "")
		s.until(uint64(n))
	}
	deliver()
	remote := func() (at string) {
		for _, l := range server.Links() {
			at = l.Remote
		}
		return at
	}
	const moves = 3
	for range moves {
		before := remote()
		from.Add(1)
		for remote() == before {
			deliver()
		}
	}
	deliver()
	s.wantEach(t, n)
	if n := len(s.welcomed()); n > moves { // a busy machine may cost one, but not each move
		t.Errorf("%d links", n)
	}
	cancel()
	ends.Wait()
	pc.Close()
	nothingIsLeft(t)
}
