package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/tunnel/wire"
)

// WebSocketTLS is what TLS has to be on a connection that is handed to ServeWebSocket.
func (s *Server) WebSocketTLS() *tls.Config {
	return s.tls(protocolHTTP)
}

// ServeWebSocket serves links on the connections that l accepts, until ctx ends, as Serve does; the two share
// everything but the door they are at. The connections speak TLS as WebSocketTLS says; whether the handshake is over
// does not matter. It closes l. It returns nil when ctx has ended, and before that only if l fails.
func (s *Server) ServeWebSocket(ctx context.Context, l net.Listener) error {
	if err := s.complete(); err != nil {
		l.Close()
		return err
	}
	var links gate
	web := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != wire.Path {
				w.Header().Set("Connection", "close") // whoever has no business here does not stay
				http.NotFound(w, r)
				return
			}
			if !links.enter() {
				http.Error(w, wire.CloseDraining.String(), http.StatusServiceUnavailable)
				return
			}
			guest := r.Context().Value(guestKey{}).(*guest)
			over, ok := guest.Conn.(*tls.Conn)
			if !ok {
				links.leave()
				http.Error(w, "no TLS", http.StatusForbidden)
				return
			}
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				links.leave()
				return // it has answered
			}
			c := newWebsocketConn(ws, guest, over.ConnectionState().PeerCertificates)
			go func() { // so that the handler ends, with all that net/http holds for it
				defer links.leave()
				s.serve(ctx, c, guest.known)
			}()
		}),
		ReadTimeout:    helloWithin, // the handshake of TLS included, and a body that nobody asked for
		WriteTimeout:   helloWithin,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.log().Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, c)
		},
	}
	stop := whenDone(ctx, func() { web.Close() }) // links are no longer its own
	err := web.Serve(guests{l, &s.door, s.turnedAway})
	stop()
	web.Close()
	links.shut()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("tunnel: serve: %w", err)
}

// gate counts who is inside, and can be shut: then nobody enters any more.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) leave() { g.inside.Done() }

// shut waits until all have left.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// guests accepts connections for as many as may stand at the door.
type guests struct {
	net.Listener
	door *door
	full func(remote string)
}

func (g guests) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		beneath := c
		if t, ok := c.(*tls.Conn); ok {
			beneath = t.NetConn()
		}
		leave, ok := g.door.open(c.RemoteAddr())
		if !ok {
			beneath.Close()
			g.full(c.RemoteAddr().String())
			continue
		}
		return &guest{bluntly{c, beneath}, leave}, nil
	}
}

// guest is a connection that counts at the door until it is known whose it is.
type guest struct {
	bluntly
	known func()
}

type guestKey struct{}

func (g *guest) Close() error {
	g.known()
	return g.bluntly.Close()
}

// whenDone is context.AfterFunc, but for stop, which waits for f if that has begun. stop may be called again.
func whenDone(ctx context.Context, f func()) (stop func() bool) {
	done := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return sync.OnceValue(func() bool {
		if undo() {
			return true
		}
		<-done
		return false
	})
}
