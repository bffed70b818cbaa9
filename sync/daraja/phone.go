package daraja

import (
	"errors"
	"strings"
	"unicode"
)

var errPhone = errors.New("daraja: phone: not a Kenyan mobile number; write it as 07XXXXXXXX, 01XXXXXXXX or 2547XXXXXXXX")

// NormalizePhone gives a Kenyan mobile number in the only form Daraja takes: 254 and nine digits of which the first is 7
// or 1. It reads 07.., 01.., +254.., 00254.., 254.., bare nine digits, and the frequent 254 07..; spaces, hyphens, dots and
// brackets between digits mean nothing. It looks at length and country code, never at a list of prefixes, because
// Safaricom opens new ones. Its error does not repeat the number.
func NormalizePhone(s string) (string, error) {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			if b.Len() == 16 {
				return "", errPhone
			}
			b.WriteByte(byte(r))
		case r == '+' && b.Len() == 0: // a number copied from a contact may begin with an invisible mark, so not only as the first rune
		case unicode.IsSpace(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Pd, r), r == '.', r == '(', r == ')':
		default:
			return "", errPhone
		}
	}
	digits := strings.TrimPrefix(b.String(), "00")
	if len(digits) > 10 {
		rest, kenyan := strings.CutPrefix(digits, "254")
		if !kenyan {
			return "", errPhone
		}
		digits = rest
	}
	if len(digits) == 10 {
		digits = strings.TrimPrefix(digits, "0")
	}
	if len(digits) != 9 || digits[0] != '7' && digits[0] != '1' {
		return "", errPhone
	}
	return "254" + digits, nil
}

// MaskPhone hides a phone number for people and logs: 254708***149. What is masked already stays as it is; anything that
// is not a phone number is hidden whole.
func MaskPhone(s string) string {
	if s == "" {
		return ""
	}
	if n, err := NormalizePhone(s); err == nil {
		return n[:6] + "***" + n[9:]
	}
	// Safaricom masks in several ways; what has at most six digits before the stars and four after gives nothing away.
	if first, last := strings.IndexByte(s, '*'), strings.LastIndexByte(s, '*'); first >= 0 && len(s) <= 20 {
		if first <= 6 && len(s)-last-1 <= 4 && strings.Trim(s[first:last+1], "* ") == "" && strings.Trim(s[:first]+s[last+1:], "0123456789 ") == "" {
			return s
		}
	}
	if len(s) >= 12 && len(s) <= 15 && strings.Trim(s, "0123456789") == "" {
		return s[:6] + "***" + s[len(s)-3:]
	}
	return "***"
}
