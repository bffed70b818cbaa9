package tunnel_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/tunnel"
)

// The fallback on the kernel's own sockets, whose errors no bubble has.

// serveWeb serves links over WebSocket and nothing else, at a TCP port of this machine. The UDP port of that number is
// nobody's.
func serveWeb(t *testing.T, ca authority, h tunnel.History) (edge string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", loopback.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &tunnel.Server{History: h, TLS: ca.server(), Authorize: byName}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeWebSocket(ctx, tls.NewListener(l, s.WebSocketTLS())) }()
	return l.Addr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// run starts a client until stop.
func run(t *testing.T, c *tunnel.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestWithoutUDPTheLinkIsOverWebSocketAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, edge string)
		why     string
	}{
		"dropped: a socket is there, and nobody reads it": {func(t *testing.T, edge string) {
			hole, err := net.ListenPacket("udp", edge)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { hole.Close() })
		}, "was not answered (UDP is probably blocked)"},
		"refused: the port is closed": {func(*testing.T, string) {}, "was refused"},
	} {
		t.Run(name, func(t *testing.T) {
			ca, h, s := newAuthority(t), newHistory(), newSink()
			edge, stopEdge := serveWeb(t, ca, h)
			c.prepare(t, edge)
			h.add("duka", 100, "")
			client := &tunnel.Client{Edge: edge, TLS: ca.client("duka"), Sink: s}
			stop := run(t, client)
			s.until(100)
			status := client.Status()
			if status.Transport != tunnel.TransportWebSocket || !strings.Contains(status.Why, c.why) || status.Remote != edge {
				t.Errorf("status %+v", status)
			}
			stop()
			stopEdge()
			if got := s.got(); !slices.Equal(got, callbacks(1, 100, "")) {
				t.Errorf("delivered %d", len(got))
			}
			nothingIsLeft(t)
		})
	}
}

func TestWhereTheEdgeTakesWebSocketsOnAnotherPort(t *testing.T) {
	ca, h, s := newAuthority(t), newHistory(), newSink()
	edge, stopEdge := serveWeb(t, ca, h)
	h.add("duka", 100, "")
	client := &tunnel.Client{Edge: loopback.Address(t), WebSocket: edge, TLS: ca.client("duka"), Sink: s}
	stop := run(t, client)
	s.until(100)
	if status := client.Status(); status.Transport != tunnel.TransportWebSocket || status.Remote != edge {
		t.Errorf("status %+v", status)
	}
	stop()
	stopEdge()
	nothingIsLeft(t)
}

const (
	proxyUser     = "duka"
	proxyPassword = "p@ss:word/1"
	edgeName      = "edge.shop.invalid:443" // which nobody here can resolve
)

// serveProxy serves guests of a proxy that leads to the edge, whatever name is asked for, and returns the names.
func serveProxy(t *testing.T, serve func(c net.Conn) (asked string, ok bool), edge string) (addr string, names func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var list []string
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				name, ok := serve(c)
				mu.Lock()
				list = append(list, name)
				mu.Unlock()
				if !ok {
					return
				}
				to, err := net.Dial("tcp", edge)
				if err != nil {
					return
				}
				defer to.Close()
				all.Go(func() {
					io.Copy(to, c)
					to.Close()
				})
				io.Copy(c, to)
			})
		}
	})
	end := func() {
		l.Close()
		all.Wait()
	}
	t.Cleanup(end)
	// A client may have its answer before the list has the name: the names are those of a proxy that has ended.
	return l.Addr().String(), func() []string {
		end()
		return list
	}
}

func serveCONNECT(c net.Conn) (asked string, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.Method != http.MethodConnect {
		return "", false
	}
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization")) // for BasicAuth to read
	if user, password, ok := r.BasicAuth(); !ok || user != proxyUser || password != proxyPassword {
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return r.Host, false
	}
	io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	return r.Host, true
}

func serveSOCKS5(c net.Conn) (asked string, ok bool) {
	read := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(c, b)
		return b
	}
	methods := read(int(read(2)[1]))
	if !slices.Contains(methods, 2) { // a name and a password
		c.Write([]byte{5, 0xff})
		return "", false
	}
	c.Write([]byte{5, 2})
	user := string(read(int(read(2)[1])))
	password := string(read(int(read(1)[0])))
	if user != proxyUser || password != proxyPassword {
		c.Write([]byte{1, 1})
		return "", false
	}
	c.Write([]byte{1, 0})
	if head := read(4); head[1] != 1 || head[3] != 3 { // connect, to a name
		return "", false
	}
	host := string(read(int(read(1)[0])))
	port := binary.BigEndian.Uint16(read(2))
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return net.JoinHostPort(host, map[uint16]string{443: "443"}[port]), true
}

