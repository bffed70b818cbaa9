package tunnel_test

import (
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

// TestBytesOfAnIdleDay counts what a link costs on which nothing is said, with the headers of UDP and IPv4:
//
//	go test -count=1 -v -run BytesOfAnIdleDay ./tunnel
func TestBytesOfAnIdleDay(t *testing.T) {
	for _, c := range []struct {
		name    string
		metered bool
		most    int
	}{
		{"normal", false, 15_000_000},
		{"metered", true, 3_000_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.latency = 40 * time.Millisecond
				e := w.edge()
				sc := w.sidecar("duka", newSink(), func(s *tunnel.Client) { s.Metered = c.metered })
				count := w.counting() // the handshake counts
				day := 24 * time.Hour
				if !c.metered {
					day /= 24
				}
				time.Sleep(day)
				packets, bytes, _ := count.counted()
				if !c.metered { // one hour is like the other
					packets, bytes = 24*packets, 24*bytes
				}
				t.Logf("%d packets, %.2f MB a day", packets, float64(bytes)/1e6)
				if bytes > c.most {
					t.Errorf("over %d bytes", c.most)
				}
				sc.stop()
				e.stop()
			})
		})
	}
}
