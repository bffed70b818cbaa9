package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/urfave/cli/v2"
)

// newLogger is the log of a daemon: on standard error, where journald and a person both look.
func newLogger(c *cli.Context, fallback slog.Level) (*slog.Logger, error) {
	level, err := logLevel(c, "", fallback)
	if err != nil {
		return nil, err
	}
	return newLoggerAt(c, level)
}

// logLevel is from where on there is something to log: by the flag, by what the file says, or else.
func logLevel(c *cli.Context, setting string, otherwise slog.Level) (level slog.Level, err error) {
	if over(c, "log-level", &setting); setting == "" {
		return otherwise, nil
	}
	if err := level.UnmarshalText([]byte(setting)); err != nil {
		if c.IsSet("log-level") {
			return level, fmt.Errorf("--log-level %q: use debug, info, warn or error", setting)
		}
		return level, fmt.Errorf("log-level is %q: use debug, info, warn or error", setting)
	}
	return level, nil
}

// newLoggerAt logs from a level on, which may change.
func newLoggerAt(c *cli.Context, level slog.Leveler) (*slog.Logger, error) {
	form := func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) }
	switch format := c.String("log-format"); format {
	case "text":
	case "json":
		form = func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) }
	default:
		return nil, fmt.Errorf("--log-format %q: use text or json", format)
	}
	if c.App.ErrWriter == os.Stderr && toJournal() {
		return slog.New(newJournalHandler(os.Stderr, level, form)), nil
	}
	return slog.New(form(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}

// toJournal reports whether standard error is journald's, as JOURNAL_STREAM says of its inode: whoever sends it elsewhere has
// a file like any other.
func toJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}

// A journalHandler writes lines as journald reads them from a standard error, sd-daemon(3): the priority before each, by
// which journalctl -p finds it, and no time, for journald has its own.
//
// Journald has a protocol of its own too, in which every attribute would be a field. But a line that journalctl shows has
// to say all by itself, and a socket beside standard error can be out of reach, or behind what a panic writes.
type journalHandler struct {
	form slog.Handler // writes to line
	line *journalLine
}

type journalLine struct {
	mu     sync.Mutex // held from the priority to the end of the line
	before string
	w      io.Writer
}

func newJournalHandler(w io.Writer, level slog.Leveler, form func(io.Writer, *slog.HandlerOptions) slog.Handler) *journalHandler {
	line := &journalLine{w: w}
	return &journalHandler{line: line, form: form(line, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})}
}

// Write writes a whole line, which is how slog's handlers call it.
func (l *journalLine) Write(b []byte) (int, error) {
	if _, err := l.w.Write(append([]byte(l.before), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (h *journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.form.Enabled(ctx, level)
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.before = priority(r.Level)
	return h.form.Handle(ctx, r)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.form.WithAttrs(attrs), h.line}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.form.WithGroup(name), h.line}
}

// priority is that of syslog, as it is written before a line.
func priority(level slog.Level) string {
	p := journal.PriDebug
	switch {
	case level >= slog.LevelError:
		p = journal.PriErr
	case level >= slog.LevelWarn:
		p = journal.PriWarning
	case level >= slog.LevelInfo:
		p = journal.PriInfo
	}
	return fmt.Sprintf("<%d>", p)
}

// complain writes why the process ends: an error in the journal, too, line by line.
func complain(w io.Writer, journal bool, err error) {
	text := fmt.Sprintf("hodi: %v\n", err)
	if journal {
		before := priority(slog.LevelError)
		text = before + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+before) + "\n"
	}
	io.WriteString(w, text)
}
