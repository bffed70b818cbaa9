package edge

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	maxBody   = 256 << 10
	smallBody = 4 << 10 // room for so much is made at once: all that Daraja sends is smaller
	maxHeader = 64 << 10

	maxStreams = 100 // in a connection over HTTP/2

	readWithin   = 10 * time.Second // header and body, of the connection or of the first byte of a further request
	storeWithin  = 10 * time.Second // of the body
	answerWithin = 10 * time.Second // of the storing
	idleFor      = 75 * time.Second // between two requests of one connection
	lingerFor    = 2 * time.Second  // of a refusal, for a body that nobody wants

	retryBusy = 5 * time.Second  // when the disk cannot store
	retryFull = 60 * time.Second // when the endpoint is over its share
)

// accepted answers a notice that is on disk: the form that Safaricom's own listeners answer with.
const accepted = `{"ResultCode":0,"ResultDesc":"Accepted"}`

// ingress takes callbacks. It never looks into a body: whatever is posted to a known key is stored as it came.
type ingress struct {
	journal interface {
		Append(ctx context.Context, endpoint string, e wire.Entry) (uint64, error)
	}
	probe    func(ctx context.Context) error // whether it can store
	delivers func() bool                     // to every sidecar that is connected
	find     func(key string) (place, bool)
	settings *atomic.Pointer[settings]
	clerk    *clerk
	tally    *tally
	log      *slog.Logger
	ready    atomic.Bool // it serves, and does not drain
}

func (in *ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := cmp.Or(r.URL.RawPath, r.URL.EscapedPath()) // as sent: escaped, it may be three times as long, and fit nowhere
	switch {
	case strings.HasPrefix(path, "/c/"):
		key, ref, _ := strings.Cut(path[len("/c/"):], "/")
		in.callback(w, r, key, ref)
	case path == "/healthz":
		in.health(w, r, true)
	case path == "/readyz":
		well := in.ready.Load() && in.stores(r.Context()) == nil
		if well && r.URL.Query().Has("link") && !in.delivers() {
			refuse(w, http.StatusServiceUnavailable, "not ready: a sidecar is connected, and callbacks are not known to get through to it")
			return
		}
		in.health(w, r, well)
	default:
		refuse(w, http.StatusNotFound, "there is nothing here")
	}
}

func (in *ingress) callback(w http.ResponseWriter, r *http.Request, key, ref string) {
	began := time.Now()
	remote, source := in.settings.Load().sources.judge(r)
	to, ok := in.find(key)
	if !ok {
		in.tally.lost(source)
		if source == wire.SourceKnown {
			in.clerk.note("Safaricom posts to an address that is not known: was its key retired?", "callbacks", remote)
		}
		refuse(w, http.StatusNotFound, "no such callback address")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "callbacks are posted")
		return
	}
	if g := guestOf(r.Context()); g != nil {
		g.crowd.known(g)
	}
	if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		// There may have been a Content-Length, too, which net/http has dropped, and which a proxy may have gone by. What the two
		// disagree about must not be taken for the next request.
		w.Header().Set("Connection", "close")
	}
	body, err := readBody(w, r)
	if err != nil {
		status, why, outcome := http.StatusBadRequest, "the body broke off", outcomeBroken
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status, why, outcome = http.StatusRequestEntityTooLarge, "the body is over 256 KiB", outcomeTooLarge
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			status, why, outcome = http.StatusRequestTimeout, "the body stopped coming", outcomeTimedOut
		}
		in.tally.came(to.endpoint, outcome, 0)
		in.clerk.note("callback refused", to.endpoint, remote, "status", status, "why", why)
		refuse(w, status, why)
		return
	}

	// From here on the callback is ours: Daraja delivers it once, and whether it waits for our answer is its affair.
	ctx, cancel := context.WithTimeout(context.Background(), storeWithin)
	defer cancel()
	seq, err := in.journal.Append(ctx, to.endpoint, wire.Entry{
		Received: time.Now(),
		Kind:     to.kind,
		Ref:      ref,
		Source:   source,
		Remote:   remote,
		Header:   headerLines(r),
		Body:     body,
	})
	if err != nil {
		after, why, outcome := retryBusy, "it could not be stored", outcomeUnstored
		if errors.Is(err, journal.ErrFull) {
			after, why, outcome = retryFull, "the endpoint is full", outcomeFull
		}
		in.tally.came(to.endpoint, outcome, 0)
		in.clerk.fail("callback not stored", to.endpoint, remote, "err", err)
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
		refuse(w, http.StatusServiceUnavailable, why)
		return
	}
	in.tally.seconds.Observe(time.Since(began).Seconds())
	in.tally.came(to.endpoint, outcomeStored, len(body))
	if in.log.Enabled(ctx, slog.LevelDebug) {
		in.log.Debug("callback stored", "endpoint", to.endpoint, "seq", seq, "remote", remote, "source", source, "bytes", len(body))
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, accepted)
}

