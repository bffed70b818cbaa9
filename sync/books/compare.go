package books

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Ledger is where the lines of the books are.
type Ledger interface {
	// Lines gives those of a time, From ≤ Time < To: what was paid, or what was not.
	Lines(from, to time.Time, unpaid bool, each func(Line) error) error
	// Of gives those that have one of some receipts, whenever they are of.
	Of(receipts []string) ([]Line, error)
}

// Of says which of the lines a statement is about: those of its shortcode.
type Of struct {
	Numbers     []string // that it goes by: a till's, and its store's
	Environment string
}

// has reports whether a line is one of them. Nobody knows of which environment C2B money is, if its number is of two.
func (o Of) has(l Line) bool {
	return slices.Contains(o.Numbers, l.Number) && (l.Environment == o.Environment || l.Environment == "")
}

// Comparison is what the books and a statement say of the same time.
type Comparison struct {
	Agree     bool      `json:"agree"`
	From      push.Time `json:"from"` // From ≤ t < To: the statement's own period
	To        push.Time `json:"to"`
	Statement Amounts   `json:"statement"` // payments of customers on it
	Both      Amounts   `json:"both"`      // of those, how many are here with the same receipt, and as the statement has their amounts
	Ignored   []Ignored `json:"ignored,omitempty"`

	OnlyStatement []Missing   `json:"onlyStatement"` // on the statement, and not here
	OnlyHere      []Line      `json:"onlyHere"`      // here, and not on the statement
	Amounts       []Differs   `json:"amounts"`       // on both, with another amount
	Doubled       []Doubled   `json:"doubled"`       // a receipt that is twice on either side
	Reversed      []GivenBack `json:"reversed"`      // paid, and given back since
	NoReceipt     []Nameless  `json:"noReceipt"`     // paid here, without a receipt
	Unlisted      int         `json:"unlisted,omitempty"`
	Notes         []string    `json:"notes,omitempty"`

	differences int
}

// Amounts are how many payments, and how much.
type Amounts struct {
	Payments int        `json:"payments"`
	Amount   push.Money `json:"amount"`
}

func (a *Amounts) add(m push.Money) { a.Payments, a.Amount = a.Payments+1, a.Amount+m }

// Missing is a payment that only the statement has.
type Missing struct {
	Row       int        `json:"row"`
	Receipt   string     `json:"receipt"`
	Time      push.Time  `json:"time"`
	Amount    push.Money `json:"amount"`
	Reference string     `json:"accountReference,omitempty"`
	Candidate []Line     `json:"candidates,omitempty"` // payments here that are not made, and that it may be
	Elsewhere *Line      `json:"elsewhere,omitempty"`  // the line here with its receipt, if that is of another shortcode or not paid
}

// Differs is a receipt with two amounts.
type Differs struct {
	Row       int        `json:"row"`
	Statement push.Money `json:"statement"`
	Here      Line       `json:"here"`
}

// Doubled is a receipt that stands more than once on one side.
type Doubled struct {
	Receipt string     `json:"receipt"`
	Rows    []int      `json:"rows,omitempty"` // of the statement
	Here    []Line     `json:"here,omitempty"`
	Amount  push.Money `json:"amount"`
}

// GivenBack is a payment that was reversed.
type GivenBack struct {
	Row       int        `json:"row"`
	Receipt   string     `json:"receipt"` // of the payment
	Time      push.Time  `json:"time"`    // of the reversal
	Amount    push.Money `json:"amount"`
	PaymentID string     `json:"paymentId,omitempty"`
}

// Nameless is a payment that is paid here and whose receipt is not known.
type Nameless struct {
	Line
	Is  string `json:"is,omitempty"`  // the receipt on the statement that it must be: nothing else there fits, and it fits nothing else
	Row int    `json:"row,omitempty"` // where that is
}

const (
	maxListed = 10_000           // differences of a sort: more are counted
	around    = 48 * time.Hour   // of the period, in which its payments may be dated here: by another clock, or by M-Pesa's answer to a question
	slack     = 5 * time.Minute  // between two clocks
	prompting = 15 * time.Minute // from the beginning of a payment to when it can still be paid
	batch     = 200              // receipts that are asked about at once
)

// page is a row of the statement, while it is looked for.
type page struct {
	StatementIn
	line      *Line // that has its receipt
	elsewhere *Line
}

