// Package push is the message that subscribers see: checkout pages, tills, back offices.
//
// One message is one numbered event of a sidecar, or the snapshot of a session that a new subscriber is greeted with.
// The JSON of this package is a public contract: fields are added, never renamed. Facts that are not known are absent.
package push

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The types of a message.
const (
	PaymentUpdate    = "PAYMENT_UPDATE"    // the present state, on connecting; and every change that is neither of the others
	STKInitiated     = "STK_INITIATED"     // Daraja has queued the prompt; Data.Status is PENDING
	PaymentCompleted = "PAYMENT_COMPLETED" // Data.Status is SUCCESS or FAILED
)

// Status is where a payment stands. It moves PENDING → UNKNOWN | FAILED | SUCCESS, UNKNOWN → FAILED | SUCCESS and
// FAILED → SUCCESS, and no other way: money is never unsaid.
type Status string

// The statuses.
const (
	Pending Status = "PENDING"
	Success Status = "SUCCESS"
	Failed  Status = "FAILED"
	Unknown Status = "UNKNOWN"
)

// Ended reports whether the payment has a result. Only SUCCESS is irrevocable: a FAILED payment may yet succeed.
func (s Status) Ended() bool { return s == Success || s == Failed }

// Message is what a subscriber receives, as one JSON object.
type Message struct {
	Type     string `json:"type"`
	ID       Cursor `json:"id"`      // of this event; of the session's newest event in a snapshot
	Time     Time   `json:"time"`    // of the event
	Session  string `json:"session"` // the checkout that it belongs to
	Final    bool   `json:"final"`   // the payment has ended
	Replay   bool   `json:"replay"`  // a completion told again to one who came after it
	Gap      bool   `json:"gap,omitempty"`
	Callback string `json:"callback,omitempty"` // the callback that caused it: journal epoch and seq, in the form of a cursor
	Data     Data   `json:"data"`
}

// Data is the state of one payment.
type Data struct {
	Status             Status     `json:"status"`
	PaymentID          string     `json:"paymentId,omitempty"`
	MerchantRequestID  string     `json:"merchantRequestId,omitempty"`
	CheckoutRequestID  string     `json:"checkoutRequestId,omitempty"`
	Timestamp          Time       `json:"timestamp,omitzero"` // when the payment began
	ResultCode         ResultCode `json:"resultCode,omitzero"`
	ResultDesc         string     `json:"resultDesc,omitempty"`
	MpesaReceiptNumber string     `json:"mpesaReceiptNumber,omitempty"`
	CompletedAt        Time       `json:"completedAt,omitzero"`
	Outcome            string     `json:"outcome,omitempty"`  // one word: paid, cancelled, wrong_pin ...
	Reason             string     `json:"reason,omitempty"`   // one plain English sentence that a cashier can act on
	ReasonSw           string     `json:"reasonSw,omitempty"` // the same in Swahili
	Amount             Money      `json:"amount,omitzero"`    // asked for; KES
	AmountChecked      bool       `json:"amountChecked"`      // the amount paid was compared with the amount asked for, and is the same
	AccountReference   string     `json:"accountReference,omitempty"`
	PhoneNumber        string     `json:"phoneNumber,omitempty"` // masked: 254708***149
	Shortcode          string     `json:"shortcode,omitempty"`   // the number customers pay to
	Attempt            int        `json:"attempt,omitempty"`     // 1 for the session's first payment
	Doubt              string     `json:"doubt,omitempty"`       // suspect, large or paid_twice: Reason says what to do
}

// Cursor is a place in a numbered history: its epoch (the history's creation, in Unix milliseconds) and a sequence
// number in it. Its text form is 12 hex digits, a hyphen, 16 hex digits. Cursors compare only within an epoch.
type Cursor struct {
	Epoch uint64
	Seq   uint64
}

func (c Cursor) String() string { return string(c.append(make([]byte, 0, 29))) }

// IsZero reports whether the cursor is of no history.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// ParseCursor reads the text form of a cursor.
func ParseCursor(s string) (Cursor, error) {
	if len(s) != 29 || s[12] != '-' || strings.ToLower(s) != s {
		return Cursor{}, fmt.Errorf("push: %q is not a cursor (12 hex digits, a hyphen, 16 hex digits)", s)
	}
	epoch, err1 := strconv.ParseUint(s[:12], 16, 64)
	seq, err2 := strconv.ParseUint(s[13:], 16, 64)
	if err1 != nil || err2 != nil {
		return Cursor{}, fmt.Errorf("push: %q is not a cursor (12 hex digits, a hyphen, 16 hex digits)", s)
	}
	return Cursor{epoch, seq}, nil
}

// MarshalText gives the text form.
func (c Cursor) MarshalText() ([]byte, error) { return c.append(nil), nil }

// UnmarshalText reads the text form.
func (c *Cursor) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCursor(string(b))
	return err
}

// Money is an amount of Kenyan shillings in cents. In JSON it is a number with at most two decimals; it is read from a
// number or from a string that holds one.
type Money int64

func (m Money) String() string { return string(m.append(nil)) }

// ParseMoney reads a plain decimal number of shillings. More than two decimals are an error unless they are zeros.
func ParseMoney(s string) (Money, error) {
	bad := fmt.Errorf("push: %q is not an amount", s)
	digits, negative := strings.CutPrefix(s, "-")
	whole, cents, _ := strings.Cut(digits, ".")
	if len(cents) > 2 {
		if strings.Trim(cents[2:], "0") != "" {
			return 0, bad
		}
		cents = cents[:2]
	}
	cents += strings.Repeat("0", 2-len(cents))
	for _, r := range whole + cents {
		if r < '0' || r > '9' {
			return 0, bad
		}
	}
	if whole == "" || len(whole) > 15 {
		return 0, bad
	}
	n, err := strconv.ParseInt(whole+cents, 10, 64)
	if err != nil {
		return 0, bad
	}
	if negative {
		n = -n
	}
	return Money(n), nil
}

// MarshalJSON writes a number.
func (m Money) MarshalJSON() ([]byte, error) { return m.append(nil), nil }

// UnmarshalJSON reads a number, or a string that holds one.
func (m *Money) UnmarshalJSON(b []byte) (err error) {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	*m, err = ParseMoney(strings.TrimSpace(s))
	return err
}

// ResultCode is M-Pesa's result code. In JSON it is a number if it is all digits ("0", "1032"), else a string
// ("BW-JMS-100039").
type ResultCode string

// MarshalJSON writes a number or a string.
func (c ResultCode) MarshalJSON() ([]byte, error) { return c.append(nil), nil }

// UnmarshalJSON reads a number or a string.
func (c *ResultCode) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(c))
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*c = ResultCode(n)
	return nil
}

// Time is a time that is written in RFC 3339, UTC, with milliseconds.
type Time struct{ time.Time }

const timeForm = "2006-01-02T15:04:05.000Z"

func (t Time) String() string { return t.UTC().Format(timeForm) }

// MarshalJSON writes a string.
func (t Time) MarshalJSON() ([]byte, error) { return t.append(nil), nil }
