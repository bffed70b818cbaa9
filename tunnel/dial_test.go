package tunnel_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
)

func TestTheRedialSchedule(t *testing.T) {
	inWorld(t, func(w *world) {
		// There is no edge. Every try is a socket.
		var open, most, tries atomic.Int64
		c := w.sidecar("duka", newSink(), func(c *tunnel.Client) {
			listen := c.Listen
			c.Listen = func() (net.PacketConn, error) {
				pc, err := listen()
				tries.Add(1)
				most.Store(max(most.Load(), open.Add(1)))
				return &counted{pc.(*socket), &open}, err
			}
		})
		time.Sleep(time.Minute)
		if n := tries.Load(); n < 100 || n > 150 {
			t.Errorf("%d tries in the first minute", n)
		}
		if most.Load() != 3 {
			t.Errorf("up to %d tries at a time", most.Load())
		}
		time.Sleep(tunnel.SlowAfter)
		tries.Store(0)
		time.Sleep(time.Minute)
		if n := tries.Load(); n < 12 || n > 30 {
			t.Errorf("%d tries in a minute, after ten", n)
		}
		// An edge that comes after all is found.
		e := w.edge()
		w.soon(6*time.Second, "a link", func() bool { return c.Status().Connected })
		c.stop()
		e.stop()
		if open.Load() != 0 {
			t.Errorf("%d sockets left open", open.Load())
		}
	})
}

type counted struct {
	*socket
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.open.Add(-1)
	return c.socket.Close()
}

func TestWhatKeepsTheEdgeAwayIsLoggedOnceAndNotAtEveryTry(t *testing.T) {
	inWorld(t, func(w *world) {
		// The system names the port that was ours in what it says, and that is another one at every try.
		c := w.sidecar("duka", newSink(), func(c *tunnel.Client) {
			listen := c.Listen
			c.Listen = func() (net.PacketConn, error) {
				pc, err := listen()
				return &unreachable{pc.(*socket)}, err
			}
		})
		time.Sleep(time.Minute)
		if n := w.log.count("edge not reached", "network is unreachable"); n != 1 {
			t.Errorf("%d lines in the log\n%s", n, &w.log)
		}
		c.stop()
	})
}

// unreachable is the socket of a machine that has lost its network.
type unreachable struct{ *socket }

func (u *unreachable) WriteTo(_ []byte, to net.Addr) (int, error) {
	return 0, &net.OpError{Op: "write", Net: "udp", Source: u.LocalAddr(), Addr: to, Err: errors.New("network is unreachable")}
}

func TestWhereNothingLeadsToTheEdgeTheStatusSaysWhatEachWayHasMet(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.sidecar("duka", newSink()) // and no edge
		w.soon(time.Minute, "both reasons", func() bool {
			why := c.Status().LastError
			return strings.HasPrefix(why, "tunnel: QUIC: dial ") && strings.Contains(why, "the edge does not answer; and dial ") && strings.Contains(why, "over WebSocket: ")
		})
		c.stop()
	})
}

func TestATryThatTheEdgeHasAnsweredIsGivenTime(t *testing.T) {
	inWorld(t, func(w *world) {
		// A bad path: a packet takes 700 ms, and what would finish a handshake is lost the first time. So it takes
		// longer than a try gets that hears nothing.
		w.latency = 700 * time.Millisecond
		var mu sync.Mutex
		sent := make(map[string]int)
		w.dropping(func(p simnet.Packet) bool {
			mu.Lock()
			defer mu.Unlock()
			to := p.To.String()
			sent[to]++
			return p.From.String() == edgeAddr.String() && (sent[to] == 2 || sent[to] == 3)
		})
		e, s := w.edge(), newSink()
		w.history.add("duka", 1, "")
		c := w.sidecar("duka", s)
		w.delivered(10*time.Second, s, callbacks(1, 1, ""))
		if n := w.log.count("who=edge", "link up"); n != 1 {
			t.Errorf("%d of the tries said hello\n%s", n, &w.log)
		}
		w.dropping(nil)
		time.Sleep(10 * time.Second)
		if !c.Status().Connected || len(s.welcomed()) != 1 {
			t.Errorf("the link did not last\n%s", &w.log)
		}
		if rtt := c.Status().RTT; rtt != 1400*time.Millisecond {
			t.Errorf("a round trip of %v", rtt)
		}
		c.stop()
		e.stop()
	})
}

func TestOfTriesThatFinishTogetherOneSaysHelloAndTheOthersAreClosed(t *testing.T) {
	inWorld(t, func(w *world) {
		// The network holds back whatever the edge answers until 1.4 s after the first try, by when there are three.
		began := time.Now()
		w.delay = func(p simnet.Packet) time.Duration {
			if p.From.String() == edgeAddr.String() {
				return max(w.latency, time.Until(began.Add(1400*time.Millisecond)))
			}
			return w.latency
		}
		e, s := w.edge(), newSink()
		w.history.add("duka", 1, "")
		c := w.sidecar("duka", s)
		w.delivered(2*time.Second, s, callbacks(1, 1, ""))
		time.Sleep(time.Minute)
		if n := w.log.count("who=edge", "link up"); n != 1 {
			t.Errorf("%d of the tries said hello\n%s", n, &w.log)
		}
		c.stop()
		e.stop() // and nothing is left running, or the bubble does not end
	})
}