// readBody reads the body, all of it, and sets aside no more memory than twice what has come. It has the time that the
// server gives to a request.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	n := r.ContentLength
	if n > maxBody {
		return nil, &http.MaxBytesError{Limit: maxBody}
	}
	if n >= 0 && n <= smallBody {
		if c, ok := r.Context().Value(connKey{}).(*guest); ok { // not below TLS
			c.unwatch() // what follows runs to its end, whoever hangs up
		}
		body := make([]byte, n)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	var b bytes.Buffer
	b.Grow(smallBody)
	if _, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return nil, err
	}
	if b.Cap() > b.Len()+b.Len()/2 {
		return bytes.Clone(b.Bytes()), nil // it stays in memory for a while
	}
	return b.Bytes(), nil
}

// headerLines writes the header as lines, by name; the Host among them, which net/http keeps apart.
func headerLines(r *http.Request) []byte {
	var room [16]string
	names, size := room[:0], len("Host: \r\n")+len(r.Host)
	for name, values := range r.Header {
		names = append(names, name)
		for _, value := range values {
			size += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	slices.Sort(names)
	b := make([]byte, 0, size)
	b = append(append(append(b, "Host: "...), r.Host...), "\r\n"...)
	for _, name := range names {
		for _, value := range r.Header[name] {
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	return b
}

// stores says why the disk cannot store; nil if it can. When it last could not, it is tried: otherwise an edge that nobody sends
// callbacks any more, because it is not ready, would never learn that it is again.
func (in *ingress) stores(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	err := in.probe(ctx)
	if err != nil {
		in.log.Warn("not ready: the disk cannot store", "err", err)
	}
	return err
}

func (in *ingress) health(w http.ResponseWriter, r *http.Request, well bool) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "ask with GET")
	case !well:
		refuse(w, http.StatusServiceUnavailable, "not ready: it starts, ends, or cannot store")
	default:
		w.Header().Set("Cache-Control", "no-store")
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	}
}

// refuse answers with an RFC 9457 problem. For what is left of a body net/http waits before it closes: not for long.
func refuse(w http.ResponseWriter, status int, detail string) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerFor))
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Connection", "close")
	answer(w, status, struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
}

func answer(w http.ResponseWriter, status int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerWithin))
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// server is an http.Server that answers who was let in before it was stopped. net/http waits five seconds for connections
// on which nothing was ever asked, and when it is told to shut down drops the request that it is reading just then.
type server struct {
	*http.Server
	listener net.Listener // set before Serve
	serving  sync.WaitGroup

	mu      sync.Mutex
	fresh   map[net.Conn]bool // accepted, and its first request has not yet come to the handler
	nobody  chan struct{}     // closed when fresh is empty, once somebody waits for that
	waiting bool
}

type connKey struct{}

// guestOf is the guest whose request has this context; nil: it did not come over the port.
func guestOf(ctx context.Context) *guest {
	c := ctx.Value(connKey{})
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	g, _ := c.(*guest)
	return g
}

func (in *ingress) server(log *slog.Logger) *server { return newServer(in, log) }

func newServer(h http.Handler, log *slog.Logger) *server {
	s := &server{fresh: make(map[net.Conn]bool), nobody: make(chan struct{})}
	s.Server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
				s.known(c)
			}
			h.ServeHTTP(w, r)
		}),
		ReadTimeout:    readWithin, // also of what is left of a body that nobody wants
		WriteTimeout:   readWithin + storeWithin + answerWithin,
		IdleTimeout:    idleFor,
		MaxHeaderBytes: maxHeader - 4096, // net/http allows 4096 bytes more than it is told
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: maxBody},
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.mu.Lock()
				s.fresh[c] = true
				s.mu.Unlock()
			case http.StateClosed:
				s.known(c)
			}
		},
	}
	return s
}

func (s *server) known(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fresh[c] {
		return
	}
	delete(s.fresh, c)
	if s.waiting && len(s.fresh) == 0 {
		close(s.nobody)
		s.waiting = false
	}
}

// stop takes nothing new, and waits for what is under way until ctx is done; for the first request of those who were let
// in just now, a moment. It is called once.
func (s *server) stop(ctx context.Context) {
	if s.listener == nil {
		return
	}
	s.SetKeepAlivesEnabled(false)
	s.listener.Close()
	s.serving.Wait() // from here on nobody comes whom we do not see
	s.mu.Lock()
	if s.waiting = len(s.fresh) > 0; !s.waiting {
		close(s.nobody)
	}
	s.mu.Unlock()
	patience := time.NewTimer(freshFor)
	defer patience.Stop()
	select {
	case <-s.nobody:
	case <-patience.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.waiting = false
	for c := range s.fresh {
		c.Close()
	}
	s.mu.Unlock()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}
