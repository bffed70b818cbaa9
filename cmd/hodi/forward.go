package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/sync/daraja"
)

func forwardCommand() *cli.Command {
	data := sidecarData()
	return &cli.Command{
		Name:  "forward",
		Usage: "the callbacks that your own app is given: how it stands, pause, resume",
		Description: "The setting forward names your app's address. Each callback is given to it until it answers 2xx, for three days. Asks the " +
			"sidecar that runs on this machine.",
		Flags:  []cli.Flag{data},
		Action: func(c *cli.Context) error { return operateForward(c, http.MethodGet, "/forward") },
		Subcommands: []*cli.Command{
			{Name: "pause", Usage: "give the app nothing until it is resumed", Flags: []cli.Flag{data},
				Action: func(c *cli.Context) error { return operateForward(c, http.MethodPost, "/forward/pause") }},
			{Name: "resume", Usage: "go on, and try at once what waits for its next attempt", Flags: []cli.Flag{data},
				Action: func(c *cli.Context) error { return operateForward(c, http.MethodPost, "/forward/resume") }},
		},
	}
}

// forwardState is how it stands with the callbacks that the app is to be given, as the sidecar says it.
type forwardState struct {
	URL, Why                       string
	Live                           bool
	Since, Paused, Oldest, Handled time.Time
	Waiting, Dead, LastStatus      int
}

func operateForward(c *cli.Context, method, path string) error {
	if c.NArg() > 0 {
		return fmt.Errorf("forward: %q is not known: pause or resume, or nothing", c.Args().First())
	}
	var f forwardState
	var body any
	if method == http.MethodPost {
		body = struct{}{}
	}
	if err := operate(c, method, path, body, &f); err != nil {
		return err
	}
	for _, l := range f.lines(time.Now()) {
		item(c.App.Writer, l[0], l[1])
	}
	return nil
}

// lines are what a person is told of it.
func (f forwardState) lines(now time.Time) [][2]string {
	state := f.URL
	if !f.Paused.IsZero() {
		state += ", PAUSED for " + ago(now.Sub(f.Paused)) + ": " + plain(f.Why)
	}
	lines := [][2]string{{"app", state}}
	lines = append(lines, [2]string{"not handled", f.waiting(now)})
	if f.Dead > 0 {
		lines = append(lines, [2]string{"given up", grouped(uint64(f.Dead)) + " callbacks: hodi callbacks --app dead"})
	}
	return lines
}

// waiting is what the app has not handled yet.
func (f forwardState) waiting(now time.Time) string {
	if f.Waiting == 0 {
		return "nothing"
	}
	text := fmt.Sprintf("%s, the oldest for %s", callbacksText(uint64(f.Waiting)), ago(now.Sub(f.Oldest)))
	if f.LastStatus != 0 {
		text += fmt.Sprintf("; the app's last answer was %d", f.LastStatus)
	}
	return text
}

// unhandledFor is how long a callback may wait for the app before somebody should look.
const unhandledFor = 10 * time.Minute

// forward says what is not well with the callbacks that the app is to be given.
func (h *health) forward(f *forwardState, now time.Time) {
	switch {
	case f == nil:
		return
	case !f.Paused.IsZero():
		h.wrong("the app is given no callbacks (%s): when it is ready, hodi forward resume", plain(f.Why))
	case f.Waiting > 0 && now.Sub(f.Oldest) > unhandledFor:
		h.wrong("the app at %s has not handled a callback of %s ago: see that it runs, and its log", f.URL, ago(now.Sub(f.Oldest)))
	}
	if f.Dead > 0 {
		h.wrong("%s callbacks were given up, because the app did not handle them: hodi callbacks --app dead lists them, hodi replay --dead gives them to it once more", grouped(uint64(f.Dead)))
	}
}

func callbacksCommand() *cli.Command {
	return &cli.Command{
		Name:  "callbacks",
		Usage: "what Safaricom has posted: when the edge had it, when it was here, when the app handled it",
		Description: "Lists callbacks, the oldest first, with the ids that hodi replay takes. What they say is not shown: GET /callbacks has it. Times are Nairobi's. " +
			"Asks the sidecar that runs on this machine.",
		Flags: []cli.Flag{
			sidecarData(),
			&cli.StringSliceFlag{Name: "state", Usage: "only those that are `STATE` here: applied, unmatched, unparsed, suspect ... (again for more)"},
			&cli.StringSliceFlag{Name: "app", Usage: "only those that are `STATE` at the app: waiting, handled, dead, withheld (again for more)"},
			&cli.StringFlag{Name: "after", Usage: "begin behind the callback `ID`"},
			&cli.IntFlag{Name: "limit", Value: 100, Usage: "list at most `N`"},
		},
		Action: listCallbacks,
	}
}

