package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Command is a program of the operator's: the message is on its standard input, and what it is about in its environment. It is
// run as it stands, by no shell, and is ended with all that it has started after half a minute. That it was told is that the
// program ends with 0.
//
//	HODI_SUBJECT  the message in a line
//	HODI_EDGE     which edge it is
//	HODI_ID       of the message: one that comes again has the same
//	HODI_NUMBER   of the message; 0: a test
//	HODI_TIME     of the message, RFC 3339
//	HODI_BEGUN    what has begun, as KIND or KIND:ENDPOINT, with spaces between; so HODI_OVER and HODI_STILL
type Command struct {
	Args   []string // the program, by its whole path, and its arguments; required
	Logger *slog.Logger
}

// Name is "command".
func (c *Command) Name() string { return "command" }

// Check says what is wrong with it. Whether it can be run where the edge is, a test shows.
func (c *Command) Check() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("no command is named")
	}
	if _, err := exec.LookPath(c.Args[0]); err != nil {
		return fmt.Errorf("the command cannot be run: %w", err)
	}
	return nil
}

const outputMost = 2 << 10 // of what it says, that is logged

// Send runs it.
func (c *Command) Send(ctx context.Context, m Message) error {
	if err := c.Check(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	said := new(head)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = strings.NewReader(m.Text), said, said, m.environment()
	cmd.WaitDelay = time.Second // a child that has left the group, and holds the pipe
	together(cmd)
	err := cmd.Run()
	endGroup(cmd)
	if c.Logger != nil && len(said.b) > 0 {
		c.Logger.Debug("the command said something", "output", string(said.b))
	}
	if err != nil && ctx.Err() != nil {
		return errors.New("it did not end, and was ended")
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("it ended with %v: what it said is in the log at --log-level debug", exit)
	}
	if errors.Is(err, exec.ErrWaitDelay) { // it did, and a child of its has gone on
		return nil
	}
	return err
}

// environment is what the command gets: what programs need to run at all, and the facts. Ours may hold what is nobody's
// business.
func (m Message) environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SystemRoot", "TEMP"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	of := func(s State) string {
		var words []string
		for _, i := range m.Items {
			word := string(i.Kind)
			if i.Subject != "" {
				word += ":" + i.Subject
			}
			if i.State == s && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
		return strings.Join(words, " ")
	}
	return append(env,
		"HODI_SUBJECT="+m.Subject, "HODI_EDGE="+m.Edge, "HODI_ID="+m.ID, "HODI_NUMBER="+strconv.FormatUint(m.Number, 10), "HODI_TIME="+m.Time.Format(time.RFC3339),
		"HODI_BEGUN="+of(Begun), "HODI_OVER="+of(Over), "HODI_STILL="+of(Still))
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

func (h *head) Write(b []byte) (int, error) {
	h.b = append(h.b, b[:min(len(b), outputMost-len(h.b))]...)
	return len(b), nil
}
