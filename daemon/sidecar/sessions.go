package sidecar

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// openSession begins one checkout. What the customer is to pay, and for what, is the app's to say: a page that chooses
// its own amount must have been given that freedom.
func (s *Sidecar) openSession(w http.ResponseWriter, r *http.Request) *problem {
	var in struct {
		Amount           amount `json:"amount"`
		AccountReference word   `json:"accountReference"`
		Shortcode        word   `json:"shortcode"`
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	if !in.Amount.given {
		return badRequest(`amount is needed: whole shillings, or "open" to let the page choose`)
	}
	session := correlate.Session{AccountReference: strings.TrimSpace(string(in.AccountReference))}
	if !in.Amount.open {
		if p := checkAmount(in.Amount.Money); p != nil {
			return p
		}
		session.Amount = in.Amount.Money
	}
	if p := checkReference(session.AccountReference); p != nil {
		return p
	}
	if in.Shortcode != "" {
		client, p := s.settings.Load().client(string(in.Shortcode))
		if p != nil {
			return p
		}
		session.Shortcode = client.Shortcode.Name
	}
	till, _ := s.asks(r)
	if p := s.tillMay(r, till, &s.tillSessions, "sessions"); p != nil {
		return p
	}
	session, err := s.table.OpenSession(r.Context(), session)
	if err != nil {
		return s.internal("open a session", err)
	}
	base := s.addressFor(r)
	path := base + "/sessions/" + session.ID
	w.Header().Set("Location", path)
	reply(w, http.StatusCreated, struct {
		ID        string `json:"id"`
		URL       string `json:"url"` // the checkout page, for the customer
		State     string `json:"state"`
		Initiate  string `json:"initiate"`
		WebSocket string `json:"websocket"`
		Events    string `json:"events"`
		checkout
	}{
		ID: session.ID, URL: base + "/pay/" + session.ID, State: path, Initiate: path + "/initiate",
		WebSocket: "ws" + strings.TrimPrefix(path, "http") + "/websocket", Events: path + "/events",
		checkout: s.checkout(session),
	})
	return nil
}

// addressFor is our own address as the caller may use it: the public one, or the name it called us by.
func (s *Sidecar) addressFor(r *http.Request) string {
	set := s.settings.Load()
	if set.config.PublicURL == "" && s.knownHost(r) {
		scheme, _, _ := strings.Cut(set.base, ":")
		if u := (&url.URL{Scheme: scheme, Host: r.Host}); u.Hostname() != "" {
			return u.String()
		}
	}
	return set.base
}

// checkout is what is fixed about a session, for the page that shows it.
type checkout struct {
	Amount           any    `json:"amount,omitempty"` // shillings, or "open"
	AccountReference string `json:"accountReference,omitempty"`
	Shortcode        string `json:"shortcode,omitempty"` // its name
	Number           string `json:"number,omitempty"`    // what customers pay to
	Kind             string `json:"kind,omitempty"`      // paybill or till
	Environment      string `json:"environment,omitempty"`
	Business         string `json:"business,omitempty"` // what customers know it by
}

func (s *Sidecar) checkout(session correlate.Session) checkout {
	c := checkout{AccountReference: session.AccountReference, Shortcode: session.Shortcode}
	switch {
	case session.Amount != 0:
		c.Amount = session.Amount
	case session.Opened:
		c.Amount = "open"
	}
	set := s.settings.Load()
	if client, p := set.client(session.Shortcode); p == nil {
		code := client.Shortcode
		c.Number, c.Kind, c.Environment, c.Business = code.Number, code.Kind, code.Environment, set.config.Businesses[code.Name]
	}
	return c
}

// aboutSession tells the checkout page whom it asks money for, in words that a customer knows.
func (s *Sidecar) aboutSession(w http.ResponseWriter, r *http.Request) *problem {
	session, p := s.knownSession(r.Context(), r.PathValue("session"))
	if p != nil {
		return p
	}
	fixed := s.checkout(session)
	about := struct {
		Session          string      `json:"session"`
		Business         string      `json:"business,omitempty"`
		Amount           *push.Money `json:"amount"` // null: the page chooses
		AccountReference string      `json:"accountReference,omitempty"`
		Shortcode        string      `json:"shortcode,omitempty"` // the number
		Kind             string      `json:"kind,omitempty"`
		Environment      string      `json:"environment,omitempty"`
		Dev              bool        `json:"dev"`
	}{session.ID, fixed.Business, nil, fixed.AccountReference, fixed.Number, fixed.Kind, fixed.Environment, s.config.Dev}
	if session.Amount != 0 {
		about.Amount = &session.Amount
	}
	reply(w, http.StatusOK, about)
	return nil
}

// maxWait bounds a long poll: proxies cut silent connections at a minute.
const maxWait = 55 * time.Second

// getSession answers the present state, if asked to then only when it is news.
func (s *Sidecar) getSession(life context.Context) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		id := r.PathValue("session")
		session, p := s.knownSession(r.Context(), id)
		if p != nil {
			return p
		}
		wait, p := waitTime(r)
		if p != nil {
			return p
		}
		snapshot, err := s.table.Snapshot(r.Context(), id)
		if err != nil {
			return s.internal("read a session", err)
		}
		if after := r.URL.Query().Get("after"); after != "" {
			place, ok, err := s.resume(r.Context(), after)
			switch {
			case err != nil:
				return s.internal("find a reader's place", err)
			case !ok:
				snapshot.Message.Gap = true // and nothing to wait for: the state is news
			case wait > 0 && r.Method == http.MethodGet:
				if p := s.subscribers.enter(id); p != nil {
					return p
				}
				snapshot, err = s.waitForNews(r.Context(), life, id, snapshot, place, wait)
				s.subscribers.leave(id)
				if err != nil {
					return s.internal("wait for a session", err)
				}
			}
		}
		return s.writeState(w, r, session, snapshot)
	}
}

