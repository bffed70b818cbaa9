package tunnel_test

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
)

// nat stands before the sidecars. It forgets who is who after some silence, or when it is told to; then what comes in
// is lost, and what goes out comes from another port.
type nat struct {
	timeout time.Duration // 0: never

	mu    sync.Mutex
	ports int
	in    map[string]*binding // by the address inside
	out   map[string]*binding // by the one outside
}

type binding struct {
	inside, outside net.Addr
	used            time.Time
}

func (n *nat) translate(p simnet.Packet) (simnet.Packet, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if p.To.String() == edgeAddr.String() {
		b := n.in[p.From.String()]
		if b == nil || n.timeout > 0 && now.Sub(b.used) > n.timeout {
			if b != nil {
				delete(n.out, b.outside.String())
			}
			n.ports++
			b = &binding{inside: p.From, outside: &net.UDPAddr{IP: net.IPv4(198, 18, 0, 1), Port: 1024 + n.ports}}
			if n.in == nil {
				n.in, n.out = make(map[string]*binding), make(map[string]*binding)
			}
			n.in[p.From.String()], n.out[b.outside.String()] = b, b
		}
		b.used = now
		p.From = b.outside
		return p, true
	}
	b := n.out[p.To.String()]
	if b == nil || n.timeout > 0 && now.Sub(b.used) > n.timeout {
		return p, false
	}
	b.used = now
	p.To = b.inside
	return p, true
}

func (n *nat) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.in)
	clear(n.out)
}

func (w *world) behind(n *nat) {
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	w.router.nat = n
}

func TestALinkSurvivesANATThatForgets(t *testing.T) {
	inWorld(t, func(w *world) {
		n := new(nat)
		w.behind(n)
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		remote := e.Links()[0].Remote
		total := 0
		for i := range 50 {
			// Entries flow all the while.
			for range 10 {
				w.history.add("duka", 5, "")
				total += 5
				time.Sleep(37 * time.Millisecond)
			}
			n.forget()
			w.history.add("duka", 5, "")
			total += 5
			time.Sleep(time.Duration(i) * 61 * time.Millisecond)
		}
		w.delivered(4*time.Second, s, callbacks(1, total, ""))
		w.soon(5*time.Second, "the edge knows that all has come", func() bool { return w.history.look("duka").state.Acked == uint64(total) })
		now := e.Links()[0].Remote
		if len(s.welcomed()) != 1 || now == remote {
			t.Errorf("%d links, from %s and then %s\n%s", len(s.welcomed()), remote, now, &w.log)
		}
		c.stop()
		e.stop()
	})
}

// metered is for a sidecar.
func metered(c *tunnel.Client) { c.Metered = true }

// packets counts what crosses the network, with the headers of UDP and IPv4, and remembers when the sidecar spoke.
type packets struct {
	mu      sync.Mutex
	n, size int
	spoke   []time.Time
}

func (w *world) counting() *packets {
	c := new(packets)
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	w.router.counted = c
	w.router.count = func(p simnet.Packet) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n++
		c.size += len(p.Data) + 28
		if p.To.String() == edgeAddr.String() && len(p.Data) > 45 { // not an ACK alone
			c.spoke = append(c.spoke, time.Now())
		}
	}
	return c
}

// segment counts a segment of TCP, with the headers of TCP and IPv4, and the one that acknowledges it.
func (w *world) segment(n int) {
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	if c := w.router.counted; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n += 2
		c.size += n + 2*52
	}
}

func (c *packets) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n, c.size, c.spoke = 0, 0, nil
}

func (c *packets) counted() (n, size int, longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range max(0, len(c.spoke)-1) {
		longest = max(longest, c.spoke[i+1].Sub(c.spoke[i]))
	}
	return c.n, c.size, longest
}

func TestAMeteredLinkLearnsHowLongItMayBeSilent(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, least, most time.Duration
	}{
		"no NAT":                   {0, 24 * time.Second, 26 * time.Second},
		"a NAT as most are":        {30 * time.Second, 24 * time.Second, 26 * time.Second},
		"a NAT of fifteen seconds": {15 * time.Second, 10 * time.Second, 15 * time.Second},
		"a NAT of three seconds":   {3 * time.Second, 2 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				if c.timeout > 0 {
					w.behind(&nat{timeout: c.timeout})
				}
				e, s := w.edge(), newSink()
				sc := w.sidecar("duka", s, metered)
				time.Sleep(5 * time.Minute)
				count := w.counting()
				time.Sleep(time.Hour)
				n, size, longest := count.counted()
				t.Logf("an hour: %d packets, %d bytes, silent for %v", n, size, longest)
				if longest < c.least || longest > c.most {
					t.Errorf("silent for up to %v", longest)
				}
				// Whenever a callback comes, the way is open.
				for i := range 40 {
					time.Sleep(time.Duration(i) * 1700 * time.Millisecond)
					w.history.add("duka", 1, "")
					w.delivered(100*time.Millisecond, s, callbacks(1, i+1, ""))
				}
				if n := len(s.welcomed()); n != 1 {
					t.Errorf("%d links\n%s", n, &w.log)
				}
				sc.stop()
				e.stop()
			})
		})
	}
}

