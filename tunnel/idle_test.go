package tunnel_test

import (
	"flag"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

var hours = flag.Int("hours", 3, "hours that TestBytesOfAnIdleDay counts; for its figures take 24")

// TestBytesOfAnIdleDay counts what a link costs on which nothing is said, from its handshake on, with all headers of IP
// and of what is above it. On a WebSocket that is also what is looked for in vain over QUIC, and an empty segment of TCP
// for each that carries something. Canaries are part of it, as often as a sidecar of that kind asks for them.
//
//	go test -count=1 -v -run BytesOfAnIdleDay ./tunnel -hours 24
func TestBytesOfAnIdleDay(t *testing.T) {
	for name, most := range map[string]int{"normal": 20_000_000, "metered": tunnel.MeteredBudget} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				w.latency = 40 * time.Millisecond
				count := w.counting()
				e := w.edge()
				c := w.sidecar("duka", newSink(), func(c *tunnel.Client) {
					if c.Metered, c.Canary = name == "metered", tunnel.CanaryEvery; c.Metered {
						c.Canary = tunnel.CanaryMetered
					}
				})
				time.Sleep(time.Duration(*hours) * time.Hour)
				packets, bytes, _ := count.counted()
				packets, bytes = packets*24 / *hours, bytes*24 / *hours
				canaries := w.history.look("duka").canaries * 24 / *hours
				t.Logf("%d packets, %.2f MB a day, with %d canaries", packets, float64(bytes)/1e6, canaries)
				if canaries < 500 {
					t.Errorf("%d canaries a day", canaries)
				}
				if !c.Status().Connected || bytes > most {
					t.Errorf("%d bytes, over %d; status %+v", bytes, most, c.Status())
				}
				c.stop()
				e.stop()
			})
		})
	}
}
