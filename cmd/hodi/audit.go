package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/console"
)

// sidecarData is the flag by which commands find the sidecar that runs.
func sidecarData() *cli.StringFlag {
	return &cli.StringFlag{Name: "data", Usage: "the sidecar whose state is in `DIR`; if not given, where hodi sidecar keeps it", EnvVars: []string{"HODI_SIDECAR_DATA"}}
}

// operate asks the sidecar that runs on this machine, through the socket in its state folder.
func operate(c *cli.Context, method, path string, body, into any) error {
	s, err := sidecarConfig(c)
	if err != nil {
		return err
	}
	err = console.Ask(c.Context, s.Data, operator(), method, path, body, into)
	switch refusal := new(console.Refusal); {
	case errors.Is(err, console.ErrAway):
		return fmt.Errorf("no sidecar answers in %s: start it first (hodi sidecar), run this as its user or as root, or name its folder with --data", s.Data)
	case errors.As(err, &refusal):
		return fmt.Errorf("sidecar: %w", err)
	}
	return err
}

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:        "audit",
		Usage:       "what was done to the sidecar, by whom: decisions, tills, callers that were refused",
		Description: "Lists the newest lines of a table that nothing changes and nothing is removed from. Of callers who were refused the first of an hour are lines, and how many more there were. The edge has its own: hodi edge audit.",
		Flags:       auditFlags(sidecarData()),
		Action: func(c *cli.Context) error {
			return listAudit(c, "audit", func(path string, into any) error { return operate(c, http.MethodGet, path, nil, into) })
		},
	}
}

func auditFlags(data cli.Flag) []cli.Flag {
	return []cli.Flag{
		data,
		&cli.IntFlag{Name: "limit", Value: 50, Usage: "list the newest `N`, 1000 at most"},
		&cli.Int64Flag{Name: "before", Usage: "list those before `LINE`"},
		&cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"},
	}
}

// auditLine is one line of the audit, as either daemon lists it.
type auditLine struct {
	ID                        int64
	Time                      time.Time
	Who, Act, Subject, Detail string
}

// listAudit lists the audit of the daemon that ask asks.
func listAudit(c *cli.Context, name string, ask func(path string, into any) error) error {
	if c.Int("limit") < 1 {
		return fmt.Errorf("%s: --limit is how many lines to list, 1 at least", name)
	}
	var list struct{ Audit []json.RawMessage }
	if err := ask(fmt.Sprintf("/audit?limit=%d&before=%d", c.Int("limit"), c.Int64("before")), &list); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"audit": list.Audit})
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LINE\tTIME\tWHO\tACT\tSUBJECT\tDETAIL")
	for _, raw := range list.Audit {
		var l auditLine
		if err := json.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Time.Local().Format(time.DateTime), plain(l.Who), plain(l.Act), plain(l.Subject), plain(l.Detail))
	}
	return w.Flush()
}

// plain makes text that a stranger may have had a hand in harmless to a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '?'
		}
		return r
	}, text)
}
