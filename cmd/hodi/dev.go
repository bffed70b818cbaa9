package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
	"github.com/hodihq/hodi/sync/push"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "everything on this machine: edge, sidecar and a pretend Safaricom",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "keep state in `DIR` over runs (default: a temporary folder that is removed)"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "serve the sidecar on `ADDRESS` (port 0 picks one)"},
			&cli.StringFlag{Name: "edge-listen", Value: "127.0.0.1:8788", Usage: "serve the edge on `ADDRESS`, TCP and UDP"},
			&cli.StringFlag{Name: "sandbox-listen", Value: "127.0.0.1:8789", Usage: "serve the sandbox on `ADDRESS`"},
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

	parts []part
	ready func(context.Context) error
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
	group.Go(func() error { return h.announce(ctx, c) })
	return endedByRequest(c.Context, group.Wait())
}

// openHouse makes the parts in the order in which they need each other's addresses: whoever is called is made before
// the caller.
func openHouse(c *cli.Context, dir string, logger *slog.Logger) (*house, error) {
	h := &house{Data: dir}
	for _, name := range []string{"sandbox", "edge", "sidecar"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return h, fmt.Errorf("dev: %w", err)
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
	h.parts = append(h.parts, box)
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
	e, err := edge.Open(c.Context, edge.Config{Dir: filepath.Join(dir, "edge"), HTTP: callbacks, UDP: sidecars, Logger: logger.With("part", "edge")})
	if err != nil {
		return h, errors.Join(err, callbacks.Close(), sidecars.Close())
	}
	h.parts = append(h.parts, e)
	h.Edge = "http://" + callbacks.Addr().String()
	caFile, tokenFile, err := h.introduce(c.Context, e)
	if err != nil {
		return h, err
	}

	app, err := listenDev(c, "listen")
	if err != nil {
		return h, err
	}
	s, err := sidecar.Open(c.Context, sidecar.Config{
		Dir: filepath.Join(dir, "sidecar"), Listener: app, Dev: true,
		Edge: sidecars.LocalAddr().String(), CAFile: caFile, TokenFile: tokenFile,
		Shortcodes: []daraja.Shortcode{{
			Name: "sandbox", Environment: "sandbox", Kind: "paybill", Number: sandbox.DefaultShortcode,
			Credentials: daraja.Credentials{ConsumerKey: sandbox.DefaultConsumerKey, ConsumerSecret: sandbox.DefaultConsumerSecret, Passkey: sandbox.DefaultPasskey},
		}},
		DarajaURL: h.Sandbox, PhoneURL: h.Sandbox + "/phone", EdgeURL: h.Edge, SandboxURL: h.Sandbox,
		UnknownAfter: c.Duration("unknown-after"), FirstAsk: c.Duration("first-ask"), QueriesPerMinute: c.Int("queries-per-minute"),
		Logger: logger.With("part", "sidecar"),
	})
	if err != nil {
		return h, errors.Join(err, app.Close())
	}
	h.parts = append(h.parts, s)
	h.ready = s.Ready
	h.Sidecar = "http://" + app.Addr().String()
	return h, nil
}

// introduce gives the sidecar its endpoint: what an operator does with `hodi edge add`, with a token that stays in the
// sidecar's folder over runs.
func (h *house) introduce(ctx context.Context, e *edge.Edge) (caFile, tokenFile string, err error) {
	caFile, tokenFile = filepath.Join(h.Data, "sidecar", "ca.crt"), filepath.Join(h.Data, "sidecar", "token")
	token, err := os.ReadFile(tokenFile)
	if errors.Is(err, os.ErrNotExist) {
		b := make([]byte, 32)
		rand.Read(b)
		token = []byte(hex.EncodeToString(b))
		err = os.WriteFile(tokenFile, token, 0o600)
	}
	if err != nil {
		return "", "", fmt.Errorf("dev: %w", err)
	}
	endpoint, err := e.SetEndpoint(ctx, "dev", token)
	if err != nil {
		return "", "", err
	}
	h.Callback = endpoint.CallbackURL
	return caFile, tokenFile, os.WriteFile(caFile, e.CA(), 0o600)
}

func listenDev(c *cli.Context, flag string) (net.Listener, error) {
	listener, err := net.Listen("tcp", c.String(flag))
	if err != nil {
		return nil, fmt.Errorf("dev: %w (is another hodi dev running? --%s 127.0.0.1:0 picks a free port)", err, flag)
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

// announce says where everything is once it serves, and then tells each payment as it happens, as any app would learn
// of it: through the sidecar's own events.
func (h *house) announce(ctx context.Context, c *cli.Context) error {
	if err := h.waitUntilReady(ctx); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(h)
	}
	fmt.Fprintf(c.App.Writer, `
  Hodi is running: an edge, a sidecar and a pretend Safaricom, all on this machine.

    open     %-28s  checkout, phone and till, side by side
    edge     %-28s  where Safaricom would post
    sandbox  %-28s  the pretend Safaricom and its phone

  1  Open the first address and press Pay.
  2  Type any four digits on the phone.
  3  Watch the checkout and the till.

  Your own page: open a WebSocket on %s/sessions/ANY-NAME/websocket
  and POST {"phoneNumber": "254708374149", "amount": 100, "accountReference": "ORDER123"} to /sessions/ANY-NAME/initiate
  Your own callback: curl -d @callback.json %s
  Ctrl-C stops it. %s

`, h.Sidecar+"/", h.Edge, h.Sandbox+"/phone", strings.Replace(h.Sidecar, "http", "ws", 1), h.Callback, keeping(c, h.Data))

	for m, err := range client.New(h.Sidecar).Events(ctx, "") {
		if err != nil {
			return err
		}
		tell(c.App.Writer, m)
	}
	return nil
}

// waitUntilReady waits for the link, which is up some milliseconds after both of its ends.
func (h *house) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("dev: the sidecar does not reach the edge"))
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := h.ready(ctx)
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

func keeping(c *cli.Context, dir string) string {
	if c.IsSet("data") {
		return "State stays in " + dir + "."
	}
	return "Nothing is kept (--data DIR keeps it)."
}

// tell prints one event as a line.
func tell(w io.Writer, m push.Message) {
	at := m.Time.In(daraja.Nairobi).Format("15:04:05")
	what := map[push.Status]string{push.Pending: "waiting", push.Success: "PAID", push.Failed: "failed", push.Unknown: "UNKNOWN"}[m.Data.Status]
	line := fmt.Sprintf("  %s  %-8s KES %-8s %-13s %s", at, what, m.Data.Amount, m.Data.AccountReference, m.Data.PhoneNumber)
	switch m.Data.Status {
	case push.Success:
		line += "  receipt " + m.Data.MpesaReceiptNumber
	case push.Failed, push.Unknown:
		line += "  " + m.Data.Reason
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
