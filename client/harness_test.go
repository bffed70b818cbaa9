package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/sync/push"
)

const epoch = 0x19a2b3c4d5e

func id(seq uint64) string { return push.Cursor{Epoch: epoch, Seq: seq}.String() }

func event(seq uint64) push.Message {
	return push.Message{Type: push.PaymentUpdate, ID: push.Cursor{Epoch: epoch, Seq: seq}, Session: "order-1", Data: push.Data{Status: push.Pending, Attempt: int(seq)}}
}

// scripted is a sidecar that does as the test says. Each connection to it is a turn of the test's.
type scripted struct {
	t      *testing.T
	turns  chan *turn
	head   func(w http.ResponseWriter)
	refuse func(w http.ResponseWriter, r *http.Request) bool
}

// turn is one connection, seen from the sidecar.
type turn struct {
	t    *testing.T
	url  string
	key  string
	conn *websocket.Conn
	done chan struct{}
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse != nil && s.refuse(w, r) {
		return
	}
	if r.URL.Path == "/payments" {
		s.head(w)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.t.Errorf("it did not come as a WebSocket: %v", err)
		return
	}
	k := &turn{s.t, r.URL.String(), r.Header.Get("Authorization"), conn, make(chan struct{})}
	defer conn.CloseNow()
	select {
	case s.turns <- k:
		<-k.done
	case <-r.Context().Done():
	}
}

func newSidecar(t *testing.T) *scripted {
	return &scripted{t: t, turns: make(chan *turn), head: func(w http.ResponseWriter) { fmt.Fprintf(w, `{"payments":[],"head":%q}`, id(7)) }}
}

// turn waits for the next connection.
func (s *scripted) turn() *turn {
	s.t.Helper()
	select {
	case k := <-s.turns:
		return k
	case <-time.After(time.Minute):
		s.t.Fatal("nobody connects")
		return nil
	}
}

func (k *turn) send(messages ...push.Message) {
	k.t.Helper()
	for _, m := range messages {
		b, err := json.Marshal(m)
		if err != nil {
			k.t.Fatal(err)
		}
		k.text(string(b))
	}
}

func (k *turn) text(s string) {
	k.t.Helper()
	if err := k.conn.Write(k.t.Context(), websocket.MessageText, []byte(s)); err != nil {
		k.t.Errorf("the subscriber cannot be written to: %v", err)
	}
}

func (k *turn) close(code websocket.StatusCode, reason string) {
	_ = k.conn.Close(code, reason)
	close(k.done)
}

// drop ends the connection without a word.
func (k *turn) drop() {
	_ = k.conn.CloseNow()
	close(k.done)
}

// wantEnd waits until the subscriber has said goodbye.
func (k *turn) wantEnd() {
	k.t.Helper()
	_, _, err := k.conn.Read(k.t.Context())
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		k.t.Errorf("the subscriber ended with %v, want a normal goodbye", err)
	}
	close(k.done)
}

// bubble runs a test with a sidecar in memory.
func bubble(t *testing.T, test func(t *testing.T, s *scripted, n *network)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t)
		n := &network{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(n) }()
		defer func() { _ = server.Close(); <-ended; n.heal() }()
		test(t, s, n)
	})
}

// network is in memory. It can be cut: then nothing dialled arrives, and what is written into open connections is lost.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	cut   bool
	dials []time.Time
	open  []*wire
}

func (n *network) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	cut := n.cut
	n.mu.Unlock()
	if cut {
		return nil, errors.New("network is unreachable")
	}
	near, far := net.Pipe()
	w := &wire{Conn: near, dead: make(chan struct{})}
	n.mu.Lock()
	n.open = append(n.open, w)
	n.mu.Unlock()
	select {
	case n.conns <- far:
		return w, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sever makes every open connection one that is not answered, and lets no new one through.
func (n *network) sever() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	for _, w := range n.open {
		w.silence()
	}
}

// heal lets new connections through.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = false
}

func (n *network) tries() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.dials...)
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// wire is the subscriber's end of a connection. Once it is dead it swallows what is written and never has anything to read.
type wire struct {
	net.Conn
	dead chan struct{}
	once sync.Once
}

func (w *wire) silence() { w.once.Do(func() { close(w.dead) }) }

func (w *wire) Write(b []byte) (int, error) {
	select {
	case <-w.dead:
		return len(b), nil
	default:
		return w.Conn.Write(b)
	}
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	select {
	case <-w.dead: // whatever came is lost
		for err == nil {
			_, err = w.Conn.Read(b)
		}
		return 0, err
	default:
		return n, err
	}
}

// subscription collects a sequence in a goroutine of its own.
type subscription struct {
	t        *testing.T
	messages chan push.Message
	err      error // may be read once messages is closed
	stop     context.CancelFunc
}

func subscribe(t *testing.T, events func(context.Context) func(func(push.Message, error) bool)) *subscription {
	ctx, cancel := context.WithCancel(t.Context())
	s := &subscription{t: t, messages: make(chan push.Message, 1000), stop: cancel}
	go func() {
		defer close(s.messages)
		for m, err := range events(ctx) {
			if err != nil {
				if s.err != nil {
					t.Errorf("after %v another error is given: %v", s.err, err)
				}
				s.err = err
				continue
			}
			s.messages <- m
		}
	}()
	return s
}

func all(t *testing.T, c *client.Client, after string) *subscription {
	return subscribe(t, func(ctx context.Context) func(func(push.Message, error) bool) { return c.Events(ctx, after) })
}

func one(t *testing.T, c *client.Client, session, after string) *subscription {
	return subscribe(t, func(ctx context.Context) func(func(push.Message, error) bool) {
		return c.Session(session).Events(ctx, after)
	})
}

func (s *subscription) want(seqs ...uint64) {
	s.t.Helper()
	for _, seq := range seqs {
		select {
		case m, ok := <-s.messages:
			if !ok || m.ID.Seq != seq {
				s.t.Fatalf("got %v of %s (%v), want event %d", ok, m.ID, s.err, seq)
			}
		case <-time.After(time.Minute):
			s.t.Fatalf("event %d does not come", seq)
		}
	}
}

func (s *subscription) wantNothing() {
	s.t.Helper()
	synctest.Wait()
	select {
	case m, ok := <-s.messages:
		s.t.Fatalf("got %v %+v, want nothing", ok, m)
	default:
	}
}

// wantEnd waits for the end of the sequence and gives its error.
func (s *subscription) wantEnd() error {
	s.t.Helper()
	for m := range s.messages {
		s.t.Errorf("at the end there is still %+v", m)
	}
	return s.err
}

// wantStopped stops listening, once the subscriber has been heard on this connection, and wants a goodbye.
func (s *subscription) wantStopped(k *turn) {
	s.t.Helper()
	k.send(push.Message{Type: "LAST_WORD"})
	s.want(0)
	s.stop()
	k.wantEnd()
	if err := s.wantEnd(); err != nil {
		s.t.Errorf("who stops listening is told %v", err)
	}
}
