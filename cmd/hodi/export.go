package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/daraja"
)

func exportCommand(data cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write what was paid as CSV, or what each day came to",
		Description: "One line for each payment that is made, and for money of which only a C2B notice has told, by the day on which the money moved: Nairobi's. " +
			"A DAY is written 2026-11-22, today or yesterday. What the lines come to is said on standard error, by environment and shortcode.",
		Flags: []cli.Flag{
			data,
			&cli.StringFlag{Name: "from", Usage: "from `DAY` on; if not given, from the beginning"},
			&cli.StringFlag{Name: "to", Usage: "to `DAY`, that day included; if not given, to the end"},
			&cli.StringFlag{Name: "day", Usage: "`DAY` alone"},
			&cli.StringFlag{Name: "shortcode", Usage: "only those of a shortcode, by its `NAME` or number"},
			&cli.BoolFlag{Name: "days", Usage: "write the sums of the days in place of the payments"},
			&cli.BoolFlag{Name: "unpaid", Usage: "write the payments that are not made, by the day on which they were asked for, in place of those that are"},
			&cli.BoolFlag{Name: "whole-numbers", Usage: "write customers' numbers whole; the audit has who did"},
			&cli.StringFlag{Name: "output", Usage: "write to `FILE`, for its owner alone; if not given, to standard output"},
		},
		Action: exportPayments,
	}
}

// ledgerDays is what the sidecar says about its books.
type ledgerDays struct {
	First, Last time.Time
	Shortcodes  []struct{ Name, Number, Store, Environment string }
}

// only says which lines of the books are of a shortcode: those of its number, of one that the configuration does not have
// any more, too. Every line is of "".
func (d *ledgerDays) only(shortcode string) (func(books.Line) bool, error) {
	if shortcode == "" {
		return func(books.Line) bool { return true }, nil
	}
	number, environment := shortcode, ""
	for _, c := range d.Shortcodes {
		if c.Name == shortcode {
			number, environment = c.Number, c.Environment
		}
	}
	for _, r := range number {
		if r < '0' || r > '9' {
			return nil, fmt.Errorf("no shortcode is called %q: name one of hodi.toml, or give a number", plain(shortcode))
		}
	}
	return func(l books.Line) bool {
		return l.Number == number && (environment == "" || l.Environment == environment)
	}, nil
}

// A ledger reads the books of the sidecar that runs here, page by page.
type ledger struct{ c *cli.Context }

func (l ledger) days(whole bool) (d ledgerDays, err error) {
	path := "/ledger/days"
	if whole {
		path += "?numbers=whole"
	}
	err = operate(l.c, http.MethodGet, path, nil, &d)
	return d, err
}

func (l ledger) Lines(from, to time.Time, unpaid bool, each func(books.Line) error) error {
	q := url.Values{"from": {from.UTC().Format(time.RFC3339Nano)}, "to": {to.UTC().Format(time.RFC3339Nano)}}
	if unpaid {
		q.Set("unpaid", "true")
	}
	return l.read(q, each)
}

