package tunnel_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

var (
	home  = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	phone = netip.AddrFrom4([4]byte{192, 0, 2, 2})
)

func TestALinkComesAlongToAnotherNetwork(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 10, "")
		c := w.sidecar("duka", s)
		w.delivered(5*time.Second, s, callbacks(1, 10, ""))
		for i := range 6 {
			w.move([]netip.Addr{phone, home}[i%2])
			w.history.add("duka", 10, "")
			took := w.delivered(time.Second, s, callbacks(1, 20+10*i, ""))
			t.Logf("delivered %v after the change", took)
			time.Sleep(10 * time.Second)
		}
		if links := e.Links(); len(s.welcomed()) != 1 || len(links) != 1 || links[0].Remote[:10] != "192.0.2.1:" {
			t.Errorf("%d links, now %+v\n%s", len(s.welcomed()), links, &w.log)
		}
		c.stop()
		e.stop()
	})
}

func TestWhereALinkCannotComeAlongAnotherIsDialledAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for i := range 20 { // more often than a connection may move
			time.Sleep(3 * time.Second)
			w.move([]netip.Addr{phone, home}[i%2])
			w.history.add("duka", 1, "")
			w.delivered(time.Second, s, callbacks(1, i+1, ""))
		}
		if n := len(s.welcomed()); n < 2 || n > 4 {
			t.Errorf("%d links\n%s", n, &w.log)
		}
		c.stop()
		e.stop()
	})
}

func TestANetworkThatAppearsIsUsedAtOnceHoweverLongItWasAway(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for i := range 20 {
			w.move(netip.Addr{})
			time.Sleep(tunnel.SlowAfter + time.Minute + time.Duration(i)*77*time.Millisecond)
			if c.Status().Connected {
				t.Fatal("connected without a network")
			}
			w.history.add("duka", 1, "")
			w.move(home)
			w.delivered(time.Second, s, callbacks(1, i+1, ""))
		}
		c.stop()
		e.stop()
	})
}

func TestANetworkThatBlinksCostsNoLink(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for i := range 20 {
			time.Sleep(3 * time.Second)
			w.move(netip.Addr{})
			w.history.add("duka", 1, "")
			time.Sleep(1100*time.Millisecond + time.Duration(i)*65*time.Millisecond) // a Ping unanswered for 2.5 s ends a link
			w.move(home)
			w.delivered(time.Second, s, callbacks(1, i+1, ""))
		}
		if n := len(s.welcomed()); n != 1 {
			t.Errorf("%d links\n%s", n, &w.log)
		}
		c.stop()
		e.stop()
	})
}

func TestALinkThatOutlivesACutWorksSoonAfterIt(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for i := range 60 {
			time.Sleep(10*time.Second + time.Duration(i)*333*time.Millisecond)
			w.dropping(everything)
			w.history.add("duka", 1, "")
			time.Sleep(1500*time.Millisecond + time.Duration(i%20)*100*time.Millisecond)
			w.dropping(nil)
			w.delivered(time.Second, s, callbacks(1, i+1, ""))
		}
		c.stop()
		e.stop()
	})
}

func TestAMachineThatSleptDialsAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		// The clock of a laptop that slept: the bubble's, which stands still meanwhile, and what was slept.
		var slept atomic.Int64
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, func(c *tunnel.Client) {
			tunnel.SetWall(c, func() time.Time { return time.Now().Add(time.Duration(slept.Load())) })
		})
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		for i, d := range []time.Duration{time.Hour, 6 * time.Second, 30 * 24 * time.Hour} {
			time.Sleep(time.Minute)
			slept.Add(int64(d))
			took := w.soon(time.Second, "another link", func() bool { return len(s.welcomed()) == i+2 })
			t.Logf("another link %v after waking", took)
		}
		// A clock that is set back, or by little, or that runs fast, is not a sleep.
		for range 100 {
			slept.Add(int64(-10 * time.Minute))
			time.Sleep(time.Second)
			slept.Add(int64(300 * time.Millisecond))
			time.Sleep(time.Second)
		}
		if n := len(s.welcomed()); n != 4 {
			t.Errorf("%d links\n%s", n, &w.log)
		}
		c.stop()
		e.stop()
	})
}
