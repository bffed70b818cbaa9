package sidecar

import (
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// expectation is the payments whose callback may come at any moment, for a tunnel that is metered: it is kept lively for
// them. Its methods are called by publish alone, which is called by one commit at a time.
type expectation struct {
	open  map[string]bool // by the payment's id
	until time.Time
}

// note takes what was committed, and reports until when a callback is expected. Every payment that was announced leaves
// PENDING with an event, be it that nothing came.
func (e *expectation) note(events []correlate.Event, unknownAfter time.Duration) (until time.Time) {
	if e.open == nil {
		e.open = make(map[string]bool)
	}
	for _, event := range events {
		data := &event.Message.Data
		if data.Status == push.Pending {
			e.open[data.PaymentID] = true
			e.until = time.Now().Add(unknownAfter)
		} else {
			delete(e.open, data.PaymentID)
		}
	}
	if len(e.open) == 0 {
		return time.Time{}
	}
	return e.until
}