func waitTime(r *http.Request) (time.Duration, *problem) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, badRequest("wait is a time such as 25s")
	}
	return min(d, maxWait), nil
}

func (s *Sidecar) writeState(w http.ResponseWriter, r *http.Request, session correlate.Session, snapshot correlate.Snapshot) *problem {
	id := s.cursor(snapshot.SessionSeq)
	etag := `"` + id.String() + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "private, no-cache")
	fixed := s.checkout(session)
	if !snapshot.Exists {
		if noneMatch(r, etag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		reply(w, http.StatusOK, struct {
			ID       push.Cursor `json:"id"`
			Session  string      `json:"session"`
			Final    bool        `json:"final"`
			Checkout checkout    `json:"checkout"`
			Quiet    push.Time   `json:"noWordSince,omitzero"`
		}{id, session.ID, false, fixed, push.Time{Time: s.noWordSince()}})
		return nil
	}
	// A payment that has just begun is the present state before there is an event of it.
	begun := snapshot.Message.Data.Status == push.Pending && snapshot.Message.Data.MerchantRequestID == ""
	if !begun && noneMatch(r, etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	reply(w, http.StatusOK, struct {
		push.Message
		Checkout checkout  `json:"checkout"`
		Quiet    push.Time `json:"noWordSince,omitzero"` // from the edge: what is known is of before
	}{snapshot.Message, fixed, push.Time{Time: s.noWordSince()}})
	return nil
}

// noneMatch reports whether the caller has this already.
func noneMatch(r *http.Request, etag string) bool {
	for _, line := range r.Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == etag || one == "*" {
				return true
			}
		}
	}
	return false
}

// checkAmount refuses what cannot be pushed.
func checkAmount(m push.Money) *problem {
	if m%100 != 0 {
		return problemf(http.StatusBadRequest, "bad-amount", "M-Pesa takes whole shillings")
	}
	if daraja.CheckAmount(int64(m/100)) != nil {
		return problemf(http.StatusBadRequest, "bad-amount", "the amount is from 1 to 250000 shillings")
	}
	return nil
}

// checkReference refuses what Daraja would.
func checkReference(reference string) *problem {
	if reference == "" {
		return problemf(http.StatusBadRequest, "bad-reference", "accountReference is needed: what the customer's message is to name, such as an order's number")
	}
	if err := daraja.CheckReference(reference); err != nil {
		return problemf(http.StatusBadRequest, "bad-reference", "accountReference: %s", strings.TrimPrefix(err.Error(), "daraja: "))
	}
	return nil
}
