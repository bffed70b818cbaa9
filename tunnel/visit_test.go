package tunnel_test

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// guest is a Client that visits, and never has a link.
func (w *world) guest(endpoint string, more ...func(*tunnel.Client)) *tunnel.Client {
	c := w.sidecar(endpoint, newSink(), more...)
	c.stop()
	return c.Client
}

var transports = []string{tunnel.TransportQUIC, tunnel.TransportWebSocket}

func TestAVisitSeesWhatALinkWouldAndTakesNoLink(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		sink := newSink()
		s := w.sidecar("duka", sink)
		w.soon(5*time.Second, "the link", func() bool { return s.Status().Connected })
		before := e.Links()
		slow := w.guest("duka", func(c *tunnel.Client) {
			tunnel.SetWall(c, func() time.Time { return time.Now().Add(-3 * time.Hour) })
		})
		synctest.Wait()
		for _, transport := range transports {
			v, err := slow.Visit(w.t.Context(), transport, nil)
			if err != nil {
				w.t.Fatalf("over %s: %v", transport, err)
			}
			if v.Skew < 3*time.Hour-time.Second || v.Skew > 3*time.Hour+time.Second || v.Callback != "https://edge.example/c/duka" || v.Took <= 0 || !v.Ends.After(time.Now()) {
				w.t.Errorf("over %s the visit says %+v", transport, v)
			}
		}
		synctest.Wait()
		if after := e.Links(); len(after) != 1 || after[0].Generation != before[0].Generation || !after[0].Since.Equal(before[0].Since) {
			w.t.Errorf("the link was %+v, and after visits it is %+v", before, after)
		}
		w.soon(2*time.Second, "the visits to be gone from the door", func() bool { return tunnel.AtTheDoor(e.Server) == 0 })
		w.history.add("duka", 1, "")
		w.delivered(5*time.Second, sink, callbacks(1, 1, ""))
	})
}

func TestAVisitSaysWhatIsInTheWay(t *testing.T) {
	type obstacles = map[string]tunnel.Obstacle
	both := func(o tunnel.Obstacle) obstacles {
		return obstacles{tunnel.TransportQUIC: o, tunnel.TransportWebSocket: o}
	}
	for name, test := range map[string]struct {
		endpoint string // duka, if not given
		before   func(w *world, c *tunnel.Client)
		want     obstacles
	}{
		"nothing":                     {"", nil, both(tunnel.ObstacleNone)},
		"UDP is dropped":              {"", func(w *world, _ *tunnel.Client) { w.router.noUDP.Store(true) }, obstacles{tunnel.TransportQUIC: tunnel.ObstacleSilent, tunnel.TransportWebSocket: tunnel.ObstacleNone}},
		"another edge answers":        {"", func(_ *world, c *tunnel.Client) { c.TLS.RootCAs = x509.NewCertPool() }, both(tunnel.ObstacleForeign)},
		"the sidecar was revoked":     {"guess", nil, both(tunnel.ObstacleUnauthorized)},
		"its certificate has expired": {"late", nil, both(tunnel.ObstacleExpired)},
		"no certificate of this edge's": {"", func(w *world, c *tunnel.Client) {
			c.TLS.Certificates = newAuthority(w.t).client("duka").Certificates
		}, both(tunnel.ObstacleUnauthorized)},
		"the clock is of another century": {"", func(_ *world, c *tunnel.Client) {
			c.TLS.Time = func() time.Time { return time.Now().Add(150 * 365 * 24 * time.Hour) }
		}, both(tunnel.ObstacleClock)},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.edge()
				c := w.guest(cmp.Or(test.endpoint, "duka"))
				synctest.Wait()
				if test.before != nil {
					test.before(w, c)
				}
				for transport, want := range test.want {
					_, err := c.Visit(w.t.Context(), transport, nil)
					if got := tunnel.ObstacleOf(err); got != want {
						w.t.Errorf("over %s the obstacle is %q, want %q: %v", transport, got, want, err)
					}
				}
			})
		})
	}
}

func TestAVisitByThePinAloneShakesHandsAndSaysNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		var told lines
		w.refused = func(_, _ string, why error) { fmt.Fprintln(&told, why) }
		e := w.edge()
		c := w.guest("duka")
		synctest.Wait()
		pin, other := wire.PinOf(w.ca.ca), wire.Pin{1}
		for _, transport := range transports {
			if _, err := c.Visit(w.t.Context(), transport, &pin); err != nil {
				w.t.Errorf("over %s: %v", transport, err)
			}
			if _, err := c.Visit(w.t.Context(), transport, &other); tunnel.ObstacleOf(err) != tunnel.ObstacleForeign {
				w.t.Errorf("over %s, with another pin: %v", transport, err)
			}
		}
		w.soon(2*time.Second, "the visits to be gone from the door", func() bool { return tunnel.AtTheDoor(e.Server) == 0 })
		if told.String() != "" || w.log.count("who=edge", "level=INFO", "not let in")+w.log.count("who=edge", "level=WARN") > 0 {
			w.t.Errorf("the edge complains of visits: %s\n%s", &told, &w.log)
		}
	})
}

func TestAVisitOfADeadNetworkEndsInTime(t *testing.T) {
	overBoth(t, func(w *world) {
		w.edge()
		c := w.guest("duka")
		w.dropping(func(simnet.Packet) bool { return true })
		began := time.Now()
		if _, err := c.Visit(w.t.Context(), tunnel.TransportQUIC, nil); tunnel.ObstacleOf(err) != tunnel.ObstacleSilent {
			w.t.Errorf("a dead network: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			w.t.Errorf("that took %v", took)
		}
	})
}