func TestAMeteredLinkIsLivelyWhileACallbackIsExpected(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, metered)
		time.Sleep(10 * time.Minute)
		count := w.counting()
		began := time.Now()
		c.Expect(began.Add(90 * time.Second))
		synctest.Wait()
		if n, _, _ := count.counted(); n == 0 || time.Since(began) > 0 {
			t.Error("no Ping at once")
		}
		time.Sleep(90 * time.Second)
		if n, size, longest := count.counted(); longest > 2100*time.Millisecond {
			t.Errorf("silent for %v", longest)
		} else {
			t.Logf("an expected callback: %d packets, %d bytes", n, size)
		}
		time.Sleep(2 * time.Minute)
		count.reset()
		time.Sleep(2 * time.Minute)
		if _, _, longest := count.counted(); longest < 24*time.Second {
			t.Errorf("silent for %v at most when nothing was expected any more", longest)
		}

		// A link that died in the silence is found out in time.
		dead := e.Links()[0].Remote
		w.dropping(func(p simnet.Packet) bool {
			return slices.Contains([]string{p.From.String(), p.To.String()}, dead)
		})
		c.Expect(time.Now().Add(90 * time.Second))
		w.history.add("duka", 1, "")
		w.delivered(5*time.Second, s, callbacks(1, 1, ""))
		c.stop()
		e.stop()
	})
}

func TestADeadSidecarIsNoticedWithinFiveSeconds(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		for i := range 10 {
			c := w.sidecar("duka", s)
			w.soon(5*time.Second, "a link", func() bool { return len(e.Links()) == 1 })
			time.Sleep(3 * time.Second)
			w.dropping(everything)
			// What the edge sends meanwhile, and nobody answers, keeps nothing alive.
			time.Sleep(time.Duration(i) * 400 * time.Millisecond)
			w.history.add("duka", 1, "")
			time.Sleep(5100*time.Millisecond - time.Duration(i)*400*time.Millisecond)
			if links := e.Links(); len(links) != 0 {
				t.Fatalf("the edge has not noticed\n%s", &w.log)
			}
			c.stop()
			w.dropping(nil)
		}
		e.stop()
	})
}

func TestADeadMeteredSidecarIsNoticedWithinAMinute(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		c := w.sidecar("duka", newSink(), metered)
		time.Sleep(10 * time.Minute)
		w.dropping(everything)
		w.history.add("duka", 1, "")
		w.soon(61*time.Second, "the edge notices", func() bool { return len(e.Links()) == 0 })
		if w.log.count("who=edge", "link ended", "nothing heard") == 0 && !strings.Contains(w.log.String(), "no recent network activity") {
			t.Errorf("it does not say why\n%s", &w.log)
		}
		c.stop()
		w.dropping(nil)
		e.stop()
	})
}

func TestAMeteredSidecarWithoutAnEdgeSparesItsBytesToo(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.sidecar("duka", newSink(), metered)
		time.Sleep(tunnel.SlowAfter + time.Minute)
		count := w.counting()
		time.Sleep(time.Hour)
		n, size, _ := count.counted()
		t.Logf("an hour without an edge: %d packets, %d bytes", n, size)
		if size > 1_000_000 {
			t.Errorf("%d bytes", size)
		}
		// But not when a customer is typing a PIN.
		e, s := w.edge(), c.Sink.(*sink)
		w.history.add("duka", 1, "")
		c.Expect(time.Now().Add(90 * time.Second))
		w.delivered(time.Second, s, callbacks(1, 1, ""))
		c.stop()
		e.stop()
	})
}

func TestAPathSlowerThanATryIsGivenIsFoundAllTheSame(t *testing.T) {
	for _, trip := range []time.Duration{1600 * time.Millisecond, 3 * time.Second} {
		t.Run(trip.String(), func(t *testing.T) {
			overBoth(t, func(w *world) {
				w.latency = trip / 2
				e, s := w.edge(), newSink()
				c := w.sidecar("duka", s)
				w.history.add("duka", 1, "")
				w.delivered(time.Minute, s, callbacks(1, 1, ""))
				time.Sleep(10 * time.Minute)
				if n := len(s.welcomed()); n != 1 {
					t.Errorf("%d links\n%.3000s", n, &w.log)
				}
				c.stop()
				e.stop()
			})
		})
	}
}
