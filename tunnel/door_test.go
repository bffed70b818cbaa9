package tunnel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel"
)

// Whoever shakes hands and says no Hello costs a place at the door, for five seconds; and there are only so many.
func TestThoseWhoSayNoHelloAreBoundedAndDoNotStay(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		leave := tunnel.StandAtTheDoor(e.Server, tunnel.MaxPending-3)
		for range 3 {
			w.peer()
		}
		synctest.Wait()
		if n := tunnel.AtTheDoor(e.Server); n != tunnel.MaxPending {
			w.t.Fatalf("%d stand at the door, want %d", n, tunnel.MaxPending)
		}
		began := time.Now()
		s := w.sidecar("duka", newSink())
		w.soon(20*time.Second, "a sidecar that comes when the silent ones have been sent away", func() bool {
			if n := tunnel.AtTheDoor(e.Server); n > tunnel.MaxPending {
				w.t.Fatalf("%d stand at the door, more than %d", n, tunnel.MaxPending)
			}
			return s.Status().Connected
		})
		if time.Since(began) < time.Second {
			w.t.Error("a sidecar was let in where there was no place")
		}
		leave()
		time.Sleep(10 * time.Second)
		if n := tunnel.AtTheDoor(e.Server); n != 0 {
			w.t.Errorf("%d are counted that are not there", n)
		}
	})
}
