package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

func reconcileCommand() *cli.Command {
	return &cli.Command{
		Name: "reconcile", Usage: "what M-Pesa's statement and this sidecar do not agree about", ArgsUsage: "STATEMENT.csv",
		Description: "STATEMENT.csv is what the M-Pesa business portal exports for the shortcode's account that customers pay into. It is compared by receipt, over its own period; " +
			"charges, reversals and withdrawals are no payments. Ends with 0 if both sides agree, with 1 if they do not, and with 2 if that could not be found out: the file cannot be read, or no sidecar answers. Nothing is changed.",
		Flags: []cli.Flag{
			sidecarData(),
			&cli.StringFlag{Name: "shortcode", Usage: "the statement is of this shortcode, by its `NAME` or number; if not given, as the statement says, or the only one"},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs: all of it"},
		},
		Action: func(c *cli.Context) error {
			agree, err := reconcile(c)
			switch {
			case err != nil:
				return &exitError{2, fmt.Errorf("reconcile: %w", err)}
			case !agree:
				return errSaid
			}
			return nil
		},
	}
}

func reconcile(c *cli.Context) (agree bool, err error) {
	if c.NArg() != 1 {
		return false, errors.New("which statement: hodi reconcile STATEMENT.csv")
	}
	name := c.Args().First()
	statement, err := readStatement(name)
	if err != nil {
		return false, err
	}
	book := ledger{c}
	days, err := book.days(false)
	if err != nil {
		return false, err
	}
	of, err := days.of(c.String("shortcode"), statement.Number)
	if err != nil {
		return false, err
	}
	found, err := books.Compare(statement, of, book)
	if err != nil {
		return false, err
	}
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return found.Agree, e.Encode(struct {
			Shortcode   string `json:"shortcode"`
			Environment string `json:"environment"`
			*books.Comparison
		}{of.Numbers[0], of.Environment, found})
	}
	writeComparison(c.App.Writer, of, found)
	return found.Agree, nil
}

func readStatement(name string) (*books.Statement, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, books.MaxStatement+1))
	if err != nil {
		return nil, err
	}
	s, err := books.ReadStatement(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, plain(strings.TrimPrefix(err.Error(), "books: statement: ")))
	}
	s.AsOf(time.Now())
	if is, err := f.Stat(); err == nil {
		s.AsOf(is.ModTime())
	}
	return s, nil
}

