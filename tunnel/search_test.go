package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// sole is a Sink that notices when two links use it.
type sole struct {
	*sink
	t    *testing.T
	used atomic.Int32
}

func (s *sole) use() (done func()) {
	if s.used.Add(1) != 1 {
		s.t.Error("two links use the Sink")
	}
	return func() { s.used.Add(-1) }
}

func (s *sole) Cursor(ctx context.Context) (wire.Cursor, error) {
	defer s.use()()
	return s.sink.Cursor(ctx)
}

func (s *sole) Welcome(ctx context.Context, w wire.Welcome) error {
	defer s.use()()
	return s.sink.Welcome(ctx, w)
}

func (s *sole) Apply(ctx context.Context, c wire.Cursor, entries []wire.Entry) error {
	defer s.use()()
	return s.sink.Apply(ctx, c, entries)
}

// tries counts the tries of a Client.
type tries struct{ udp, web atomic.Int32 }

func (n *tries) of(c *tunnel.Client) {
	listen, dial := c.Listen, c.Dial
	c.Listen = func() (net.PacketConn, error) {
		n.udp.Add(1)
		return listen()
	}
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		n.web.Add(1)
		return dial(ctx, network, address)
	}
}

func (n *tries) forget() { n.udp.Store(0); n.web.Store(0) }

// phases are the moments, from when a link is up, at which the network may break: all those between two Pings.
func phases(each time.Duration) (list []time.Duration) {
	for at := 10 * time.Second; at < 12*time.Second+each; at += each {
		list = append(list, at)
	}
	return list
}

func TestALivingLinkWhoseUDPIsSwallowedIsOverWebSocketWithinThreeSeconds(t *testing.T) {
	for _, trip := range []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond} {
		t.Run(trip.String(), func(t *testing.T) {
			var longest atomic.Int64
			t.Cleanup(func() { t.Logf("at most %v", time.Duration(longest.Load())) })
			for _, phase := range phases(60 * time.Millisecond) {
				t.Run(phase.String(), func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.latency = trip / 2
						e, s := w.edge(), &sole{sink: newSink(), t: t}
						c := w.sidecar("duka", s)
						w.history.add("duka", 5, "")
						w.delivered(time.Second, s.sink, callbacks(1, 5, ""))
						time.Sleep(phase)
						if over := c.Status().Transport; over != tunnel.TransportQUIC {
							t.Fatalf("over %s", over)
						}
						w.router.noUDP.Store(true)
						w.history.add("duka", 5, "")
						took := w.soon(3*time.Second, "delivery", func() bool {
							if !c.Status().Connected {
								t.Fatalf("no link\n%s", &w.log)
							}
							return len(s.got()) >= 10
						})
						for old := longest.Load(); old < int64(took) && !longest.CompareAndSwap(old, int64(took)); old = longest.Load() {
						}
						status := c.Status()
						if status.Transport != tunnel.TransportWebSocket || !strings.Contains(status.Why, "was not answered") {
							t.Errorf("status %+v", status)
						}
						w.history.add("duka", 5, "")
						time.Sleep(time.Minute)
						w.delivered(0, s.sink, callbacks(1, 15, ""))
						if n := len(s.welcomed()); n != 2 {
							t.Errorf("%d links\n%s", n, &w.log)
						}
						if links := e.Links(); len(links) != 1 {
							t.Errorf("the edge has %d links", len(links))
						}
						c.stop()
						e.stop()
					})
				})
			}
		})
	}
}

func TestALinkThatIsSilentForAMomentStaysAndIsDoubtedOnce(t *testing.T) {
	for name, cut := range map[string]func(w *world, late *atomic.Int64) (heal func()){
		"lost": func(w *world, _ *atomic.Int64) func() {
			w.dropping(everything)
			return func() { w.dropping(nil) }
		},
		"late": func(_ *world, late *atomic.Int64) func() {
			late.Store(int64(1500 * time.Millisecond))
			return func() { late.Store(0) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var doubts atomic.Int32
			t.Cleanup(func() {
				if doubts.Load() == 0 {
					t.Error("no other way was ever looked for")
				}
			})
			for _, phase := range phases(60 * time.Millisecond) {
				t.Run(phase.String(), func(t *testing.T) {
					inWorld(t, func(w *world) {
						var late atomic.Int64
						w.delay = func(simnet.Packet) time.Duration { return w.latency + time.Duration(late.Load())/2 }
						e, s, n := w.edge(), newSink(), new(tries)
						c := w.sidecar("duka", s, func(c *tunnel.Client) {
							dial := c.Dial
							c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
								if err := wait(ctx, time.Duration(late.Load())); err != nil {
									return nil, err
								}
								return dial(ctx, network, address)
							}
						}, n.of)
						w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
						time.Sleep(phase)
						n.forget()
						for range 2 { // the second time it is not doubted
							heal := cut(w, &late)
							w.history.add("duka", 1, "")
							time.Sleep(1500 * time.Millisecond)
							heal()
							time.Sleep(4 * time.Second)
						}
						w.delivered(0, s, callbacks(1, 2, ""))
						if links := len(s.welcomed()); links != 1 || c.Status().Transport != tunnel.TransportQUIC {
							t.Errorf("%d links\n%s", links, &w.log)
						}
						udp, web := n.udp.Load(), n.web.Load()
						if udp > 1 || web > 1 {
							t.Errorf("%d tries over QUIC, %d over WebSocket", udp, web)
						}
						doubts.Add(udp)
						if links := e.Links(); len(links) != 1 {
							t.Errorf("the edge has %d links", len(links))
						}
						c.stop()
						e.stop()
					})
				})
			}
		})
	}
}

