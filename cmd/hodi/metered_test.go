package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/tunnel/wire"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// TestAMeteredSidecarIsLivelyWhileAPaymentIsPending counts what crosses the network between a whole edge and a whole
// sidecar, for which a minute and a half of a pending payment is like any other link's, and the rest of the day is not.
func TestAMeteredSidecarIsLivelyWhileAPaymentIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wires := new(counter)
		network := &simnet.Simnet{Router: wires}
		link := simnet.NodeBiDiLinkSettings{Latency: 20 * time.Millisecond}
		edgeAddress := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}
		edgeConn := network.NewEndpoint(edgeAddress, link)
		ports := make(chan net.PacketConn, 64)
		for i := range cap(ports) {
			ports <- network.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 10_000 + i}, link)
		}
		if err := network.Start(); err != nil {
			t.Fatal(err)
		}
		defer network.Close()
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		defer parts.Wait()
		defer cancel()
		callbacks, app := newPipeListener("edge:80"), newPipeListener("127.0.0.1:8787")
		e, err := edge.Open(ctx, edge.Config{Dir: filepath.Join(dir, "edge"), HTTP: callbacks, UDP: edgeConn, PublicURL: "http://edge", Admin: newPipeListener("edge:admin")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); parts.Wait(); e.Close() }()
		endpoint, err := sidecar.Adopt(filepath.Join(dir, "sidecar"), edgeAddress.String(), e.CA(), func(request []byte) (*wire.Issued, error) {
			return e.Admit(ctx, "asha", "shop", request)
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := sidecar.Open(ctx, sidecar.Config{
			Dir: filepath.Join(dir, "sidecar"), Listener: app, Admin: newPipeListener("sidecar:admin"), Dev: true, Metered: true,
			ListenPacket: func() (net.PacketConn, error) { return <-ports, nil },
			Resolve:      func(context.Context, string) (net.Addr, error) { return edgeAddress, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); parts.Wait(); s.Close() }()
		for _, run := range []func(context.Context) error{e.Run, s.Run} {
			parts.Go(func() {
				if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		poster := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "edge") {
				return callbacks.dial(ctx)
			}
			return app.dial(ctx)
		}}}
		post := func(url, body string, want int) {
			t.Helper()
			response, err := poster.Post(url, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Fatalf("POST %s answered %d", url, response.StatusCode)
			}
		}
		// in counts the packets of so much time.
		in := func(d time.Duration) int64 {
			before := wires.n.Load()
			time.Sleep(d)
			return wires.n.Load() - before
		}
		register := func(i int) {
			post("http://127.0.0.1:8787/payments", fmt.Sprintf(`{"MerchantRequestID":"m-%d","CheckoutRequestID":"ws_CO_%d","ResponseCode":"0","session":"s%d","amount":100}`, i, i, i), 201)
		}
		time.Sleep(5 * time.Minute)
		if n := in(time.Minute); n > 12 {
			t.Errorf("%d packets in a minute in which nothing is expected", n)
		}
		register(1)
		if n := in(time.Minute); n < 80 {
			t.Errorf("%d packets in the minute after a payment began", n)
		}
		register(2)
		post(endpoint.Callback, stkCallback(map[string]any{"merchantRequestId": "m-1", "checkoutRequestId": "ws_CO_1"}, 0, "ok", today+"AB00001", 100), 200)
		if n := in(time.Minute); n < 80 {
			t.Errorf("%d packets in a minute, with one of two payments pending", n)
		}
		post(endpoint.Callback, stkCallback(map[string]any{"merchantRequestId": "m-2", "checkoutRequestId": "ws_CO_2"}, 1032, "cancelled", "", 100), 200)
		time.Sleep(5 * time.Second)
		if n := in(time.Minute); n > 12 {
			t.Errorf("%d packets in a minute after the last payment ended", n)
		}
		register(3)
		time.Sleep(2 * time.Minute) // it became UNKNOWN
		if n := in(time.Minute); n > 12 {
			t.Errorf("%d packets in a minute after a payment was given up", n)
		}
	})
}

// counter is a network that counts packets.
type counter struct {
	simnet.PerfectRouter
	n atomic.Int64
}

func (c *counter) SendPacket(p simnet.Packet) error {
	c.n.Add(1)
	return c.PerfectRouter.SendPacket(p)
}
