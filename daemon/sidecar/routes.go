package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// Bounds of what is read. Daraja's callbacks are under a kilobyte; an app's requests too.
const (
	maxRequest  = 16 << 10
	maxCallback = 256 << 10
	readTime    = 10 * time.Second // for a body to arrive
)

// A handler answers, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) *problem

// routes leads a request to its answer. Life ends with Run: readers are then told to go. Work ends a moment later: what
// was begun with Daraja is under it.
//
//	anyone   pages, client.js, healthz, readyz
//	app      knows the API key; in dev anyone on loopback
//	session  knows a session's id
//	callback Daraja, whom nothing identifies: always stored, never refused for its shape or source
func (s *Sidecar) routes(life, work context.Context) http.Handler {
	mux := http.NewServeMux()
	anyone := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkHost)) }
	app := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkCaller, s.checkKey)) }
	session := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkCaller, checkSessionID)) }
	callback := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h)) }

	app("POST /sessions", s.openSession)
	session("GET /sessions/{session}", s.getSession(life))
	session("POST /sessions/{session}/initiate", s.initiate(work))
	session("GET /pay/{session}/about", s.aboutSession)
	app("POST /payments", s.registerPayment)
	app("GET /payments", s.listPayments)
	app("GET /payments/{id}", s.getPayment)
	app("POST /payments/search", s.searchPayments)
	app("GET /callbacks", s.listCallbacks)
	app("GET /status", s.getStatus)

	// A WebSocket that is not let in is told why by its close code, so these ask their questions themselves.
	mux.HandleFunc("GET /sessions/{session}/websocket", s.sessionSocket(life))
	mux.HandleFunc("GET /sessions/{session}/events", s.sessionEvents(life))
	mux.HandleFunc("GET /events", s.allEvents(life))

	if s.config.Dev {
		mux.HandleFunc("POST /sessions/{session}/webhook", s.answer(s.webhook, s.checkOrigin, checkSessionID))
	}
	if s.config.AcceptCallbacks {
		callback("POST /c/{key}", s.takeCallback)
		callback("POST /c/{key}/{ref}", s.takeCallback)
	}
	anyone("GET /healthz", s.getHealth)
	anyone("GET /readyz", s.getReady)
	s.pages(anyone)
	return s.front(mux)
}

// front is what every request passes first.
func (s *Sidecar) front(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.enter() {
			w.Header().Set("Connection", "close")
			problemf(http.StatusServiceUnavailable, "going-away", "this sidecar is stopping").after(time.Second).write(w)
			return
		}
		defer s.requests.leave()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // a session's address is its capability
		h.Set("Cache-Control", "no-store")

		bodiless := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if bodiless && r.ContentLength != 0 { // nobody here would read it, nor bound the time it takes
			h.Set("Connection", "close")
			badRequest("%s takes no body", r.Method).write(w)
			return
		}
		ofSession := strings.HasPrefix(r.URL.Path, "/sessions/")
		if ofSession || s.config.Dev {
			s.cors(w, r)
			if r.Method == http.MethodOptions {
				s.preflight(w, r)
				return
			}
		}
		if h, pattern := mux.Handler(r); pattern == "" { // the mux says why in plain text; we say it as a problem
			silent := &statusOnly{ResponseWriter: w}
			h.ServeHTTP(silent, r)
			kind, detail := "not-found", "there is nothing at this address"
			if silent.status == http.StatusMethodNotAllowed {
				kind, detail = "method-not-allowed", "this address takes "+w.Header().Get("Allow")
			}
			problemf(silent.status, kind, "%s", detail).write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// statusOnly keeps an answer's status and headers and drops the rest.
type statusOnly struct {
	http.ResponseWriter
	status int
}

func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// answer asks the questions of a route, then lets its handler answer.
func (s *Sidecar) answer(h handler, questions ...func(*http.Request) *problem) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := first(r, questions...)
		if p == nil {
			p = h(w, r)
		}
		if p != nil {
			p.write(w)
		}
	}
}

func first(r *http.Request, questions ...func(*http.Request) *problem) *problem {
	for _, ask := range questions {
		if p := ask(r); p != nil {
			return p
		}
	}
	return nil
}