func (l ledger) read(q url.Values, each func(books.Line) error) error {
	for {
		var page struct {
			Lines []books.Line
			Next  string
		}
		if err := operate(l.c, http.MethodGet, "/ledger?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, line := range page.Lines {
			if err := each(line); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Set("after", page.Next)
	}
}

func (l ledger) Of(receipts []string) ([]books.Line, error) {
	var found struct{ Lines []books.Line }
	err := operate(l.c, http.MethodPost, "/ledger", map[string][]string{"receipts": receipts}, &found)
	return found.Lines, err
}

func exportPayments(c *cli.Context) error {
	book := ledger{c}
	is, err := book.days(c.Bool("whole-numbers"))
	if err != nil {
		return err
	}
	only, err := is.only(c.String("shortcode"))
	if err != nil {
		return fmt.Errorf("payments export: %w", err)
	}
	from, to, err := exportedDays(c, is)
	if err != nil {
		return fmt.Errorf("payments export: %w", err)
	}
	if c.Bool("days") && c.Bool("unpaid") {
		return errors.New("payments export: what is not paid has no sums: --days or --unpaid, not both")
	}
	var sums books.Sums
	wrote := 0
	write := func(w io.Writer) error {
		var sheet *books.Sheet
		if !c.Bool("days") {
			if sheet, err = books.NewSheet(w); err != nil {
				return err
			}
		}
		for day := from; day.Before(to); day = day.AddDate(0, 0, 1) {
			q := url.Values{"from": {day.Format(time.RFC3339)}, "to": {day.AddDate(0, 0, 1).Format(time.RFC3339)}}
			if c.Bool("unpaid") {
				q.Set("unpaid", "true")
			}
			if c.Bool("whole-numbers") {
				q.Set("numbers", "whole")
			}
			err := book.read(q, func(l books.Line) error {
				if !only(l) {
					return nil
				}
				wrote++
				if err := sums.Add(l); err != nil || sheet == nil {
					return err
				}
				return sheet.Add(l)
			})
			if err != nil {
				return err
			}
		}
		if sheet == nil {
			return books.WriteDays(w, sums.Days())
		}
		return sheet.Flush()
	}
	if err := toFile(c, write); err != nil {
		return fmt.Errorf("payments export: %w", err)
	}
	return sayTotals(c.App.ErrWriter, &sums, wrote, c.Bool("unpaid"))
}

// exportedDays is from the first day on, to before the last: midnights of Nairobi.
func exportedDays(c *cli.Context, is ledgerDays) (from, to time.Time, err error) {
	if c.IsSet("day") && (c.IsSet("from") || c.IsSet("to")) {
		return from, to, errors.New("--day is one day alone: leave out --from and --to")
	}
	midnight := func(at time.Time) time.Time {
		y, m, d := at.In(daraja.Nairobi).Date()
		return time.Date(y, m, d, 0, 0, 0, 0, daraja.Nairobi)
	}
	named := func(flag string) (time.Time, error) {
		switch text := c.String(flag); text {
		case "today":
			return midnight(time.Now()), nil
		case "yesterday":
			return midnight(time.Now()).AddDate(0, 0, -1), nil
		default:
			day, err := time.ParseInLocation(time.DateOnly, text, daraja.Nairobi)
			if err != nil {
				return day, fmt.Errorf("--%s %q is no day: write 2026-11-22, today or yesterday", flag, plain(text))
			}
			return day, nil
		}
	}
	if c.IsSet("day") {
		from, err = named("day")
		return from, from.AddDate(0, 0, 1), err
	}
	if !is.First.IsZero() {
		from, to = midnight(is.First), midnight(is.Last).AddDate(0, 0, 1)
	}
	if c.IsSet("from") {
		first, err := named("from")
		if err != nil {
			return from, to, err
		}
		if first.After(from) {
			from = first
		}
	}
	if c.IsSet("to") {
		last, err := named("to")
		if err != nil {
			return from, to, err
		}
		if end := last.AddDate(0, 0, 1); end.Before(to) {
			to = end
		}
	}
	return from, to, nil
}

// toFile has a file written whole or not at all, or standard output.
func toFile(c *cli.Context, write func(io.Writer) error) error {
	name := c.String("output")
	if name == "" || name == "-" {
		w := bufio.NewWriterSize(c.App.Writer, 64<<10)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".hodi-export-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it has its name there is none
	w := bufio.NewWriterSize(f, 64<<10)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// sayTotals says what was written, never adding up two shortcodes, nor the sandbox and what is real.
func sayTotals(w io.Writer, sums *books.Sums, wrote int, unpaid bool) error {
	if unpaid {
		fmt.Fprintf(w, "%s that are not made\n", plural(wrote, "payment"))
		return nil
	}
	totals, err := sums.Totals()
	if err != nil {
		return fmt.Errorf("payments export: %w", err)
	}
	if len(totals) == 0 {
		fmt.Fprintln(w, "nothing was paid in this time")
	}
	for _, t := range totals {
		what := t.Number
		if what == "" {
			what = "an unknown shortcode"
		}
		if t.Environment != "production" {
			what += " (" + map[string]string{"": "environment not known", "sandbox": "sandbox: no real money"}[t.Environment] + ")"
		}
		fmt.Fprintf(w, "%s: %s, KES %s", plain(what), plural(t.Payments, "payment"), kes(t.Amount))
		if t.ByC2B > 0 {
			fmt.Fprintf(w, "; %d of them, KES %s, not asked for by this sidecar (C2B)", t.ByC2B, kes(t.ByC2BAmount))
		}
		fmt.Fprintln(w)
		if t.NoReceipt > 0 {
			paragraph(w, fmt.Sprintf("  %s of these without a receipt yet: M-Pesa has said that it is paid. If C2B notices come here too, one of them may be the same money; hodi reconcile finds that out.", plural(t.NoReceipt, "payment")))
		}
	}
	return nil
}
