package sidecar

import (
	"net/http"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// The books, for the operator: hodi payments export and hodi reconcile read them page by page.

const ledgerPage = 1000

// listLedger answers lines of the books by when the money moved.
func (s *Sidecar) listLedger(w http.ResponseWriter, r *http.Request) *problem {
	q := r.URL.Query()
	var filter correlate.LedgerFilter
	var p *problem
	if filter.From, p = instant(q.Get("from"), false); p != nil {
		return p
	}
	if filter.To, p = instant(q.Get("to"), true); p != nil {
		return p
	}
	filter.Unpaid = q.Get("unpaid") == "true"
	lines, next, err := s.table.Ledger(r.Context(), filter, q.Get("after"), ledgerPage)
	if err != nil {
		return s.internal("read the books", err)
	}
	reply(w, http.StatusOK, struct {
		Lines []books.Line `json:"lines"`
		Next  string       `json:"next,omitempty"`
	}{s.lines(lines, q.Get("numbers") == "whole"), next})
	return nil
}

// ledgerOf answers the lines that have one of some receipts.
func (s *Sidecar) ledgerOf(w http.ResponseWriter, r *http.Request) *problem {
	var in struct{ Receipts []string }
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	if len(in.Receipts) > 500 {
		return badRequest("at most 500 receipts at once")
	}
	lines, err := s.table.LedgerOf(r.Context(), in.Receipts)
	if err != nil {
		return s.internal("read the books", err)
	}
	reply(w, http.StatusOK, map[string][]books.Line{"lines": s.lines(lines, false)})
	return nil
}

// ledgerDays answers from when to when there are lines, and of which shortcodes. Whoever begins to read customers' numbers
// whole says so here, for the audit: once, and not with each page.
func (s *Sidecar) ledgerDays(w http.ResponseWriter, r *http.Request) *problem {
	if r.URL.Query().Get("numbers") == "whole" {
		if err := s.table.Audit(r.Context(), correlate.Act{Who: console.Who(r), Act: "payments exported", Detail: "with customers' whole numbers"}); err != nil {
			return s.internal("write down who exports numbers", err)
		}
	}
	first, last, err := s.table.LedgerDays(r.Context())
	if err != nil {
		return s.internal("read the books", err)
	}
	type shortcode struct {
		Name        string `json:"name"`
		Number      string `json:"number"`
		Store       string `json:"store,omitempty"`
		Environment string `json:"environment"`
	}
	answer := struct {
		First      push.Time   `json:"first,omitzero"`
		Last       push.Time   `json:"last,omitzero"`
		Shortcodes []shortcode `json:"shortcodes"`
	}{push.Time{Time: first}, push.Time{Time: last}, []shortcode{}}
	for _, c := range s.settings.Load().config.Shortcodes {
		answer.Shortcodes = append(answer.Shortcodes, shortcode{c.Name, c.Number, c.Store, c.Environment})
	}
	reply(w, http.StatusOK, answer)
	return nil
}

// lines is lines as they are shown. A C2B notice names the number that was paid to, of a till perhaps its store's, and no
// environment; where only one shortcode goes by that number, it is that one's.
func (s *Sidecar) lines(list []correlate.Line, whole bool) []books.Line {
	out := make([]books.Line, len(list))
	for i, l := range list {
		out[i] = books.Line{
			Time: push.Time{Time: l.At}, Began: push.Time{Time: l.Began}, Receipt: l.Receipt, Amount: l.Amount, Reference: l.AccountReference, Status: string(l.Status),
			Number: l.Number, Environment: l.Environment, PaymentID: l.PaymentID, Session: l.Session, Doubt: l.Doubt, DecidedBy: l.DecidedBy,
		}
		switch {
		case l.Phone == "":
		case whole:
			out[i].Phone = l.Phone
		default:
			out[i].Phone = daraja.MaskPhone(l.Phone)
		}
		if l.PaymentID == "" {
			out[i].Number, out[i].Environment = s.businessOf(l.Number)
		}
	}
	return out
}

func (s *Sidecar) businessOf(number string) (main, environment string) {
	var found []daraja.Shortcode
	for _, c := range s.settings.Load().config.Shortcodes {
		if c.Number == number || c.Store == number {
			found = append(found, c)
		}
	}
	if len(found) == 1 {
		return found[0].Number, found[0].Environment
	}
	for i, c := range found {
		if i == 0 {
			environment = c.Environment
		}
		if c.Environment != environment {
			return number, ""
		}
	}
	return number, environment
}