func TestAnEdgeThatIsSlowIsNotLeftForWebSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		var slow, later atomic.Bool
		w.delay = func(simnet.Packet) time.Duration {
			if later.Load() {
				return w.latency + 40*time.Millisecond
			}
			return w.latency
		}
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			frames.Read()
			say(&wire.Welcome{Epoch: 9, Oldest: 1})
			for {
				f, err := frames.Read()
				if err != nil {
					return
				}
				if ping, ok := f.(*wire.Ping); ok {
					if slow.Swap(false) {
						time.Sleep(1500 * time.Millisecond)
					}
					say(&wire.Pong{Nonce: ping.Nonce})
				}
			}
		})
		var web atomic.Int32
		l := w.listenTCP((*net.TCPAddr)(edgeAddr))
		server := &tunnel.Server{
			History: w.history, TLS: w.ca.server(),
			Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
				web.Add(1)
				return tunnel.Endpoint{Name: "duka"}, nil
			},
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- server.ServeWebSocket(ctx, tls.NewListener(l, server.WebSocketTLS())) }()
		s, n := newSink(), new(tries)
		c := w.sidecar("duka", s, n.of)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		time.Sleep(10 * time.Second)
		n.forget()
		slow.Store(true)
		later.Store(true) // its handshakes too, so that one over WebSocket has begun
		time.Sleep(30 * time.Second)
		if len(s.welcomed()) != 1 || web.Load() > 0 || n.udp.Load() != 1 || n.web.Load() != 1 {
			t.Errorf("%d links, %d tries over QUIC, %d over WebSocket\n%s", len(s.welcomed()), n.udp.Load(), n.web.Load(), &w.log)
		}
		c.stop()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stop()
	})
}

func TestABatchInHandIsFinishedBeforeASilentLinkMoves(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s := w.edge(), &sole{sink: newSink(), t: t}
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		s.hook(func([]wire.Entry) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		time.Sleep(10 * time.Second)
		w.history.add("duka", 5, "")
		time.Sleep(w.latency * 3 / 2)
		w.router.noUDP.Store(true)
		synctest.Wait()
		w.history.add("duka", 5, "")
		w.delivered(6*time.Second, s.sink, callbacks(1, 10, ""))
		if n := len(s.welcomed()); n != 2 || c.Status().Transport != tunnel.TransportWebSocket {
			t.Errorf("%d links\n%s", n, &w.log)
		}
		c.stop()
		e.stop()
	})
}

func TestALossyPathIsNoReasonToMove(t *testing.T) {
	inWorld(t, func(w *world) {
		weather := &weather{loss: 0.05, rand: rand.New(rand.NewPCG(1, 2))}
		e, s, n := w.edge(), newSink(), new(tries)
		w.dropping(weather.drop)
		c := w.sidecar("duka", s, n.of)
		w.soon(time.Minute, "a link", func() bool { return c.Status().Connected })
		n.forget()
		time.Sleep(time.Hour)
		t.Logf("in an hour: %d tries over QUIC, %d over WebSocket", n.udp.Load(), n.web.Load())
		if links := len(s.welcomed()); links != 1 {
			t.Errorf("%d links\n%.3000s", links, &w.log)
		}
		c.stop()
		e.stop()
	})
}

// some reports whether the sidecar has spoken.
func (c *packets) some() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spoke) > 0
}

func TestAMeteredLinkIsDoubtedOnlyWhileACallbackIsExpected(t *testing.T) {
	inWorld(t, func(w *world) {
		e, s, n := w.edge(), newSink(), new(tries)
		c := w.sidecar("duka", s, metered, n.of)
		time.Sleep(10 * time.Minute)
		n.forget()
		count := w.counting()
		for range 10 {
			// Cut from behind a Ping on, until the one that follows when its Pong did not come has been late for a second.
			count.reset()
			w.soon(time.Minute, "a Ping", count.some)
			time.Sleep(time.Second)
			w.dropping(everything)
			count.reset()
			w.soon(time.Minute, "another", count.some)
			time.Sleep(time.Second)
			w.dropping(nil)
			time.Sleep(3 * time.Minute)
		}
		if udp, web := n.udp.Load(), n.web.Load(); udp+web > 0 || len(s.welcomed()) != 1 {
			t.Errorf("%d tries over QUIC, %d over WebSocket, %d links\n%s", udp, web, len(s.welcomed()), &w.log)
		}
		c.Expect(time.Now().Add(90 * time.Second))
		time.Sleep(10 * time.Second)
		w.router.noUDP.Store(true)
		w.history.add("duka", 1, "")
		w.delivered(3*time.Second, s, callbacks(1, 1, ""))
		if over := c.Status().Transport; over != tunnel.TransportWebSocket {
			t.Errorf("over %s", over)
		}
		c.stop()
		e.stop()
	})
}
