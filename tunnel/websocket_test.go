package tunnel_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestWhereUDPIsDroppedThereIsALinkWithinThreeSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.latency = 100 * time.Millisecond // a round trip of 200 ms: TCP, TLS, WebSocket and Hello take one each
		w.router.noUDP.Store(true)
		e, s := w.edge(), newSink()
		w.history.add("duka", 10, "")
		c := w.sidecar("duka", s)
		t.Logf("delivered after %v", w.delivered(3*time.Second, s, callbacks(1, 10, "")))
		status := c.Status()
		if status.Transport != "websocket" || status.Why != "QUIC to edge.example:443 was not answered (UDP is probably blocked)" {
			t.Errorf("status %+v", status)
		}
		if status.Remote != edgeAddr.String() || e.Links()[0].Endpoint != "duka" {
			t.Errorf("remote %s, links %v", status.Remote, e.Links())
		}
		time.Sleep(time.Hour)
		if n := len(s.welcomed()); n != 1 {
			t.Errorf("%d links in an hour\n%.3000s", n, &w.log)
		}
		// It is known now, and the next link does not wait for QUIC to show it again.
		e.kill()
		w.history.add("duka", 1, "")
		e = w.edge()
		w.soon(3*time.Second, "the next Ping shows that the edge was restarted", func() bool { return !c.Status().Connected })
		t.Logf("delivered %v after the link was lost", w.delivered(time.Second, s, callbacks(1, 11, "")))
		c.stop()
		e.stop()
	})
}

func TestWhereQUICIsAnsweredAndComesToNoEndTheLinkIsOverWebSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		var mu sync.Mutex
		came := make(map[string]int)
		w.dropping(func(p simnet.Packet) bool {
			if to := p.To.String(); to != edgeAddr.String() && len(p.Data) > 0 {
				mu.Lock()
				defer mu.Unlock()
				came[to]++
				return came[to] > 1
			}
			return false
		})
		e, s := w.edge(), newSink()
		w.history.add("duka", 10, "")
		c := w.sidecar("duka", s)
		t.Logf("delivered after %v", w.delivered(3*time.Second, s, callbacks(1, 10, "")))
		if status := c.Status(); status.Transport != tunnel.TransportWebSocket {
			t.Errorf("status %+v", status)
		}
		w.dropping(nil)
		c.stop()
		e.stop()
	})
}

func TestTheLinkMovesBackToQUICUnderAStreamOfEntries(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(3*time.Second, "a link", func() bool { return c.Status().Connected })
		latest := make(map[string]time.Duration)
		n := 0
		post := func(d time.Duration) {
			for began := time.Now(); time.Since(began) < d; {
				n++
				w.history.add("duka", 1, "")
				over := c.Status().Transport
				took := w.soon(time.Second, "delivery", func() bool { return s.cursor().Seq == uint64(n) })
				latest[over] = max(latest[over], took)
			}
		}
		post(10 * time.Second)
		if over := c.Status().Transport; over != tunnel.TransportWebSocket {
			t.Fatalf("over %q", over)
		}
		w.router.noUDP.Store(false)
		time.Sleep(20 * time.Second) // the probe is due between 75 s and 3 minutes
		for began := time.Now(); c.Status().Transport != tunnel.TransportQUIC && time.Since(began) < 2*time.Minute; {
			post(time.Second)
		}
		post(5 * time.Second)
		w.delivered(time.Second, s, callbacks(1, n, ""))
		if status := c.Status(); status.Transport != tunnel.TransportQUIC || status.Why != "" {
			t.Errorf("status %+v\n%.3000s", status, &w.log)
		}
		if links := len(s.welcomed()); links != 2 {
			t.Errorf("%d links", links)
		}
		if w.log.count("who=sidecar", "over WebSocket, not QUIC", "UDP is probably blocked") != 1 || w.log.count("who=sidecar", "over QUIC again") != 1 {
			t.Errorf("not said\n%s", &w.log)
		}
		w.soon(time.Second, "the last ack", func() bool { return w.history.look("duka").state.Acked == uint64(n) })
		t.Logf("%d entries, each once and in order; the longest that one took: %v", n, latest)
		// A path takes 20 ms. What falls into the move waits for the Hello and the Welcome, and no more.
		if slices.Max([]time.Duration{latest["quic"], latest["websocket"]}) > 150*time.Millisecond {
			t.Errorf("an entry waited %v", latest)
		}
		c.stop()
		e.stop()
	})
}

