package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/client"
)

// Each shop has three subscribers to all its events, beside the sidecar as a till is:
//
//	client   package client, as an app uses it; when deliveries came is taken from it
//	raw      a WebSocket and nothing else: it keeps the cursor itself, and hangs up now and then
//	slow     the same with the smallest of buffers, which reads a little and then looks away for up to a quarter of a minute
type readers struct{ ledger *ledger }

// run reads everything of one shop, from now until ctx is done. When calm ends the slow one reads on, too.
func (r *readers) run(ctx, calm context.Context, wg *sync.WaitGroup, s *shop, seed uint64) error {
	var status struct{ Head string }
	if err := s.get(ctx, "/status", &status); err != nil {
		return err
	}
	epoch, seq, err := parseCursor(status.Head)
	if err != nil {
		return err
	}
	for _, name := range []string{"client", "raw", "slow"} {
		r.ledger.subscribe(s.number, name, epoch, seq)
	}
	wg.Go(func() { r.client(ctx, s, status.Head) })
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 2))
		r.raw(ctx, s, "raw", status.Head, s.host.dial, func(context.Context) error { return hangUp(rng) })
	})
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 3))
		after := r.raw(calm, s, "slow", status.Head, s.host.dialSlow, func(ctx context.Context) error { return lookAway(ctx, rng) })
		r.raw(ctx, s, "slow", after, s.host.dial, func(context.Context) error { return nil })
	})
	return nil
}

// client reads with package client.
func (r *readers) client(ctx context.Context, s *shop, after string) {
	transport := &http.Transport{DialContext: s.host.dial, DisableKeepAlives: true}
	c := client.New(s.base, client.WithKey(s.key), client.WithHTTPClient(&http.Client{Transport: transport}))
	for m, err := range c.Events(ctx, after) {
		if err != nil {
			r.ledger.find(lost, "%s, client: it was refused for good: %v", s.name, err)
			return
		}
		if m.Callback != "" {
			s.pulse.beat(time.Now())
		}
		r.ledger.tell(s.number, "client", event{
			epoch: m.ID.Epoch, seq: m.ID.Seq, kind: m.Type, status: string(m.Data.Status), result: string(m.Data.ResultCode),
			callback: m.Callback, payment: m.Data.PaymentID, gap: m.Gap,
		})
	}
}

// hangUp ends a connection after some thousands of messages.
func hangUp(rng *rand.Rand) error {
	if rng.IntN(3000) == 0 {
		return errors.New("chaos: enough for now")
	}
	return nil
}

// lookAway reads on after a while: too late, now and then, for a sidecar that gives a write ten seconds.
func lookAway(ctx context.Context, rng *rand.Rand) error {
	if rng.IntN(200) > 0 {
		return nil
	}
	return rest(ctx, time.Duration(rng.Int64N(int64(15*time.Second))))
}

// dialSlow connects with so small a buffer that the other end soon feels that nobody reads.
func (h host) dialSlow(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := h.dial(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4 << 10)
	}
	return conn, err
}

// raw reads from a WebSocket, does what is its habit after each message, and goes on with its cursor when the connection
// breaks. It returns the cursor behind the last message.
func (r *readers) raw(ctx context.Context, s *shop, name, after string, dial func(context.Context, string, string) (net.Conn, error), then func(context.Context) error) string {
	hc := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	for ctx.Err() == nil {
		after = r.connection(ctx, s, hc, name, after, then)
		_ = rest(ctx, 100*time.Millisecond)
	}
	return after
}

// connection reads until it breaks.
func (r *readers) connection(ctx context.Context, s *shop, hc *http.Client, name, after string, then func(context.Context) error) string {
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(dialing, s.base+"/events?after="+after, &websocket.DialOptions{
		HTTPClient: hc, HTTPHeader: http.Header{"Authorization": {"Bearer " + s.key}},
	})
	if err != nil {
		return after
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for {
		// A living sidecar pings every 15 s, but a read does not show it; it has an event far more often than this.
		reading, cancel := context.WithTimeout(ctx, 45*time.Second)
		_, b, err := conn.Read(reading)
		cancel()
		if err != nil {
			return after
		}
		e, id, err := parseMessage(b)
		if err != nil {
			r.ledger.find(altered, "%s, %s: %v", s.name, name, err)
			return after
		}
		r.ledger.tell(s.number, name, e)
		after = id
		if then(ctx) != nil {
			return after
		}
	}
}

// parseMessage reads what the ledger wants to know of a message.
func parseMessage(b []byte) (e event, id string, err error) {
	var m struct {
		ID, Type, Callback string
		Gap                bool
		Data               struct {
			Status, PaymentID string
			ResultCode        json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return e, "", fmt.Errorf("a message is no JSON: %w", err)
	}
	e = event{kind: m.Type, status: m.Data.Status, result: bare(m.Data.ResultCode), callback: m.Callback, payment: m.Data.PaymentID, gap: m.Gap}
	e.epoch, e.seq, err = parseCursor(m.ID)
	return e, m.ID, err
}

// bare is a result code without quotes: it is a number where it is all digits, else a string.
func bare(raw json.RawMessage) string {
	if len(raw) > 1 && raw[0] == '"' {
		return string(raw[1 : len(raw)-1])
	}
	return string(raw)
}