func (s *Sidecar) checkHost(r *http.Request) *problem {
	if !s.knownHost(r) {
		return unknownHost()
	}
	return nil
}

// checkSessionID refuses what can be no session. Outside dev, only what OpenSession made is one; the look-up tells.
func checkSessionID(r *http.Request) *problem {
	id := r.PathValue("session")
	ok := id != "" && len(id) <= 128 && id != "." && id != ".."
	for i := 0; i < len(id) && ok; i++ {
		c := id[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._~-", c) >= 0
	}
	if !ok {
		return problemf(http.StatusBadRequest, "bad-session", "a session's id is 1 to 128 letters, digits, dots, underscores, tildes and hyphens")
	}
	return nil
}

// knownSession refuses a session that was not opened, except in dev.
func (s *Sidecar) knownSession(ctx context.Context, id string) (correlate.Session, *problem) {
	session, err := s.table.Session(ctx, id)
	switch {
	case errors.Is(err, correlate.ErrNotFound) && s.config.Dev:
		return correlate.Session{ID: id}, nil
	case errors.Is(err, correlate.ErrNotFound), err == nil && !session.Opened && !s.config.Dev:
		return session, noSuchSession()
	case err != nil:
		return session, s.internal("look up a session", err)
	}
	return session, nil
}

func noSuchSession() *problem {
	return problemf(http.StatusNotFound, "no-such-session", "no such session is open: the app opens one with POST /sessions")
}

// internal logs what went wrong and says no more than that something did.
func (s *Sidecar) internal(what string, err error) *problem {
	if errors.Is(err, context.Canceled) {
		return problemf(http.StatusServiceUnavailable, "going-away", "this sidecar is stopping").after(time.Second)
	}
	s.log.Error("sidecar: cannot "+what, "error", err)
	return problemf(http.StatusInternalServerError, "internal", "this sidecar could not do it; its log says why")
}

// readBody reads a whole body within bounds of size and time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{}) // the server watches the connection for its end while we answer
	var tooLong *http.MaxBytesError
	var netErr net.Error
	switch {
	case errors.As(err, &tooLong):
		return nil, problemf(http.StatusRequestEntityTooLarge, "too-large", "the body is over %d bytes", limit)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		w.Header().Set("Connection", "close")
		return nil, problemf(http.StatusRequestTimeout, "timeout", "the body stopped coming")
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, badRequest("the body broke off")
	}
	return body, nil
}

// readJSON reads a body that is one JSON object. Fields that are not known are left alone.
func readJSON(w http.ResponseWriter, r *http.Request, into any) *problem {
	body, p := readBody(w, r, maxRequest)
	if p != nil {
		return p
	}
	if err := json.Unmarshal(body, into); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) && wrongType.Field != "" {
			return badRequest("%s cannot be a JSON %s", wrongType.Field, wrongType.Value)
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || len(body) == 0 {
			return badRequest("the body is not a JSON object")
		}
		return badRequest("%s", strings.TrimPrefix(err.Error(), "push: "))
	}
	return nil
}

// word is a short text that people also write as a number: a phone number, an account.
type word string

func (t *word) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) == "null" {
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return errors.New("a text was expected")
	}
	*t = word(n)
	return nil
}

// amount is money that may be absent, or left open.
type amount struct {
	push.Money
	given, open bool
}

func (a *amount) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", `""`:
		return nil
	case `"open"`:
		a.given, a.open = true, true
		return nil
	}
	a.given = true
	return a.Money.UnmarshalJSON(b)
}

// pageSize reads ?limit=.
func pageSize(r *http.Request, standard, most int) (int, *problem) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, badRequest("limit is a number from 1 to %d", most)
	}
	return n, nil
}

// pageCursor checks ?after= of a list.
func pageCursor(after string) *problem {
	if after == "" {
		return nil
	}
	if _, err := push.ParseCursor(after); err != nil {
		return badRequest("after is what the page before answered as next")
	}
	return nil
}

