package books

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// Statement is M-Pesa's own statement of a shortcode, as the business portal writes it: some lines about the account, a line
// with the names of the columns, and rows, the newest mostly first.
type Statement struct {
	Number   string        `json:"shortcode,omitempty"` // as its first lines say; "" if they do not
	Holder   string        `json:"holder,omitempty"`
	From, To time.Time     `json:"-"` // the period: From ≤ t < To
	Payments []StatementIn `json:"-"`
	Ignored  []Ignored     `json:"ignored,omitempty"` // rows that are no payments
	Reversed []Reversal    `json:"-"`
	Incoming push.Money    `json:"-"` // all that is in Paid In of completed rows
	PaidIn   *push.Money   `json:"-"` // what its first lines say that this is, if they do

	last time.Time // row
}

// StatementIn is a payment on a statement.
type StatementIn struct {
	Row       int // of the file, as a spreadsheet counts
	Receipt   string
	Time      time.Time
	Amount    push.Money
	Reference string // the account number, which for a push is its account reference
	Party     string // whom it is from, as far as M-Pesa says
}

// Ignored counts rows that are no payments.
type Ignored struct {
	What   string     `json:"what"`
	Rows   int        `json:"rows"`
	Amount push.Money `json:"amount"` // in, less out
}

// Reversal is money that was given back.
type Reversal struct {
	Row     int
	Of      string // the receipt of the payment; "" if the statement does not say
	Receipt string // its own
	Time    time.Time
	Amount  push.Money
}

// MaxStatement bounds a file. A million rows are some 200 MB.
const MaxStatement = 512 << 20

// columns are where things stand in a row, -1 if they do not.
type columns struct {
	receipt, completed, initiated, details, status, in, out, reason, party, linked, account int
}

// The names of columns, with nothing but their letters.
func columnsOf(row []string) (c columns, ok bool) {
	at := func(names ...string) int {
		return slices.IndexFunc(row, func(cell string) bool { return slices.Contains(names, letters(cell)) })
	}
	c = columns{
		receipt: at("receiptno", "receiptnumber", "receipt"), completed: at("completiontime", "completedtime", "completiondate"), initiated: at("initiationtime", "initiationdate"),
		details: at("details"), status: at("transactionstatus", "status"), in: at("paidin"), out: at("withdrawn", "withdrawal"), reason: at("reasontype", "reason"),
		party: at("otherpartyinfo", "otherparty", "oppositeparty"), linked: at("linkedtransactionid"), account: at("acno", "accno", "accountno", "accountnumber", "account"),
	}
	return c, c.receipt >= 0 && c.in >= 0
}

func cellAt(row []string, i int) string {
	if i < 0 || i >= len(row) {
		return ""
	}
	return strings.TrimSpace(row[i])
}

// ReadStatement reads a file. What it cannot make sense of it refuses, and names the row: a comparison with half a statement
// would call what is missing a loss.
func ReadStatement(file []byte) (*Statement, error) {
	if len(file) > MaxStatement {
		return nil, fmt.Errorf("books: statement: it is over %d MB: take a shorter period", MaxStatement>>20)
	}
	body, err := text(file)
	if err != nil {
		return nil, fmt.Errorf("books: statement: %w", err)
	}
	raw, first, err := rows(body)
	if err != nil {
		return nil, fmt.Errorf("books: statement: %w", err)
	}
	s := &Statement{}
	head, at, ok := columns{}, 0, false
	for ; at < len(raw) && !ok; at++ {
		head, ok = columnsOf(raw[at])
	}
	if !ok {
		return nil, errors.New("books: statement: there is no row with the names of columns, among them Receipt No. and Paid In: is it the statement that the M-Pesa business portal exports as CSV?")
	}
	o := orderOf(raw[at:], head)
	asOf := s.preamble(raw[:at-1], o)
	if err := s.table(raw[at:], first[at:], head, o); err != nil {
		return nil, fmt.Errorf("books: statement: %w", err)
	}
	if s.From.IsZero() {
		return nil, errors.New("books: statement: it has no rows, and does not say of which period it is")
	}
	if !asOf.IsZero() {
		s.AsOf(asOf)
	}
	return s, nil
}