func TestThroughProxiesThatWantAPasswordAndResolveTheName(t *testing.T) {
	for scheme, serve := range map[string]func(net.Conn) (string, bool){"http": serveCONNECT, "socks5": serveSOCKS5} {
		t.Run(scheme, func(t *testing.T) {
			ca, h, s := newAuthority(t), newHistory(), newSink()
			edge, stopEdge := serveWeb(t, ca, h)
			h.add("duka", 100, "")
			proxy, names := serveProxy(t, serve, edge)
			log := new(lines)
			client := &tunnel.Client{
				Edge: edgeName, TLS: ca.client("duka"), Sink: s, Logger: slog.New(slog.NewTextHandler(log, nil)),
				Resolve: func(context.Context, string) (net.Addr, error) { return nil, errors.New("no such host") },
				Proxy: func(to *url.URL) (*url.URL, error) {
					if to.String() != "https://"+edgeName {
						t.Errorf("the proxy to %s is asked for", to)
					}
					return &url.URL{Scheme: scheme, User: url.UserPassword(proxyUser, proxyPassword), Host: proxy}, nil
				},
			}
			stop := run(t, client)
			s.until(100)
			if status := client.Status(); status.Transport != tunnel.TransportWebSocket || status.Remote != proxy {
				t.Errorf("status %+v", status)
			}
			stop()
			stopEdge()
			if got := names(); !slices.Contains(got, edgeName) {
				t.Errorf("the proxy was asked for %q", got)
			}
			if strings.Contains(log.String(), proxyPassword) || strings.Contains(log.String(), "p%40ss") {
				t.Errorf("the password is in the log:\n%s", log)
			}
			nothingIsLeft(t)
		})
	}
}

func TestAProxyThatRefusesIsNamedAndItsPasswordIsNot(t *testing.T) {
	for scheme, serve := range map[string]func(net.Conn) (string, bool){"http": serveCONNECT, "socks5": serveSOCKS5} {
		t.Run(scheme, func(t *testing.T) {
			proxy, names := serveProxy(t, serve, "")
			log, said := new(lines), make(chan string, 100)
			client := &tunnel.Client{
				Edge: edgeName, TLS: newAuthority(t).client("duka"), Sink: newSink(),
				Logger:  slog.New(slog.NewTextHandler(io.MultiWriter(log, told(said)), nil)),
				Resolve: func(context.Context, string) (net.Addr, error) { return nil, errors.New("no such host") },
				Proxy: func(*url.URL) (*url.URL, error) {
					return &url.URL{Scheme: scheme, User: url.UserPassword(proxyUser, "guessed-wrong"), Host: proxy}, nil
				},
			}
			stop := run(t, client)
			for line := range said {
				if strings.Contains(line, "proxy "+proxy) {
					break
				}
			}
			stop()
			if len(names()) == 0 || strings.Contains(log.String(), "guessed-wrong") {
				t.Errorf("the log:\n%s", log)
			}
			nothingIsLeft(t)
		})
	}
}

func TestAProxyThatRefusesThePasswordIsAskedEverMoreSeldom(t *testing.T) {
	for scheme, serve := range map[string]func(net.Conn) (string, bool){"http": serveCONNECT, "socks5": serveSOCKS5} {
		t.Run(scheme, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.router.noUDP.Store(true)
				at := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 128), Port: 3128}
				var asked atomic.Int32
				l := w.listenTCP(at)
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						asked.Add(1)
						serve(c)
						c.Close()
					}
				}()
				c := w.sidecar("duka", newSink(), func(c *tunnel.Client) {
					c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dialTCP(ctx, at) }
					c.Proxy = func(*url.URL) (*url.URL, error) {
						return &url.URL{Scheme: scheme, User: url.UserPassword(proxyUser, "guessed-wrong"), Host: at.String()}, nil
					}
				})
				time.Sleep(5 * time.Minute)
				if n := asked.Load(); n != 3 {
					t.Errorf("asked %d times in five minutes", n)
				}
				time.Sleep(20 * time.Minute)
				if n := asked.Load(); n != 5 {
					t.Errorf("asked %d times in 25 minutes", n)
				}
				c.stop()
				l.Close()
			})
		})
	}
}

// told is where lines of a log are sent, as long as somebody takes them.
type told chan string

func (w told) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}