// Compare holds a statement against the lines of its shortcode, over the statement's own period.
func Compare(s *Statement, of Of, ledger Ledger) (*Comparison, error) {
	if len(of.Numbers) == 0 {
		return nil, errors.New("books: compare: the statement's shortcode is not known")
	}
	c := &Comparison{
		From: push.Time{Time: s.From}, To: push.Time{Time: s.To}, Ignored: s.Ignored,
		OnlyStatement: []Missing{}, OnlyHere: []Line{}, Amounts: []Differs{}, Doubled: []Doubled{}, Reversed: []GivenBack{}, NoReceipt: []Nameless{},
	}
	pages := c.sort(s)
	if err := c.read(pages, s, of, ledger); err != nil {
		return nil, fmt.Errorf("books: compare: %w", err)
	}
	left, err := c.find(pages, s, of, ledger)
	if err != nil {
		return nil, fmt.Errorf("books: compare: %w", err)
	}
	left = c.name(pages, left)
	if err := c.suggest(left, of, ledger); err != nil {
		return nil, fmt.Errorf("books: compare: %w", err)
	}
	if err := c.reversals(pages, s, of, ledger); err != nil {
		return nil, fmt.Errorf("books: compare: %w", err)
	}
	if s.PaidIn != nil && *s.PaidIn != s.Incoming {
		c.Notes = append(c.Notes, fmt.Sprintf("the statement's first lines say that KES %s came in, and its rows add up to KES %s: perhaps it is not whole", *s.PaidIn, s.Incoming))
	}
	c.Agree = c.differences == 0
	return c, nil
}

// note keeps a difference, or counts it where there are too many.
func note[T any](c *Comparison, list *[]T, difference T) {
	c.differences++
	if len(*list) >= maxListed {
		c.Unlisted++
		return
	}
	*list = append(*list, difference)
}

// sort orders the statement by receipt, and finds what is on it twice.
func (c *Comparison) sort(s *Statement) map[string]*page {
	pages := make(map[string]*page, len(s.Payments))
	twice := map[string]int{} // where in Doubled
	for _, in := range s.Payments {
		c.Statement.add(in.Amount)
		have := pages[in.Receipt]
		if have == nil {
			pages[in.Receipt] = &page{StatementIn: in}
			continue
		}
		if at, known := twice[in.Receipt]; known {
			c.Doubled[at].Rows = append(c.Doubled[at].Rows, in.Row)
			c.Doubled[at].Amount += in.Amount
			continue
		}
		if len(c.Doubled) < maxListed {
			twice[in.Receipt] = len(c.Doubled)
		}
		note(c, &c.Doubled, Doubled{Receipt: in.Receipt, Rows: []int{have.Row, in.Row}, Amount: have.Amount + in.Amount})
	}
	return pages
}

// read goes through the lines here once.
func (c *Comparison) read(pages map[string]*page, s *Statement, of Of, ledger Ledger) error {
	return ledger.Lines(s.From.Add(-around), s.To.Add(around), false, func(l Line) error {
		receipt := receiptOf(l.Receipt)
		p := pages[receipt]
		inside := !l.Time.Before(s.From) && l.Time.Before(s.To)
		switch {
		case !of.has(l):
			if receipt != "" && p != nil {
				p.elsewhere = &l
			}
		case receipt == "": // by M-Pesa's answer to a question, perhaps long after it was paid
			switch {
			case !l.Began.Before(s.To) || l.Time.Before(s.From):
			case len(c.NoReceipt) < maxListed:
				c.NoReceipt = append(c.NoReceipt, Nameless{Line: l})
			default:
				c.differences++
				c.Unlisted++
			}
		case p == nil && inside:
			note(c, &c.OnlyHere, l)
		case p != nil:
			c.meet(p, l)
		}
		return nil
	})
}

// meet notes that a row and a line have one receipt.
func (c *Comparison) meet(p *page, l Line) {
	if p.line != nil {
		note(c, &c.Doubled, Doubled{Receipt: p.Receipt, Here: []Line{*p.line, l}, Amount: p.line.Amount + l.Amount})
		return
	}
	p.line = &l
	c.Both.add(p.StatementIn.Amount)
	if l.Amount != p.StatementIn.Amount {
		note(c, &c.Amounts, Differs{Row: p.Row, Statement: p.StatementIn.Amount, Here: l})
	}
}

// find looks for the rest of the statement at any other time, and returns what is not there.
func (c *Comparison) find(pages map[string]*page, s *Statement, of Of, ledger Ledger) (left []*page, err error) {
	rest := func() (list []*page) {
		listed := map[string]bool{}
		for _, in := range s.Payments { // in the statement's order
			if p := pages[in.Receipt]; p.line == nil && !listed[in.Receipt] {
				listed[in.Receipt] = true
				list = append(list, p)
			}
		}
		return list
	}
	left = rest()
	for some := range slices.Chunk(left, batch) {
		receipts := make([]string, len(some))
		for i, p := range some {
			receipts[i] = p.Receipt
		}
		lines, err := ledger.Of(receipts)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			p := pages[receiptOf(l.Receipt)]
			switch {
			case p == nil:
			case of.has(l) && l.Status == string(push.Success):
				c.meet(p, l)
			default:
				p.elsewhere = &l
			}
		}
	}
	return rest(), nil
}

