package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// TestNothingIsLostInAFiveMinuteCut carries callbacks from the POST at the edge to a subscriber of the sidecar: before,
// during and after a cut of the network between the two. Everything is real but the wires and the clock.
func TestNothingIsLostInAFiveMinuteCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wires := &cuttable{}
		network := &simnet.Simnet{Router: wires}
		link := simnet.NodeBiDiLinkSettings{Latency: 20 * time.Millisecond}
		edgeAddress := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}
		edgeConn := network.NewEndpoint(edgeAddress, link)
		// A bounded set of ports of the sidecar's machine, made before the network starts.
		ports := make(chan net.PacketConn, 4096)
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

		callbacks := newPipeListener("edge:80")
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
		app := newPipeListener("127.0.0.1:8787")
		s, err := sidecar.Open(ctx, sidecar.Config{
			Dir: filepath.Join(dir, "sidecar"), Listener: app, Admin: newPipeListener("sidecar:admin"), Dev: true,
			ListenPacket: func() (net.PacketConn, error) { return <-ports, nil },
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if wires.cut.Load() {
					return nil, errors.New("the wires are cut")
				}
				return callbacks.dial(ctx)
			},
			Resolve: func(context.Context, string) (net.Addr, error) { return edgeAddress, nil },
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

		poster := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "edge") {
				return callbacks.dial(ctx)
			}
			return app.dial(ctx)
		}}}
		defer poster.CloseIdleConnections()
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
		ids := func(i int) map[string]any {
			return map[string]any{"merchantRequestId": fmt.Sprintf("m-%d", i), "checkoutRequestId": fmt.Sprintf("ws_CO_%d", i)}
		}
		const payments = 90
		for i := range payments {
			post("http://127.0.0.1:8787/payments", fmt.Sprintf(`{"MerchantRequestID":"m-%d","CheckoutRequestID":"ws_CO_%d","ResponseCode":"0","session":"s%d","amount":100}`, i, i, i), 201)
		}

		var mu sync.Mutex
		var paid []string
		watching := make(chan struct{})
		parts.Go(func() {
			defer close(watching)
			for m, err := range client.New("http://127.0.0.1:8787", client.WithHTTPClient(poster)).Events(ctx, "") {
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				if m.Type == push.PaymentCompleted {
					mu.Lock()
					paid = append(paid, m.Data.MerchantRequestID)
					mu.Unlock()
				}
			}
		})
		time.Sleep(5 * time.Second) // of the bubble: the link is up, the subscriber is there

		callback := func(i int) {
			t.Helper()
			post(endpoint.Callback, stkCallback(ids(i), 0, "The service request is processed successfully.", fmt.Sprintf(today+"AB%05d", i), 100), 200)
		}
		for i := range 30 {
			callback(i)
		}
		time.Sleep(2 * time.Second)
		wires.cut.Store(true)
		for i := 30; i < 60; i++ {
			callback(i)
			time.Sleep(10 * time.Second)
		}
		quiet := func(path string) time.Time {
			t.Helper()
			response, err := poster.Get("http://127.0.0.1:8787" + path)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var is struct {
				NoWordSince time.Time
				Link        struct{ NoWordSince time.Time }
			}
			if err := json.NewDecoder(response.Body).Decode(&is); err != nil || response.StatusCode != 200 {
				t.Fatalf("GET %s answered %d, %v", path, response.StatusCode, err)
			}
			if is.Link.NoWordSince.IsZero() {
				return is.NoWordSince
			}
			return is.Link.NoWordSince
		}
		paths := []string{"/status", "/till/status", "/sessions/s0", "/sessions/s40", "/sessions/none"}
		for _, path := range paths {
			if since := time.Since(quiet(path)); since < 4*time.Minute+50*time.Second || since > 5*time.Minute+time.Second {
				t.Errorf("five minutes into the cut %s says that there is no word from the edge for %v", path, since)
			}
		}
		mu.Lock()
		if len(paid) != 30 {
			t.Errorf("during the cut the subscriber has %d payments, want the 30 of before", len(paid))
		}
		mu.Unlock()
		wires.cut.Store(false)
		healed := time.Now()
		for {
			mu.Lock()
			n := len(paid)
			mu.Unlock()
			if n >= 60 || time.Since(healed) > time.Minute {
				t.Logf("%d payments after the network healed for %v (of the bubble's time)", n, time.Since(healed))
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for i := 60; i < payments; i++ {
			callback(i)
		}
		time.Sleep(5 * time.Second)

		mu.Lock()
		defer mu.Unlock()
		if len(paid) != payments {
			t.Errorf("the subscriber has %d payments, want %d, each once", len(paid), payments)
		}
		// In the order in which they were posted; but 58 and 59 came in the last 30 s of the cut, so their customers may
		// still have stood at the till, and they went ahead of those who had left.
		for _, path := range paths {
			if since := quiet(path); !since.IsZero() {
				t.Errorf("with a link %s says that there is no word from the edge since %v", path, since)
			}
		}
		order := slices.Concat(span(0, 30), span(58, 60), span(30, 58), span(60, payments))
		for i, id := range paid {
			if want := fmt.Sprintf("m-%d", order[i]); id != want {
				t.Fatalf("payment %d at the subscriber is %s, want %s", i, id, want)
			}
		}
	})
}

func span(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

// cuttable is a network whose wires can be cut: packets vanish, and nobody is told.
type cuttable struct {
	simnet.PerfectRouter
	cut atomic.Bool
}

func (c *cuttable) SendPacket(p simnet.Packet) error {
	if c.cut.Load() {
		return nil
	}
	return c.PerfectRouter.SendPacket(p)
}

// pipeListener is a listener inside the bubble.
type pipeListener struct {
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipeListener(address string) *pipeListener {
	return &pipeListener{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr {
	if at, err := netip.ParseAddrPort(l.address); err == nil {
		return net.TCPAddrFromAddrPort(at)
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
