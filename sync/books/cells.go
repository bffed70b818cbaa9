package books

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

var errCell = errors.New("it cannot be read")

// money reads an amount as the portal, a spreadsheet and people write it: 1,200.00, "KES 1 200", -300.00, (300.00), 1200,50. An
// empty cell, or a dash in one, is nothing.
func money(text string) (push.Money, error) {
	s := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '\'' || r == '\u00a0' {
			return -1
		}
		return r
	}, strings.ToUpper(text))
	for _, currency := range []string{"KES.", "KES", "KSHS.", "KSHS", "KSH.", "KSH"} {
		if rest, ok := strings.CutPrefix(s, currency); ok {
			s = rest
			break
		}
	}
	s = strings.TrimSuffix(s, "/=")
	negative := false
	if inner, ok := strings.CutPrefix(s, "("); ok && strings.HasSuffix(inner, ")") {
		s, negative = strings.TrimSuffix(inner, ")"), true
	}
	switch {
	case strings.HasPrefix(s, "-"), strings.HasPrefix(s, "−"):
		s, negative = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "−"), true
	case strings.HasPrefix(s, "+"):
		s = s[1:]
	}
	if s == "" {
		return 0, nil
	}
	whole, cents := s, ""
	switch comma, dot := strings.LastIndexByte(s, ','), strings.LastIndexByte(s, '.'); {
	case dot > comma:
		whole, cents = s[:dot], s[dot+1:]
	case comma > dot && (dot >= 0 || len(s)-comma-1 <= 2): // 1.200,50, or 1200,5; but 1,200 is thousands
		whole, cents = s[:comma], s[comma+1:]
	}
	groups := strings.FieldsFunc(whole, func(r rune) bool { return r == ',' || r == '.' })
	for i, g := range groups {
		if len(groups) > 1 && (i == 0 && len(g) > 3 || i > 0 && len(g) != 3) {
			return 0, errCell
		}
	}
	whole = strings.Join(groups, "")
	if strings.Contains(cents, ",") || strings.Count(s, ".") > 1 && strings.Count(s, ",") == 0 {
		return 0, errCell
	}
	if whole == "" && cents != "" {
		whole = "0"
	}
	if negative {
		whole = "-" + whole
	}
	if cents != "" {
		whole += "." + cents
	}
	m, err := push.ParseMoney(whole)
	if err != nil || strings.HasPrefix(strings.TrimPrefix(whole, "-"), "-") {
		return 0, errCell
	}
	return m, nil
}

// order is how a file writes dates that do not begin with the year.
type order int

const (
	dayFirst   order = iota // as the portal does
	monthFirst              // as a spreadsheet set to English (United States) saves it again
)

// moment reads a date with a time, of Nairobi; hasTime reports whether there was one.
func moment(text string, o order) (at time.Time, hasTime bool, err error) {
	s := strings.TrimSpace(strings.Trim(strings.TrimSpace(text), `'"`))
	if s == "" || len(s) > 40 {
		return at, false, errCell
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at.In(daraja.Nairobi), true, nil
	}
	if serial, err := strconv.ParseFloat(s, 64); err == nil { // a spreadsheet's own: days since 1899
		if len(s) == 14 && !strings.Contains(s, ".") {
			if at, err := time.ParseInLocation("20060102150405", s, daraja.Nairobi); err == nil {
				return at, true, nil
			}
		}
		if !(serial >= 36526 && serial < 73051) { // the years 2000 to 2099
			return at, false, errCell
		}
		day, part := math.Modf(serial)
		at = time.Date(1899, 12, 30+int(day), 0, 0, 0, 0, daraja.Nairobi).Add(time.Duration(math.Round(part*86400)) * time.Second)
		return at, true, nil
	}
	date, clock := s, ""
	if i := strings.IndexAny(s, "Tt "); i > 0 && strings.ContainsRune("0123456789", rune(s[i-1])) && strings.ContainsAny(s[i:], ":") {
		date, clock = s[:i], strings.Trim(s[i+1:], " ")
		if words := strings.Fields(s); len(words) >= 4 && !strings.Contains(words[1], ":") { // 22 Nov 2026 12:00
			date, clock = strings.Join(words[:3], " "), strings.Join(words[3:], " ")
		}
	}
	y, m, d, ok := day(date, o)
	if !ok {
		return at, false, errCell
	}
	if clock == "" {
		return time.Date(y, m, d, 0, 0, 0, 0, daraja.Nairobi), false, nil
	}
	for _, form := range []string{"15:04:05", "15:04", "3:04:05 PM", "3:04 PM", "3:04:05PM", "3:04PM"} {
		if c, err := time.Parse(form, strings.ToUpper(clock)); err == nil {
			return time.Date(y, m, d, c.Hour(), c.Minute(), c.Second(), c.Nanosecond(), daraja.Nairobi), true, nil
		}
	}
	return at, false, errCell
}

// day reads 22-11-2026, 2026-11-22, 22/11/26, 22.11.2026, 22 Nov 2026, Nov 22, 2026.
func day(text string, o order) (y int, m time.Month, d int, ok bool) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("-/., ", r) })
	if len(parts) != 3 {
		return 0, 0, 0, false
	}
	var n [3]int
	month := -1
	for i, p := range parts {
		if name := monthNamed(p); name > 0 {
			if month >= 0 {
				return 0, 0, 0, false
			}
			month, n[i] = i, name
			continue
		}
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || len(p) > 4 {
			return 0, 0, 0, false
		}
		n[i] = v
	}
	switch {
	case len(parts[0]) == 4 && month != 2:
		y, m, d = n[0], time.Month(n[1]), n[2]
	case month == 0 || month < 0 && o == monthFirst:
		y, m, d = n[2], time.Month(n[0]), n[1]
	default:
		y, m, d = n[2], time.Month(n[1]), n[0]
	}
	if y < 100 {
		y += 2000
	}
	at := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return y, m, d, y >= 2000 && y < 2100 && at.Month() == m && at.Day() == d
}

func monthNamed(word string) int {
	if len(word) < 3 {
		return 0
	}
	for m := time.January; m <= time.December; m++ {
		if name := m.String(); strings.EqualFold(word, name) || strings.EqualFold(word, name[:3]) || strings.EqualFold(word, "sept") && m == time.September {
			return int(m)
		}
	}
	return 0
}
