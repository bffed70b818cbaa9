package sidecar

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

// forget erases a customer, whom the operator names by number or by one of the payments. The number comes in the body and
// goes nowhere: not into the log, not into the audit, not into the answer.
func (s *Sidecar) forget(w http.ResponseWriter, r *http.Request) *problem {
	var in struct {
		PhoneNumber word   `json:"phoneNumber"`
		Payment     string `json:"payment"`
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	phone, err := daraja.NormalizePhone(string(in.PhoneNumber))
	if in.Payment != "" {
		payment, err := s.table.Payment(r.Context(), in.Payment)
		switch {
		case errors.Is(err, correlate.ErrNotFound):
			return problemf(http.StatusNotFound, "not-found", "no such payment")
		case err != nil:
			return s.internal("look up a payment", err)
		case payment.Phone == "":
			return problemf(http.StatusNotFound, "not-found", "this payment has no number, or not any more")
		}
		phone = payment.Phone
	} else if err != nil {
		return problemf(http.StatusBadRequest, "bad-phone", "this is neither a payment's id nor a Kenyan mobile number")
	}
	// Once begun it does not depend on who waits for it.
	f, err := s.table.Forget(context.WithoutCancel(r.Context()), phone, console.Who(r))
	s.hub.Drop() // what it holds in memory is of before
	switch {
	case errors.Is(err, correlate.ErrOpen):
		return problemf(http.StatusConflict, "open", "a payment of this number has no result yet, and is asked about: forget it once it has one, after two days at the latest")
	case err != nil:
		return s.internal("forget a customer", err)
	}
	s.log.Info("sidecar: a customer was forgotten", "payments", f.Payments, "callbacks", f.Callbacks)
	elsewhere := []string{}
	for _, name := range salvage.Found(filepath.Join(s.config.Dir, databaseFile)) {
		elsewhere = append(elsewhere, filepath.Base(name))
	}
	replaced, err := filepath.Glob(filepath.Join(s.config.Dir, "replaced-*"))
	if err == nil {
		for _, name := range replaced {
			elsewhere = append(elsewhere, filepath.Base(name))
		}
	}
	reply(w, http.StatusOK, struct {
		Payments  int      `json:"payments"`
		Callbacks int      `json:"callbacks"`
		Left      int      `json:"left"`
		Elsewhere []string `json:"elsewhere"` // databases that were moved aside, and hold what they held
	}{f.Payments, f.Callbacks, f.Left, elsewhere})
	return nil
}