// of says whose lines a statement is about.
func (d *ledgerDays) of(told, written string) (books.Of, error) {
	want := told
	if want == "" {
		want = written
	}
	var found []int
	var names []string
	for i, code := range d.Shortcodes {
		names = append(names, code.Name)
		if want == "" || code.Name == want && told != "" || code.Number == want || code.Store == want {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		code := d.Shortcodes[found[0]]
		of := books.Of{Numbers: []string{code.Number}, Environment: code.Environment}
		if code.Store != "" && code.Store != code.Number {
			of.Numbers = append(of.Numbers, code.Store)
		}
		return of, nil
	case len(d.Shortcodes) == 0:
		return books.Of{}, errors.New("this sidecar has no shortcode in its configuration, so nothing here can be on a statement")
	case len(found) == 0 && told != "":
		return books.Of{}, fmt.Errorf("there is no shortcode %s in the configuration, but %s", plain(told), strings.Join(names, ", "))
	case len(found) == 0:
		return books.Of{}, fmt.Errorf("the statement is of %s, and the configuration has %s: if it is one of these all the same, say which with --shortcode", plain(written), strings.Join(names, ", "))
	case written == "" && told == "":
		return books.Of{}, fmt.Errorf("the statement does not say whose it is: say it with --shortcode, one of %s", strings.Join(names, ", "))
	}
	return books.Of{}, fmt.Errorf("several shortcodes go by %s: say which with --shortcode, by its name, one of %s", plain(want), strings.Join(names, ", "))
}

// mostSaid is how many differences of a sort are written out for people.
const mostSaid = 50

func writeComparison(w io.Writer, of books.Of, c *books.Comparison) {
	const form = "2 Jan 2006 15:04:05"
	fmt.Fprintf(w, "Statement of %s, from %s to %s: %s, KES %s.\n", of.Numbers[0], c.From.In(daraja.Nairobi).Format(form), c.To.In(daraja.Nairobi).Format(form), plural(c.Statement.Payments, "payment"), kes(c.Statement.Amount))
	fmt.Fprintf(w, "Here are %d of them, KES %s.\n", c.Both.Payments, kes(c.Both.Amount))
	for _, i := range c.Ignored {
		fmt.Fprintf(w, "Left out: %s, %s, KES %s.\n", i.What, plural(i.Rows, "row"), kes(i.Amount))
	}
	section := func(n int, title, todo string, each func(i int) []string) {
		if n == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s (%s)\n", title, grouped(uint64(n)))
		paragraph(w, todo)
		for i := range min(n, mostSaid) {
			for j, text := range each(i) {
				fmt.Fprintf(w, "%s%s\n", [2]string{"  ", "      "}[min(j, 1)], plain(text))
			}
		}
		if n > mostSaid {
			fmt.Fprintf(w, "  and %s more: --json has all\n", grouped(uint64(n-mostSaid)))
		}
	}
	at := func(t push.Time) string { return t.In(daraja.Nairobi).Format(time.DateTime) }
	section(len(c.OnlyStatement), "Only on the statement", "Money came of which nothing is known here: a callback was lost, or the customer paid by another way than a request of this sidecar.", func(i int) []string {
		m := c.OnlyStatement[i]
		list := []string{fmt.Sprintf("%s  %s  KES %s  %s  (row %d)", m.Receipt, at(m.Time), kes(m.Amount), m.Reference, m.Row)}
		if m.Elsewhere != nil {
			list = append(list, fmt.Sprintf("here that receipt is of shortcode %s (%s), KES %s, %s", m.Elsewhere.Number, m.Elsewhere.Environment, kes(m.Elsewhere.Amount), m.Elsewhere.Status))
		}
		for _, p := range m.Candidate {
			list = append(list, fmt.Sprintf("perhaps payment %s, which is %s here. If it is:", p.PaymentID, p.Status),
				fmt.Sprintf("hodi payments confirm %s --receipt %s --reason 'on the statement, row %d'", p.PaymentID, m.Receipt, m.Row))
		}
		return list
	})
	section(len(c.OnlyHere), "Only here", "Here they are paid, and the statement does not have them. Before goods of such a payment go out, or if they have: look for the receipt in the portal, and ask whether the statement is of the right account and whole.", func(i int) []string {
		return []string{sayLine(c.OnlyHere[i])}
	})
	section(len(c.Amounts), "Another amount", "The statement is what M-Pesa has paid.", func(i int) []string {
		d := c.Amounts[i]
		return []string{fmt.Sprintf("%s  on the statement KES %s (row %d), here KES %s  %s", d.Here.Receipt, kes(d.Statement), d.Row, kes(d.Here.Amount), d.Here.PaymentID)}
	})
	section(len(c.Doubled), "Doubled", "One receipt is one payment. Two rows with one may come of two files put together; two payments here with one may have cost goods twice.", func(i int) []string {
		d := c.Doubled[i]
		if len(d.Rows) > 0 {
			return []string{fmt.Sprintf("%s  on the statement in rows %s, together KES %s", d.Receipt, strings.Trim(fmt.Sprint(d.Rows), "[]"), kes(d.Amount))}
		}
		list := []string{fmt.Sprintf("%s  here %d times, together KES %s", d.Receipt, len(d.Here), kes(d.Amount))}
		for _, l := range d.Here {
			list = append(list, sayLine(l))
		}
		return list
	})
	section(len(c.Reversed), "Given back", "They were paid, and M-Pesa has given the money back since. Here they stay paid: SUCCESS is never undone.", func(i int) []string {
		r := c.Reversed[i]
		return []string{fmt.Sprintf("%s  KES %s given back %s  (row %d)  %s", r.Receipt, kes(r.Amount), at(r.Time), r.Row, r.PaymentID)}
	})
	var open, named []books.Nameless
	for _, n := range c.NoReceipt {
		if n.Is == "" {
			open = append(open, n)
		} else {
			named = append(named, n)
		}
	}
	section(len(open), "Paid here, without a receipt", "M-Pesa has said that they are paid, and no row of the statement can be only theirs: look for one with the amount and the reference.", func(i int) []string {
		return []string{sayLine(open[i].Line)}
	})
	section(len(named), "Found by amount, reference and time", "Here they have no receipt. On the statement only this row fits, and it fits nothing else: they count as agreeing.", func(i int) []string {
		return []string{fmt.Sprintf("%s is %s (row %d)  KES %s  %s", named[i].PaymentID, named[i].Is, named[i].Row, kes(named[i].Amount), named[i].Reference)}
	})
	for _, n := range c.Notes {
		fmt.Fprintln(w)
		paragraph(w, "Note: "+plain(n)+".")
	}
	fmt.Fprintln(w)
	if c.Agree {
		fmt.Fprintln(w, "They agree.")
		return
	}
	if c.Unlisted > 0 {
		fmt.Fprintf(w, "There are %s more differences than can be listed: is it the statement of another shortcode?\n", grouped(uint64(c.Unlisted)))
	}
	fmt.Fprintln(w, "They do not agree.")
}

func sayLine(l books.Line) string {
	what := l.PaymentID
	if what == "" {
		what = "by a C2B notice"
	}
	return fmt.Sprintf("%s  %s  KES %s  %s  %s", strings.TrimSpace(l.Receipt+" "), l.Time.In(daraja.Nairobi).Format(time.DateTime), kes(l.Amount), l.Reference, what)
}

// kes writes an amount as people read it: 1,204.50.
func kes(m push.Money) string {
	sign, cents := "", uint64(m)
	if m < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%s%s.%02d", sign, grouped(cents/100), cents%100)
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(uint64(n)) + " " + what
}