// AsOf says when the statement was made, at the latest. Of what its period has after that, it knows nothing.
func (s *Statement) AsOf(made time.Time) {
	if made.Before(s.To) && made.After(s.last) {
		s.To = made
	}
}

// rows takes a file apart, and says on which line of it each row begins.
func rows(body string) (list [][]string, line []int, err error) {
	comma := ','
	if rest, ok := strings.CutPrefix(body, "sep="); ok && rest != "" { // a spreadsheet's own first line
		comma = []rune(rest)[0]
		_, body, _ = strings.Cut(body, "\n")
	} else {
		comma = commonest(body)
	}
	if comma != ';' && comma != '\t' && comma != '|' {
		comma = ','
	}
	r := csv.NewReader(strings.NewReader(body))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes = comma, -1, true
	for {
		row, err := r.Read()
		if err == io.EOF {
			return list, line, nil
		}
		if err != nil {
			return nil, nil, err
		}
		at, _ := r.FieldPos(0)
		list, line = append(list, row), append(line, at)
	}
}

// commonest is what separates the names of the columns.
func commonest(body string) rune {
	for line := range strings.Lines(body) {
		if l := letters(line); !strings.Contains(l, "receipt") || !strings.Contains(l, "paidin") {
			continue
		}
		best, most := ',', 0
		for _, c := range ",;\t|" {
			if n := strings.Count(line, string(c)); n > most {
				best, most = c, n
			}
		}
		return best
	}
	return ','
}

// orderOf says whether dates have the day first or the month. The letters of the receipts tell: they are dates themselves.
func orderOf(list [][]string, head columns) order {
	var fits [2]int
	for _, row := range list {
		receipt := receiptOf(cellAt(row, head.receipt))
		if receipt == "" {
			continue
		}
		for _, o := range []order{dayFirst, monthFirst} {
			if at, err := whenOf(row, head, o); err == nil && strings.HasPrefix(receipt, daraja.ReceiptPrefix(at)) {
				fits[o]++
			}
		}
		if fits[0]+fits[1] >= 2000 {
			break
		}
	}
	if fits[monthFirst] > fits[dayFirst] {
		return monthFirst
	}
	return dayFirst
}

// whenOf is when a row was completed. A spreadsheet may have left no more of that than a clock; then it began on that day.
func whenOf(row []string, head columns, o order) (time.Time, error) {
	at, _, err := moment(cellAt(row, head.completed), o)
	if err != nil {
		at, _, err = moment(cellAt(row, head.initiated), o)
	}
	return at, err
}

var (
	shortcodeText = regexp.MustCompile(`\b\d{5,7}\b`)
	dateText      = regexp.MustCompile(`\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T]+\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?)?`)
)

// preamble reads what stands before the names of the columns: whose statement it is, of which period, and when it was made.
func (s *Statement) preamble(list [][]string, o order) (asOf time.Time) {
	for _, row := range list {
		line := strings.Join(row, " ")
		for i, cell := range row {
			name := letters(strings.SplitN(cell, ":", 2)[0])
			_, value, _ := strings.Cut(cell, ":")
			value = strings.TrimSpace(value)
			for j := i + 1; value == "" && j < len(row); j++ {
				value = strings.TrimSpace(row[j])
			}
			switch name {
			case "shortcode", "paybill", "paybillnumber", "tillnumber", "till", "businessnumber", "organizationshortcode", "organisationshortcode":
				if s.Number == "" {
					s.Number = shortcodeText.FindString(value)
				}
			case "accountholder", "organizationname", "organisationname", "organization", "organisation":
				if s.Holder == "" {
					s.Holder = value
				}
			case "timeperiod", "period", "statementperiod":
				if dates := dateText.FindAllString(strings.ReplaceAll(line, ",", " "), 2); len(dates) == 2 && s.From.IsZero() {
					from, _, err1 := moment(dates[0], o)
					to, clock, err2 := moment(dates[1], o)
					if err1 == nil && err2 == nil && !to.Before(from) {
						if s.From, s.To = from, to.Add(time.Second); !clock {
							s.To = to.AddDate(0, 0, 1)
						}
					}
				}
			case "dateofreport", "reportdate", "datecreated", "generatedon":
				if _, rest, ok := strings.Cut(line, strings.SplitN(cell, ":", 2)[0]); ok {
					if at, clock, err := moment(dateText.FindString(rest), o); err == nil && clock {
						asOf = at
					}
				}
			case "totalpaidin":
				if total, err := money(value); err == nil && value != "" {
					s.PaidIn = &total
				}
			}
		}
	}
	return asOf
}

