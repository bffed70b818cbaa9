package daraja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Callback is one STK callback: what became of one prompt.
type Callback struct {
	MerchantRequestID string
	CheckoutRequestID string
	ResultCode        string // digits or text, as sent, without quotes: "0", "1032", "BW-JMS-100039"
	ResultDesc        string
	HasAmount         bool
	Amount            int64     // cents, exact
	Receipt           string    // MpesaReceiptNumber
	Completed         time.Time // TransactionDate read as Africa/Nairobi; zero if absent or unreadable
	Phone             string    // as sent: digits, or masked
}

// ParseCallback reads an STK callback:
//
//	{"Body":{"stkCallback":{"MerchantRequestID", "CheckoutRequestID", "ResultCode", "ResultDesc",
//	    "CallbackMetadata":{"Item":[{"Name","Value"}, ...]}}}}      metadata on success only
//
// It is loose by rule. The case of names does not matter; any fact may be a number or a string; items come in any order,
// without a Value, or as a single object instead of an array; what is unknown is skipped; a detail that cannot be read is
// absent. It insists only on what a payment is settled by: JSON, both ids, and a result code, each said once, or always the
// same. The error says what is wrong, and repeats nothing of the body.
//
// A body may be as large as whoever sends it likes, but what it tells is kept and shown to many: so a description is cut
// short, and a receipt or a phone number of more than maxFact bytes is none.
func ParseCallback(body []byte) (Callback, error) {
	body = bare(body)
	if len(body) == 0 {
		return Callback{}, errors.New("daraja: callback: the body is empty")
	}
	n := notice{scanner: scanner{text: body}}
	switch whole := n.read(); {
	case !whole:
		return Callback{}, errors.New("daraja: callback: the body is not JSON")
	case n.contradicts:
		return Callback{}, fmt.Errorf("daraja: callback: %w", errContradiction)
	}
	stk := n.wrapped
	if stk == nil {
		stk = n.bare
	}
	if stk == nil {
		return Callback{}, fmt.Errorf("daraja: callback: not an STK callback but %s", family(body))
	}
	c := stk.Callback
	c.MerchantRequestID, c.CheckoutRequestID, c.ResultCode = stk.merchant.text, stk.checkout.text, stk.code.text
	c.ResultDesc = short(c.ResultDesc)
	switch {
	case max(len(c.MerchantRequestID), len(c.CheckoutRequestID), len(c.ResultCode)) > maxFact:
		return Callback{}, errors.New("daraja: callback: an id or the ResultCode is too long to be one")
	case c.MerchantRequestID == "" && c.CheckoutRequestID == "":
		return Callback{}, errors.New("daraja: callback: no MerchantRequestID and no CheckoutRequestID")
	case c.MerchantRequestID == "":
		return Callback{}, errors.New("daraja: callback: no MerchantRequestID")
	case c.CheckoutRequestID == "":
		return Callback{}, errors.New("daraja: callback: no CheckoutRequestID")
	case c.ResultCode == "":
		return Callback{}, errors.New("daraja: callback: no ResultCode")
	}
	return c, nil
}

// maxFact is the length of the longest id, code, receipt, number or date that is believed to be one. Real ones have up to 37.
const maxFact = 128

// A notice is a callback while it is being read. JSON lets a name stand twice: then what it holds is read on top of what
// was read before, as encoding/json does it, so that a contradiction is seen wherever its two halves stand.
type notice struct {
	scanner
	wrapped, bare *stkCallback // in a Body, and without that wrapper
	contradicts   bool
}

type stkCallback struct {
	merchant, checkout, code fact
	Callback                 // the description, and what the metadata say
}

// read reports whether the whole text is JSON.
func (n *notice) read() bool {
	ok := n.object(func(name []byte) bool {
		switch {
		case named(name, "Body"):
			return n.object(func(name []byte) bool {
				if named(name, "STKCallback") {
					return n.callback(&n.wrapped)
				}
				return n.skip()
			})
		case named(name, "STKCallback"):
			return n.callback(&n.bare)
		}
		return n.skip()
	})
	n.space()
	return ok && n.at == len(n.text)
}

func (n *notice) callback(at **stkCallback) bool {
	if n.next() == 'n' {
		*at = nil
		return n.skip()
	}
	if *at == nil {
		*at = new(stkCallback)
	}
	c := *at
	return n.object(func(name []byte) bool {
		switch {
		case named(name, "MerchantRequestID"):
			return n.fact(&c.merchant)
		case named(name, "CheckoutRequestID"):
			return n.fact(&c.checkout)
		case named(name, "ResultCode"):
			return n.fact(&c.code)
		case named(name, "ResultDesc"):
			return n.scalar(&c.ResultDesc)
		case named(name, "CallbackMetadata"):
			return n.object(func(name []byte) bool {
				if named(name, "Item") {
					return n.items(&c.Callback)
				}
				return n.skip()
			})
		}
		return n.skip()
	})
}

func (n *notice) scalar(s *string) bool {
	raw, ok := n.value()
	if ok {
		*s = scalar(raw)
	}
	return ok
}

func (n *notice) fact(f *fact) bool {
	var s string
	ok := n.scalar(&s)
	if f.said && f.text != s {
		n.contradicts = true
	}
	f.text, f.said = s, true
	return ok
}

