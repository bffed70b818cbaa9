package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestANewerLinkOfTheSameSidecarDisplacesTheOlderAtOnce(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		older, newer := w.peer(), w.peer()
		older.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](older)
		newer.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](newer)
		if code := older.ended(100 * time.Millisecond); code != wire.CloseDisplaced {
			t.Errorf("closed with %q", code)
		}
		w.soon(time.Second, "the edge says by whom it was displaced", func() bool {
			return w.log.count("who=edge", "link ended", "generation=1", "displaced by a newer link from") == 1
		})
		links := e.Links()
		if len(links) != 1 || links[0].Generation != 2 || links[0].Endpoint != "duka" || links[0].Instance != [16]byte{1} {
			t.Errorf("links: %+v", links)
		}
		w.history.add("duka", 1, "")
		hear[*wire.Entry](newer)
		older.close()
		newer.close()
		e.stop()
	})
}

func TestLinksOfDifferentEndpointsLeaveEachOtherAlone(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		a, b := w.peer(), w.peerOf("kiosk")
		a.say(hello(1, wire.Cursor{}))
		b.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](a)
		hear[*wire.Welcome](b)
		w.history.add("duka", 1, " at duka")
		w.history.add("kiosk", 1, " at kiosk")
		if got := string(hear[*wire.Entry](a).Body); got != "callback 1 at duka" {
			t.Errorf("duka got %q", got)
		}
		if got := string(hear[*wire.Entry](b).Body); got != "callback 1 at kiosk" {
			t.Errorf("kiosk got %q", got)
		}
		a.close()
		b.close()
		e.stop()
	})
}

// The old link's connection does not die when the edge closes it: what it still says has to be refused all the same.
func TestALateAckOfADisplacedLinkIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.add("duka", 5, "")
		s := &tunnel.Server{History: h, Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
			return tunnel.Endpoint{Name: "duka"}, nil
		}}
		begin := func() (*tunnel.HalfDead, net.Conn, *wire.Reader) {
			server, sidecar := tunnel.NewHalfDead()
			go s.ServeConn(t.Context(), server)
			go sidecar.Write(wire.Append(nil, hello(1, wire.Cursor{})))
			frames := wire.NewReader(sidecar)
			for range 6 { // Welcome and five entries
				if _, err := frames.Read(); err != nil {
					t.Fatal(err)
				}
			}
			return server, sidecar, frames
		}
		older, olderSide, _ := begin()
		if _, err := olderSide.Write(wire.Append(nil, &wire.Ack{Seq: 2})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if acked := h.look("duka").state.Acked; acked != 2 {
			t.Fatalf("%d acknowledged before it was displaced", acked)
		}
		newer, newerSide, _ := begin()
		if code := <-older.Closed; code != wire.CloseDisplaced {
			t.Errorf("the older link was closed with %q", code)
		}
		go olderSide.Write(wire.Append(nil, &wire.Ack{Seq: 5}))
		synctest.Wait()
		if acked := h.look("duka").state.Acked; acked != 2 {
			t.Errorf("%d acknowledged by a link that was displaced", acked)
		}
		newerSide.Write(wire.Append(nil, &wire.Ack{Seq: 4}))
		synctest.Wait()
		if acked := h.look("duka").state.Acked; acked != 4 {
			t.Errorf("%d acknowledged by the newer link, want 4", acked)
		}
		older.Bury()
		newer.Bury()
		olderSide.Close()
		newerSide.Close()
		synctest.Wait()
	})
}

// stuck is a history whose Renew waits.
type stuck struct {
	*history
	free chan struct{}
}

func (s stuck) Renew(ctx context.Context, endpoint string, beyond wire.Epoch) (wire.State, error) {
	<-s.free
	return s.history.Renew(ctx, endpoint, beyond)
}

func TestAHistoryIsNotRenewedUnderALinkThatHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := stuck{newHistory(), make(chan struct{})}
		h.add("duka", 5, "")
		s := &tunnel.Server{History: h, Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
			return tunnel.Endpoint{Name: "duka"}, nil
		}}
		begin := func(cursor wire.Cursor) (*tunnel.HalfDead, net.Conn) {
			server, sidecar := tunnel.NewHalfDead()
			go s.ServeConn(t.Context(), server)
			sidecar.Write(wire.Append(nil, hello(1, cursor)))
			return server, sidecar
		}
		older, olderSide := begin(wire.Cursor{Epoch: firstEpoch, Seq: 9})
		synctest.Wait() // it renews, which takes a while
		newer, newerSide := begin(wire.Cursor{})
		synctest.Wait()
		close(h.free)
		go io.Copy(io.Discard, olderSide)
		frames := wire.NewReader(newerSide)
		for range 6 { // Welcome and five entries
			if _, err := frames.Read(); err != nil {
				t.Fatal(err)
			}
		}
		newerSide.Write(wire.Append(nil, &wire.Ack{Seq: 5}))
		synctest.Wait()
		if got := h.look("duka"); got.state.Acked != 5 || got.renewed != 1 {
			t.Errorf("%d acknowledged by the newer link, want 5: the history is in epoch %d, renewed %d times, and the acks are %v",
				got.state.Acked, got.state.Epoch, got.renewed, got.acks)
		}
		older.Bury()
		newer.Bury()
		olderSide.Close()
		newerSide.Close()
		synctest.Wait()
	})
}

