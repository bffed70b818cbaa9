package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// handler is every route of the sandbox: Daraja's, the phone's controls, and its page.
func (s *Sandbox) handler() http.Handler {
	mux := http.NewServeMux()
	api := func(path string, h http.HandlerFunc) { mux.Handle(path, s.forPrograms(h)) }
	api("/oauth/v1/generate", s.generate)
	api("/mpesa/stkpush/v1/processrequest", s.processRequest)
	api("/mpesa/stkpushquery/v1/query", s.query)
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		s.refused(w, r, refuse(http.StatusNotFound, "404.001.01", "Resource not found").because("this sandbox has tokens, STK push and its query, and nothing else"))
	}
	api("/oauth/", elsewhere)
	api("/mpesa/", elsewhere)

	control := func(method, path string, h http.HandlerFunc) { mux.Handle(path, controlled(method, h)) }
	control(http.MethodGet, "/phone/state", s.getState)
	control(http.MethodGet, "/phone/events", s.getEvents)
	control(http.MethodPost, "/phone/answer", s.postAnswer)
	control(http.MethodPost, "/phone/behaviour", s.postBehaviour)
	control(http.MethodPost, "/phone/resend", s.postResend)
	servePage(mux)
	return mux
}

// forPrograms keeps pages from elsewhere out of Daraja's API. Its secrets are no secrets here, and it posts to whatever address
// it is told, so a page whose name was made to lead here could have it post to what only this machine can reach. Programs
// say no Origin, and may know this machine by any name.
func (s *Sandbox) forPrograms(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && (!knownHost(r) || !local(origin, r.Host)) {
			s.refused(w, r, refuse(http.StatusForbidden, "403.001.01", "Forbidden").because("a page of elsewhere asked, not a program: it said an Origin"))
			return
		}
		h(w, r)
	})
}

// problem is an error of the control routes, RFC 9457.
func problem(w http.ResponseWriter, status int, kind, detail string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{kind, http.StatusText(status), status, detail})
	if err != nil {
		panic(err) // strings and a number
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(body)
}

// controlled lets in scripts, the phone's own page, and pages of this machine; a page from anywhere else in the world that
// happens to be open in the same browser is kept out.
func controlled(method string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Add("Vary", "Origin")
		if !knownHost(r) {
			problem(w, http.StatusForbidden, "foreign-host", "on this machine the phone is reached by a loopback address")
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			if !local(origin, r.Host) {
				problem(w, http.StatusForbidden, "foreign-origin", "only pages on a loopback address may use the phone")
				return
			}
			w.Header().Set("Access-Control-Allow-Origin", origin)
		}
		switch r.Method {
		case method:
			h(w, r)
		case http.MethodOptions:
			w.Header().Set("Access-Control-Allow-Methods", method)
			w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Allow", method)
			problem(w, http.StatusMethodNotAllowed, "method-not-allowed", fmt.Sprintf("%s is a %s", r.URL.Path, method))
		}
	})
}

// knownHost keeps out a page whose own name was made to lead to this machine (DNS rebinding): what comes in on a loopback
// address must have asked for one.
func knownHost(r *http.Request) bool {
	at, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !isTCP || !at.IP.IsLoopback() || local("http://"+r.Host, "")
}

// local reports whether an origin is the sandbox's own or on a loopback address.
func local(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	if u.Host == host || u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

func (s *Sandbox) getState(w http.ResponseWriter, r *http.Request) {
	st, _, err := s.state()
	if err != nil {
		s.broken(w, err)
		return
	}
	reply(w, http.StatusOK, st)
}

// getEvents is the state as a stream of server-sent events: now, and whenever it changes.
func (s *Sandbox) getEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	for n := 1; ; n++ {
		st, changed, err := s.state()
		if err != nil {
			return // the stream ends, and the page says that it has
		}
		body, err := json.Marshal(st)
		if err != nil {
			panic(err) // strings, numbers and times
		}
		out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(w, "event: state\nid: %d\nretry: 1000\ndata: %s\n\n", n, body)
		if out.Flush() != nil {
			return
		}
		for waiting := true; waiting; {
			quiet := time.NewTimer(15 * time.Second)
			select {
			case <-changed:
				waiting = false
			case <-r.Context().Done():
				quiet.Stop()
				return
			case <-quiet.C:
				out.SetWriteDeadline(time.Now().Add(10 * time.Second))
				io.WriteString(w, ": still here\n\n")
				if out.Flush() != nil {
					return
				}
			}
			quiet.Stop()
		}
	}
}

