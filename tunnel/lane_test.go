package tunnel_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel/wire"
)

// narrow makes the way from the edge to all sidecars one link of so many bits a second, with a queue before it that
// holds half a second of packets and loses those that come when it is full.
func (w *world) narrow(rate int) {
	const queue = 500 * time.Millisecond
	var mu sync.Mutex
	var free time.Time // when the link has sent all that it took
	fromEdge := func(p simnet.Packet) bool { return p.From.String() == edgeAddr.String() }
	w.dropping(func(p simnet.Packet) bool {
		if !fromEdge(p) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > queue {
			return true
		}
		const headers = 28 // IP and UDP
		free = free.Add(time.Duration(len(p.Data)+headers) * 8 * time.Second / time.Duration(rate))
		return false
	})
	w.delay = func(p simnet.Packet) time.Duration {
		if !fromEdge(p) {
			return w.latency
		}
		mu.Lock()
		defer mu.Unlock()
		return w.latency + time.Until(free)
	}
}

// A callback of Daraja's takes about 1,000 bytes with its headers.
var usual = string(make([]byte, 950))

// TestALiveCallbackOvertakesFiftyThousand is also the measurement: the time is that of the bubble, the same on every
// machine. Without the lane a callback waits until all before it have come: seven minutes.
func TestALiveCallbackOvertakesFiftyThousand(t *testing.T) {
	inWorld(t, func(w *world) {
		const waiting, rate, every, times = 50_000, 1_000_000, 730 * time.Millisecond, 30
		w.narrow(rate)
		w.history.add("duka", waiting, usual)
		e, s := w.edge(), newSink()
		var mu sync.Mutex
		posted, took, old := map[uint64]time.Time{}, []time.Duration(nil), 0
		s.hook(func(entries []wire.Entry) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				if at, ok := posted[e.Seq]; ok {
					took = append(took, time.Since(at))
				} else {
					old++
				}
			}
			return nil
		})
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		began := time.Now()
		for i := range uint64(times) {
			time.Sleep(every)
			mu.Lock()
			posted[waiting+1+i] = time.Now()
			mu.Unlock()
			w.history.add("duka", 1, usual)
		}
		w.soon(10*time.Second, "the live ones", func() bool { mu.Lock(); defer mu.Unlock(); return len(took) == times })
		slices.Sort(took)
		carried := float64(old*1000*8) / time.Since(began).Seconds() / rate
		t.Logf("a live callback while %d of %d wait, at %d bit/s: p50 %v, p90 %v, worst %v; the backlog uses %.0f %% of the link, and takes %v",
			waiting-old, waiting, rate, took[times/2].Round(time.Millisecond), took[times*9/10].Round(time.Millisecond), took[times-1].Round(time.Millisecond),
			100*carried, (time.Since(began) * waiting / time.Duration(old)).Round(time.Second))
		if worst := took[times-1]; worst > 2*time.Second { // one that has to be sent again
			t.Errorf("a live callback took %v", worst)
		}
		if carried < 0.8 {
			t.Errorf("the backlog uses only %.0f %% of the link", 100*carried)
		}
		c.stop()
		e.stop()
	})
}
