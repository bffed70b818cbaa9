package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:        "dev",
		Usage:       "everything on this machine, with a pretend Safaricom: start here",
		Description: "Runs an edge, a sidecar and a pretend Safaricom with its phone, over real sockets. Nothing needs setting up.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "keep state in `DIR` over runs; if not given, in a temporary folder that is removed"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "serve the sidecar on `ADDRESS`; port 0 picks one"},
			&cli.StringFlag{Name: "edge-listen", Value: "127.0.0.1:8788", Usage: "serve the edge on `ADDRESS`, TCP and UDP"},
			&cli.StringFlag{Name: "sandbox-listen", Value: "127.0.0.1:8789", Usage: "serve the sandbox on `ADDRESS`"},
			&cli.StringFlag{Name: "forward", Usage: "give each callback to your app at `URL`, as Daraja sent it, with the headers of Standard Webhooks"},
			&cli.BoolFlag{Name: "json", Usage: "print one line of JSON once everything serves, for scripts"},
			&cli.DurationFlag{Name: "unknown-after", Value: 90 * time.Second, Usage: "say UNKNOWN after `TIME` of silence"},
			&cli.DurationFlag{Name: "first-ask", Value: 30 * time.Second, Usage: "ask Daraja after `TIME` of silence"},
			&cli.IntFlag{Name: "queries-per-minute", Value: 5, Usage: "ask Daraja at most `N` times a minute"},
		}, sandboxFlags()...),
		Action: runDev,
	}
}

// house is all of Hodi in one process: the parts that are otherwise daemons of their own, each on sockets of its own.
type house struct {
	Sidecar  string `json:"sidecar"`
	Edge     string `json:"edge"`
	Sandbox  string `json:"sandbox"`
	Callback string `json:"callback"`
	Data     string `json:"data"`
	Secret   string `json:"forwardSecret,omitempty"` // the file of what callbacks are signed with that your app is given

	parts  []part
	box    *sandbox.Sandbox
	linked func() error
}

type part interface {
	Run(context.Context) error
	Close() error
}

func runDev(c *cli.Context) (err error) {
	logger, err := newLogger(c, slog.LevelWarn)
	if err != nil {
		return err
	}
	dir := c.String("data")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "hodi-dev-"); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}

	h, err := openHouse(c, dir, logger)
	defer func() { err = errors.Join(err, h.close()) }()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(c.Context)
	for _, p := range h.parts {
		group.Go(func() error { return p.Run(ctx) })
	}
	group.Go(func() error { return h.announce(ctx, c, logger) })
	return endedByRequest(c.Context, group.Wait())
}

// openHouse makes the parts in the order in which they need each other's addresses: whoever is called is made before
// the caller.
func openHouse(c *cli.Context, dir string, logger *slog.Logger) (*house, error) {
	h := &house{Data: dir}
	for _, name := range []string{"sandbox", "edge", "sidecar"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return h, fmt.Errorf("dev: state cannot be kept: %w (--data names another folder)", err)
		}
	}

	var delays sandboxSettings
	overSandboxDelays(c, &delays)
	config := sandboxConfig(delays)
	config.Dir, config.Logger = filepath.Join(dir, "sandbox"), logger.With("part", "sandbox")
	var err error
	if config.Listener, err = listenDev(c, "sandbox-listen"); err != nil {
		return h, err
	}
	box, err := sandbox.Open(c.Context, config)
	if err != nil {
		return h, errors.Join(err, config.Listener.Close())
	}
	h.parts, h.box = append(h.parts, box), box
	h.Sandbox = "http://" + config.Listener.Addr().String()

	callbacks, err := listenDev(c, "edge-listen")
	if err != nil {
		return h, err
	}
	sidecars, err := net.ListenPacket("udp", callbacks.Addr().String())
	if err != nil { // another program has this UDP port: only the sidecar beside us needs to know which one it is
		host, _, _ := net.SplitHostPort(callbacks.Addr().String())
		if sidecars, err = net.ListenPacket("udp", net.JoinHostPort(host, "0")); err != nil {
			return h, errors.Join(fmt.Errorf("dev: %w", err), callbacks.Close())
		}
	}
	e, err := edge.Open(c.Context, edge.Config{Dir: filepath.Join(dir, "edge"), HTTP: callbacks, UDP: sidecars, Source: edge.SourceOff, Drain: 800 * time.Millisecond, Logger: logger.With("part", "edge")})
	if err != nil {
		return h, errors.Join(err, callbacks.Close(), sidecars.Close())
	}
	h.parts = append(h.parts, e)
	h.Edge = "http://" + callbacks.Addr().String()
	if err := h.introduce(c.Context, e, sidecars.LocalAddr().String()); err != nil {
		return h, err
	}

	app, err := listenDev(c, "listen")
	if err != nil {
		return h, err
	}
	s, err := sidecar.Open(c.Context, sidecar.Config{
		Dir: filepath.Join(dir, "sidecar"), Listener: app, Dev: true,
		Edge: sidecars.LocalAddr().String(),
		Shortcodes: []daraja.Shortcode{{
			Name: "sandbox", Environment: daraja.EnvironmentSandbox, Kind: daraja.KindPaybill, Number: sandbox.DefaultShortcode,
			Credentials: daraja.Credentials{ConsumerKey: sandbox.DefaultConsumerKey, ConsumerSecret: sandbox.DefaultConsumerSecret, Passkey: sandbox.DefaultPasskey},
		}},
		Businesses: map[string]string{"sandbox": sandbox.DefaultBusiness},
		DarajaURL:  h.Sandbox, PhoneURL: h.Sandbox + "/phone", EdgeURL: h.Edge, SandboxURL: h.Sandbox,
		Forward:      c.String("forward"),
		UnknownAfter: c.Duration("unknown-after"), FirstAsk: c.Duration("first-ask"), QueriesPerMinute: c.Int("queries-per-minute"),
		Logger: logger.With("part", "sidecar"),
	})
	if err != nil {
		return h, errors.Join(err, app.Close())
	}
	if c.String("forward") != "" {
		h.Secret = filepath.Join(dir, "sidecar", sidecar.ForwardSecret)
	}
	h.parts = append(h.parts, s)
	h.linked = s.Linked
	h.Sidecar = "http://" + app.Addr().String()
	return h, nil
}

