package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/tunnel/enrol"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "how the sidecar and the edge on this machine are: one screen, and 0 or 1",
		Description: "Ends with 0 if all is well, and with 1 and the reason if not: a daemon that has its state here and does not " +
			"answer, a sidecar without its link, two machines with one identity.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "ask the sidecar at `ADDRESS`", EnvVars: []string{"HODI_SIDECAR_LISTEN"}},
			&cli.StringFlag{Name: "data", Usage: "whose state is in `DIR`, with the key that it is asked with", EnvVars: []string{"HODI_SIDECAR_DATA"}},
			&cli.StringFlag{Name: "edge-data", Usage: "ask the edge whose state is in `DIR`", EnvVars: []string{"HODI_EDGE_DATA"}},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"},
		},
		Action: showStatus,
	}
}

// rivalFor is how long two machines with one identity are told of: each of them waits a minute before it tries again.
const rivalFor = 3 * time.Minute

// health is what hodi status says. A daemon that is not there, and of which there is no state, is left out.
type health struct {
	Healthy  bool           `json:"healthy"`
	Problems []string       `json:"problems"`
	Sidecar  *sidecarHealth `json:"sidecar,omitempty"`
	Edge     *edgeHealth    `json:"edge,omitempty"`
}

func (h *health) wrong(format string, args ...any) {
	h.Problems = append(h.Problems, fmt.Sprintf(format, args...))
}

// ending tells of a certificate that nobody has renewed.
func (h *health) ending(whose string, ends, now time.Time) {
	switch {
	case ends.IsZero() || ends.Sub(now) > enrol.Overdue:
	case ends.Before(now):
		h.wrong("the certificate of %s ended on %s: it renews it by itself when it reaches the edge, for 90 days from then; after that, hodi edge invite", whose, ends.Format("2006-01-02"))
	default:
		h.wrong("the certificate of %s ends on %s, and ought to have been renewed by now: its log says why not", whose, ends.Format("2006-01-02"))
	}
}

// asides tells of databases that were damaged, for as long as they lie there.
func (h *health) asides(of, data string, names []string) {
	h.wrong("the %s's disk has damaged its database, which lies in %s as %s: the log says what became of it. When it is of no more use, move it elsewhere", of, data, strings.Join(names, ", "))
}

func showStatus(c *cli.Context) error {
	h := &health{Problems: []string{}}
	if err := askSidecar(c, h); err != nil {
		return err
	}
	if err := askEdge(c, h); err != nil {
		return err
	}
	if h.Sidecar == nil && h.Edge == nil {
		h.wrong("neither a sidecar nor an edge runs here, as far as the settings say. Start one (hodi sidecar, hodi edge), or say where it is: --listen and --data, --edge-data")
	}
	h.Healthy = len(h.Problems) == 0
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		if err := e.Encode(h); err != nil {
			return err
		}
	} else {
		h.write(c.App.Writer, time.Now())
	}
	if !h.Healthy {
		return errSaid
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// write writes it for people, within the width of a terminal.
func (h *health) write(w io.Writer, now time.Time) {
	if p := h.Sidecar; p != nil {
		fmt.Fprintln(w, "sidecar")
		p.write(w, now)
		fmt.Fprintln(w)
	}
	if p := h.Edge; p != nil {
		fmt.Fprintln(w, "edge")
		p.write(w, now)
		fmt.Fprintln(w)
	}
	if h.Healthy {
		fmt.Fprintln(w, "All is well.")
	}
	for _, problem := range h.Problems {
		paragraph(w, "Not well: "+problem+".")
	}
}

// item writes a line of what is known, wrapped.
func item(w io.Writer, name, text string) {
	const first = 13
	if len(name) > first {
		fmt.Fprintf(w, "  %s\n", name)
		name = ""
	}
	for _, line := range wrap(text, width-first-4) {
		fmt.Fprintf(w, "  %-*s  %s\n", first, name, line)
		name = ""
	}
}

// grouped writes a number as people read it: 1,204.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
