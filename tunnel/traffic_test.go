package tunnel_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

func TestASidecarCountsTheBytesThatItsLinkCosts(t *testing.T) {
	overBoth(t, func(w *world) {
		count := w.counting()
		began := time.Now()
		e := w.edge()
		c := w.sidecar("duka", newSink(), func(c *tunnel.Client) { c.Canary = tunnel.CanaryEvery })
		for range 50 {
			w.history.add("duka", 2, "")
			time.Sleep(20 * time.Second)
		}
		if c.Status().Transport == tunnel.TransportQUIC {
			w.move(netip.AddrFrom4([4]byte{198, 51, 100, 9}))
			time.Sleep(time.Minute)
		}
		_, crossed, _ := count.counted()
		status := c.Status()
		said := int(status.Traffic.In + status.Traffic.Out)
		near := 8000 // packets that are on their way, or went where nobody was any more
		if status.Transport == tunnel.TransportWebSocket {
			near = crossed / 10 // it knows what it wrote, and not how that was cut into segments
		}
		if said > crossed+near || said < crossed-near {
			t.Errorf("%d bytes crossed the network, and it says %+v", crossed, status.Traffic)
		}
		if tr := status.Traffic; tr.In < 20_000 || tr.Out < 20_000 || tr.TodayIn != tr.In || tr.TodayOut != tr.Out || tr.Since.Before(began) || tr.Since.After(began.Add(time.Minute)) {
			t.Errorf("began %v: %+v", began, tr)
		}
		c.stop()
		e.stop()
	})
}

func TestBytesAreCountedByTheDayOfNairobi(t *testing.T) {
	inWorld(t, func(w *world) {
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(21 * time.Hour) // the bubble begins with a day
		time.Sleep(time.Until(midnight.Add(-4 * time.Hour)))
		began := time.Now()
		e := w.edge()
		c := w.sidecar("duka", newSink(), metered)
		time.Sleep(time.Until(midnight.Add(-time.Minute)))
		before := c.Status().Traffic
		if before.TodayIn != before.In || before.In == 0 || before.Since.After(began.Add(time.Minute)) {
			t.Errorf("before midnight %+v", before)
		}
		time.Sleep(30 * time.Minute)
		after := c.Status().Traffic
		if !after.Since.Equal(midnight) || after.TodayIn <= 0 || after.TodayIn > before.In/3 || after.TodayOut <= 0 || after.TodayOut > before.Out/3 || after.In <= before.In {
			t.Errorf("at midnight %v: before %+v, after %+v", midnight, before, after)
		}
		c.stop()
		// A machine that slept for two days has counted nothing in them, and does not say so of the hours before it woke.
		time.Sleep(50 * time.Hour)
		if now := c.Status().Traffic; now.TodayIn != 0 || now.TodayOut != 0 || !now.Since.Equal(time.Now()) {
			t.Errorf("at %v: %+v", time.Now(), now)
		}
		e.stop()
	})
}
