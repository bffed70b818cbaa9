package sandbox_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

const phone = "254708374149"

// wire is a listener in memory, so that a whole sandbox and its clients run inside one bubble.
type wire struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (w *wire) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.conns <- there:
		return here, nil
	case <-w.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// callback is one that the shop received.
type callback struct {
	at     time.Time
	path   string
	header http.Header
	body   string
	parsed daraja.Callback
}

// bench is a sandbox and the shop that it calls back.
type bench struct {
	t        *testing.T
	box      *sandbox.Sandbox
	client   *http.Client
	token    string
	began    time.Time
	shop     http.HandlerFunc // called for every callback, if set
	received []callback
	mu       sync.Mutex
	stops    []func()
}

// inBubble runs a test against a running sandbox, in fake time.
func inBubble(t *testing.T, config sandbox.Config, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, began: time.Now()}
		defer b.stop()
		b.start(config)
		test(b)
	})
}

func (b *bench) start(config sandbox.Config) {
	b.t.Helper()
	api, shop := newWire(), newWire()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		parsed, err := daraja.ParseCallback(body)
		if err != nil {
			b.t.Errorf("a callback that our own parser refuses: %v: %s", err, body)
		}
		b.mu.Lock()
		b.received = append(b.received, callback{time.Now(), r.URL.Path, r.Header, string(body), parsed})
		b.mu.Unlock()
		if b.shop != nil {
			b.shop(w, r)
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(shop) }()

	transport := func() *http.Transport {
		return &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "shop.test") {
				return shop.dial(ctx)
			}
			if strings.HasPrefix(address, "sandbox.test") {
				return api.dial(ctx)
			}
			return nil, errors.New("connection refused")
		}}
	}
	outgoing, incoming := transport(), transport()
	b.client = &http.Client{Transport: incoming}
	config.Listener = api
	if config.HTTP == nil {
		config.HTTP = &http.Client{Transport: outgoing, Timeout: 10 * time.Second}
	}
	box, err := sandbox.Open(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.box = box
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- box.Run(ctx) }()
	b.stops = append(b.stops, func() {
		before := time.Now()
		cancel()
		if err := <-ran; err != nil {
			b.t.Errorf("Run: %v", err)
		}
		if took := time.Since(before); took > 500*time.Millisecond {
			b.t.Errorf("the sandbox took %v to stop, which is more than it promises", took)
		}
		if err := box.Close(); err != nil {
			b.t.Errorf("Close: %v", err)
		}
		incoming.CloseIdleConnections()
		outgoing.CloseIdleConnections()
		server.Close()
		<-served
		time.Sleep(time.Second) // net/http lingers half a second over a connection that it cut
	})
}

// stop ends whatever runs, in good order.
func (b *bench) stop() {
	for _, stop := range b.stops {
		stop()
	}
	b.stops = nil
}

type reply struct {
	status int
	header http.Header
	body   string
}

// member is one member of a JSON object, as it is written.
func (r reply) member(name string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(r.body), &members) != nil {
		return "not JSON: " + r.body
	}
	return string(members[name])
}

func (b *bench) try(method, path string, header http.Header, body string) (reply, error) {
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://sandbox.test"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header = header
	if req.Header == nil {
		req.Header = http.Header{}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text)}, err
}

func (b *bench) call(method, path string, header http.Header, body string) reply {
	b.t.Helper()
	r, err := b.try(method, path, header, body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (b *bench) login() string {
	b.t.Helper()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(sandbox.DefaultConsumerKey+":"+sandbox.DefaultConsumerSecret))
	r := b.call("GET", "/oauth/v1/generate?grant_type=client_credentials", http.Header{"Authorization": {basic}}, "")
	if r.status != 200 {
		b.t.Fatalf("no token: %d %s", r.status, r.body)
	}
	return strings.Trim(r.member("access_token"), `"`)
}

func (b *bench) authorised() http.Header {
	b.t.Helper()
	if b.token == "" {
		b.token = b.login()
	}
	return http.Header{"Authorization": {"Bearer " + b.token}, "Content-Type": {"application/json"}}
}

// order is a push that nothing is wrong with.
func order() map[string]any {
	return map[string]any{
		"BusinessShortCode": "174379",
		"Password":          base64.StdEncoding.EncodeToString([]byte("174379" + sandbox.DefaultPasskey + "20261002103000")),
		"Timestamp":         "20261002103000",
		"TransactionType":   "CustomerPayBillOnline",
		"Amount":            "1234",
		"PartyA":            phone,
		"PartyB":            "174379",
		"PhoneNumber":       phone,
		"CallBackURL":       "http://shop.test/c/0123abcd",
		"AccountReference":  "ORDER-7",
		"TransactionDesc":   "Pay",
	}
}

func with(m map[string]any, changes ...any) map[string]any {
	for i := 0; i < len(changes); i += 2 {
		m[changes[i].(string)] = changes[i+1]
	}
	return m
}

func encode(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(body)
}

type ids struct{ merchant, checkout string }

func (b *bench) tryPush(changes ...any) (reply, error) {
	b.t.Helper()
	return b.try("POST", "/mpesa/stkpush/v1/processrequest", b.authorised(), encode(with(order(), changes...)))
}

func (b *bench) push(changes ...any) ids {
	b.t.Helper()
	r, err := b.tryPush(changes...)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.status != 200 || r.member("ResponseCode") != `"0"` {
		b.t.Fatalf("the push was not accepted: %d %s", r.status, r.body)
	}
	return ids{strings.Trim(r.member("MerchantRequestID"), `"`), strings.Trim(r.member("CheckoutRequestID"), `"`)}
}

func (b *bench) query(checkout string) reply {
	b.t.Helper()
	q := map[string]any{"CheckoutRequestID": checkout}
	for _, name := range []string{"BusinessShortCode", "Password", "Timestamp"} {
		q[name] = order()[name]
	}
	return b.call("POST", "/mpesa/stkpushquery/v1/query", b.authorised(), encode(q))
}

// control does something with the phone.
func (b *bench) control(path string, body any) reply {
	b.t.Helper()
	return b.call("POST", path, nil, encode(body))
}

func (b *bench) behave(body string) {
	b.t.Helper()
	if r := b.call("POST", "/phone/behaviour", nil, body); r.status != 200 {
		b.t.Fatalf("behaviour %s: %d %s", body, r.status, r.body)
	}
}

func (b *bench) answer(outcome string) reply {
	b.t.Helper()
	r := b.control("/phone/answer", map[string]string{"outcome": outcome})
	if r.status != 200 {
		b.t.Fatalf("answer %s: %d %s", outcome, r.status, r.body)
	}
	return r
}

func (b *bench) state() sandbox.State {
	b.t.Helper()
	r := b.call("GET", "/phone/state", nil, "")
	var st sandbox.State
	if err := json.NewDecoder(bytes.NewReader([]byte(r.body))).Decode(&st); err != nil {
		b.t.Fatalf("state: %v: %s", err, r.body)
	}
	return st
}

// callbacks are those that came, after so much more time.
func (b *bench) callbacks(after time.Duration) []callback {
	time.Sleep(after)
	synctest.Wait()
	if after >= time.Hour {
		b.token = "" // it has expired
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]callback(nil), b.received...)
}

// fast is a sandbox without delays and limits.
func fast() sandbox.Config {
	return sandbox.Config{AckDelay: -1, PromptDelay: -1, AnswerDelay: -1, CallbackDelay: -1, QueryPerMinute: -1}
}
