// Command hodi gets M-Pesa's answer to the app that is waiting for it: the edge, the sidecar and a pretend Safaricom in
// one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks; a second one, once the handler is gone, ends the process at once.
	context.AfterFunc(ctx, stop)
	if err := newApp(os.Stdout, os.Stderr).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "hodi: %v\n", err)
		os.Exit(1)
	}
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "hodi",
		Usage:     "get M-Pesa's answer to the app that is waiting for it",
		UsageText: "hodi dev                       everything on this machine, with a pretend Safaricom\nhodi edge | sidecar | sandbox  the parts, each a process of its own",
		Version:   version(),
		Writer:    stdout,
		ErrWriter: stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE`; flags and environment go over it", EnvVars: []string{"HODI_CONFIG"}},
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", EnvVars: []string{"HODI_LOG_LEVEL"}},
			&cli.StringFlag{Name: "log-format", Usage: "text or json", Value: "text", EnvVars: []string{"HODI_LOG_FORMAT"}},
		},
		Commands:        []*cli.Command{devCommand(), edgeCommand(), sidecarCommand(), sandboxCommand()},
		Action:          help,
		HideHelpCommand: true,
		// Errors are worded for the reader and printed once, by main.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		strict(c)
	}
	app.OnUsageError = usageError
	return app
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development build"
}

func help(c *cli.Context) error {
	if err := refuseLeftovers(c); err != nil {
		return err
	}
	return cli.ShowAppHelp(c)
}

// strict makes a command refuse words that it does not know: `hodi edge bakcup` must not start an edge.
func strict(command *cli.Command) {
	command.HideHelpCommand = true
	command.OnUsageError = usageError
	if action := command.Action; action != nil && command.ArgsUsage == "" {
		command.Action = func(c *cli.Context) error {
			if err := refuseLeftovers(c); err != nil {
				return err
			}
			return action(c)
		}
	}
	for _, sub := range command.Subcommands {
		strict(sub)
	}
}

func refuseLeftovers(c *cli.Context) error {
	word := c.Args().First()
	if word == "" {
		return nil
	}
	var names []string
	for _, sub := range c.Command.Subcommands {
		names = append(names, sub.Name)
	}
	name := strings.TrimSpace(c.Command.HelpName)
	if name == "" {
		name = c.App.Name
	}
	if len(names) == 0 {
		return fmt.Errorf("%s takes no argument, but there is %q (hodi %s --help lists the flags)", name, word, c.Command.Name)
	}
	return fmt.Errorf("%s has no command %q; it has: %s", name, word, strings.Join(names, ", "))
}

func usageError(c *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w (--help lists the flags)", err)
}

// newLogger is the log of a daemon: on standard error, where journald and a person both look.
func newLogger(c *cli.Context, fallback slog.Level) (*slog.Logger, error) {
	level := fallback
	if s := c.String("log-level"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", s)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	switch format := c.String("log-format"); format {
	case "text":
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, options)), nil
	default:
		return nil, fmt.Errorf("--log-format %q: use text or json", format)
	}
}

// endedByRequest hides the error of a context that was cancelled because somebody asked the process to end.
func endedByRequest(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
