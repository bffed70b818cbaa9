package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/cmd/hodi/bench"
)

// errNotClean ends a bench whose ledger does not come out even.
var errNotClean = errors.New("bench: the ledger is not clean: see refused, lost and repeated")

func benchCommand() *cli.Command {
	command := &cli.Command{
		Name:  "bench",
		Usage: "measures this machine: how many callbacks a second, how fast, at what cost",
		Description: "Starts an edge, a sidecar and a subscriber as processes of their own, posts callbacks, and accounts for each. " +
			"It needs no network and leaves nothing behind. The disk decides: give --data a folder on the one that Hodi is going to use.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "measure the disk of `DIR`; that of temporary files if not given"},
			&cli.StringFlag{Name: "rate", Value: "1000", Usage: "post `N` callbacks a second, or max: as many as are answered"},
			&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Usage: "post for `TIME`"},
			&cli.IntFlag{Name: "callbacks", Usage: "post `N` in all; as --rate and --duration say if not given, 50000 at max"},
			&cli.IntFlag{Name: "sidecars", Usage: "connect `N` more sidecars, which idle, and say what each costs"},
			&cli.IntFlag{Name: "subscribers", Usage: "connect `N` more subscribers, which idle, and say what each costs"},
			&cli.IntFlag{Name: "payments", Usage: "begin with `N` payments of the past in the sidecar's table"},
			&cli.DurationFlag{Name: "settle", Value: 10 * time.Second, Usage: "let idle connections rest for `TIME` before memory is looked at"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"},
			&cli.StringFlag{Name: "profile", Hidden: true, Usage: "write profiles of edge and sidecar into `DIR`"},
		},
		Action: runBench,
	}
	for _, role := range []string{"subscriber", "subscribers", "sidecars"} {
		command.Subcommands = append(command.Subcommands, &cli.Command{
			Name: role, Hidden: true, Usage: "a part of hodi bench", Action: func(c *cli.Context) error {
				return bench.Help(c.Context, role, os.Stdin, c.App.Writer)
			},
		})
	}
	return command
}

func runBench(c *cli.Context) error {
	config := bench.Config{
		Dir: c.String("data"), Duration: c.Duration("duration"), Callbacks: c.Int("callbacks"),
		Sidecars: c.Int("sidecars"), Subscribers: c.Int("subscribers"), Payments: c.Int("payments"), Settle: c.Duration("settle"),
		Profile: c.String("profile"), Progress: c.App.ErrWriter,
	}
	if rate := c.String("rate"); rate == "max" {
		config.Max = true
	} else if n, err := strconv.Atoi(rate); err == nil && n > 0 {
		config.Rate = n
	} else {
		return fmt.Errorf("bench: --rate %q: write a number of callbacks a second, or max", rate)
	}
	for _, name := range []string{"callbacks", "sidecars", "subscribers", "payments"} {
		if n := c.Int(name); n < 0 {
			return fmt.Errorf("bench: --%s %d: it cannot be less than nothing", name, n)
		}
	}
	for _, name := range []string{"duration", "settle"} {
		if d := c.Duration(name); d <= 0 {
			return fmt.Errorf("bench: --%s %v: write a time, such as 10s", name, d)
		}
	}
	report, err := bench.Run(c.Context, config)
	if err != nil {
		return endedByRequest(c.Context, err)
	}
	if c.Bool("json") {
		err = report.JSON(c.App.Writer)
	} else {
		err = report.Write(c.App.Writer)
	}
	if err == nil && !report.Ledger.Clean() {
		err = errNotClean
	}
	return err
}
