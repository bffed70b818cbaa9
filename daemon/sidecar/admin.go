package sidecar

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// The operator's routes, on a socket that only the sidecar's own user may open. The app's key does not do here: an app may
// ask for money, and not decide what was paid, nor who else may listen.
//
//	GET /audit?before=&limit=     {"audit": [...]}: the newest lines, or those before one; oldest first
//	GET /payments, /payments/ID   as the app's; ?doubt=true are those that somebody has to look at
//	GET /ledger?from=&to=&unpaid=&numbers=&after=   the books, by when money moved: {"lines": [...], "next"}
//	POST /ledger {"receipts"}     those lines of them; GET /ledger/days?numbers=: {"first", "last", "shortcodes"}
//	POST /payments/ID/confirm     {"reason", "receipt"?}: it was made, says a person who has looked
//	POST /payments/ID/deny        {"reason"}: it was not
//	POST /forget {"phoneNumber"} or {"payment"}   erases a customer: {"payments", "callbacks", "left", "elsewhere"}
//	GET /keys                     those behind the refs in callback addresses, the oldest first
//	POST /keys                    another, for new payments; the older ones are believed until
//	DELETE /keys/NAME             they are retired
//	GET /callbacks                as the app's
//	GET /forward                  how it stands with the callbacks that the app is to be given
//	POST /forward/pause, /resume  gives it none; goes on
//	POST /replay {"ids"} or {"from", "to"} or {"dead": true}   gives it those once more; "only": true counts them
//	POST /tills {"name"?}         {"code", "until", "url"}: a code, to be typed at /till once
//	GET /tills                    {"tills": [...]}
//	DELETE /tills/{till}          revokes one
func (s *Sidecar) operatorRoutes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h handler) { mux.HandleFunc(pattern, s.answer(h)) }
	route("GET /audit", s.listAudit)
	route("GET /payments", s.listPayments)
	route("GET /payments/{id}", s.getPayment)
	route("GET /ledger", s.listLedger)
	route("POST /ledger", s.ledgerOf)
	route("GET /ledger/days", s.ledgerDays)
	route("POST /payments/{id}/confirm", s.decide(true))
	route("POST /payments/{id}/deny", s.decide(false))
	route("GET /keys", s.listRefKeys)
	route("POST /keys", s.rotateRefKey)
	route("DELETE /keys/{name}", s.retireRefKey)
	route("GET /status", s.getStatus)
	route("POST /forget", s.forget)
	route("GET /callbacks", s.listCallbacks)
	route("GET /forward", s.getForward)
	route("POST /forward/pause", s.pauseForward(true))
	route("POST /forward/resume", s.pauseForward(false))
	route("POST /replay", s.replay)
	route("POST /tills", s.inviteTill)
	route("GET /tills", s.listTills)
	route("DELETE /tills/{till}", s.revokeTill)
	return mux
}

// adminListener is the operator's door. A folder in which no socket can be made is no reason to take no callbacks.
func (s *Sidecar) adminListener() net.Listener {
	if s.config.Admin != nil {
		return s.config.Admin
	}
	l, err := console.Listen(s.config.Dir)
	if err != nil {
		s.log.Warn("no admin socket, so hodi audit, hodi till and hodi payments cannot be used (is the folder's path too long for one?)", "err", err)
		return nil
	}
	return l
}

// serveOperator serves the operator's socket, if there is one, until life ends.
func (s *Sidecar) serveOperator(life context.Context) error {
	if s.admin == nil {
		return nil
	}
	server := &http.Server{
		Handler: s.operatorRoutes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	context.AfterFunc(life, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), drainRequests)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	})
	if err := server.Serve(s.admin); !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("the admin socket has failed", "err", err)
	}
	<-life.Done()
	<-stopped
	return nil
}

// An act as the operator sees it.
type actView struct {
	ID      int64     `json:"id"`
	Time    push.Time `json:"time"`
	Who     string    `json:"who"`
	Act     string    `json:"act"`
	Subject string    `json:"subject,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

func (s *Sidecar) listAudit(w http.ResponseWriter, r *http.Request) *problem {
	limit, p := pageSize(r, 50, 1000)
	if p != nil {
		return p
	}
	before, err := strconv.ParseInt(cmp.Or(r.URL.Query().Get("before"), "0"), 10, 64)
	if err != nil || before < 0 {
		return badRequest("before is the number of a line")
	}
	acts, err := s.table.Acts(r.Context(), before, limit)
	if err != nil {
		return s.internal("read the audit", err)
	}
	list := make([]actView, len(acts))
	for i, a := range acts {
		list[i] = actView{a.ID, push.Time{Time: a.Time}, a.Who, a.Act, a.Subject, a.Detail}
	}
	reply(w, http.StatusOK, map[string][]actView{"audit": list})
	return nil
}

// ask asks questions, and writes down whom it turned away. Who comes without any key was perhaps only not told that there is one.
func (s *Sidecar) ask(r *http.Request, questions ...func(*http.Request) *problem) *problem {
	p := first(r, questions...)
	if p == nil {
		return nil
	}
	detail := ""
	switch p.kind {
	case "unknown-host":
		detail = "it called this sidecar " + short(r.Host)
	case "forbidden-origin":
		detail = "from a page of " + short(r.Header.Get("Origin"))
	case "not-authorised":
		switch {
		case r.Header.Get("Authorization") != "":
			detail = "with a key that is not the app's"
		case cookieOf(r, s.cookieName(r)) != "":
			detail = "with a cookie that is no till's"
		default:
			return p
		}
	default:
		return p
	}
	s.turnedAway(r, p.kind, detail)
	return p
}

// turnedAway writes down that somebody was.
func (s *Sidecar) turnedAway(r *http.Request, kind, detail string) {
	// The pattern, not the address: a session's address is its capability.
	a := correlate.Act{Who: hostname(r.RemoteAddr), Act: "refused: " + kind, Subject: r.Pattern, Detail: detail, Strangers: true}
	if err := s.table.Audit(context.WithoutCancel(r.Context()), a); err != nil {
		s.log.Warn("sidecar: a refusal could not be written down", "err", err)
	}
}

// short bounds what a stranger says.
func short(text string) string {
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	return strconv.Quote(text)
}
