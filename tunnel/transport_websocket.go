package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	farewellWithin = 500 * time.Millisecond // for a close frame to be written, and as long again for its answer
	verdictWithin  = 100 * time.Millisecond // for a reader to see why writing became impossible

	closeCodes = 4000 // on a WebSocket, a wire.CloseCode begins here
	maxReason  = 123  // bytes of reason in a close frame
)

// websocketConn is a conn over a WebSocket: the payloads of its binary messages, one after the other.
type websocketConn struct {
	ws     *websocket.Conn
	net    net.Conn // beneath it, for its deadlines: those of websocket.Conn end the connection without a word
	remote string
	chain  []*x509.Certificate // of the other end
	why    string              // at the sidecar: why it is not QUIC

	message io.Reader // being read; owned by Read
	ended   chan struct{}
	verdict error // of Read; set before ended is closed

	once    sync.Once // of Close
	mu      sync.Mutex
	closing bool // the deadlines are Close's own
}

func newWebsocketConn(ws *websocket.Conn, beneath net.Conn, chain []*x509.Certificate) *websocketConn {
	ws.SetReadLimit(-1) // a message may be as long as it likes: nothing is set aside for it
	return &websocketConn{ws: ws, net: beneath, remote: beneath.RemoteAddr().String(), chain: chain, ended: make(chan struct{})}
}

// Read is called by one goroutine at a time.
func (w *websocketConn) Read(b []byte) (int, error) {
	for {
		n, err := w.read(b)
		if err != nil {
			if w.verdict == nil {
				w.verdict = toldByFrame(err)
				close(w.ended)
			}
			return 0, w.verdict
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (w *websocketConn) read(b []byte) (int, error) {
	if w.isClosing() {
		return 0, net.ErrClosed
	}
	if w.message == nil {
		kind, message, err := w.ws.Reader(context.Background())
		if err != nil {
			return 0, err
		}
		if kind != websocket.MessageBinary {
			return 0, endingf(wire.CloseProtocol, "tunnel: a message of text")
		}
		w.message = message
	}
	n, err := w.message.Read(b)
	if err == io.EOF {
		w.message, err = nil, nil
	}
	return n, err
}

func (w *websocketConn) isClosing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing
}

// Write sends one message. If that fails because the other end has closed, its reason is the error.
func (w *websocketConn) Write(b []byte) (int, error) {
	err := w.ws.Write(context.Background(), websocket.MessageBinary, b)
	if err == nil {
		return len(b), nil
	}
	patience := time.NewTimer(verdictWithin)
	defer patience.Stop()
	select {
	case <-w.ended:
		if e, ok := errors.AsType[*closedError](w.verdict); ok {
			return 0, e
		}
	case <-patience.C:
	}
	return 0, err
}

// SetReadDeadline sets the deadline. One that passes ends reading for good.
func (w *websocketConn) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return nil
	}
	return w.net.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline. One that passes while something is written ends writing for good.
func (w *websocketConn) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return nil
	}
	return w.net.SetWriteDeadline(t)
}

// Close says why, and gives the other end a moment to answer: a connection that is dropped with something unread in it
// takes what was said last with it. Where there is nothing to tell, it waits for nothing.
func (w *websocketConn) Close(code wire.CloseCode, reason string) {
	w.once.Do(func() {
		w.mu.Lock()
		w.closing = true
		now := time.Now()
		w.net.SetWriteDeadline(now.Add(farewellWithin))
		if code == wire.CloseDone {
			w.net.SetReadDeadline(now)
		} else {
			w.net.SetReadDeadline(now.Add(2 * farewellWithin))
		}
		w.mu.Unlock()
		w.ws.Close(websocket.StatusCode(closeCodes+code), shortened(reason, maxReason))
		w.net.Close()
	})
}

func (w *websocketConn) Remote() string { return w.remote }

func (w *websocketConn) Certificates() []*x509.Certificate { return w.chain }

func (w *websocketConn) Transport() (name, why string) { return TransportWebSocket, w.why }

// toldByFrame is err, or what the other end said in its close frame.
func toldByFrame(err error) error {
	var e websocket.CloseError
	if errors.As(err, &e) && e.Code >= closeCodes {
		return &closedError{wire.CloseCode(e.Code - closeCodes), e.Reason}
	}
	return err
}

// shortened is s, or what of it fits into n bytes.
func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// bluntly is a connection that ends when it is closed: a tls.Conn would first write a word of its own, for which a dead
// network keeps it seconds. A link says goodbye by itself.
type bluntly struct {
	net.Conn
	beneath net.Conn
}

func (b bluntly) Close() error { return b.beneath.Close() }
