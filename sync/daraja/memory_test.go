package daraja_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/hodihq/hodi/sync/daraja"
)

// memory is a network in memory, so that a whole HTTP conversation can run in a bubble. While it is cut nothing can be
// dialled.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu  sync.Mutex
	cut error
}

// serve answers on a network in memory until the test ends.
func serve(t *testing.T, h http.HandlerFunc) (*memory, *http.Client) {
	m := &memory{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(m) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	hc := daraja.NewHTTPClient()
	transport := hc.Transport.(*http.Transport)
	transport.Proxy, transport.DialContext = nil, m.dial
	return m, hc
}

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	m.mu.Lock()
	cut := m.cut
	m.mu.Unlock()
	if cut != nil {
		return nil, cut
	}
	near, far := net.Pipe()
	select {
	case m.conns <- far:
		return near, nil
	case <-m.done:
		return nil, errors.New("the server is gone")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) setCut(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = err
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