func TestTwoMachinesWithOneIdentityAreNamedAndNotLeftToFight(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		machine := func(instance byte) *sidecar {
			return w.sidecar("duka", newSink(), func(c *tunnel.Client) {
				c.Instance = [16]byte{instance}
				c.Logger = c.Logger.With("instance", instance)
			})
		}
		a := machine(1)
		w.soon(5*time.Second, "a's link", func() bool { return a.Status().Connected })
		b := machine(2)
		w.soon(5*time.Second, "b's link", func() bool { return b.Status().Connected && !a.Status().Connected })
		if w.log.count("who=sidecar", "instance=1", "two machines use one identity: this one waits") != 1 {
			t.Errorf("a was not told\n%s", &w.log)
		}
		if w.log.count("who=edge", `msg="two machines use one identity"`) != 0 {
			t.Errorf("the edge cannot know yet that a still lives\n%s", &w.log)
		}
		time.Sleep(tunnel.RivalWait - 5*time.Second)
		if !b.Status().Connected || a.Status().Connected {
			t.Error("a did not wait")
		}
		w.soon(10*time.Second, "a is back", func() bool { return a.Status().Connected && !b.Status().Connected })
		if w.log.count("who=edge", `msg="two machines use one identity"`) != 1 || w.log.count("who=sidecar", "instance=2", "two machines use one identity: this one waits") != 1 {
			t.Errorf("not named at both ends\n%s", &w.log)
		}
		if links := e.Links(); len(links) != 1 || links[0].Rival.IsZero() || a.Status().Rival.IsZero() || b.Status().Rival.IsZero() {
			t.Errorf("not to be seen at all ends: %+v, %v, %v", links, a.Status().Rival, b.Status().Rival)
		}
		time.Sleep(10 * time.Minute)
		if n := w.log.count("who=edge", "link up"); n > 13 {
			t.Errorf("%d links in 11 minutes: they fight", n)
		}
		a.stop()
		b.stop()
		e.stop()
	})
}

func TestASidecarThatIsStartedAnewIsNoSecondMachine(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		for range 5 {
			c := w.sidecar("duka", newSink(), func(c *tunnel.Client) { c.Instance = [16]byte{1} })
			w.soon(2*time.Second, "a link", func() bool { return c.Status().Connected })
			// It dies without a word; its successor comes before the edge has noticed.
			w.dropping(everything)
			c.stop()
			w.dropping(nil)
		}
		if n := w.log.count("two machines"); n != 0 {
			t.Errorf("an alarm for nothing\n%s", &w.log)
		}
		e.stop()
	})
}

func TestACertificateOfAnotherCAIsRefused(t *testing.T) {
	overBoth(t, func(w *world) {
		e, s := w.edge(), newSink()
		w.history.add("duka", 1, "")
		stranger := newAuthority(t)
		var tries atomic.Int32
		c := w.sidecar("duka", s, func(c *tunnel.Client) {
			c.TLS = stranger.client("duka")
			resolve, dial := c.Resolve, c.Dial
			if !w.router.noUDP.Load() {
				c.Resolve = func(ctx context.Context, hostport string) (net.Addr, error) {
					tries.Add(1)
					return resolve(ctx, hostport)
				}
			}
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				tries.Add(1)
				return dial(ctx, network, address)
			}
		})
		time.Sleep(10 * time.Second)
		if status := c.Status(); status.Connected || status.LastError == "" {
			t.Errorf("status %+v", status)
		}
		if w.log.count("who=sidecar", "certificate signed by unknown authority") == 0 {
			t.Errorf("no reason given\n%s", &w.log)
		}
		if n := w.log.count("who=edge", "link up"); n != 0 || len(s.got()) != 0 {
			t.Errorf("%d links", n)
		}
		if last := c.Status().LastError; !strings.Contains(last, "join again") {
			t.Errorf("nobody is told what to do: %s", last)
		}
		// Nothing comes of asking every half second, until somebody goes there.
		if n := tries.Load(); n < 2 || n > 10 {
			t.Errorf("asked %d times in 10 seconds", n)
		}
		time.Sleep(5 * time.Minute)
		tries.Store(0)
		time.Sleep(10 * time.Minute)
		if n := tries.Load(); n < 5 || n > 25 { // over QUIC, and over a WebSocket
			t.Errorf("asked %d times in 10 minutes", n)
		}
		c.stop()
		e.stop()
	})
}