// getHealth says that the process serves.
func (s *Sidecar) getHealth(w http.ResponseWriter, _ *http.Request) *problem {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// Ready reports why callbacks cannot reach this sidecar and be stored; nil if they can.
func (s *Sidecar) Ready(ctx context.Context) error {
	if _, err := s.table.Oldest(ctx); err != nil {
		s.log.Error("sidecar: the database cannot be read", "error", err)
		return errors.New("the database cannot be read")
	}
	if s.tunnel != nil && !s.tunnel.Status().Connected {
		return errors.New("the edge is not connected")
	}
	return nil
}

func (s *Sidecar) getReady(w http.ResponseWriter, r *http.Request) *problem {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		return problemf(http.StatusServiceUnavailable, "not-ready", "%v", err)
	}
	reply(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

// getStatus says how the sidecar is: to the till, which shows how fresh it is, and to whoever looks after it.
func (s *Sidecar) getStatus(w http.ResponseWriter, r *http.Request) *problem {
	type link struct {
		Connected bool       `json:"connected"`
		Since     *push.Time `json:"since,omitempty"`
		Edge      string     `json:"edge"`
		Remote    string     `json:"remote,omitempty"`
		RTT       float64    `json:"rttMs,omitempty"`
		Error     string     `json:"error,omitempty"`
	}
	type shortcode struct {
		Name        string `json:"name"`
		Number      string `json:"number"`
		Kind        string `json:"kind"`
		Environment string `json:"environment"`
	}
	counts, err := s.table.Counts(r.Context())
	if err != nil {
		return s.internal("count callbacks", err)
	}
	status := struct {
		Dev        bool             `json:"dev"`
		Time       push.Time        `json:"time"`
		Started    push.Time        `json:"started"`
		Head       push.Cursor      `json:"head"` // of all events: what /events?after= may begin with
		Link       *link            `json:"link,omitempty"`
		Callback   string           `json:"callback,omitempty"` // the base of callback addresses
		Shortcodes []shortcode      `json:"shortcodes"`
		Callbacks  map[string]int64 `json:"callbacks"`
		Readers    int              `json:"subscribers"`
		Phone      string           `json:"phone,omitempty"`
		Edge       string           `json:"edge,omitempty"`
		Sandbox    string           `json:"sandbox,omitempty"`
	}{
		Dev: s.config.Dev, Time: push.Time{Time: time.Now()}, Started: push.Time{Time: s.started}, Head: s.cursor(s.hub.Head()),
		Callback: s.callbackBase(), Shortcodes: []shortcode{}, Callbacks: counts, Readers: s.subscribers.count(),
		Phone: s.config.PhoneURL, Edge: s.config.EdgeURL, Sandbox: s.config.SandboxURL,
	}
	for _, c := range s.config.Shortcodes {
		status.Shortcodes = append(status.Shortcodes, shortcode{c.Name, c.Number, c.Kind, c.Environment})
	}
	if s.tunnel != nil {
		t := s.tunnel.Status()
		status.Link = &link{Connected: t.Connected, Edge: s.config.Edge, Remote: t.Remote, RTT: float64(t.RTT.Microseconds()) / 1000, Error: t.LastError}
		if !t.Since.IsZero() {
			status.Link.Since = &push.Time{Time: t.Since}
		}
	}
	reply(w, http.StatusOK, status)
	return nil
}

// callbackBase is the address that a payment's ref is appended to; "" as long as no edge has told us one.
func (s *Sidecar) callbackBase() string {
	if s.tunnel == nil {
		if s.config.AcceptCallbacks {
			return s.base + "/c/" + s.inbox
		}
		return ""
	}
	if base := s.tunnel.Status().Callback; base != "" {
		return base
	}
	return s.table.CallbackBase() // as the edge said before we were started again
}

func noCallbackAddress() *problem {
	return problemf(http.StatusServiceUnavailable, "no-callback-address",
		"there is no address yet at which the answer could come back, so nothing was sent: the edge has not been reached since this sidecar was set up").after(2 * time.Second)
}

func callbackURL(base, ref string) string {
	return fmt.Sprintf("%s/%s", strings.TrimSuffix(base, "/"), ref)
}