// name finds the payments here that have no receipt among what is left of the statement, and among what only a C2B notice has
// told of: where one fits one, and no other.
func (c *Comparison) name(pages map[string]*page, left []*page) []*page {
	fits := func(n Nameless, p *page) bool {
		return n.Amount == p.Amount && p.elsewhere == nil && sameReference(n.Reference, p.Reference) &&
			!p.Time.Before(n.Began.Add(-slack)) && !p.Time.After(n.Time.Add(slack))
	}
	byAmount := map[push.Money][]*page{}
	for _, p := range pages {
		if p.line == nil || p.line.PaymentID == "" {
			byAmount[p.Amount] = append(byAmount[p.Amount], p)
		}
	}
	claims := map[*page]int{}
	for _, n := range c.NoReceipt {
		for _, p := range byAmount[n.Amount] {
			if fits(n, p) {
				claims[p]++
			}
		}
	}
	named := map[*page]bool{}
	for i := range c.NoReceipt {
		n := &c.NoReceipt[i]
		var only *page
		several := false
		for _, p := range byAmount[n.Amount] {
			if fits(*n, p) {
				several = only != nil
				only = p
			}
			if several {
				break
			}
		}
		if only == nil || several || claims[only] != 1 {
			c.differences++
			continue
		}
		n.Is, n.Row, named[only] = only.Receipt, only.Row, true
		if only.line == nil {
			c.Both.add(only.Amount)
		}
	}
	return slices.DeleteFunc(left, func(p *page) bool { return named[p] })
}

// sameReference reports whether two account references can be of one payment: M-Pesa's may be missing.
func sameReference(here, there string) bool {
	h, t := letters(here), letters(there)
	return h == "" || t == "" || h == t
}

// suggest lists what only the statement has, each with the payments here that it may be: those that were asked for, for the
// same amount, and of which nothing good was heard.
func (c *Comparison) suggest(left []*page, of Of, ledger Ledger) error {
	if len(left) == 0 {
		return nil
	}
	from, to := left[0].Time, left[0].Time
	byAmount := map[push.Money][]*Missing{}
	all := make([]Missing, len(left))
	for i, p := range left {
		if p.Time.Before(from) {
			from = p.Time
		}
		if p.Time.After(to) {
			to = p.Time
		}
		all[i] = Missing{Row: p.Row, Receipt: p.Receipt, Time: push.Time{Time: p.Time}, Amount: p.Amount, Reference: p.Reference, Elsewhere: p.elsewhere}
		byAmount[p.Amount] = append(byAmount[p.Amount], &all[i])
	}
	err := ledger.Lines(from.Add(-prompting), to.Add(slack), true, func(l Line) error {
		if !of.has(l) {
			return nil
		}
		for _, m := range byAmount[l.Amount] {
			if sameReference(l.Reference, m.Reference) && len(m.Candidate) < 3 && !m.Time.Before(l.Began.Add(-slack)) && !m.Time.After(l.Began.Add(prompting)) {
				m.Candidate = append(m.Candidate, l)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range all {
		note(c, &c.OnlyStatement, m)
	}
	return nil
}

// reversals lists payments that were given back.
func (c *Comparison) reversals(pages map[string]*page, s *Statement, of Of, ledger Ledger) error {
	var unsaid Amounts
	for some := range slices.Chunk(s.Reversed, batch) {
		var ask []string
		for _, r := range some {
			if p := pages[r.Of]; r.Of != "" && (p == nil || p.line == nil) {
				ask = append(ask, r.Of)
			}
		}
		known := map[string]Line{}
		if len(ask) > 0 {
			lines, err := ledger.Of(ask)
			if err != nil {
				return err
			}
			for _, l := range lines {
				if of.has(l) && l.Status == string(push.Success) {
					known[receiptOf(l.Receipt)] = l
				}
			}
		}
		for _, r := range some {
			p := pages[r.Of]
			l, here := known[r.Of]
			if p != nil && p.line != nil {
				l, here = *p.line, true
			}
			switch {
			case r.Of == "":
				unsaid.add(r.Amount)
			case here || p != nil:
				note(c, &c.Reversed, GivenBack{Row: r.Row, Receipt: r.Of, Time: push.Time{Time: r.Time}, Amount: r.Amount, PaymentID: l.PaymentID})
			}
		}
	}
	if unsaid.Payments > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d reversals of together KES %s do not say of which payments they are: look them up in the portal", unsaid.Payments, unsaid.Amount))
	}
	return nil
}