// table reads the rows.
func (s *Statement) table(list [][]string, line []int, head columns, o order) error {
	ignored := map[kind]*Ignored{}
	var first, last time.Time
	var linked []string // of each reversal, what it says
	paid := map[string]bool{}
	for i, row := range list {
		receipt := receiptOf(cellAt(row, head.receipt))
		inText, outText := cellAt(row, head.in), cellAt(row, head.out)
		if receipt == "" { // a total, an empty row, the names of the columns once more
			_, again := columnsOf(row)
			if cell := cellAt(row, head.receipt); cell != "" && !again && cellAt(row, head.status) != "" {
				return fmt.Errorf("row %d: %q is no receipt", line[i], clip(cell))
			}
			continue
		}
		in, err := money(inText)
		if err != nil {
			return fmt.Errorf("row %d, %s: Paid In is %q, which is no amount", line[i], receipt, clip(inText))
		}
		out, err := money(outText)
		if err != nil {
			return fmt.Errorf("row %d, %s: Withdrawn is %q, which is no amount", line[i], receipt, clip(outText))
		}
		if in < 0 { // some exports have one sign for both
			in, out = 0, out-in
		}
		at, err := whenOf(row, head, o)
		if err != nil {
			return fmt.Errorf("row %d, %s: the completion time is %q, which is no date (write it as 22-11-2026 15:04:05)", line[i], receipt, clip(cellAt(row, head.completed)))
		}
		if out < 0 {
			out = -out
		}
		if in > maxAmount || out > maxAmount {
			return fmt.Errorf("row %d, %s: the amount is beyond all that M-Pesa moves", line[i], receipt)
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
		k := kindOf(cellAt(row, head.status), cellAt(row, head.reason), cellAt(row, head.details), in, out)
		if k != kindUndone {
			s.Incoming += in
		}
		switch k {
		case kindPayment:
			paid[receipt] = true
			s.Payments = append(s.Payments, StatementIn{line[i], receipt, at, in, cellAt(row, head.account), cellAt(row, head.party)})
			continue
		case kindReversal:
			s.Reversed = append(s.Reversed, Reversal{Row: line[i], Receipt: receipt, Time: at, Amount: out - in})
			linked = append(linked, cellAt(row, head.linked)+" "+cellAt(row, head.details))
		}
		n := ignored[k]
		if n == nil {
			n = &Ignored{What: kindNames[k]}
			ignored[k] = n
		}
		n.Rows++
		n.Amount += in - out
	}
	for i := range s.Reversed {
		s.Reversed[i].Of = reversed(s.Reversed[i].Receipt, linked[i], paid)
	}
	for k := kindReversal; k <= kindUndone; k++ {
		if ignored[k] != nil {
			s.Ignored = append(s.Ignored, *ignored[k])
		}
	}
	if s.last = last; first.IsZero() {
		return nil
	}
	if s.From.IsZero() || first.Before(s.From) {
		s.From = first
	}
	if end := last.Add(time.Second); s.To.IsZero() || end.After(s.To) {
		s.To = end
	}
	return nil
}

// maxAmount is far above what one row can move, and far from what no longer fits when all rows of a file are added up.
const maxAmount = push.Money(5_000_000_000_00)

// reversed finds what a reversal has reversed: a receipt that it names, or its own, if that is one of a payment.
func reversed(own, says string, paid map[string]bool) string {
	for _, word := range strings.FieldsFunc(says, func(r rune) bool { return strings.ContainsRune(" \t,.;:()[]#-/", r) }) {
		if r := receiptOf(word); r != "" && r != own && (paid[r] || len(r) == 10 && strings.ContainsAny(r, "0123456789")) {
			return r
		}
	}
	if paid[own] {
		return own
	}
	return ""
}

// clip bounds what is repeated of a file.
func clip(text string) string {
	if r := []rune(text); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return text
}
