package sidecar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// takeCallback takes a callback that Daraja posts to this sidecar itself. The answer is the edge's: 200 only when the
// callback is on disk; and nothing is refused for its shape.
func (s *Sidecar) takeCallback(w http.ResponseWriter, r *http.Request) *problem {
	given, known := sha256.Sum256([]byte(r.PathValue("key"))), sha256.Sum256([]byte(s.inbox))
	if subtle.ConstantTimeCompare(given[:], known[:]) != 1 || !s.settings.Load().config.AcceptCallbacks {
		return problemf(http.StatusNotFound, "not-found", "there is nothing at this address")
	}
	return s.store(w, r, r.PathValue("ref"), "", acknowledgement{Desc: "Accepted"})
}

// acknowledgement is what Safaricom likes to read.
type acknowledgement struct {
	Status string `json:"status,omitempty"`
	Code   int    `json:"ResultCode"`
	Desc   string `json:"ResultDesc"`
}

// store keeps a callback as it came, bytes and headers, and lets the table judge it.
func (s *Sidecar) store(w http.ResponseWriter, r *http.Request, ref, session string, thanks acknowledgement) *problem {
	body, p := readBody(w, r, maxCallback)
	if p != nil {
		return p
	}
	var header bytes.Buffer
	_ = r.Header.Write(&header)
	entry := wire.Entry{
		Received: time.Now().Truncate(time.Millisecond), Kind: wire.KindNotice, Ref: ref, Remote: r.RemoteAddr,
		Header: header.Bytes(), Body: body,
	}
	// Once a body is read, storing it no longer depends on whether its poster waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
	defer cancel()
	callback, err := s.table.Receive(ctx, entry, session)
	if err != nil {
		s.log.Error("sidecar: a callback could not be stored", "err", err)
		return problemf(http.StatusServiceUnavailable, "not-stored", "the callback could not be stored").after(time.Second)
	}
	s.log.Debug("sidecar: callback", "id", callback.ID, "state", callback.State, "payment", callback.PaymentID)
	reply(w, http.StatusOK, thanks)
	return nil
}

// A callbackView is a callback as the app sees it, raw.
type callbackView struct {
	ID        string              `json:"id"`
	Received  push.Time           `json:"received"`         // at the edge
	Stored    *push.Time          `json:"stored,omitempty"` // here
	State     string              `json:"state"`
	Error     string              `json:"error,omitempty"`
	PaymentID string              `json:"paymentId,omitempty"`
	App       *appView            `json:"app,omitempty"` // what became of it there; absent: it is older than forwarding
	Session   string              `json:"session,omitempty"`
	Ref       string              `json:"ref,omitempty"`
	Remote    string              `json:"remote,omitempty"`
	Source    string              `json:"source,omitempty"`   // what the edge thinks of that: known, unknown, not believed
	Misdated  bool                `json:"misdated,omitempty"` // the letters of its receipt are of another day
	Headers   map[string][]string `json:"headers,omitempty"`
	Body      string              `json:"body"`
	BodyBytes []byte              `json:"bodyBase64,omitempty"` // in place of Body, if it is no text
}

// listCallbacks answers what settled nothing, oldest first: unless asked for otherwise, what somebody should look at.
func (s *Sidecar) listCallbacks(w http.ResponseWriter, r *http.Request) *problem {
	filter := correlate.CallbackFilter{
		States: []string{correlate.StateUnmatched, correlate.StateUnparsed, correlate.StateHeld, correlate.StateSuspect, correlate.StateForged},
		After:  r.URL.Query().Get("after"),
	}
	if given := r.URL.Query()["state"]; len(given) > 0 {
		filter.States = nil
		for one := range strings.SplitSeq(strings.Join(given, ","), ",") {
			if one == "any" {
				filter.States = nil
				break
			}
			if !slices.Contains(correlate.States(), one) {
				return badRequest("state is any, or one or more of %s", strings.Join(correlate.States(), ", "))
			}
			filter.States = append(filter.States, one)
		}
	}
	if given := r.URL.Query()["app"]; len(given) > 0 {
		if len(r.URL.Query()["state"]) == 0 {
			filter.States = nil
		}
		for one := range strings.SplitSeq(strings.Join(given, ","), ",") {
			if !slices.Contains(correlate.AppStates(), one) {
				return badRequest("app is one or more of %s", strings.Join(correlate.AppStates(), ", "))
			}
			filter.App = append(filter.App, one)
		}
	}
	p := pageCursor(filter.After)
	if p != nil {
		return p
	}
	if filter.Limit, p = pageSize(r, 50, 200); p != nil {
		return p
	}
	list, next, err := s.table.Callbacks(r.Context(), filter)
	if err != nil {
		return s.internal("list callbacks", err)
	}
	out := make([]callbackView, len(list))
	for i, c := range list {
		out[i] = callbackView{
			ID: c.ID, Received: push.Time{Time: c.Received}, State: c.State, Error: c.Error, PaymentID: c.PaymentID,
			Session: c.Session, Ref: c.Ref, Remote: c.Remote, Misdated: c.Misdated, Headers: headers(c.Header), App: appViewOf(c.App),
		}
		out[i].Stored = maybe(c.Stored)
		if c.Source != wire.SourceUnjudged {
			out[i].Source = c.Source.String()
		}
		if utf8.Valid(c.Body) {
			out[i].Body = string(c.Body)
		} else {
			out[i].BodyBytes = c.Body
		}
	}
	reply(w, http.StatusOK, struct {
		Callbacks []callbackView `json:"callbacks"`
		Next      string         `json:"next,omitempty"`
	}{out, next})
	return nil
}

// headers reads "Name: value" lines.
func headers(lines []byte) map[string][]string {
	h := map[string][]string{}
	for line := range strings.Lines(string(lines)) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			name = textproto.CanonicalMIMEHeaderKey(name)
			h[name] = append(h[name], strings.TrimSpace(value))
		}
	}
	return h
}
