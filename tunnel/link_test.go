package tunnel_test

import (
	"testing"
	"time"
)

func TestEntriesArriveInOrder(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 2000, "")
		c := w.sidecar("duka", s)
		w.delivered(5*time.Second, s, callbacks(1, 2000, ""))
		w.history.add("duka", 1, "")
		w.delivered(100*time.Millisecond, s, callbacks(1, 2001, ""))
		w.soon(time.Second, "the history knows of the last ack", func() bool { return w.history.look("duka").state.Acked == 2001 })
		c.stop()
		e.stop()
	})
}

func TestACutOfFiveMinutesHealsAndDeliversExactlyWhatWasMissed(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s)
		w.history.add("duka", 10, "")
		w.delivered(5*time.Second, s, callbacks(1, 10, ""))

		w.dropping(everything)
		w.history.add("duka", 10, "")
		dead := w.soon(5*time.Second, "the sidecar notices that the link is dead", func() bool { return !c.Status().Connected })
		time.Sleep(5*time.Minute - dead)
		if n := len(s.got()); n != 10 {
			t.Fatalf("%d delivered through a cut network", n)
		}

		w.dropping(nil)
		took := w.delivered(5*time.Second, s, callbacks(1, 20, ""))
		t.Logf("dead noticed after %v, delivered %v after healing", dead, took)
		c.stop()
		e.stop()
	})
}
