package edge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// dialFrom connects from an address of one's choice.
func (p *pipes) dialFrom(address string) net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- addressed{theirs, address}
	return ours
}

type addressed struct {
	net.Conn
	remote string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.remote))
}

// What the edge allows to thousands is shown with fewer.
const maxCrowd, maxFrom = 300, 40

// stranger is an address that is nobody else's: of so many networks, with so many in each.
func stranger(i int) string { return fmt.Sprintf("10.%d.%d.%d:1000", i>>16, i>>8&0xff, i&0xff) }

// post posts a callback on a connection that was not used yet, and says whether it was accepted.
func (w *world) postOn(c net.Conn, withTLS bool) bool {
	w.Helper()
	if withTLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, w.callbackRequest("1"))
	b, _ := io.ReadAll(c)
	c.Close()
	return strings.Contains(string(b), "Accepted")
}

// Each says something that has no end. What it may have cost when all have said it is counted in connections and goroutines.
func TestNoStrangerCostsMoreThanABoundedNumberOfConnections(t *testing.T) {
	conf, _ := public(t)
	hello := clientHello(t)
	const many = maxCrowd + 100
	for name, c := range map[string]struct {
		config edge.Config
		say    string
	}{
		"who says nothing at all":        {edge.Config{}, ""},
		"who does not finish his TLS":    {edge.Config{TLS: conf}, string(hello[:len(hello)/2])},
		"who does not answer ours":       {edge.Config{TLS: conf}, string(hello)},
		"whose header does not end":      {edge.Config{}, "POST /c/none HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1000)},
		"whose body does not end":        {edge.Config{}, "POST /c/none HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"},
		"who keeps his connection alive": {edge.Config{}, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inTimeWith(t, c.config, func(w *world, http *pipes) {
				w.Narrow(maxCrowd, maxFrom)
				held := func() (friends, strangers, goroutines int) {
					synctest.Wait()
					friends, strangers = w.Crowd()
					return friends, strangers, runtime.NumGoroutine()
				}
				_, _, before := held()
				var guests []net.Conn
				come := func(from string) {
					g := http.dialFrom(from)
					guests = append(guests, g)
					go io.WriteString(g, c.say)
					go io.Copy(io.Discard, g)
				}
				for i := range many { // from everywhere
					come(stranger(i))
				}
				_, strangers, after := held()
				if strangers > maxCrowd {
					w.Errorf("%d strangers are held, more than %d", strangers, maxCrowd)
				}
				// Of a guest there are a goroutine of the edge's or two (net/http reads ahead), and here one that speaks and one that listens.
				if each := float64(after-before) / maxCrowd; each > 4 {
					w.Errorf("%d guests hold %.1f goroutines each", many, each)
				}
				for range maxFrom + 100 { // from one place
					come("192.0.2.7:1000")
				}
				for i := range maxFrom + 100 { // in IPv6 everybody has many
					come(fmt.Sprintf("[2001:db8::%x]:1000", i+1))
				}
				held()
				for _, place := range []string{"192.0.2.7", "2001:db8::"} {
					if n := w.CrowdFrom(place); n > maxFrom {
						w.Errorf("%d strangers of %s are held, more than %d", n, place, maxFrom)
					}
				}
				// Safaricom finds its way, and after it those who have no name yet.
				if !w.postOn(http.dialFrom("196.201.214.200:40412"), c.config.TLS != nil) {
					w.Error("Safaricom is kept out")
				}
				time.Sleep(3 * time.Second)
				if !w.postOn(http.dialFrom("203.0.113.9:40412"), c.config.TLS != nil) {
					w.Error("one who comes when the others had their time is kept out")
				}
				for _, g := range guests {
					g.Close()
				}
				time.Sleep(2 * time.Minute)
				if friends, strangers, goroutines := held(); friends+strangers != 0 || goroutines > before+50 { // the runtime has some of its own, now and then
					w.Errorf("when all have gone %d are counted, and %d goroutines are left over", friends+strangers, goroutines-before)
				}
			})
		})
	}
}

func TestAnAddressThatPostedToAKnownKeyIsNotHeldToAShare(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		w.Narrow(maxCrowd, maxFrom)
		const gateway = "203.0.113.9:40412"
		if !w.postOn(http.dialFrom(gateway), false) {
			t.Fatal("the first callback is not accepted")
		}
		var silent []net.Conn
		for range 2 * maxFrom {
			silent = append(silent, http.dialFrom(gateway))
		}
		synctest.Wait()
		if friends, strangers := w.Crowd(); friends != 2*maxFrom || strangers != 0 {
			w.Errorf("%d friends and %d strangers, want %d friends", friends, strangers, 2*maxFrom)
		}
		for _, c := range silent {
			if !w.postOn(c, false) {
				w.Fatal("one of them is not accepted")
			}
		}
	})
}

// Who has posted is not of the crowd any more, however slow what he posts.
func TestACallbackThatIsUnderWayIsNotPushedOut(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		w.Narrow(maxCrowd, maxFrom)
		slow := http.dialFrom("203.0.113.9:1")
		fmt.Fprintf(slow, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{", path(w.callback))
		synctest.Wait()
		time.Sleep(3 * time.Second)
		for i := range 2 * maxCrowd {
			defer http.dialFrom(stranger(i)).Close()
		}
		synctest.Wait()
		io.WriteString(slow, "}")
		if b, _ := io.ReadAll(slow); !strings.Contains(string(b), "Accepted") {
			t.Errorf("it is answered %q", b)
		}
	})
}

