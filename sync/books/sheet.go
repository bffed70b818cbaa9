package books

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// Sheet writes lines as CSV (RFC 4180, UTF-8), one at a time.
type Sheet struct{ w *csv.Writer }

// NewSheet writes the names of the columns.
func NewSheet(w io.Writer) (*Sheet, error) {
	s := &Sheet{csv.NewWriter(w)}
	s.w.UseCRLF = true
	return s, s.w.Write([]string{"date", "time", "receipt", "amount", "reference", "status", "shortcode", "environment", "phone", "came by", "payment", "session", "doubt", "decided by"})
}

// Add writes a line. Its date and time are Nairobi's.
func (s *Sheet) Add(l Line) error {
	at := l.Time.In(daraja.Nairobi)
	by := "request"
	if l.PaymentID == "" {
		by = "C2B"
	}
	return s.w.Write([]string{at.Format(time.DateOnly), at.Format(time.TimeOnly), cell(l.Receipt), shillings(l.Amount), cell(l.Reference), l.Status,
		cell(l.Number), cell(l.Environment), cell(l.Phone), by, cell(l.PaymentID), cell(l.Session), l.Doubt, cell(l.DecidedBy)})
}

// Flush writes what is held back.
func (s *Sheet) Flush() error {
	s.w.Flush()
	return s.w.Error()
}

// cell makes text harmless to a spreadsheet. What begins like a formula is one there, whoever wrote it, and may fetch or send
// what its author likes; an apostrophe before it makes it text.
func cell(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r >= '\u200b' && r <= '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if start := strings.TrimLeft(text, " \u00a0"); start != "" && strings.ContainsRune("=+-@|%'＝＋－＠", []rune(start)[0]) {
		return "'" + text
	}
	return text
}

// shillings always has two decimals: a column of amounts.
func shillings(m push.Money) string {
	sign, cents := "", uint64(m)
	if m < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%s%d.%02d", sign, cents/100, cents%100)
}

// A Sum is what was paid to one shortcode of one environment on one day.
type Sum struct {
	Day         string     `json:"day"` // 2026-11-22, Nairobi's
	Environment string     `json:"environment,omitempty"`
	Number      string     `json:"shortcode"`
	Payments    int        `json:"payments"`
	Amount      push.Money `json:"amount"`
	ByC2B       int        `json:"byC2B"`       // of those, how many came by another way than a request of this sidecar
	ByC2BAmount push.Money `json:"byC2BAmount"` // and how much
	NoReceipt   int        `json:"noReceipt"`   // of those, how many have no receipt yet
}

// Sums adds up lines. What is not paid counts nowhere.
type Sums struct {
	of map[[3]string]*Sum
}

// Add counts a line. It refuses a sum that no longer fits.
func (s *Sums) Add(l Line) error {
	if l.Status != string(push.Success) {
		return nil
	}
	day := l.Time.In(daraja.Nairobi).Format(time.DateOnly)
	key := [3]string{day, l.Environment, l.Number}
	if s.of == nil {
		s.of = map[[3]string]*Sum{}
	}
	sum := s.of[key]
	if sum == nil {
		sum = &Sum{Day: day, Environment: l.Environment, Number: l.Number}
		s.of[key] = sum
	}
	if l.Amount > math.MaxInt64-sum.Amount || l.Amount < 0 {
		return fmt.Errorf("books: the sum of %s does not fit into a number", day)
	}
	sum.Payments++
	sum.Amount += l.Amount
	if l.PaymentID == "" {
		sum.ByC2B++
		sum.ByC2BAmount += l.Amount
	}
	if l.Receipt == "" {
		sum.NoReceipt++
	}
	return nil
}

// Days are the sums, by day, environment and shortcode.
func (s *Sums) Days() []Sum {
	list := make([]Sum, 0, len(s.of))
	for _, sum := range s.of {
		list = append(list, *sum)
	}
	slices.SortFunc(list, func(a, b Sum) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Number, b.Number))
	})
	return list
}

// Totals are those of all days together; their Day is "". A total that does not fit into a number is refused.
func (s *Sums) Totals() ([]Sum, error) {
	all := Sums{of: map[[3]string]*Sum{}}
	for _, d := range s.of {
		key := [3]string{"", d.Environment, d.Number}
		t := all.of[key]
		if t == nil {
			t = &Sum{Environment: d.Environment, Number: d.Number}
			all.of[key] = t
		}
		if d.Amount > math.MaxInt64-t.Amount {
			return nil, fmt.Errorf("books: the total of shortcode %s does not fit into a number", d.Number)
		}
		t.Payments, t.Amount, t.ByC2B, t.ByC2BAmount, t.NoReceipt = t.Payments+d.Payments, t.Amount+d.Amount, t.ByC2B+d.ByC2B, t.ByC2BAmount+d.ByC2BAmount, t.NoReceipt+d.NoReceipt
	}
	return all.Days(), nil
}

// WriteDays writes sums of days as CSV.
func WriteDays(w io.Writer, days []Sum) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	rows := [][]string{{"date", "environment", "shortcode", "payments", "amount", "of these by C2B", "amount by C2B", "without a receipt yet"}}
	for _, d := range days {
		rows = append(rows, []string{d.Day, cell(d.Environment), cell(d.Number), strconv.Itoa(d.Payments), shillings(d.Amount), strconv.Itoa(d.ByC2B), shillings(d.ByC2BAmount), strconv.Itoa(d.NoReceipt)})
	}
	if err := c.WriteAll(rows); err != nil {
		return fmt.Errorf("books: %w", err)
	}
	return nil
}