type callbackLine struct {
	ID, State, PaymentID string
	Received, Stored     time.Time
	App                  *struct {
		State, Error     string
		Handled, Next    time.Time
		Attempts, Status int
	}
}

func listCallbacks(c *cli.Context) error {
	if c.NArg() > 0 {
		return fmt.Errorf("callbacks: %q is one word too many", c.Args().First())
	}
	left := c.Int("limit")
	if left <= 0 {
		return errors.New("callbacks: --limit is at least 1")
	}
	var page struct {
		Callbacks []callbackLine
		Next      string
	}
	page.Next = c.String("after")
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	n := 0
	for left > 0 {
		query := url.Values{"after": {page.Next}, "limit": {fmt.Sprint(min(left, 200))}, "app": c.StringSlice("app"), "state": c.StringSlice("state")}
		if len(query["state"]) == 0 && len(query["app"]) == 0 {
			query.Set("state", "any")
		}
		page.Callbacks, page.Next = nil, ""
		if err := operate(c, http.MethodGet, "/callbacks?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, cb := range page.Callbacks {
			if n++; n == 1 {
				fmt.Fprintln(w, "CALLBACK\tEDGE\tHERE\tIS\tAPP")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", cb.ID, nairobi(cb.Received), nairobi(cb.Stored), cb.State, cb.atApp())
		}
		left -= len(page.Callbacks)
		if page.Next == "" {
			break
		}
	}
	if n == 0 {
		fmt.Fprintln(c.App.Writer, "There is none.")
	}
	return w.Flush()
}

// atApp says what became of a callback at the app.
func (cb callbackLine) atApp() string {
	a := cb.App
	if a == nil {
		return "-"
	}
	answered := plain(a.Error)
	if a.Status != 0 {
		answered = fmt.Sprint(a.Status)
	}
	switch a.State {
	case "handled":
		return fmt.Sprintf("handled %s (%d, attempt %d)", nairobi(a.Handled), a.Status, a.Attempts)
	case "dead":
		return fmt.Sprintf("given up after %d attempts (%s)", a.Attempts, answered)
	case "waiting":
		if a.Attempts == 0 {
			return "waiting"
		}
		return fmt.Sprintf("waiting: %d attempts (%s), next %s", a.Attempts, answered, nairobi(a.Next))
	}
	return a.State
}

// nairobi writes a time as a shop's clock has it.
func nairobi(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(daraja.Nairobi).Format("2006-01-02 15:04:05")
}

func replayCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "give callbacks to your app once more", ArgsUsage: "[ID ...]",
		Description: "By the ids that hodi callbacks lists, by the time at which they came to the edge, or those that were given up. They come under the webhook-id " +
			"that they always had, with the header hodi-replay. Where real money may be meant it asks first. Asks the sidecar that runs on this machine.",
		Flags: []cli.Flag{
			sidecarData(),
			&cli.StringFlag{Name: "from", Usage: "those from `TIME` on: a day in Nairobi, as in 2026-10-02, or as in 2026-10-02T15:04:05+03:00"},
			&cli.StringFlag{Name: "to", Usage: "and before `TIME`; of a day, to its end; if not given, until now"},
			&cli.BoolFlag{Name: "dead", Usage: "those that were given up"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask, for scripts"},
		},
		Action: replayCallbacks,
	}
}

