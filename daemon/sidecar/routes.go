package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

// A handler answers, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) *problem

// routes leads a request to its answer. Life ends with Run: readers are then told to go. Work ends a moment later: what
// was begun with Daraja is under it.
//
//	anyone   pages, client.js, healthz, readyz
//	app      knows the API key; in dev anyone on loopback
//	reader   the same, and tills: tills.go
//	session  knows a session's id
//	callback Daraja, whom nothing identifies: always stored, never refused for its shape or source
func (s *Sidecar) routes(life, work context.Context) http.Handler {
	mux := http.NewServeMux()
	anyone := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkHost)) }
	app := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkCaller, s.checkKey)) }
	reader := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkCaller, s.checkReader)) }
	session := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h, s.checkCaller, checkSessionID)) }
	callback := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h)) }

	reader("POST /sessions", s.openSession)
	session("GET /sessions/{session}", s.getSession(life))
	session("POST /sessions/{session}/initiate", s.initiate(work))
	session("GET /pay/{session}/about", s.aboutSession)
	app("POST /payments", s.registerPayment)
	reader("GET /payments", s.listPayments)
	reader("GET /payments/{id}", s.getPayment)
	reader("POST /payments/search", s.searchPayments)
	app("GET /callbacks", s.listCallbacks)
	app("GET /status", s.getStatus)
	reader("GET /till/status", s.getTillStatus)
	mux.HandleFunc("GET /till/device", s.answer(s.getDevice, s.checkCaller))
	mux.HandleFunc("POST /till/device", s.answer(s.enterTill, s.checkCaller))

	// A WebSocket that is not let in is told why by its close code, so these ask their questions themselves.
	mux.HandleFunc("GET /sessions/{session}/websocket", s.sessionSocket(life))
	mux.HandleFunc("GET /sessions/{session}/events", s.sessionEvents(life))
	mux.HandleFunc("GET /events", s.allEvents(life))

	if s.config.Dev {
		mux.HandleFunc("POST /sessions/{session}/webhook", s.answer(s.webhook, s.checkOrigin, checkSessionID))
	}
	callback("POST /c/{key}", s.takeCallback)
	callback("POST /c/{key}/{ref}", s.takeCallback)
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
		if r.ContentLength != 0 {
			// Of a refusal, too: net/http reads what is left of a body before it says that nobody wants it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
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
		p := s.ask(r, questions...)
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
	s.log.Error("sidecar: cannot "+what, "err", err)
	s.table.Met(err)
	if correlate.Unavailable(err) {
		return problemf(http.StatusServiceUnavailable, "disk", "this sidecar's disk is full or fails: nothing was done. Try again").after(5 * time.Second)
	}
	return problemf(http.StatusInternalServerError, "internal", "this sidecar could not do it; its log says why")
}

// callbackBase is the address that a payment's ref is appended to; "" as long as no edge has told us one.
func (s *Sidecar) callbackBase() string {
	if s.tunnel == nil {
		if set := s.settings.Load(); set.config.AcceptCallbacks {
			return set.base + "/c/" + s.inbox
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
