package sidecar

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// How a till gets in: an operator asks for a code (hodi till invite), a cashier types it at /till, and the browser gets a
// cookie for it, which no script can read and no other site can send. With it the till reads events and payments and asks
// for payments. A till is revoked by its number; then its cookie is nothing, and what it has open is closed.

const (
	inviteLife  = 10 * time.Minute
	inviteOpen  = 20                  // codes that are open at once; the oldest give way
	tillIdle    = 90 * 24 * time.Hour // a till that was not seen for so long is not let in
	tillCookie  = 400 * 24 * time.Hour
	maxTillName = 40
)

// Letters that look and sound like no other, and can spell no word: 27 of them, so a code has 38 bits.
const (
	codeLetters = "BCDFGHJKMNPQRSTVWXZ23456789"
	codeLength  = 8
)

// Guessing: of 2.8e11 codes, 20 of which may be open, this many can be tried while one is.
const (
	guessesEach = 10 // from one address, in guessTime
	guessesAll  = 500
	guessTime   = 10 * time.Minute
)

// tills is what is kept in memory about tills: codes that nobody has used yet, wrong guesses, and what tills have open.
type tills struct {
	mu      sync.Mutex
	invites []invite
	guesses guesses
	live    map[int64]map[*context.CancelCauseFunc]struct{}
	revoked map[int64]bool // in the life of this process
}

type invite struct {
	code  [sha256.Size]byte
	name  string
	who   string
	until time.Time
}

type guesses struct {
	since time.Time
	all   int
	by    map[string]int
}

var (
	errRevoked    = errors.New("the till was revoked")
	errNoSuchCode = errors.New("no such code is open")
)

// invite makes a code.
func (t *tills) invite(name, who string, now time.Time) (code string, until time.Time) {
	letters := make([]byte, 0, codeLength)
	for b := make([]byte, 1); len(letters) < codeLength; {
		rand.Read(b)
		if int(b[0]) < len(codeLetters)*9 { // so that each is as likely as the others
			letters = append(letters, codeLetters[int(b[0])%len(codeLetters)])
		}
	}
	code, until = string(letters), now.Add(inviteLife)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.invites) >= inviteOpen {
		t.invites = t.invites[1:]
	}
	t.invites = append(t.invites, invite{sha256.Sum256(letters), name, who, until})
	return code[:codeLength/2] + "-" + code[codeLength/2:], until
}

// take takes a code, which is then none any more. Wait is not zero if there were too many wrong ones.
func (t *tills) take(code, from string, now time.Time) (in invite, wait time.Duration, err error) {
	code = strings.Map(func(r rune) rune {
		if r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, code)
	sum := sha256.Sum256([]byte(code)) // compared by its hash: the time that takes tells nothing about the code
	t.mu.Lock()
	defer t.mu.Unlock()
	g := &t.guesses
	if now.Sub(g.since).Abs() >= guessTime {
		*g = guesses{since: now, by: make(map[string]int)}
	}
	if g.all >= guessesAll || g.by[from] >= guessesEach {
		return in, g.since.Add(guessTime).Sub(now), errNoSuchCode
	}
	for i, in := range t.invites {
		if in.code == sum && now.Before(in.until) {
			t.invites = append(t.invites[:i:i], t.invites[i+1:]...)
			return in, 0, nil
		}
	}
	g.all++
	g.by[from]++
	return in, 0, errNoSuchCode
}

// open derives a context that ends, with errRevoked, when the till is revoked.
func (t *tills) open(ctx context.Context, id int64) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revoked[id] { // after we looked, and before we came here
		cancel(errRevoked)
	}
	if t.live == nil {
		t.live = make(map[int64]map[*context.CancelCauseFunc]struct{})
	}
	if t.live[id] == nil {
		t.live[id] = make(map[*context.CancelCauseFunc]struct{})
	}
	t.live[id][&cancel] = struct{}{}
	return ctx, func() {
		cancel(nil)
		t.mu.Lock()
		defer t.mu.Unlock()
		if delete(t.live[id], &cancel); len(t.live[id]) == 0 {
			delete(t.live, id)
		}
	}
}

