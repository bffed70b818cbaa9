package tunnel_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
)

var cuts = flag.Int("cuts", 4, "cuts of each kind in TestFirstDeliveryAfterHealing, of the long ones a twelfth; for its figures take 500")

// TestFirstDeliveryAfterHealing measures how long after the end of a cut an entry arrives that was appended during it:
//
//	go test -count=1 -v -run FirstDeliveryAfterHealing ./tunnel -cuts 500
func TestFirstDeliveryAfterHealing(t *testing.T) {
	for _, path := range []struct {
		name string
		trip time.Duration
		loss float64
	}{
		{"40 ms", 40 * time.Millisecond, 0},
		{"80 ms, 5 % lost", 80 * time.Millisecond, 0.05},
		{"2 s", 2 * time.Second, 0},
	} {
		for _, cut := range []struct {
			name     string
			from, to time.Duration
			often    int // of the flag's: the long ones take long
		}{
			{"up to 5 s", 500 * time.Millisecond, 5 * time.Second, 1},
			{"5 to 60 s", 5 * time.Second, time.Minute, 2},
			{"1 to 10 min", time.Minute, 10 * time.Minute, 12},
			{"longer", tunnel.SlowAfter + 10*time.Second, tunnel.SlowAfter + time.Minute, 12},
		} {
			t.Run(path.name+"/"+cut.name, func(t *testing.T) {
				if *cuts < cut.often {
					t.Skipf("takes long: -cuts %d has one", cut.often)
				}
				inWorld(t, func(w *world) {
					w.latency = path.trip / 2
					weather := &weather{loss: path.loss, rand: rand.New(rand.NewPCG(1, 2))}
					w.dropping(weather.drop)
					e, s := w.edge(), newSink()
					c := w.sidecar("duka", s)
					w.soon(time.Minute, "a link", func() bool { return c.Status().Connected })
					within := time.Minute // on a bad day
					if path.loss == 0 && path.trip < tunnel.PingAgain && cut.to <= tunnel.SlowAfter {
						within = 1500 * time.Millisecond // a Ping again, or a try, and a handshake
					}
					var took []time.Duration
					for i := range *cuts / cut.often {
						time.Sleep(20*time.Second + time.Duration(rand.Int64N(int64(10*time.Second))))
						long := cut.from + time.Duration(rand.Int64N(int64(cut.to-cut.from)))
						weather.cut.Store(true)
						appended := time.Duration(rand.Int64N(int64(long)))
						time.Sleep(appended)
						w.history.add("duka", 1, "")
						time.Sleep(long - appended)
						weather.cut.Store(false)
						took = append(took, w.delivered(within, s, callbacks(1, i+1, "")))
					}
					slices.Sort(took)
					t.Logf("%d cuts: first delivery p50 %v, p99 %v, most %v", len(took), at(took, 50), at(took, 99), at(took, 100))
					c.stop()
					e.stop()
				})
			})
		}
	}
}

func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(10 * time.Millisecond)
}

// weather loses packets.
type weather struct {
	cut  atomic.Bool
	loss float64
	mu   sync.Mutex
	rand *rand.Rand
}

func (w *weather) drop(simnet.Packet) bool {
	if w.cut.Load() {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64() < w.loss
}