// introduce gives the sidecar its identity at the edge: what an operator does with hodi edge invite and hodi join. It is
// another one at every start.
func (h *house) introduce(ctx context.Context, e *edge.Edge, address string) error {
	joined, err := sidecar.Adopt(filepath.Join(h.Data, "sidecar"), address, e.CA(), func(request []byte) (*wire.Issued, error) {
		return e.Admit(ctx, "hodi dev", "dev", request)
	})
	h.Callback = joined.Callback
	return err
}

func listenDev(c *cli.Context, flag string) (net.Listener, error) {
	listener, err := net.Listen("tcp", c.String(flag))
	if err != nil {
		if portHint(err) != "" {
			return nil, fmt.Errorf("dev: %w\nIs another hodi dev running? --%s 127.0.0.1:0 picks a free port", err, flag)
		}
		return nil, fmt.Errorf("dev: --%s: %w", flag, err)
	}
	return listener, nil
}

func (h *house) close() error {
	var err error
	for i := len(h.parts) - 1; i >= 0; i-- {
		err = errors.Join(err, h.parts[i].Close())
	}
	return err
}

// announce says where everything is once it serves, and then follows each payment as it happens, as any app would learn
// of it: through the sidecar's own events. It is told on the terminal, and the sandbox learns of results that somebody
// posted by hand. Both are a courtesy: if they end, the house stands.
func (h *house) announce(ctx context.Context, c *cli.Context, logger *slog.Logger) error {
	if err := h.waitUntilReady(ctx); err != nil {
		return err
	}
	telling := !c.Bool("json")
	if telling {
		h.welcome(c.App.Writer, c.IsSet("data"))
		if h.Secret != "" {
			fmt.Fprintf(c.App.Writer, "  Callbacks go to %s\n  signed with %s\n\n", forward.Shown(c.String("forward")), h.Secret)
		}
	} else if err := json.NewEncoder(c.App.Writer).Encode(h); err != nil {
		return err
	}
	for m, err := range client.New(h.Sidecar).Events(ctx, "") {
		if err != nil {
			if ctx.Err() == nil {
				logger.Warn("payments are not followed here any more; pages and apps still learn of them", "err", err)
			}
			return nil
		}
		if m.Type == push.PaymentCompleted {
			if err := h.box.Settle(m.Data.MerchantRequestID, string(m.Data.ResultCode)); err != nil {
				logger.Warn("the sandbox does not know that a payment has ended", "err", err)
			}
		}
		telling = telling && tell(c.App.Writer, m) == nil
	}
	return nil
}

// welcome fits a terminal of 80 columns.
func (h *house) welcome(w io.Writer, kept bool) {
	state := "State is in a temporary folder and goes at the end (--data DIR keeps it)."
	if kept {
		state = "State stays in " + h.Data + "."
	}
	fmt.Fprintf(w, `
  Hodi is running: an edge, a sidecar and a pretend Safaricom, on this machine.

    open     %-28s  checkout, phone and till together
    edge     %-28s  where Safaricom would post
    sandbox  %-28s  the pretend Safaricom's phone

  1  Open the first address and press Pay.
  2  Type any four digits on the phone.
  3  Watch the checkout and the till change by themselves.

  From code of yours, with any word for a session:

    new WebSocket("%s/sessions/order-7/websocket")

    curl %s/sessions/order-7/initiate -d \
    '{"phoneNumber":"254708374149","amount":100,"accountReference":"ORDER7"}'

  Callbacks of pushes that your code makes itself go to
    %s

  %s
  Ctrl-C stops it all. Payments, as they happen (times are Nairobi's):

`, h.Sidecar+"/", h.Edge, h.Sandbox+"/phone", strings.Replace(h.Sidecar, "http", "ws", 1), h.Sidecar, h.Callback, state)
}

// waitUntilReady waits for the link, which is up some milliseconds after both of its ends, and for what shows that
// callbacks get through.
func (h *house) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("dev: the sidecar does not reach the edge"))
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := h.linked()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// tell prints one event: a line, and under it the sentence that says what to do, where there is something to do.
func tell(w io.Writer, m push.Message) error {
	what := map[push.Status]string{push.Pending: "waiting", push.Success: "PAID", push.Failed: "failed", push.Unknown: "UNKNOWN"}[m.Data.Status]
	line := fmt.Sprintf("  %s  %-7s  KES %-7s  %-12s  %s", m.Time.In(daraja.Nairobi).Format("15:04:05"), what,
		m.Data.Amount, m.Data.AccountReference, m.Data.PhoneNumber)
	if m.Data.MpesaReceiptNumber != "" {
		line += "  " + m.Data.MpesaReceiptNumber
	}
	line = plain(strings.TrimRight(line, " ")) + "\n" // a reference may be anybody's
	if m.Data.Status == push.Failed || m.Data.Status == push.Unknown {
		for _, text := range wrap(m.Data.Reason, width-12) {
			line += "            " + text + "\n"
		}
	}
	_, err := io.WriteString(w, line)
	return err
}