func (t *tills) close(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revoked == nil {
		t.revoked = make(map[int64]bool)
	}
	t.revoked[id] = true
	for cancel := range t.live[id] {
		(*cancel)(errRevoked)
	}
}

func (t *tills) connections(id int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live[id])
}

// ---- at the door

// cookieName has the prefix by which browsers see to it that nobody has set the cookie over plain HTTP or for more than
// this host.
func (s *Sidecar) cookieName(r *http.Request) string {
	if s.secure(r) {
		return "__Host-hodi-till"
	}
	return "hodi-till"
}

// secure reports whether the browser has come over TLS: to us, or to the proxy that the public address is.
func (s *Sidecar) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	u, err := url.Parse(s.settings.Load().config.PublicURL)
	return err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host)
}

func (s *Sidecar) setCookie(w http.ResponseWriter, r *http.Request, token string) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(r), Value: token, Path: "/", MaxAge: int(tillCookie.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.secure(r),
	})
}

// admit asks whether a caller is the app or a till. A till is nil for the app.
func (s *Sidecar) admit(r *http.Request) (*correlate.Till, *problem) {
	if s.config.Dev || r.Header.Get("Authorization") != "" {
		return nil, s.checkKey(r)
	}
	return s.till(r)
}

func (s *Sidecar) checkReader(r *http.Request) *problem {
	_, p := s.admit(r)
	return p
}

// till finds the till that a cookie says. A browser sends a cookie along whoever makes it ask, as long as that is of the same
// site, which every port of this machine is; so it counts only on requests of our own pages.
func (s *Sidecar) till(r *http.Request) (*correlate.Till, *problem) {
	token := cookieOf(r, s.cookieName(r))
	if token == "" {
		return nil, problemf(http.StatusUnauthorized, "not-authorised", "this is for the app, with the key in %s of the sidecar's data folder as Authorization: Bearer, and for tills: hodi till invite", apiKey)
	}
	if !s.ownPage(r) {
		return nil, problemf(http.StatusForbidden, "forbidden-origin", "a till's cookie counts on requests of the till's own page only")
	}
	till, err := s.table.TillByToken(r.Context(), token, tillIdle)
	switch {
	case errors.Is(err, correlate.ErrNotFound):
		return nil, problemf(http.StatusUnauthorized, "not-authorised", "this till is not let in any more: it needs a new code")
	case err != nil:
		return nil, s.internal("look up a till", err)
	}
	return &till, nil
}

