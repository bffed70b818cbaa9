package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// world is an edge on real sockets, with one endpoint, duka.
type world struct {
	*testing.T
	*edge.Edge
	dir, http, udp, callback string
	log                      *lockedBuffer
	stop                     func()
	end                      func() error // as stop, and says how Run ended
}

func start(t *testing.T, c edge.Config) *world {
	t.Helper()
	w := &world{T: t, dir: c.Dir, log: new(lockedBuffer)}
	if w.dir == "" {
		w.dir = t.TempDir()
	}
	var err error
	if c.HTTP == nil {
		if c.HTTP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	if c.UDP == nil {
		if c.UDP, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	c.Dir, c.Logger = w.dir, slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.http, w.udp = c.HTTP.Addr().String(), c.UDP.LocalAddr().String()
	if w.Edge, err = edge.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	registered, err := w.SetEndpoint(t.Context(), "duka")
	if err != nil {
		t.Fatal(err)
	}
	w.callback = registered.CallbackURL
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	var ended bool
	w.end = sync.OnceValue(func() error {
		ended = true
		cancel()
		err := <-ran
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		return err
	})
	w.stop = sync.OnceFunc(func() {
		if err := w.end(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		if !ended {
			w.stop()
		}
	})
	go func() { ran <- w.Edge.Run(ctx) }()
	return w
}

// path is that of an address.
func path(callback string) string {
	u, err := url.Parse(callback)
	if err != nil {
		panic(err)
	}
	return u.Path
}

func (w *world) post(url, body string) (*http.Response, string) {
	w.Helper()
	return w.do(http.MethodPost, url, strings.NewReader(body))
}

func (w *world) do(method, url string, body io.Reader) (*http.Response, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, body)
	if err != nil {
		w.Fatal(err)
	}
	r.Close = true
	r.Header.Set("Content-Type", "application/json;charset=UTF-8")
	r.Header.Set("BusinessShortCode", "174379")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response, string(b)
}

func (w *world) wantPost(url, body string, status int) {
	w.Helper()
	if response, text := w.post(url, body); response.StatusCode != status {
		w.Errorf("POST answers %d %s, want %d", response.StatusCode, text, status)
	}
}

// raw speaks to the edge without an HTTP client, and returns all that it answers before it closes.
func (w *world) raw(text string) string {
	w.Helper()
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, text) // may fail where the edge has answered already
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		w.Fatal(err)
	}
	return string(b)
}

// stored stops the edge and reads what its journal holds.
func (w *world) stored(endpoint string) []wire.Entry {
	w.Helper()
	w.stop()
	j, err := journal.OpenSQLite(w.Context(), filepath.Join(w.dir, "edge.db"), journal.Limits{}, nil)
	if err != nil {
		w.Fatal(err)
	}
	defer j.Close()
	state, err := j.State(w.Context(), endpoint)
	if err != nil {
		w.Fatal(err)
	}
	var all []wire.Entry
	for after := uint64(0); after < state.Head; after = all[len(all)-1].Seq {
		entries, err := j.Next(w.Context(), endpoint, after, 1<<20)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, entries...)
	}
	return all
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pipes is a listener within memory, for bubbles of time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80} }

var errDisk = errors.New("the disk is full, as far as this test goes")

var limited = journal.Limits{MaxBytes: 1000}

// sidecar is the TLS of the sidecar of an endpoint, which has joined; and its key.
func (w *world) sidecar(endpoint string) *tls.Config {
	w.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		w.Fatal(err)
	}
	request, err := enrol.Request(key)
	if err != nil {
		w.Fatal(err)
	}
	issued, err := w.Admit(w.Context(), "asha", endpoint, request)
	if err != nil {
		w.Fatal(err)
	}
	return &tls.Config{RootCAs: w.private(), Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}}
}
