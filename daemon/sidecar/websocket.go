package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/sync/push"
)

const (
	clientBytes = 1 << 10         // what a client may say in one message: nothing it says is listened to
	frameGrace  = 5 * time.Second // for a frame that missed its deadline to end all the same
	goodbyeTime = 3 * time.Second // for the other end to answer a close
)

var errSlow = errors.New("sidecar: the reader is too slow")

// sessionSocket is GET /sessions/{session}/websocket.
func (s *Sidecar) sessionSocket(life context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.ask(r, s.checkCaller, checkSessionID)
		if p == nil {
			_, p = s.knownSession(r.Context(), r.PathValue("session"))
		}
		if !upgrades(r) {
			if p == nil {
				w.Header().Set("Connection", "Upgrade")
				w.Header().Set("Upgrade", "websocket")
				p = problemf(http.StatusUpgradeRequired, "upgrade-needed", "this is a WebSocket; for server-sent events ask /sessions/{id}/events")
			}
			p.write(w)
			return
		}
		s.serveSocket(life, w, r, r.PathValue("session"), p, func() {})
	}
}

func upgrades(r *http.Request) bool {
	for _, line := range r.Header.Values("Upgrade") {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), "websocket") {
				return true
			}
		}
	}
	return false
}

// serveSocket accepts a WebSocket in any case, because a browser does not tell its page why one was refused; one that
// cannot be let in is closed with a code that says why. Left is called when it is over.
func (s *Sidecar) serveSocket(life context.Context, w http.ResponseWriter, r *http.Request, session string, p *problem, left func()) {
	var f *feed
	if p == nil {
		if p = s.subscribers.enter(session); p == nil {
			var err error
			if f, err = s.feed(r.Context(), session, r.URL.Query().Get("after")); err != nil {
				s.subscribers.leave(session)
				p = s.internal("find a reader's place", err)
			}
		}
	}
	// Origins were checked by ours above: a refused one is let in as far as its close code.
	conn, err := websocket.Accept(smallBuffers{w}, r, &websocket.AcceptOptions{OriginPatterns: []string{"*"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if f != nil {
			s.subscribers.leave(session)
		}
		left()
		return // answered by Accept
	}
	conn.SetReadLimit(clientBytes)
	// The handler returns and gives back what it holds; an idle socket is then two small goroutines.
	s.sockets.Go(func() {
		defer left()
		if f != nil {
			defer s.subscribers.leave(session)
		}
		s.runSocket(life, conn, f, p)
	})
}

// smallBuffers gives a WebSocket buffers of the size that it needs. Those of net/http, four kilobytes each way, are a third
// of what an idle socket costs; but a client only says pong, and one write is to take a whole event, of some 800 bytes.
type smallBuffers struct{ http.ResponseWriter }

const (
	socketReadBuffer  = 256
	socketWriteBuffer = 1 << 10
)

func (w smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, big, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	said, _ := big.Peek(big.Reader.Buffered()) // what the client said right behind its handshake
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(said)), conn), max(socketReadBuffer, len(said)))
	_, _ = in.Peek(len(said)) // Accept takes over what is in the buffer, not the reader behind it
	return conn, bufio.NewReadWriter(in, bufio.NewWriterSize(conn, socketWriteBuffer)), nil
}

// runSocket follows the history for one socket until either end has enough. A socket with a problem is only told so.
func (s *Sidecar) runSocket(life context.Context, conn *websocket.Conn, f *feed, p *problem) {
	// Soft ends the waiting for events, hard cuts the connection. The end of life ends soft at once, hard a moment later.
	soft, stop := context.WithCancel(life)
	defer stop()
	hard, cut := context.WithCancel(context.WithoutCancel(life))
	defer context.AfterFunc(life, func() { time.AfterFunc(drainSockets, cut) })()
	var own sync.WaitGroup
	defer own.Wait()
	defer cut()
	own.Go(func() { // somebody must read, for pongs and for the other end's goodbye
		defer stop()
		for {
			_, message, err := conn.Reader(hard)
			if err == nil {
				_, err = io.Copy(io.Discard, message)
			}
			if err != nil {
				return
			}
		}
	})

	var code websocket.StatusCode
	var reason string
	if p != nil {
		code, reason = p.closeCode(), p.kind
	} else {
		err := s.follow(soft, f, socketTransport(hard, cut, &own, conn))
		switch {
		case errors.Is(err, errSlow):
			code, reason = closeSlow, "too slow"
		case life.Err() != nil:
			code, reason = closedBy(life)
		case soft.Err() != nil: // the other end is gone
			code, reason = websocket.StatusNormalClosure, ""
		default:
			s.log.Warn("sidecar: a reader could not be told more", "err", err)
			code, reason = websocket.StatusTryAgainLater, "try again later"
		}
	}
	impatient := time.AfterFunc(goodbyeTime, cut)
	defer impatient.Stop()
	_ = conn.Close(code, reason)
}

// socketTransport writes to a WebSocket. Each message is one event.
//
// A close code may follow only a whole frame. So a write that misses its deadline is given a little longer: if the frame
// ends then, the reader is told that it was too slow; if not, the connection is cut.
func socketTransport(hard context.Context, cut context.CancelFunc, own *sync.WaitGroup, conn *websocket.Conn) transport {
	write := func(message []byte) error {
		ctx, cancel := context.WithTimeout(hard, writeTime+frameGrace)
		defer cancel()
		began := time.Now()
		err := conn.Write(ctx, websocket.MessageText, message)
		if time.Since(began) >= writeTime {
			return errSlow
		}
		return err
	}
	return transport{
		greet: func(_, _ push.Cursor, message []byte) error {
			if message == nil {
				return nil
			}
			return write(message)
		},
		event: func(_ push.Cursor, message []byte) error { return write(message) },
		beat: func(push.Cursor) error {
			own.Go(func() { // the answer may take long, and events must not wait for it
				ctx, cancel := context.WithTimeout(hard, pongWithin)
				defer cancel()
				if conn.Ping(ctx) != nil {
					cut()
				}
			})
			return nil
		},
	}
}