func replayCallbacks(c *cli.Context) error {
	ids := c.Args().Slice()
	ways := 0
	for _, given := range []bool{len(ids) > 0, c.IsSet("from") || c.IsSet("to"), c.Bool("dead")} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("replay: say which: hodi replay ID, or --from 2026-10-02 [--to 2026-10-03], or --dead")
	}
	which := map[string]any{"ids": ids, "dead": c.Bool("dead")}
	if c.IsSet("from") || c.IsSet("to") {
		if !c.IsSet("from") {
			return errors.New("replay: --to needs --from")
		}
		from, _, err := dayOrTime(c.String("from"))
		if err != nil {
			return fmt.Errorf("replay: --from: %w", err)
		}
		to := time.Now()
		if c.IsSet("to") {
			if _, to, err = dayOrTime(c.String("to")); err != nil {
				return fmt.Errorf("replay: --to: %w", err)
			}
		}
		if !from.Before(to) {
			return errors.New("replay: --from is before --to")
		}
		which["from"], which["to"] = from, to
	}

	type outcome struct {
		URL                                           string
		Live                                          bool
		Callbacks, Waiting, Withheld, Erased, Unknown int
	}
	var would, done outcome
	which["only"] = true
	if err := operate(c, http.MethodPost, "/replay", which, &would); err != nil {
		return err
	}
	for _, rest := range []struct {
		n     int
		words string
	}{
		{would.Waiting, "on their way to the app anyway"}, {would.Withheld, "withheld from it: what they say is not believed, or does not count"},
		{would.Erased, "erased, but for their place"}, {would.Unknown, "not known here"},
	} {
		if rest.n > 0 {
			fmt.Fprintf(c.App.Writer, "%d of them: %s.\n", rest.n, rest.words)
		}
	}
	if would.Callbacks == 0 {
		fmt.Fprintln(c.App.Writer, "There is nothing to give to the app once more.")
		return nil
	}
	if would.Live && !c.Bool("yes") {
		if err := confirm(c, fmt.Sprintf("Real money may be meant. Give %d callbacks once more to %s? [y/N] ", would.Callbacks, would.URL)); err != nil {
			return err
		}
	}
	which["only"] = false
	if err := operate(c, http.MethodPost, "/replay", which, &done); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d callbacks are given to %s once more.\n", done.Callbacks, done.URL)
	return nil
}

// confirm asks whoever sits at the terminal.
func confirm(c *cli.Context, question string) error {
	in, isFile := c.App.Reader.(*os.File)
	if isFile {
		if info, err := in.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			return errors.New("nobody is there to ask: --yes says that it is meant")
		}
	}
	fmt.Fprint(c.App.Writer, question)
	answer, _ := bufio.NewReader(c.App.Reader).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes", "ndio", "ndiyo":
		return nil
	}
	return errors.New("nothing was done")
}

// dayOrTime reads a day in Nairobi, with its end, or a time.
func dayOrTime(text string) (from, to time.Time, err error) {
	if day, err := time.ParseInLocation(time.DateOnly, text, daraja.Nairobi); err == nil {
		return day, day.AddDate(0, 0, 1), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return from, to, fmt.Errorf("%q is neither a day, as in 2026-10-02, nor a time, as in 2026-10-02T15:04:05+03:00", text)
	}
	return at, at, nil
}

// forwardFlags are those of hodi sidecar.
func forwardFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "forward", Usage: "give each callback to your app at `URL`, as Daraja sent it, with the headers of Standard Webhooks", EnvVars: []string{"HODI_SIDECAR_FORWARD"}},
		&cli.StringFlag{Name: "forward-secret-file", Usage: "sign them with the secrets in `FILE`, one a line (whsec_ and base64); if not given, forward.secret among the state, which is made", EnvVars: []string{"HODI_SIDECAR_FORWARD_SECRET_FILE"}},
		&cli.IntFlag{Name: "forward-at-once", Value: 8, Usage: "have at most `N` with the app at a time; those of one payment come one by one", EnvVars: []string{"HODI_SIDECAR_FORWARD_AT_ONCE"}},
		&cli.BoolFlag{Name: "forward-insecure", Usage: "let --forward name another machine over plain http: nobody else is on that network", EnvVars: []string{"HODI_SIDECAR_FORWARD_INSECURE"}},
	}
}

// overForward puts flags over what the file says.
func overForward(c *cli.Context, folder string, s *sidecarSettings) {
	s.ForwardSecretFile = within(folder, s.ForwardSecretFile)
	over(c, "forward", &s.Forward)
	over(c, "forward-secret-file", &s.ForwardSecretFile)
	overBool(c, "forward-insecure", &s.ForwardInsecure)
	if c.IsSet("forward-at-once") || s.ForwardAtOnce == 0 {
		s.ForwardAtOnce = c.Int("forward-at-once")
	}
	if s.ForwardSecretFile != "" {
		s.ForwardSecretFile = secret.Find(s.ForwardSecretFile)
	}
}

func checkForward(s sidecarSettings) error {
	if s.Forward == "" {
		return nil
	}
	if s.ForwardAtOnce < 1 || s.ForwardAtOnce > 256 {
		return fmt.Errorf("sidecar: forward-at-once is %d: write a number from 1 to 256", s.ForwardAtOnce)
	}
	_, err := forward.Address(s.Forward, s.ForwardInsecure)
	return err
}