// As above, but it trusts the edge, which so is the one to refuse.
func TestTheEdgeRefusesASidecarsCertificateOfAnotherCAWhichThenAsksOnlyNowAndThen(t *testing.T) {
	overBoth(t, func(w *world) {
		var refusals atomic.Int64
		w.refused = func(_, endpoint string, _ error) {
			if refusals.Add(1); endpoint != "" {
				t.Errorf("a stranger is taken for %s", endpoint)
			}
		}
		e, s := w.edge(), newSink()
		c := w.sidecar("duka", s, func(c *tunnel.Client) {
			c.TLS = w.ca.client("duka")
			c.TLS.Certificates = newAuthority(t).client("duka").Certificates
		})
		time.Sleep(time.Minute)
		if n := refusals.Load(); n < 5 || n > 40 {
			t.Errorf("refused %d times in a minute\n%s", n, &w.log)
		}
		if status := c.Status(); status.Connected || status.LastError == "" {
			t.Errorf("status %+v", status)
		}
		c.stop()
		e.stop()
	})
}

func TestARevokedSidecarIsRefusedAndAsksAgainOnlyNowAndThen(t *testing.T) {
	overBoth(t, func(w *world) {
		var refusals atomic.Int32
		w.refused = func(_, _ string, why error) {
			if strings.Contains(why.Error(), "this sidecar was revoked") {
				refusals.Add(1)
			}
		}
		e, s := w.edge(), newSink()
		c := w.sidecar("guess", s)
		time.Sleep(time.Minute)
		if n := refusals.Load(); n < 5 || n > 20 {
			t.Errorf("asked %d times in a minute", n)
		}
		if n := w.log.count("who=edge", "sidecar not let in", "this sidecar was revoked"); n != 1 {
			t.Errorf("the edge's log has %d lines of it", n)
		}
		// Of two tries the one that was refused may have been followed by one that came to nothing.
		w.soon(time.Minute, "the status to say why", func() bool {
			status := c.Status()
			return !status.Connected && strings.Contains(status.LastError, "this sidecar was revoked")
		})
		c.stop()
		e.stop()
	})
}

func TestAClientThatCouldNeverConnectSaysSo(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]*tunnel.Client{
		"no edge":        {TLS: ca.client("duka"), Sink: newSink()},
		"no sink":        {Edge: "edge.example:443", TLS: ca.client("duka")},
		"no CA":          {Edge: "edge.example:443", Sink: newSink()},
		"no certificate": {Edge: "edge.example:443", TLS: &tls.Config{RootCAs: x509.NewCertPool()}, Sink: newSink()},
	} {
		if err := c.Run(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A probe may have found QUIC in the very moment in which another machine takes the link over WebSocket. The way there
// is no way round the wait.
func TestAProbeThatHasWonDoesNotFightTheRivalThatTookTheLink(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.noUDP.Store(true)
		e, s := w.edge(), newSink()
		busy := make(chan struct{})
		s.before = func([]wire.Entry) error { <-busy; return nil }
		c := w.sidecar("duka", s, func(c *tunnel.Client) { c.Instance = [16]byte{1} })
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		w.history.add("duka", 1, "")
		w.router.noUDP.Store(false)
		w.soon(10*time.Minute, "a probe that wins", func() bool { return w.log.count("who=sidecar", "QUIC works: the link moves there") == 1 })
		rival := w.peer()
		rival.say(hello(2, wire.Cursor{}))
		hear[*wire.Welcome](rival)
		time.Sleep(time.Second)
		close(busy)
		time.Sleep(tunnel.RivalWait - 10*time.Second)
		if links := e.Links(); len(links) != 1 || links[0].Instance != [16]byte{2} {
			t.Errorf("it did not wait: %+v", links)
		}
		if c.Status().Rival.IsZero() || w.log.count("who=sidecar", "two machines use one identity: this one waits") != 1 {
			t.Errorf("it was not told\n%s", &w.log)
		}
		w.soon(20*time.Second, "it is back", func() bool { return c.Status().Connected })
		rival.close()
		c.stop()
		e.stop()
	})
}
