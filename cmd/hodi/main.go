// Command hodi gets M-Pesa's answer to the app that is waiting for it: the edge, the sidecar and a pretend Safaricom in
// one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if hangsUp() {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// The first signal asks; a second one, once the handler is gone, ends the process at once.
	context.AfterFunc(ctx, stop)
	// A reader of our output that has gone (hodi dev --json | head -1) must not take the daemons with it.
	signal.Ignore(syscall.SIGPIPE)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		code := 1
		if e, ok := errors.AsType[*exitError](err); ok {
			code = e.code
		}
		if !errors.Is(err, errSaid) {
			complain(os.Stderr, toJournal(), err)
		}
		os.Exit(code)
	}
}

// An exitError ends the process with a code of its own.
type exitError struct {
	code int
	error
}

func (e *exitError) Unwrap() error { return e.error }

// hangsUp reports whether SIGHUP means that a terminal was closed, which ends what runs in it. Under nohup it does not; and
// a daemon of systemd's, or one without a terminal, is asked by it to look at its settings: runUnit.
func hangsUp() bool {
	if signal.Ignored(syscall.SIGHUP) || os.Getenv("NOTIFY_SOCKET") != "" {
		return false
	}
	f, err := os.Open("/dev/tty")
	if err == nil {
		f.Close()
	}
	return err == nil
}

// errSaid ends the process with 1 where all that there is to say was said.
var errSaid = errors.New("all was said")

// run does what a command line says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	app := newApp(stdout, stderr)
	if len(args) > 0 && args[0] == "complete" { // what follows is not a line yet
		complete(stdout, app, args[1:])
		return nil
	}
	l := sortLine(app, args)
	switch {
	case l.help && len(l.words) == 0 || len(args) == 0:
		writeHelp(stdout, app, l)
		return nil
	case l.versions:
		fmt.Fprintf(stdout, "hodi version %s\n", app.Version)
		return nil
	}
	return app.RunContext(ctx, l.args())
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "hodi",
		Usage:     "M-Pesa's answer, at the app that is waiting for it",
		Version:   version(),
		Writer:    stdout,
		ErrWriter: stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE`; flags and environment go over it; if not given, hodi.toml here or in /etc/hodi, if there is one", EnvVars: []string{"HODI_CONFIG"}},
			&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn or error", EnvVars: []string{"HODI_LOG_LEVEL"}},
			&cli.StringFlag{Name: "log-format", Usage: "log as `FORM`: text or json", Value: "text", EnvVars: []string{"HODI_LOG_FORMAT"}},
		},
		Commands:    []*cli.Command{devCommand(), edgeCommand(), sidecarCommand(), joinCommand(), sandboxCommand(), statusCommand(), doctorCommand(), supportCommand(), paymentsCommand(), reconcileCommand(), callbacksCommand(), forwardCommand(), replayCommand(), tillCommand(), auditCommand(), benchCommand(), completionCommand(), manCommand()},
		HideHelp:    true, // help and version are run's
		HideVersion: true,
		// Errors are worded for the reader and printed once, by main.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	app.Action = func(c *cli.Context) error { return refuseLeftovers(c, "hodi", app.Commands) }
	app.OnUsageError = usageError("hodi", app.Flags)
	for _, c := range app.Commands {
		strict("hodi", c)
	}
	return app
}

// release is the version of a binary that was made to be given away: the linker sets it (systemd/package/build).
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "development build"
}

// endedByRequest hides the error of a context that was cancelled because somebody asked the process to end.
func endedByRequest(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
