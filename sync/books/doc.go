// Package books is what a bookkeeper wants of payments: a file of them with the sums of days, and what they and M-Pesa's own
// statement do not agree about.
//
// The files: sheet.go writes lines of the books as a table that a spreadsheet can be trusted with, and adds them up. M-Pesa's
// statement is read by statement.go, with encoding.go (which bytes are which letters), cells.go (amounts and times as people and
// spreadsheets write them) and row.go (which rows are payments of customers); compare.go holds it against the lines.
package books

import "github.com/hodihq/hodi/sync/push"

// Line is a line of the books: a payment that is made, or money of which only a C2B notice has told.
type Line struct {
	Time        push.Time  `json:"time"` // when the money moved
	Began       push.Time  `json:"began,omitzero"`
	Receipt     string     `json:"receipt,omitempty"`
	Amount      push.Money `json:"amount"`
	Reference   string     `json:"accountReference,omitempty"`
	Status      string     `json:"status"`
	Number      string     `json:"shortcode"` // that was paid to
	Environment string     `json:"environment,omitempty"`
	Phone       string     `json:"phoneNumber,omitempty"` // masked, unless it was asked for otherwise
	PaymentID   string     `json:"paymentId,omitempty"`   // "": it came by another way than a request of this sidecar
	Session     string     `json:"session,omitempty"`
	Doubt       string     `json:"doubt,omitempty"`
	DecidedBy   string     `json:"decidedBy,omitempty"`
}