func TestHealingIsQuick(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		var took []time.Duration
		for i := range 50 {
			w.dropping(everything)
			time.Sleep(6*time.Second + time.Duration(i)*14*time.Millisecond)
			w.history.add("duka", 1, "")
			w.dropping(nil)
			took = append(took, w.delivered(5*time.Second, s, callbacks(1, i+1, "")))
		}
		slices.Sort(took)
		t.Logf("first delivery after healing: p50 %v, p98 %v, most %v", took[24], took[48], took[49])
		if took[48] > time.Second {
			t.Errorf("p98 of %v", took[48])
		}
		c.stop()
		e.stop()
	})
}

func TestALossyPathLosesNothing(t *testing.T) {
	overBoth(t, func(w *world) {
		var n atomic.Int64
		w.dropping(func(simnet.Packet) bool { return n.Add(1)%20 == 0 }) // 5 %
		e, s := w.edge(), newSink()
		w.history.add("duka", 3000, "")
		c := w.sidecar("duka", s)
		w.delivered(time.Minute, s, callbacks(1, 3000, ""))
		c.stop()
		e.stop()
	})
}

func TestManySidecarsComeAtOnceAndNoneIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		const many = 120 // quic-go queues 32
		e := w.edge()
		var sinks []*sink
		var sidecars []*sidecar
		for i := range many {
			name := "duka-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			w.history.add(name, 1, "")
			s := newSink()
			sinks = append(sinks, s)
			sidecars = append(sidecars, w.sidecar(name, s))
		}
		all := func() bool {
			return !slices.ContainsFunc(sinks, func(s *sink) bool { return len(s.got()) != 1 })
		}
		w.soon(10*time.Second, "everybody's entry", all)
		if n := w.log.count("who=sidecar", "edge not reached"); n != 0 {
			t.Errorf("%d tries failed\n%.2000s", n, &w.log)
		}
		e.kill()
		e = w.edge()
		w.soon(10*time.Second, "everybody is back", func() bool { return len(e.Links()) == many })
		for _, c := range sidecars {
			c.stop()
		}
		e.stop()
	})
}

func TestWhereTheEdgeIsCrowdedEachSidecarIsOneHandshake(t *testing.T) {
	inWorld(t, func(w *world) {
		// All have three tries under way when the first of them is answered, and the others are a little later.
		const many = 120
		w.latency = 200 * time.Millisecond
		began := time.Now()
		w.delay = func(p simnet.Packet) time.Duration {
			if passed := time.Since(began); passed < 1300*time.Millisecond && p.From.String() == edgeAddr.String() {
				return 1300*time.Millisecond + passed/3 - passed
			}
			return w.latency
		}
		e := w.edge()
		var sidecars []*sidecar
		for i := range many {
			name := fmt.Sprint("duka-", i)
			w.history.add(name, 1, "")
			sidecars = append(sidecars, w.sidecar(name, newSink()))
		}
		var mu sync.Mutex
		shaken := make(map[string]bool) // tries to which the edge has shown its certificate
		w.dropping(func(p simnet.Packet) bool {
			mu.Lock()
			defer mu.Unlock()
			if len(p.Data) > 0 && p.From.String() == edgeAddr.String() && p.Data[0]>>4 != 0b1111 {
				shaken[p.To.String()] = true
			}
			return false
		})
		w.soon(10*time.Second, "everybody is there", func() bool { return len(e.Links()) == many })
		mu.Lock()
		n := len(shaken)
		mu.Unlock()
		if n > many*8/5 { // all tries would be twice as many as sidecars
			t.Errorf("%d handshakes for %d sidecars", n, many)
		}
		for _, c := range sidecars {
			c.stop()
		}
		e.stop()
	})
}

func TestTheEdgesClockIsCompared(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		c := w.sidecar("duka", newSink())
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		if s := c.Status(); s.Skew.Abs() > 2*time.Millisecond || s.Callback != "https://edge.example/c/duka" || s.Epoch != firstEpoch || s.Remote != edgeAddr.String() || s.Transport != "quic" || s.Why != "" {
			t.Errorf("status %+v", s)
		}
		c.stop()
		e.stop()
	})
}

func TestAClockThatIsSetUnderALivingLinkShows(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		var off atomic.Int64
		c := w.sidecar("duka", newSink(), func(c *tunnel.Client) {
			tunnel.SetWall(c, func() time.Time { return time.Now().Round(0).Add(time.Duration(off.Load())) })
		})
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		began := c.Status().Since
		off.Store(int64(-26 * time.Hour)) // back, which nothing else notices
		time.Sleep(time.Minute)
		if s := c.Status(); !s.Since.Equal(began) || (s.Skew-26*time.Hour).Abs() > 5*time.Millisecond {
			t.Errorf("by a clock that was set back by 26 hours the edge's is ahead by %v (link since %v, was %v)", s.Skew, s.Since, began)
		}
		off.Store(0)
		time.Sleep(time.Minute)
		if s := c.Status(); s.Skew.Abs() > 5*time.Millisecond {
			t.Errorf("by a clock that is right again the edge's is ahead by %v", s.Skew)
		}
		c.stop()
		e.stop()
	})
}
