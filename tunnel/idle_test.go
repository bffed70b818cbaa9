package tunnel_test

import (
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

// TestBytesOfAnIdleDay counts what a link costs on which nothing is said, from its handshake on, with all headers of IP
// and of what is above it. On a WebSocket that is also what is looked for in vain over QUIC, and an empty segment of TCP
// for each that carries something.
//
//	go test -count=1 -v -run BytesOfAnIdleDay ./tunnel
func TestBytesOfAnIdleDay(t *testing.T) {
	for name, most := range map[string]int{"normal": 20_000_000, "metered": 3_000_000} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				w.latency = 40 * time.Millisecond
				count := w.counting()
				e := w.edge()
				c := w.sidecar("duka", newSink(), func(c *tunnel.Client) { c.Metered = name == "metered" })
				days := 1
				if name == "normal" {
					days = 24 // of an hour
				}
				time.Sleep(24 * time.Hour / time.Duration(days))
				packets, bytes, _ := count.counted()
				t.Logf("%d packets, %.2f MB a day", days*packets, float64(days*bytes)/1e6)
				if !c.Status().Connected || days*bytes > most {
					t.Errorf("%d bytes, over %d; status %+v", days*bytes, most, c.Status())
				}
				c.stop()
				e.stop()
			})
		})
	}
}
