package forward_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLawMfKQ9r8GK"

// A shop is a Table, the app behind it, and what forwards to it.
type shop struct {
	testing.TB
	table  *correlate.Table
	path   string
	config forward.Config
	app    *app
	on     *forward.Forwarder
	stop   func()
}

// open makes a shop. Nothing is forwarded before start.
func open(t testing.TB) *shop {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "forward") // no test here is about disks
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &shop{TB: t, path: filepath.Join(dir, "hodi.db"), app: &app{}}
	s.config = forward.Config{URL: "http://127.0.0.1:3000/mpesa", Secrets: func() []string { return []string{secret} }, Transport: s.app}
	s.openTable()
	t.Cleanup(func() { s.end(); s.table.Close() })
	return s
}

func (s *shop) openTable() {
	s.Helper()
	var err error
	s.table, err = correlate.Open(context.Background(), correlate.Config{Path: s.path, Key: make([]byte, 32), Trusting: true, Forwarding: true})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *shop) start() {
	s.Helper()
	s.config.Table = s.table
	f, err := forward.New(s.config)
	if err != nil {
		s.Fatal(err)
	}
	s.on = f
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f.Run(ctx); err != nil {
			s.Errorf("it ended with %v", err)
		}
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

// end stops forwarding, if it was started.
func (s *shop) end() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// begins makes forwarding begin here: what came before is not forwarded.
func (s *shop) begins() {
	s.Helper()
	if _, err := s.table.Outbox(context.Background()); err != nil {
		s.Fatal(err)
	}
}

// posts has Daraja post a callback about a payment.
func (s *shop) posts(merchant string) (id string) {
	s.Helper()
	cb, err := s.table.Receive(context.Background(), wire.Entry{Header: []byte("Content-Type: application/json\r\n"), Body: []byte(body(merchant))}, "")
	if err != nil {
		s.Fatal(err)
	}
	return cb.ID
}

func body(merchant string) string {
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":"ws_CO_%s","ResultCode":1032,"ResultDesc":"cancelled"}}}`, merchant, merchant)
}

// at is what became of callbacks at the app, by their ids.
func (s *shop) at() map[string]correlate.Handling {
	s.Helper()
	list, _, err := s.table.Callbacks(context.Background(), correlate.CallbackFilter{Limit: 1000})
	if err != nil {
		s.Fatal(err)
	}
	is := map[string]correlate.Handling{}
	for _, c := range list {
		is[c.ID] = c.App
	}
	return is
}

// A hit is a request that the app has had.
type hit struct {
	at       time.Time
	id, body string
	header   http.Header
}

// app is the merchant's: a function that answers, behind no socket.
type app struct {
	mu     sync.Mutex
	hits   []hit
	answer func(n int, h hit) (*http.Response, error) // of hit n, from 1; default: 200
}

func (a *app) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h := hit{time.Now(), r.Header.Get("webhook-id"), string(b), r.Header.Clone()}
	a.mu.Lock()
	a.hits = append(a.hits, h)
	n, answer := len(a.hits), a.answer
	a.mu.Unlock()
	if answer == nil {
		return status(200)
	}
	response, err := answer(n, h)
	if response != nil {
		response.Request = r
	}
	return response, err
}

func (a *app) answers(f func(n int, h hit) (*http.Response, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

func (a *app) seen() []hit {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]hit(nil), a.hits...)
}

func status(code int, headers ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(strings.NewReader("body"))}, nil
}

var errRefused = errors.New("connection refused")
