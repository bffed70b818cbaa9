package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/urfave/cli/v2"
)

func joinCommand() *cli.Command {
	return &cli.Command{
		Name:  "join",
		Usage: "give this shop's sidecar its identity at an edge, with a join code",
		Description: "The code is what hodi edge invite SHOP prints on the edge. It is read from standard input (paste it, then Enter), or from " +
			"--code-file, never from the command line, which others can see. A key is made here and stays here; hodi sidecar then needs no setting about the edge. " +
			"Where a package has brought the sidecar's unit, root starts it by this, now and whenever the machine starts.",
		Flags: []cli.Flag{
			sidecarData(),
			&cli.StringFlag{Name: "code-file", Usage: "read the join code from `FILE` (0600), or from the systemd credential of this name"},
			&cli.StringFlag{Name: "edge", Usage: "reach the edge at `HOST:PORT`, whatever the code says"},
			&cli.StringFlag{Name: "edge-websocket", Usage: "find the edge at `HOST:PORT` where UDP is blocked, if not there"},
			&cli.BoolFlag{Name: "replace", Usage: "join although this sidecar has joined an edge: it loses that identity"},
			&cli.BoolFlag{Name: "no-start", Usage: "do not start the sidecar's unit; root starts it otherwise, where a package has brought it"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give up after `TIME`"},
		},
		Action: runJoin,
	}
}

func runJoin(c *cli.Context) error {
	s, err := sidecarConfig(c)
	if err != nil {
		return err
	}
	if sidecar.HasJoined(s.Data) && !c.Bool("replace") { // before a code is asked for that would be used up for nothing
		return joinedAlready(sidecar.ErrJoined, s.Data)
	}
	code, err := readCode(c)
	if err != nil {
		return err
	}
	logger, err := newLogger(c, slog.LevelWarn)
	if err != nil {
		return err
	}
	unit := unitOf(s.Data)
	var start *starter
	if !c.Bool("no-start") {
		if start, err = prepareStart(unit, c.App.ErrWriter); err != nil {
			return err
		}
	}
	joined, err := join(c, s.Data, code, logger)
	if err != nil {
		if start != nil {
			start.end()
		}
		return err
	}
	fmt.Fprintf(c.App.Writer, `joined     %s at %s
callbacks  %s
identity   in %s; it renews itself (this one ends %s)
`, joined.Endpoint, joined.Edge, joined.Callback, s.Data, joined.Expires.Local().Format(time.DateOnly))
	switch {
	case start != nil:
		if err := start.start(); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "started    %s, now and whenever this machine starts\n", unit)
	case unit != "":
		fmt.Fprintf(c.App.Writer, "\nStart the sidecar: systemctl enable --now %s\n", unit)
	default:
		fmt.Fprint(c.App.Writer, "\nStart the sidecar: hodi sidecar\n")
	}
	return nil
}

func join(c *cli.Context, data, code string, logger *slog.Logger) (sidecar.Joined, error) {
	if err := becomeOwner(data); err != nil {
		return sidecar.Joined{}, fmt.Errorf("join: %w", err)
	}
	joined, err := sidecar.Join(c.Context, sidecar.JoinConfig{
		Dir: data, Code: code, Edge: c.String("edge"), WebSocket: c.String("edge-websocket"), Replace: c.Bool("replace"), Timeout: c.Duration("timeout"),
		Proxy: proxyFromEnvironment(), Logger: logger,
	})
	if errors.Is(err, sidecar.ErrJoined) {
		return sidecar.Joined{}, joinedAlready(err, data)
	}
	return joined, err
}

func joinedAlready(err error, data string) error {
	return fmt.Errorf("join: %w (its identity is in %s; --replace gives it another)", err, data)
}

const maxCodeFile = 4 << 10

// readCode reads the join code from where nobody looks over a shoulder.
func readCode(c *cli.Context) (string, error) {
	if name := c.String("code-file"); name != "" && name != "-" {
		b, err := secret.Read(secret.Find(name))
		if err != nil {
			return "", fmt.Errorf("join: --code-file: %w", err)
		}
		return string(b), nil
	}
	if c.NArg() > 0 {
		return "", errors.New("join: the code is not an argument, which others on this machine could see: paste it on standard input, or give --code-file")
	}
	in := bufio.NewReader(io.LimitReader(os.Stdin, maxCodeFile))
	if isTerminal(os.Stdin) {
		fmt.Fprint(c.App.ErrWriter, "join code: ")
		line, err := in.ReadString('\n')
		if err != nil && line == "" {
			return "", errors.New("join: there is no join code: hodi edge invite SHOP, on the edge, prints one")
		}
		return line, nil
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("join: %w", err)
	}
	if strings.TrimSpace(string(b)) == "" {
		return "", errors.New("join: there is no join code on standard input: hodi edge invite SHOP, on the edge, prints one")
	}
	return string(b), nil
}
