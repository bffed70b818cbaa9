package sidecar_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

const (
	phone      = "254708374149"
	otherPhone = "254700000001"
)

// A shop is a sidecar that runs, the Daraja behind it, and somebody who calls it.
type shop struct {
	t      *testing.T
	dir    string
	base   string // http://...
	key    string // API key
	daraja *fakeDaraja
	http   *http.Client
	dial   func(context.Context) (net.Conn, error)
	admin  *pipeListener // the operator's socket, if it is in memory
	config sidecar.Config
	is     *sidecar.Sidecar
	stop   func() error // ends Run, closes, and gives what Run returned
	ends   bool         // with an error, as it ought to
}

// open starts a sidecar in dev, with one shortcode, to which callbacks can be posted. Change alters that.
//
// With a pipe it lives on connections in memory, as a synctest bubble needs; else on a real socket.
func open(t *testing.T, piped bool, change ...func(*sidecar.Config)) *shop {
	t.Helper()
	s := &shop{t: t, daraja: &fakeDaraja{}}
	config := sidecar.Config{
		Dir: t.TempDir(), Dev: true, AcceptCallbacks: true,
		Shortcodes: []daraja.Shortcode{{Name: "duka", Environment: "sandbox", Kind: "paybill", Number: "174379", Credentials: daraja.Credentials{ConsumerKey: "k", ConsumerSecret: "s", Passkey: "p"}}},
		DarajaHTTP: &http.Client{Transport: s.daraja},
	}
	for _, c := range change {
		c(&config)
	}
	if piped {
		l := newPipeListener()
		config.Listener, s.dial = l, l.Dial
		s.admin = newPipeListener()
		config.Admin = s.admin
	} else {
		if config.Listener == nil {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			config.Listener = l
		}
		l := config.Listener
		s.dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}
	}
	s.base = "http://" + config.Listener.Addr().String()
	s.dir = config.Dir
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx) },
		DisableKeepAlives: true,
	}
	s.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	sc, err := sidecar.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	s.config, s.is = config, sc
	key, err := os.ReadFile(filepath.Join(config.Dir, "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.key = strings.TrimSpace(string(key))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- sc.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ran, sc.Close())
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil && !s.ends {
			t.Errorf("the sidecar ended with: %v", err)
		}
	})
	return s
}

// outside makes a sidecar that is not in dev.
func outside(c *sidecar.Config) { c.Dev = false }

// An answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
}

func (a answer) data(t *testing.T) push.Data {
	t.Helper()
	var d push.Data
	a.into(t, &d)
	return d
}

// kind is the last word of a problem's type.
func (a answer) kind() string {
	var p struct{ Type string }
	_ = json.Unmarshal(a.body, &p)
	kind, _ := strings.CutPrefix(p.Type, "urn:hodi:")
	if kind == p.Type {
		return ""
	}
	return kind
}

// do sends a request; headers are name, value, name, value.
func (s *shop) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(s.t.Context(), method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *shop) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	if !strings.HasPrefix(path, "http") {
		path = s.base + path
	}
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, path, r)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, b}, err
}

func (s *shop) want(a answer, status int, kind string) {
	s.t.Helper()
	if a.status != status || a.kind() != kind {
		s.t.Fatalf("answered %d %q, want %d %q: %s", a.status, a.kind(), status, kind, a.body)
	}
}

// pay posts what the write-up's page posts.
func (s *shop) pay(session string, headers ...string) answer {
	s.t.Helper()
	return s.do("POST", "/sessions/"+session+"/initiate", request(phone, 100, ""), headers...)
}

// opened is a session that the app has opened.
func (s *shop) opened(amount string) string {
	s.t.Helper()
	var session struct{ ID string }
	a := s.do("POST", "/sessions", `{"amount":`+amount+`,"accountReference":"INV-1"}`, "Authorization", "Bearer "+s.key)
	s.want(a, 201, "")
	a.into(s.t, &session)
	return session.ID
}

func request(phone string, amount int, more string) string {
	return fmt.Sprintf(`{"phoneNumber":%q,"amount":%d,"accountReference":"ORDER123"%s}`, phone, amount, more)
}

// socket is a browser's WebSocket: it reads all the time, and so answers pings.
type socket struct {
	t        *testing.T
	conn     *websocket.Conn
	messages chan []byte
	err      error // set before messages is closed
}

func (s *shop) socket(path string, headers ...string) *socket {
	s.t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	options := &websocket.DialOptions{HTTPClient: s.http, HTTPHeader: h, Host: h.Get("Host")}
	h.Del("Host")
	conn, _, err := websocket.Dial(s.t.Context(), strings.Replace(s.base, "http", "ws", 1)+path, options)
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	k := &socket{t: s.t, conn: conn, messages: make(chan []byte, 1000)}
	go func() {
		defer close(k.messages)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				k.err = err
				return
			}
			k.messages <- b
		}
	}()
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return k
}