func TestAFloodIsToldInAFewLines(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		w.Narrow(maxCrowd, maxFrom)
		for range 100 {
			for range maxFrom {
				http.dialFrom("192.0.2.7:1000").Close()
			}
			var stay []net.Conn
			for range 2 * maxFrom {
				stay = append(stay, http.dialFrom("192.0.2.7:1000"))
			}
			synctest.Wait()
			for _, c := range stay {
				c.Close()
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if n := strings.Count(w.log.String(), "connections turned away"); n < 1 || n > 4 {
			t.Errorf("ten seconds of a flood are told in %d lines", n)
		}
		lines, err := w.Audit(w.Context())
		n := 0
		for _, l := range lines {
			if l.Act == "connection refused" {
				n++
			}
		}
		if err != nil || n != 1 {
			t.Errorf("the audit has %d lines of it, %v", n, err)
		}
	})
}

func TestAnAddressThatOnlyShakesHandsIsHeldBack(t *testing.T) {
	conf, _ := public(t)
	inTimeWith(t, edge.Config{TLS: conf}, func(w *world, http *pipes) {
		ask := func(from, name string) (answered bool, took time.Duration) {
			began := time.Now()
			c := tls.Client(http.dialFrom(from), &tls.Config{InsecureSkipVerify: true, ServerName: name})
			io.WriteString(c, "GET /c/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			b, _ := io.ReadAll(c)
			c.Close()
			return len(b) > 0, time.Since(began)
		}
		refused := 0
		for range 110 {
			if ok, took := ask("203.0.113.9:1", publicName); !ok {
				if refused++; took < time.Second {
					w.Fatalf("it is sent away after %v, and comes again at once", took)
				}
			}
		}
		if refused == 0 {
			w.Error("nobody is sent away")
		}
		if ok, took := ask("203.0.113.8:1", publicName); !ok || took > time.Second {
			w.Error("its neighbour is sent away, too")
		}
		began := time.Now()
		c := tls.Client(http.dialFrom("203.0.113.9:1"), &tls.Config{InsecureSkipVerify: true, ServerName: wire.ServerName, NextProtos: []string{wire.ALPNJoin}})
		if err := c.HandshakeContext(w.Context()); err != nil || time.Since(began) > time.Second {
			w.Errorf("who joins from the same address waits %v: %v", time.Since(began), err)
		}
		c.Close()
		time.Sleep(time.Minute)
		if !w.postOn(http.dialFrom("203.0.113.9:1"), true) {
			w.Error("a minute later it is still sent away")
		}
		for range 110 { // and from now on it is known for its callbacks
			if ok, _ := ask("203.0.113.9:1", publicName); !ok {
				w.Fatal("an address that has brought a callback is sent away")
			}
		}
	})
}

// joinFrom shakes hands as who comes to join does, and says how long that took.
func (p *pipes) joinFrom(w *world, address string) (took time.Duration, err error) {
	began := time.Now()
	c := tls.Client(p.dialFrom(address), &tls.Config{RootCAs: w.private(), ServerName: wire.ServerName, NextProtos: []string{wire.ALPNJoin}})
	defer c.Close()
	return time.Since(began), c.HandshakeContext(w.Context())
}

func TestAnAddressThatOnlyShakesHandsForTheTunnelIsHeldBack(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		for range 100 {
			if _, err := http.joinFrom(w, "203.0.113.9:1"); err != nil {
				w.Fatal(err)
			}
		}
		began := time.Now()
		if _, err := http.joinFrom(w, "203.0.113.9:1"); err == nil || time.Since(began) < time.Second {
			w.Errorf("one more is answered, or sent away at once and so comes again: %v, after %v", err, time.Since(began))
		}
		if _, err := http.joinFrom(w, "203.0.113.8:1"); err != nil {
			w.Errorf("its neighbour is sent away, too: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := http.joinFrom(w, "203.0.113.9:1"); err != nil {
			w.Errorf("a minute later it is still sent away: %v", err)
		}
	})
}

// overTCP is for a sidecar at an address in a bubble, which has no UDP there.
func overTCP(http *pipes, from string) func(*tunnel.Client) {
	return func(c *tunnel.Client) {
		c.Edge = "192.0.2.7:443"
		c.Listen = func() (net.PacketConn, error) { return nil, errors.New("there is no UDP here") }
		c.Route = func(netip.AddrPort) netip.Addr { return netip.MustParseAddr("10.0.0.7") }
		c.Resolve = func(context.Context, string) (net.Addr, error) {
			return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443}, nil
		}
		c.Dial = func(context.Context, string, string) (net.Conn, error) { return http.dialFrom(from), nil }
	}
}

// A mobile network has all its shops behind a few addresses, and none of them is known to an edge that was just started.
func TestTheShopsOfOneAddressAreNotHeldBackForEachOther(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		for range 150 { // a stranger behind the same address was first
			go http.joinFrom(w, "203.0.113.9:1")
		}
		synctest.Wait()
		const shops = 60
		var clients []*tunnel.Client
		for i := range shops {
			client, _, stop := w.link(w.sidecar(fmt.Sprint("duka-", i)), overTCP(http, "203.0.113.9:1"))
			clients = append(clients, client)
			defer stop()
		}
		began := time.Now()
		for i, client := range clients {
			for !client.Status().Connected {
				if time.Since(began) > time.Minute {
					w.Fatalf("shop %d has no link after a minute: %s", i, client.Status().LastError)
				}
				time.Sleep(time.Second)
			}
		}

		for range 150 { // and now they can come back all at once
			if took, err := http.joinFrom(w, "203.0.113.9:1"); err != nil || took > time.Second {
				w.Fatalf("from an address of sidecars: %v, after %v", err, took)
			}
		}
	})
}