// postAnswer is what the person with the phone does.
func (s *Sandbox) postAnswer(w http.ResponseWriter, r *http.Request) {
	var a Answer
	if !readControl(w, r, &a) || !readPhone(w, &a.Phone) {
		return
	}
	if err := a.check(); err != nil {
		problem(w, http.StatusBadRequest, "bad-answer", err.Error())
		return
	}
	coming, cancel := context.WithTimeout(r.Context(), s.config.PromptDelay+5*time.Second)
	defer cancel()
	waiting, stop := context.WithTimeout(r.Context(), time.Duration(a.Wait))
	defer stop()
	var answered *request
	try := func(ctx context.Context, wait bool) error {
		return s.await(ctx, func() (bool, error) {
			live, onItsWay, err := s.findPrompt(a)
			switch {
			case err != nil:
				return false, err
			case live != nil:
				answered = live
				return true, s.apply(live, a)
			case onItsWay || wait:
				return false, nil
			}
			return false, errNoPrompt
		})
	}
	err := try(coming, false)
	if errors.Is(err, errNoPrompt) && a.Wait > 0 {
		if err = try(waiting, true); errors.Is(err, context.DeadlineExceeded) {
			err = errNoPrompt
		}
	}
	switch {
	case errors.Is(err, errNoPrompt), errors.Is(err, context.DeadlineExceeded):
		problem(w, http.StatusConflict, "no-prompt", errNoPrompt.Error())
	case r.Context().Err() != nil:
	case err != nil:
		s.broken(w, err)
	default:
		reply(w, http.StatusOK, s.view(answered))
	}
}

// postBehaviour sets what phones do with the requests that come next. What it does not name stays as it is.
func (s *Sandbox) postBehaviour(w http.ResponseWriter, r *http.Request) {
	var change struct {
		Phone    string   `json:"phone"`
		Callback *string  `json:"callback"`
		Ack      *string  `json:"ack"`
		Auto     *outcome `json:"auto"`
		Late     *Seconds `json:"late"`
		Slow     *Seconds `json:"slow"`
		Once     *bool    `json:"once"`
	}
	if !readControl(w, r, &change) || !readPhone(w, &change.Phone) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.behaviour(change.Phone)
	if err != nil {
		s.broken(w, err)
		return
	}
	set(&b.Callback, change.Callback)
	set(&b.Ack, change.Ack)
	set(&b.Auto, change.Auto)
	set(&b.Late, change.Late)
	set(&b.Slow, change.Slow)
	set(&b.Once, change.Once)
	b = b.withDefaults()
	if err := b.check(); err != nil {
		problem(w, http.StatusBadRequest, "bad-behaviour", err.Error())
		return
	}
	if change.Phone == "" {
		err = s.store.forgetPhones()
	}
	if err = errors.Join(err, s.store.setBehaviour(change.Phone, b)); err != nil {
		s.broken(w, err)
		return
	}
	s.log.Info("behaviour", "phone", daraja.MaskPhone(change.Phone), "callback", b.Callback, "ack", b.Ack, "auto", b.Auto, "once", b.Once)
	s.touch()
	reply(w, http.StatusOK, b)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// postResend sends a callback again by hand.
func (s *Sandbox) postResend(w http.ResponseWriter, r *http.Request) {
	var which struct {
		ID string `json:"id"`
	}
	if !readControl(w, r, &which) {
		return
	}
	switch sent, err := s.again(which.ID); {
	case err != nil:
		s.broken(w, err)
	case sent == nil:
		problem(w, http.StatusNotFound, "no-such-request", "no ended request has this id; /phone/state lists them")
	default:
		reply(w, http.StatusOK, s.view(sent))
	}
}

// readControl reads the one JSON object of a control call. A misspelt member is an error: a test that sets nothing by
// mistake is a bad evening.
func readControl(w http.ResponseWriter, r *http.Request, v any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		err = d.Decode(v)
		if err == nil && d.More() {
			err = errors.New("there is more than one object")
		}
	}
	if err != nil {
		problem(w, http.StatusBadRequest, "bad-json", "the body is not the JSON object that is expected: "+err.Error())
	}
	return err == nil
}

// readPhone brings a phone number that may be absent into Daraja's form.
func readPhone(w http.ResponseWriter, phone *string) bool {
	if *phone == "" {
		return true
	}
	n, err := daraja.NormalizePhone(*phone)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad-phone", "phone is not a Kenyan mobile number such as 254708374149")
		return false
	}
	*phone = n
	return true
}

func (s *Sandbox) broken(w http.ResponseWriter, err error) {
	s.log.Error("the store does not work", "err", err)
	problem(w, http.StatusInternalServerError, "store", "the sandbox cannot reach its own store; its log says why")
}
