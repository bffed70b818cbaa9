package tunnel_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
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

func TestAStrangerFillsNoMoreThanHalfOfTheDoorFromOneAddress(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		stand := tunnel.StandFrom(e.Server, &net.UDPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 7}, 2*tunnel.MaxPending)
		more := tunnel.StandFrom(e.Server, &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 8}, 100)
		if stand != tunnel.MaxPending/2 || more != 0 {
			w.t.Errorf("%d and %d stand at the door, want %d", stand, more, tunnel.MaxPending/2)
		}
		s := w.sidecar("duka", newSink())
		w.soon(10*time.Second, "a sidecar from elsewhere", func() bool { return s.Status().Connected })
	})
}

// On the port for WebSockets there is nothing but the tunnel; whoever asks for anything else does not stay, and not by a body
// that never ends either.
func TestWhoAsksTheTunnelForSomethingElseDoesNotStay(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
			"POST /tunnel HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
		} {
			tcp, err := w.dialTCP(context.Background(), (*net.TCPAddr)(edgeAddr))
			if err != nil {
				w.t.Fatal(err)
			}
			conf := w.ca.client("duka")
			conf.ServerName, conf.NextProtos = wire.ServerName, []string{wire.ALPNJoin}
			over := tls.Client(tcp, conf)
			if _, err := io.WriteString(over, request); err != nil {
				w.t.Fatal(err)
			}
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				for range 30 {
					time.Sleep(time.Second)
					if _, err := over.Write([]byte("x")); err != nil {
						return
					}
				}
			}()
			time.Sleep(10 * time.Second)
			if n := tunnel.AtTheDoor(e.Server); n != 0 {
				w.t.Errorf("after %q it stays at the door", request)
			}
			tcp.Close()
			<-gone
		}
	})
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	overBoth(t, func(w *world) {
		w.edge()
		knock := func(n int) {
			for range n {
				p := w.peer()
				p.bytes([]byte{byte(wire.TypeAck), 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1})
				p.stream.SetReadDeadline(time.Now().Add(10 * time.Second))
				io.Copy(io.Discard, p.stream)
				p.close()
			}
		}
		knock(50)
		if n := w.log.count("who=edge", "sidecar not let in"); n == 0 || n > 10 {
			w.t.Errorf("%d lines for 50 strangers\n%s", n, &w.log)
		}
		time.Sleep(20 * time.Second)
		knock(1)
		w.soon(10*time.Second, "a line that counts those who were not told of", func() bool {
			return w.log.count("who=edge", "sidecar not let in", "untold=") == 1
		})
	})
}