func (k *socket) read() (push.Message, []byte, error) {
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	select {
	case b, ok := <-k.messages:
		if !ok {
			return push.Message{}, nil, k.err
		}
		var m push.Message
		err := json.Unmarshal(b, &m)
		return m, b, err
	case <-patience.C:
		return push.Message{}, nil, errors.New("nothing came for two minutes")
	}
}

func (k *socket) next(kind string, status push.Status) push.Message {
	k.t.Helper()
	m, b, err := k.read()
	if err != nil {
		k.t.Fatalf("waiting for %s %s: %v", kind, status, err)
	}
	if m.Type != kind || m.Data.Status != status {
		k.t.Fatalf("got %s, want %s %s", b, kind, status)
	}
	return m
}

func (k *socket) wantClose(code websocket.StatusCode) {
	k.t.Helper()
	m, _, err := k.read()
	if websocket.CloseStatus(err) != code {
		k.t.Fatalf("got %+v, %v; want the close code %d", m, err, code)
	}
}

func (k *socket) close() { _ = k.conn.Close(websocket.StatusNormalClosure, "") }

// webhook is what Daraja posts.
func webhook(n int, code any, metadata string) string {
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":"fake-%d","CheckoutRequestID":"ws_CO_%d","ResultCode":%v,"ResultDesc":"as Daraja says"%s}}}`, n, n, code, metadata)
}

func paid(n, shillings int) string {
	return webhook(n, 0, fmt.Sprintf(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":%d.00},{"Name":"MpesaReceiptNumber","Value":"%s7XK41%02d"},{"Name":"TransactionDate","Value":%s},{"Name":"PhoneNumber","Value":%s}]}`, shillings, receiptDay, n, moment, phone))
}

// receiptDay is how receipts of today begin, and moment a TransactionDate: of when the tests began, so that both stay the same
// over midnight, and where a test has a clock of its own.
var (
	receiptDay = daraja.ReceiptPrefix(startOfTests)
	moment     = startOfTests.Format("20060102150405")

	startOfTests = time.Now().In(daraja.Nairobi)
)

func cancelled(n int) string { return webhook(n, 1032, "") }

func (s *shop) hook(session, body string) {
	s.t.Helper()
	a := s.do("POST", "/sessions/"+session+"/webhook", body)
	if want := `{"status":"OK","ResultCode":0,"ResultDesc":"Accepted"}`; a.status != 200 || string(a.body) != want {
		s.t.Fatalf("the webhook answered %d %s, want 200 %s", a.status, a.body, want)
	}
}

// fakeDaraja answers in the sidecar's own process, without a socket.
type fakeDaraja struct {
	mu      sync.Mutex
	pushes  []map[string]any
	queries []string                                         // for whom
	delay   time.Duration                                    // before it answers
	answer  func(n int) (status int, body string, err error) // of push n, from 1; default: queued
}

func (d *fakeDaraja) RoundTrip(r *http.Request) (*http.Response, error) {
	reply := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/oauth/"):
		return reply(200, `{"access_token":"tok","expires_in":"3599"}`)
	case strings.Contains(r.URL.Path, "query"):
		var of struct{ BusinessShortCode string }
		if err := json.NewDecoder(r.Body).Decode(&of); err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.queries = append(d.queries, of.BusinessShortCode)
		d.mu.Unlock()
		return reply(500, `{"requestId":"x","errorCode":"500.001.1001","errorMessage":"The transaction is being processed"}`)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	d2 := json.NewDecoder(bytes.NewReader(body))
	d2.UseNumber()
	if err := d2.Decode(&m); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.pushes = append(d.pushes, m)
	n, ask := len(d.pushes), d.answer
	d.mu.Unlock()
	select {
	case <-time.After(d.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if ask != nil {
		status, text, err := ask(n)
		if err != nil || status != 0 {
			if err != nil {
				return nil, err
			}
			return reply(status, text)
		}
	}
	return reply(200, ack(n))
}

func ack(n int) string {
	return fmt.Sprintf(`{"MerchantRequestID":"fake-%d","CheckoutRequestID":"ws_CO_%d","ResponseCode":"0","ResponseDescription":"Success. Request accepted for processing","CustomerMessage":"ok"}`, n, n)
}

func (d *fakeDaraja) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pushes)
}

// asked is how often it was asked what became of a payment to a shortcode.
func (d *fakeDaraja) asked(number string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.queries {
		if q == number {
			n++
		}
	}
	return n
}

// callback is the address that push n was told to answer to.
func (d *fakeDaraja) callback(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprint(d.pushes[n-1]["CallBackURL"])
}

// pipeListener is a listener whose connections are pipes in memory. They hold nothing: a write waits for its reader.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(addrPort) }

func (l *pipeListener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- pipeEnd{far}:
		return pipeEnd{near}, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeEnd gives a pipe addresses that look like a network's.
type pipeEnd struct{ net.Conn }

func (pipeEnd) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(addrPort) }
func (pipeEnd) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(addrPort) }

var addrPort = netip.MustParseAddrPort("127.0.0.1:8787")
