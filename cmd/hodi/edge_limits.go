package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/tunnel/journal"
)

// limitFlags are what an operator may say about how much is kept for each endpoint. What is not said is the journal's default.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "keep-delivered", Value: 7, Usage: "keep callbacks for `DAYS` after their sidecar has them", EnvVars: []string{"HODI_EDGE_KEEP_DELIVERED"}},
		&cli.IntFlag{Name: "keep-undelivered", Value: 90, Usage: "keep callbacks that no sidecar fetches for `DAYS`", EnvVars: []string{"HODI_EDGE_KEEP_UNDELIVERED"}},
		&cli.IntFlag{Name: "hold", Value: 256, Usage: "hold at most `MIB` for a sidecar that does not fetch: past it, its callbacks are answered 503", EnvVars: []string{"HODI_EDGE_HOLD"}},
	}
}

func overLimits(c *cli.Context, s *edgeSettings) {
	for flag, setting := range map[string]*int{"keep-delivered": &s.KeepDelivered, "keep-undelivered": &s.KeepUndelivered, "hold": &s.Hold} {
		if c.IsSet(flag) || *setting == 0 {
			*setting = c.Int(flag)
		}
	}
}

// limits is what the settings say, for a journal.
func (s edgeSettings) limits() (journal.Limits, error) {
	const day, mostDays, mostMiB = 24 * time.Hour, 3650, 1 << 20 // ten years; a tebibyte
	for _, n := range []int{s.KeepDelivered, s.KeepUndelivered} {
		if n < 1 || n > mostDays {
			return journal.Limits{}, errors.New("edge: keep-delivered and keep-undelivered are days, 1 to 3650")
		}
	}
	if s.Hold < 1 || s.Hold > mostMiB {
		return journal.Limits{}, errors.New("edge: hold is MiB for each endpoint, 1 to 1048576")
	}
	return journal.Limits{KeepAcked: time.Duration(s.KeepDelivered) * day, KeepUnacked: time.Duration(s.KeepUndelivered) * day, MaxBytes: int64(s.Hold) << 20}, nil
}
