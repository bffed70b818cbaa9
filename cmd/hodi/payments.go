package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
)

func paymentsCommand() *cli.Command {
	data := sidecarData()
	reason := &cli.StringFlag{Name: "reason", Usage: "`WHAT` you looked at and found: it goes into the audit, with your name"}
	return &cli.Command{
		Name:  "payments",
		Usage: "payments as a bookkeeper wants them, and those that a person has to look at",
		Description: "A message that is not believed changes no payment: the sidecar asks M-Pesa. Where that does not settle it, look at the " +
			"shop's M-Pesa statement, and say what you found. Asks the sidecar that runs on this machine.",
		Subcommands: []*cli.Command{
			{Name: "doubtful", Usage: "list the payments of which something was said that is not believed, or not yet", Flags: []cli.Flag{data}, Action: listDoubtful},
			exportCommand(data),
			{Name: "confirm", Usage: "say that a payment was made", ArgsUsage: "ID",
				Description: "It becomes SUCCESS, for good. Of one that is SUCCESS and in doubt (paid twice?) it says that you have seen to that.",
				Flags:       []cli.Flag{data, reason, &cli.StringFlag{Name: "receipt", Usage: "M-Pesa's receipt, as the statement has it"}},
				Action:      taking(1, "which payment: hodi payments confirm ID --reason WHAT", func(c *cli.Context) error { return decide(c, "confirm", "confirmed") })},
			{Name: "deny", Usage: "say that a payment was not made", ArgsUsage: "ID",
				Description: "It becomes FAILED, unless it is SUCCESS: money is never unsaid. Should M-Pesa tell later that it was paid, it is.",
				Flags:       []cli.Flag{data, reason},
				Action:      taking(1, "which payment: hodi payments deny ID --reason WHAT", func(c *cli.Context) error { return decide(c, "deny", "denied") })},
			{Name: "forget", Usage: "erase a customer's number, and keep the sums",
				Description: "Reads the number, or the id of one of the customer's payments, from standard input: on a command line others would see it. " +
					"Erases it from payments, events and callbacks, names included, and from the disk. Amounts, receipts and times stay.",
				Flags: []cli.Flag{data}, Action: forgetCustomer},
		},
	}
}

// doubts are the words of the screens for what is in doubt.
var doubts = map[string]string{"suspect": "not believed", "large": "large: M-Pesa is asked first", "paid_twice": "paid twice?"}

// A doubted payment, as the sidecar lists it.
type doubted struct {
	PaymentID, Status, Doubt, AccountReference, MpesaReceiptNumber, DecidedBy string
	Amount                                                                    *float64
	Timestamp                                                                 time.Time
}

func listDoubtful(c *cli.Context) error {
	var page struct {
		Payments []doubted
		Next     string
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	for n := 0; ; {
		query := url.Values{"doubt": {"true"}, "limit": {"500"}, "after": {page.Next}}
		page.Payments, page.Next = nil, ""
		if err := operate(c, http.MethodGet, "/payments?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, p := range page.Payments {
			if n++; n == 1 {
				fmt.Fprintln(w, "PAYMENT\tBEGAN\tKES\tFOR\tIS\tDOUBT")
			}
			amount := "?"
			if p.Amount != nil {
				amount = fmt.Sprint(*p.Amount)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.PaymentID, p.Timestamp.Local().Format(time.DateTime), amount, plain(p.AccountReference), p.Status, doubts[p.Doubt])
		}
		if page.Next == "" {
			if n == 0 {
				fmt.Fprintln(c.App.Writer, "No payment is in doubt.")
			}
			return w.Flush()
		}
	}
}

func decide(c *cli.Context, verb, done string) error {
	reason := strings.TrimSpace(c.String("reason"))
	if reason == "" {
		return fmt.Errorf("payments %s: say what you looked at and found: --reason 'it is on the statement of today'", verb)
	}
	body := map[string]string{"reason": reason}
	if receipt := c.String("receipt"); receipt != "" {
		body["receipt"] = receipt
	}
	var p doubted
	if err := operate(c, http.MethodPost, "/payments/"+url.PathEscape(c.Args().First())+"/"+verb, body, &p); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "payment %s is %s: %s by %s\n", p.PaymentID, p.Status, done, plain(operator()))
	return nil
}

func refKeyCommand(data cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "the keys behind the addresses that payments are given: list, add, retire",
		Description: "Each payment's callback has an address of its own, whose code nobody can make without the key. A new key is for new payments. " +
			"What was made with the older ones is believed until you retire them: wait two days, for as long as payments are asked about, unless the key is in wrong hands.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the keys", Flags: []cli.Flag{data}, Action: listRefKeys},
			{Name: "add", Usage: "add a key, for new payments", Flags: []cli.Flag{data}, Action: addRefKey},
			{Name: "retire", Usage: "retire a key: a callback to an address that was made with it is forged from then on", ArgsUsage: "KEY", Flags: []cli.Flag{data},
				Action: taking(1, "the name of one key: hodi sidecar key retire KEY", retireRefKey)},
		},
	}
}

func listRefKeys(c *cli.Context) error {
	var list struct {
		Keys []struct {
			Name string
			Made time.Time
			New  bool
		}
	}
	if err := operate(c, http.MethodGet, "/keys", nil, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSINCE\tFOR")
	for _, k := range list.Keys {
		since, is := "the beginning", "older payments"
		if !k.Made.IsZero() {
			since = k.Made.Format(time.DateOnly)
		}
		if k.New {
			is = "new payments"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, since, is)
	}
	return w.Flush()
}

func addRefKey(c *cli.Context) error {
	var added struct{ Name string }
	if err := operate(c, http.MethodPost, "/keys", struct{}{}, &added); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "new payments have addresses of %s; those of older keys are believed until you retire them. Back up: backups of before do not have it.\n", added.Name)
	return nil
}

func retireRefKey(c *cli.Context) error {
	name := c.Args().First()
	if err := operate(c, http.MethodDelete, "/keys/"+url.PathEscape(name), nil, new(struct{})); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s is retired: a callback to an address that was made with it is not believed any more\n", name)
	return nil
}
