package books_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/push"
)

// shelf is a ledger in memory.
type shelf []books.Line

func (s shelf) Lines(from, to time.Time, unpaid bool, each func(books.Line) error) error {
	for _, l := range s {
		at := l.Time.Time
		if l.Status != "SUCCESS" {
			at = l.Began.Time
		}
		if (l.Status != "SUCCESS") != unpaid || at.Before(from) || !at.Before(to) {
			continue
		}
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}

func (s shelf) Of(receipts []string) (list []books.Line, err error) {
	for _, l := range s {
		if l.Receipt != "" && slices.Contains(receipts, strings.ToUpper(l.Receipt)) {
			list = append(list, l)
		}
	}
	return list, nil
}

var shop = books.Of{Numbers: []string{"4125223"}, Environment: "production"}

func compare(t testing.TB, s *books.Statement, of books.Of, lines ...books.Line) *books.Comparison {
	t.Helper()
	c, err := books.Compare(s, of, shelf(lines))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// here is what a shop has of the example: all of it, the reversal apart.
func here() []books.Line {
	return []books.Line{
		line("2026-11-22 10:15:42", "UKM4AB2CD9", 1200_50), line("2026-11-22 09:12:15", "ukm2ab2cd3 ", 100_00),
		line("2026-11-22 08:00:00", "UKM2AB2CD1", 250_00, byNotice), line("2026-11-22 07:59:00", "UKM1AB2CD8", 70_00, byNotice),
	}
}

func differences(c *books.Comparison) string {
	return fmt.Sprintf("%d %d %d %d %d %d", len(c.OnlyStatement), len(c.OnlyHere), len(c.Amounts), len(c.Doubled), len(c.Reversed), len(c.NoReceipt))
}

func TestBothSidesAgree(t *testing.T) {
	s := read(t, example(t, "portal.csv"))
	s.Reversed = nil
	c := compare(t, s, shop, here()...)
	if !c.Agree || c.Both.Payments != 4 || c.Both.Amount != c.Statement.Amount || differences(c) != "0 0 0 0 0 0" || len(c.Notes) != 0 {
		t.Errorf("%+v", c)
	}
	encoded, err := json.Marshal(c)
	if err != nil || strings.Contains(string(encoded), "null") {
		t.Errorf("as JSON it is %s, %v", encoded, err)
	}
}

func TestWhatOneSideHasAndTheOtherHasNot(t *testing.T) {
	statement := func() *books.Statement {
		s := read(t, example(t, "portal.csv"))
		s.Reversed = nil
		return s
	}
	sandbox := func(l *books.Line) { l.Environment = "sandbox" }
	for _, c := range []struct {
		name   string
		change func(s *books.Statement, lines []books.Line) []books.Line
		want   string // how many of each difference
		check  func(c *books.Comparison) bool
	}{
		{"a callback was lost", func(_ *books.Statement, l []books.Line) []books.Line { return l[1:] }, "1 0 0 0 0 0",
			func(c *books.Comparison) bool {
				return c.OnlyStatement[0].Receipt == "UKM4AB2CD9" && c.OnlyStatement[0].Row == 9
			}},
		{"and the payment is here, unknown", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l[1:], line("2026-11-22 10:15:20", "", 1200_50, func(l *books.Line) { l.Status, l.PaymentID, l.Reference = "UNKNOWN", "the-one", "inv 9" }),
				line("2026-11-22 10:15:20", "", 1200_50, func(l *books.Line) { l.Status, l.PaymentID, l.Reference = "UNKNOWN", "other", "INV-8" }),
				line("2026-11-22 08:15:20", "", 1200_50, func(l *books.Line) { l.Status, l.PaymentID, l.Reference = "FAILED", "long ago", "INV-9" }))
		}, "1 0 0 0 0 0", func(c *books.Comparison) bool {
			return len(c.OnlyStatement[0].Candidate) == 1 && c.OnlyStatement[0].Candidate[0].PaymentID == "the-one"
		}},
		{"a forgery was believed", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l, line("2026-11-22 09:00:00", "UKM2AB2CDX", 5_00))
		}, "0 1 0 0 0 0", func(c *books.Comparison) bool { return c.OnlyHere[0].Receipt == "UKM2AB2CDX" }},
		{"and one before, and one after the statement's time", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l, line("2026-11-21 23:59:59", "UKL2AB2CDX", 5_00), line("2026-11-22 12:36:39", "UKM2AB2CDZ", 5_00))
		}, "0 0 0 0 0 0", nil},
		{"and one of the sandbox, and one of another shortcode", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l, line("2026-11-22 09:00:00", "UKM2AB2CDX", 5_00, sandbox), line("2026-11-22 09:00:00", "UKM2AB2CDY", 5_00, func(l *books.Line) { l.Number = "600000" }))
		}, "0 0 0 0 0 0", nil},
		{"another amount", func(_ *books.Statement, l []books.Line) []books.Line { l[0].Amount = 1200_00; return l }, "0 0 1 0 0 0",
			func(c *books.Comparison) bool {
				return c.Amounts[0].Statement == 1200_50 && c.Amounts[0].Here.Amount == 1200_00
			}},
		{"one receipt for two payments here", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l, line("2026-11-22 10:20:00", "UKM4AB2CD9", 1200_50, func(l *books.Line) { l.PaymentID = "again" }))
		}, "0 0 0 1 0 0", func(c *books.Comparison) bool { return len(c.Doubled[0].Here) == 2 }},
		{"two files put together", func(s *books.Statement, l []books.Line) []books.Line {
			s.Payments = append(s.Payments, s.Payments[0], s.Payments[0])
			return l
		}, "0 0 0 1 0 0", func(c *books.Comparison) bool {
			return len(c.Doubled[0].Rows) == 3 && c.Doubled[0].Amount == 3601_50
		}},
		{"here it is dated weeks ago", func(_ *books.Statement, l []books.Line) []books.Line {
			l[0].Time.Time = l[0].Time.AddDate(0, -1, 0)
			return l
		}, "0 0 0 0 0 0", nil},
		{"here it is of another shortcode", func(_ *books.Statement, l []books.Line) []books.Line { l[0].Number = "600000"; return l }, "1 0 0 0 0 0",
			func(c *books.Comparison) bool {
				return c.OnlyStatement[0].Elsewhere != nil && c.OnlyStatement[0].Elsewhere.Number == "600000"
			}},
		{"here it is paid, and has no receipt", func(_ *books.Statement, l []books.Line) []books.Line {
			l[0].Receipt, l[0].Reference = "", "INV-9"
			l[0].Time.Time = l[0].Time.Add(20 * time.Hour) // when M-Pesa said so
			return l
		}, "0 0 0 0 0 1", func(c *books.Comparison) bool {
			return c.Agree && c.NoReceipt[0].Is == "UKM4AB2CD9" && c.Both.Payments == 4
		}},
		{"two of these, and one row", func(_ *books.Statement, l []books.Line) []books.Line {
			l[0].Receipt, l[0].Reference = "", "INV-9"
			return append(l, l[0])
		}, "1 0 0 0 0 2", func(c *books.Comparison) bool { return c.NoReceipt[0].Is == "" && c.NoReceipt[1].Is == "" }},
		{"its own notice came", func(_ *books.Statement, l []books.Line) []books.Line {
			return append(l, line("2026-11-22 07:59:00", "", 70_00, func(l *books.Line) { l.Reference = "=3" }))
		}, "0 0 0 0 0 1", func(c *books.Comparison) bool {
			return c.Agree && c.NoReceipt[0].Is == "UKM1AB2CD8" && c.Both.Payments == 4
		}},
	} {
		s := statement()
		lines := c.change(s, here())
		got := compare(t, s, shop, lines...)
		if differences(got) != c.want || c.check != nil && !c.check(got) || got.Agree != (strings.Trim(c.want, "0 ") == "" || c.check != nil && got.Agree && c.want == "0 0 0 0 0 1") {
			encoded, _ := json.MarshalIndent(got, "", " ")
			t.Errorf("%s: %s, want %s\n%s", c.name, differences(got), c.want, encoded)
		}
	}
}