func TestNothingIsLostHoweverOftenTheLinkMoves(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		n := 0
		for round := range 12 {
			w.router.noUDP.Store(round%2 == 0)
			for range 200 {
				n++
				w.history.add("duka", 1, "")
				time.Sleep(4 * time.Second)
			}
		}
		w.delivered(time.Second, s, callbacks(1, n, ""))
		if moved := w.log.count("who=sidecar", "the link moves there"); moved < 3 {
			t.Errorf("moved back %d times", moved)
		}
		c.stop()
		e.stop()
	})
}

func TestQUICIsProbedMoreAndMoreSeldom(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e := w.edge()
		c := w.sidecar("duka", newSink())
		probes := func(d time.Duration) int {
			before := w.log.count("who=sidecar", "QUIC does not work yet")
			time.Sleep(d)
			return w.log.count("who=sidecar", "QUIC does not work yet") - before
		}
		if n := probes(time.Minute); n < 1 || n > 2 {
			t.Errorf("%d probes in the first minute", n)
		}
		time.Sleep(30 * time.Minute)
		if n := probes(2 * time.Hour); n < 10 || n > 20 {
			t.Errorf("%d probes in two hours", n)
		}
		c.stop()
		e.stop()
	})
}

func TestAHalfDeadWebSocketIsNoticedAtBothEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(3*time.Second, "a link", func() bool { return c.Status().Connected })
		time.Sleep(time.Minute)
		w.dropping(everything)
		var here, there time.Duration
		began := time.Now()
		w.soon(6*time.Second, "both have noticed", func() bool {
			if !c.Status().Connected && here == 0 {
				here = time.Since(began)
			}
			if len(e.Links()) == 0 && there == 0 {
				there = time.Since(began)
			}
			return here > 0 && there > 0
		})
		t.Logf("the sidecar noticed after %v, the edge after %v", here, there)
		if max(here, there) > 5*time.Second {
			t.Errorf("the sidecar noticed after %v, the edge after %v", here, there)
		}
		w.dropping(nil)
		w.history.add("duka", 1, "")
		w.delivered(time.Second, s, callbacks(1, 1, ""))
		c.stop()
		e.stop()
	})
}

func TestTheReasonOfACloseArrivesOverAWebSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e := w.edge()
		c := w.sidecar("guess", newSink())
		w.soon(5*time.Second, "a refusal", func() bool { return strings.Contains(c.Status().LastError, "this sidecar was revoked") })
		w.soon(time.Second, "the edge says so too", func() bool { return w.log.count("who=edge", "sidecar not let in", "this sidecar was revoked") == 1 })
		c.stop()
		e.stop()
	})
}

func TestTheReasonOfACloseArrivesAlthoughMoreWasOnItsWay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e := w.edge()
		older, newer := w.peer(), w.peer()
		older.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](older)
		newer.say(hello(1, wire.Cursor{}))
		for range 40 { // until long after the edge's word has arrived
			older.say(&wire.Ping{Nonce: 1})
			time.Sleep(2 * time.Millisecond)
		}
		if code := older.ended(time.Second); code != wire.CloseDisplaced {
			t.Errorf("closed with %q", code)
		}
		older.close()
		newer.close()
		e.stop()
	})
}

func TestWhereNothingIsWrongTheLinkIsQUIC(t *testing.T) {
	inWorld(t, func(w *world) {
		w.latency = time.Millisecond // so little that whichever is tried first after healing is there first
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(3*time.Second, "a link", func() bool { return c.Status().Connected })
		over := make(map[string]int)
		for i := range 50 {
			w.dropping(everything)
			time.Sleep(6*time.Second + time.Duration(i)*17*time.Millisecond)
			w.dropping(nil)
			w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
			over[c.Status().Transport]++
		}
		t.Log(fmt.Sprint("after 50 cuts of everything the link was ", over))
		if over[tunnel.TransportQUIC] < 45 {
			t.Errorf("after 50 cuts of everything the link was %v", over)
		}
		c.stop()
		e.stop()
	})
}