// items reads an array of items, or a single one. They stand for all that was said in the items before, if there were any.
func (n *notice) items(c *Callback) bool {
	c.Amount, c.HasAmount, c.Receipt, c.Completed, c.Phone = 0, false, "", time.Time{}, ""
	if n.next() == '[' {
		return n.list(']', func() bool { return n.item(c) })
	}
	return n.item(c)
}

func (n *notice) item(c *Callback) bool {
	var name, value []byte
	ok := n.object(func(part []byte) (ok bool) {
		switch {
		case named(part, "Name"):
			name, ok = n.value()
		case named(part, "Value"):
			value, ok = n.value()
		default:
			ok = n.skip()
		}
		return ok
	})
	if ok {
		c.learn(name, scalar(value))
	}
	return ok
}

// learn takes in what an item of the metadata says.
func (c *Callback) learn(name []byte, value string) {
	if value == "" || len(value) > maxFact {
		return
	}
	switch name := scalar(name); {
	case strings.EqualFold(name, "Amount"):
		c.Amount, c.HasAmount = cents(value)
	case strings.EqualFold(name, "MpesaReceiptNumber"):
		c.Receipt = value
	case strings.EqualFold(name, "TransactionDate"):
		c.Completed, _ = time.ParseInLocation(timestampForm, value, Nairobi)
	case strings.EqualFold(name, "PhoneNumber"):
		c.Phone = value
	}
}

// fact is a text that a payment is settled by. JSON lets a name stand twice, and Daraja's own samples do so, but a fact
// that is said twice in different ways must not come down to whichever was said last.
type fact struct {
	text string
	said bool
}

var errContradiction = errors.New("the body contradicts itself: one of the ids or the ResultCode is in it twice, and differs")

func (f *fact) UnmarshalJSON(b []byte) error {
	s := scalar(b)
	if f.said && f.text != s {
		return errContradiction
	}
	f.text, f.said = s, true
	return nil
}

// usable: it is there, and no longer than a fact can be.
func (f fact) usable() bool { return f.text != "" && len(f.text) <= maxFact }

// text reads a string or a number; see scalar.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	*t = text(scalar(b))
	return nil
}

// bare is a JSON body without what some encoders put around it.
func bare(body []byte) []byte {
	return bytes.Trim(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "\x00 \t\r\n")
}

// unmarshal is json.Unmarshal for which a value of another type than expected is merely absent.
func unmarshal(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return nil
	}
	return err
}

// family names what a body that is no STK callback looks like, for the person who finds it set aside.
func family(body []byte) string {
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil {
		return "JSON that is no object"
	}
	lower := make(map[string]bool, len(top))
	for name := range top {
		lower[strings.ToLower(name)] = true
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if !lower[n] {
				return false
			}
		}
		return true
	}
	switch {
	case has("result"):
		return "a Result (B2C, B2B, reversal, status or balance)"
	case has("transid", "transamount"):
		return "a C2B validation or confirmation"
	case has("responseheader"):
		return "a standing order's notice (Ratiba)"
	case has("resultcode", "requestid"):
		return "a B2B Express Checkout notice"
	case has("transactionid", "paidamount"):
		return "a Bill Manager payment"
	case has("accountnumber", "requestid"):
		return "a C2B name look-up (Hakikisha)"
	case has("body"):
		return "a Body without stkCallback"
	}
	return "something unknown"
}

// scalar reads a JSON string without its quotes and outer spaces, or a number as it was written, so that no digit passes
// through a float. Anything else is "".
func scalar(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		if plain(raw[1 : len(raw)-1]) {
			return strings.TrimSpace(string(raw[1 : len(raw)-1]))
		}
		return strings.TrimSpace(unquoted(raw))
	case c == '-', c >= '0' && c <= '9':
		return string(raw)
	}
	return ""
}

// unquoted is what a JSON string says.
func unquoted(raw []byte) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// plain reports whether the inside of a JSON string is what it says, without escapes or bytes that need repair.
func plain(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\\' || c == '"' {
			return false
		}
	}
	return true
}

// cents reads a decimal number of shillings, "71.00", exactly. It refuses what no amount of cents equals. Thousands may be
// marked by commas, and an exponent may be there, because both are what some encoder does to a large number.
func cents(s string) (int64, bool) {
	s, negative := strings.CutPrefix(s, "-")
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(s), "e")
	shift := 2
	if scientific {
		e, err := strconv.Atoi(exponent)
		if err != nil || e < -18 || e > 18 {
			return 0, false
		}
		shift += e
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if groups := strings.Split(whole, ","); len(groups) > 1 {
		for i, g := range groups {
			if i > 0 && len(g) != 3 || i == 0 && (g == "" || len(g) > 3) {
				return 0, false
			}
		}
		whole = strings.Join(groups, "")
	}
	if whole == "" {
		return 0, false
	}
	// The decimal point moves by shift places; what is left behind it must be nothing.
	digits, point := whole+fraction, len(whole)+shift
	for point > len(digits) {
		digits += "0"
	}
	for point < 0 {
		digits, point = "0"+digits, point+1
	}
	for _, r := range digits {
		if r < '0' || r > '9' {
			return 0, false
		}
	}
	if strings.Trim(digits[point:], "0") != "" {
		return 0, false
	}
	digits = strings.TrimLeft(digits[:point], "0")
	if digits == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}