func TestMoneyThatWasGivenBackIsADifference(t *testing.T) {
	c := compare(t, read(t, example(t, "portal.csv")), shop, here()...)
	if c.Agree || len(c.Reversed) != 1 || c.Reversed[0].Receipt != "UKM2AB2CD3" || c.Reversed[0].PaymentID == "" || c.Reversed[0].Amount != 100_00 {
		t.Errorf("%+v", c.Reversed)
	}
	// Of a payment of last week, which this statement has not; and of one that is nobody's here.
	for receipt, want := range map[string]int{"UKE2AB2CD3": 1, "UKE2AB2CD4": 0} {
		s := read(t, example(t, "portal.csv"))
		s.Reversed[0].Of = receipt
		c = compare(t, s, shop, append(here(), line("2026-11-14 12:00:00", "UKE2AB2CD3", 100_00))...)
		if len(c.Reversed) != want {
			t.Errorf("of %s: %+v", receipt, c.Reversed)
		}
	}
	s := read(t, example(t, "portal.csv"))
	s.Reversed[0].Of = ""
	if c = compare(t, s, shop, here()...); !c.Agree || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "reversals") {
		t.Errorf("a reversal of who knows what: %+v", c.Notes)
	}
}

func TestAStatementThatIsNotWholeIsNamed(t *testing.T) {
	s := read(t, example(t, "portal.csv"))
	s.Reversed, s.Payments = nil, s.Payments[:3]
	s.Incoming -= 70_00
	if c := compare(t, s, shop, here()[:3]...); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "perhaps it is not whole") {
		t.Errorf("notes are %q", c.Notes)
	}
}

// Whatever was lost, added, doubled or changed, on whichever side: each is found, and nothing else.
func TestEveryDifferenceIsFoundAndNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &books.Statement{From: nairobi("2026-11-22 00:00:00"), To: nairobi("2026-11-23 00:00:00")}
		var lines shelf
		var onlyStatement, onlyHere, amounts, agreed int
		for i := range rapid.IntRange(0, 40).Draw(t, "payments") {
			receipt := fmt.Sprintf("UKM%07d", i)
			at := s.From.Add(time.Duration(rapid.IntRange(0, 86399).Draw(t, "second")) * time.Second)
			amount := push.Money(rapid.Int64Range(1, 250_000).Draw(t, "shillings") * 100)
			in := books.StatementIn{Row: i + 2, Receipt: receipt, Time: at, Amount: amount}
			l := line(at.Format(time.DateTime), receipt, amount)
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				s.Payments, onlyStatement = append(s.Payments, in), onlyStatement+1
			case 1:
				lines, onlyHere = append(lines, l), onlyHere+1
			case 2:
				l.Amount++
				s.Payments, lines, amounts = append(s.Payments, in), append(lines, l), amounts+1
			default:
				s.Payments, lines, agreed = append(s.Payments, in), append(lines, l), agreed+1
			}
		}
		c, err := books.Compare(s, shop, lines)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.OnlyStatement) != onlyStatement || len(c.OnlyHere) != onlyHere || len(c.Amounts) != amounts || c.Both.Payments != agreed+amounts || c.Agree != (onlyStatement+onlyHere+amounts == 0) {
			t.Errorf("%s, %d both; want %d, %d, %d, %d", differences(c), c.Both.Payments, onlyStatement, onlyHere, amounts, agreed+amounts)
		}
	})
}
