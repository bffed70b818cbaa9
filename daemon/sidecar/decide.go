package sidecar

import (
	"errors"
	"net/http"
	"strings"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/sync/correlate"
)

// decide is for a payment of which only a person can say whether it was made. It comes in on the operator's socket alone.
func (s *Sidecar) decide(paid bool) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		var in struct {
			Reason  string `json:"reason"`
			Receipt string `json:"receipt"`
		}
		if p := readJSON(w, r, &in); p != nil {
			return p
		}
		d := correlate.Decision{Who: console.Who(r), Reason: strings.TrimSpace(in.Reason), Receipt: strings.TrimSpace(in.Receipt)}
		switch {
		case d.Reason == "" || len(d.Reason) > 300:
			return badRequest("reason is needed, in at most 300 characters: what was looked at, for whoever reads the audit")
		case d.Receipt != "" && !paid:
			return badRequest("a payment that was not made has no receipt")
		case len(d.Receipt) > 32:
			return badRequest("a receipt has ten letters and digits")
		}
		payment, err := s.table.Payment(r.Context(), r.PathValue("id"))
		if err == nil {
			if paid {
				payment, err = s.table.Confirm(r.Context(), payment.ID, d)
			} else {
				payment, err = s.table.Deny(r.Context(), payment.ID, d)
			}
		}
		switch {
		case errors.Is(err, correlate.ErrNotFound):
			return problemf(http.StatusNotFound, "not-found", "no such payment")
		case errors.Is(err, correlate.ErrPaid):
			return problemf(http.StatusConflict, "paid", "%s", correlate.ErrPaid)
		case errors.Is(err, correlate.ErrReceipt):
			return problemf(http.StatusConflict, "other-receipt", "%s, or M-Pesa has told of this one with another receipt", correlate.ErrReceipt)
		case err != nil:
			return s.internal("decide about a payment", err)
		}
		reply(w, http.StatusOK, viewOf(payment))
		return nil
	}
}