func cookieOf(r *http.Request, name string) string {
	if c, err := r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

// ownPage reports whether it is a page of ours that makes the browser ask. What changes something must say so; a GET may come
// from the address bar.
func (s *Sidecar) ownPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if origin := r.Header.Get("Origin"); origin != "" {
		origin, err := originOf(origin)
		return err == nil && s.ownOrigin(r, origin) && (site == "" || site == "same-origin")
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	return site == "same-origin" || reads && (site == "" || site == "none")
}

// getDevice tells the till's page whether it is let in, and as what.
func (s *Sidecar) getDevice(w http.ResponseWriter, r *http.Request) *problem {
	if s.config.Dev {
		reply(w, http.StatusOK, map[string]any{"dev": true})
		return nil
	}
	till, p := s.till(r)
	if p != nil {
		return p
	}
	s.setCookie(w, r, cookieOf(r, s.cookieName(r))) // browsers forget one that is never renewed
	reply(w, http.StatusOK, map[string]any{"till": till.ID, "name": till.Name})
	return nil
}

// enterTill exchanges a code for a cookie.
func (s *Sidecar) enterTill(w http.ResponseWriter, r *http.Request) *problem {
	if !s.ownPage(r) {
		return problemf(http.StatusForbidden, "forbidden-origin", "a code is taken from the till's own page only")
	}
	var in struct {
		Code string `json:"code"`
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	invited, wait, err := s.tills.take(in.Code, hostname(r.RemoteAddr), time.Now())
	if err != nil {
		s.turnedAway(r, "wrong-code", "with a till's code that is not open")
		if wait > 0 {
			return problemf(http.StatusTooManyRequests, "too-many-codes", "too many wrong codes were tried: wait, and ask for a new one").after(wait)
		}
		return problemf(http.StatusForbidden, "wrong-code", "this code is not open: it may be mistyped, used, or older than ten minutes")
	}
	till, token, err := s.table.AddTill(r.Context(), invited.name, invited.who)
	if err != nil {
		return s.internal("let a till in", err)
	}
	s.log.Info("sidecar: a till was let in", "till", till.ID, "name", till.Name)
	s.setCookie(w, r, token)
	reply(w, http.StatusCreated, map[string]any{"till": till.ID, "name": till.Name})
	return nil
}

// ---- the operator's side

func (s *Sidecar) inviteTill(w http.ResponseWriter, r *http.Request) *problem {
	var in struct{ Name string }
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	in.Name = cmp.Or(strings.TrimSpace(in.Name), "till")
	if len([]rune(in.Name)) > maxTillName || strings.ContainsFunc(in.Name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return badRequest("a till's name has at most %d letters", maxTillName)
	}
	who := console.Who(r)
	code, until := s.tills.invite(in.Name, who, time.Now())
	if err := s.table.Audit(r.Context(), correlate.Act{Who: who, Act: "till invited", Subject: in.Name}); err != nil {
		return s.internal("write down an invitation", err)
	}
	reply(w, http.StatusCreated, map[string]any{"code": code, "until": push.Time{Time: until}, "url": s.settings.Load().base + "/till"})
	return nil
}

type tillView struct {
	ID      int64      `json:"id"`
	Name    string     `json:"name"`
	Created push.Time  `json:"created"`
	Seen    push.Time  `json:"seen"`
	State   string     `json:"state"` // in, idle or revoked
	Revoked *push.Time `json:"revoked,omitempty"`
	Open    int        `json:"open"` // connections
}

func (s *Sidecar) viewTill(t correlate.Till) tillView {
	v := tillView{ID: t.ID, Name: t.Name, Created: push.Time{Time: t.Created}, Seen: push.Time{Time: t.Seen}, State: "in", Open: s.tills.connections(t.ID)}
	if time.Since(t.Seen) > tillIdle {
		v.State = "idle"
	}
	if !t.Revoked.IsZero() {
		v.State, v.Revoked = "revoked", &push.Time{Time: t.Revoked}
	}
	return v
}

func (s *Sidecar) listTills(w http.ResponseWriter, r *http.Request) *problem {
	list, err := s.table.Tills(r.Context())
	if err != nil {
		return s.internal("list tills", err)
	}
	views := make([]tillView, len(list))
	for i, t := range list {
		views[i] = s.viewTill(t)
	}
	reply(w, http.StatusOK, map[string]any{"tills": views})
	return nil
}

func (s *Sidecar) revokeTill(w http.ResponseWriter, r *http.Request) *problem {
	id, err := strconv.ParseInt(r.PathValue("till"), 10, 64)
	if err != nil {
		return badRequest("a till is named by its number: hodi till list")
	}
	till, err := s.table.RevokeTill(r.Context(), id, console.Who(r))
	switch {
	case errors.Is(err, correlate.ErrNotFound):
		return problemf(http.StatusNotFound, "not-found", "there is no till %d: hodi till list", id)
	case err != nil:
		return s.internal("revoke a till", err)
	}
	open := s.tills.connections(id)
	s.tills.close(id)
	s.log.Warn("sidecar: a till was revoked", "till", id, "name", till.Name)
	view := s.viewTill(till)
	view.Open = open // that were closed
	reply(w, http.StatusOK, view)
	return nil
}

// closedBy is what a socket is told whose life has ended: by our own end, or by its till's.
func closedBy(life context.Context) (websocket.StatusCode, string) {
	if errors.Is(context.Cause(life), errRevoked) {
		return closeNotAuthorised, errRevoked.Error()
	}
	return websocket.StatusGoingAway, "the sidecar stops: come back"
}
