package tunnel_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What one end says arrives, what the other says does not: a firewall that has forgotten half of a flow.
func TestAHalfDeadLinkIsReplacedAndNothingIsLostOrRepeated(t *testing.T) {
	for name, lost := range map[string]func(p simnet.Packet) net.Addr{
		"the sidecar does not hear the edge": func(p simnet.Packet) net.Addr { return p.To },
		"the edge does not hear the sidecar": func(p simnet.Packet) net.Addr { return p.From },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				e, s := w.edge(), newSink()
				c := w.sidecar("duka", s, func(c *tunnel.Client) { c.Instance = [16]byte{1} })
				w.history.add("duka", 5, "")
				w.delivered(5*time.Second, s, callbacks(1, 5, ""))
				old := e.Links()[0]
				w.dropping(func(p simnet.Packet) bool { return lost(p).String() == old.Remote })
				w.history.add("duka", 5, "")
				w.delivered(10*time.Second, s, callbacks(1, 10, ""))
				w.soon(10*time.Second, "another link, and the Ack of all", func() bool {
					links := e.Links()
					return len(links) == 1 && links[0].Remote != old.Remote && w.history.look("duka").state.Acked == 10
				})
				newer := e.Links()[0]
				time.Sleep(5 * time.Minute)
				if links := e.Links(); len(links) != 1 || links[0].Generation != newer.Generation || newer.Generation != old.Generation+1 {
					t.Errorf("the links were %+v and %+v, and are %+v", old, newer, links)
				}
				if got := s.got(); len(got) != 10 {
					t.Errorf("the sink has %q", got)
				}
				if n := w.log.count("two machines"); n != 0 || !c.Status().Rival.IsZero() {
					t.Errorf("taken for two machines\n%s", &w.log)
				}
				c.stop()
				e.stop()
			})
		})
	}
}

// A sidecar's last Acks lie in the network while the sidecar, started anew, has the next link.
func TestWhatComesLateFromADisplacedSidecarIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		again := func(c *tunnel.Client) { c.Instance = [16]byte{1} }
		frozen, last := newSink(), newSink()
		a := w.sidecar("duka", frozen, again)
		w.soon(5*time.Second, "a link", func() bool { return len(e.Links()) == 1 })
		old := e.Links()[0]

		var mu sync.Mutex
		var held []simnet.Packet
		w.dropping(func(p simnet.Packet) bool {
			if p.From.String() != old.Remote {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			p.Data = append([]byte(nil), p.Data...)
			held = append(held, p)
			return true
		})
		w.history.add("duka", 5, "")
		w.delivered(time.Second, frozen, callbacks(1, 5, "")) // and the Ack of them is held

		free := make(chan struct{})
		last.before = func([]wire.Entry) error { <-free; return nil }
		b := w.sidecar("duka", last, again)
		w.soon(time.Second, "the newer link", func() bool { links := e.Links(); return len(links) == 1 && links[0].Generation == 2 })
		w.dropping(nil)
		mu.Lock()
		if len(held) == 0 {
			t.Error("nothing was held")
		}
		for _, p := range held {
			w.router.SendPacket(p)
		}
		mu.Unlock()
		time.Sleep(time.Second)
		if acked := w.history.look("duka").state.Acked; acked != 0 {
			t.Errorf("%d acknowledged by a link that was displaced", acked)
		}
		close(free)
		w.delivered(time.Second, last, callbacks(1, 5, ""))
		w.soon(time.Second, "the newer link's Ack", func() bool { return w.history.look("duka").state.Acked == 5 })
		a.stop()
		b.stop()
		e.stop()
	})
}
