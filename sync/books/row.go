package books

import (
	"strings"
	"unicode"

	"github.com/hodihq/hodi/sync/push"
)

// A kind is what a row of a statement is.
type kind int

const (
	kindPayment  kind = iota // of a customer to the shortcode
	kindReversal             // money given back
	kindCharge               // M-Pesa's own
	kindTransfer             // to or from a bank, or between the shortcode's own accounts
	kindOther                // out of the account, in some other way
	kindUndone               // not completed
)

var kindNames = map[kind]string{kindReversal: "reversals", kindCharge: "charges", kindTransfer: "transfers and withdrawals", kindOther: "other money out", kindUndone: "not completed"}

// kindOf says what a row is. The reason type says it, in one of M-Pesa's own words; Details begins with such words too, and goes
// on with what others wrote (names, account numbers), which decides nothing. A reason that nobody knows here, and money that
// came in, is a payment: then it is shown, if it is not.
func kindOf(status, reason, details string, in, out push.Money) kind {
	if s := letters(status); s != "" && s != "completed" && s != "complete" && s != "success" && s != "successful" {
		return kindUndone
	}
	words := strings.ToLower(reason)
	if strings.TrimSpace(words) == "" {
		words = strings.ToLower(details)
		for _, end := range []string{" from ", " to 2", " to 0", " by ", " acc", " - "} {
			words, _, _ = strings.Cut(words, end)
		}
	}
	has := func(list ...string) bool {
		for _, w := range list {
			if strings.Contains(words, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("revers"):
		return kindReversal
	case has("charge", "tariff", "commission", "excise", " fee"):
		return kindCharge
	case has("settle", "withdraw", "to organization", "to organisation", "working account", "float", "transfer of funds", "account to", "funds transfer", "interest", "deposit"):
		return kindTransfer
	case in > 0 && out == 0:
		return kindPayment
	}
	return kindOther
}

// letters is a text without what people write differently.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// receiptOf is a receipt in the form in which receipts are compared, "" if it is none: a total, a remark.
func receiptOf(text string) string {
	s := strings.ToUpper(strings.Trim(strings.TrimSpace(text), `'"`))
	if len(s) < 8 || len(s) > 16 {
		return ""
	}
	digit, letter := false, false
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			digit = true
		case r >= 'A' && r <= 'Z':
			letter = true
		default:
			return ""
		}
	}
	if !letter || !digit && len(s) != 10 {
		return ""
	}
	return s
}
