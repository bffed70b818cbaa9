package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// Report is what was measured. Times are milliseconds where nothing else is said.
type Report struct {
	Rate        int    `json:"rate"`      // callbacks a second that were asked for; 0: as many as went
	Callbacks   int    `json:"callbacks"` // posted
	Sidecars    int    `json:"sidecars"`  // idle
	Subscribers int    `json:"subscribers"`
	Payments    int    `json:"payments"` // that were there before
	Processors  int    `json:"processors"`
	Platform    string `json:"platform"`
	Disk        string `json:"disk"` // the folder

	Seconds   float64   `json:"seconds"`   // from the first callback's time to leave to the last message
	PerSecond float64   `json:"perSecond"` // callbacks that reached the subscriber in them
	ToAnswer  Latencies `json:"toAnswer"`  // from a callback's time to leave to the 200
	ToMessage Latencies `json:"toMessage"` // and to the subscriber's message
	LookUp    Latencies `json:"lookUp"`    // of an old payment
	Ledger    Ledger    `json:"ledger"`

	Edge    Cost `json:"edge"`
	Sidecar Cost `json:"sidecar"`
	Load    Cost `json:"load"` // what measured: the poster and the subscriber, on the same processors

	PerSidecar    int64 `json:"bytesPerSidecar"`    // of the edge's memory, connected and idle
	PerSubscriber int64 `json:"bytesPerSubscriber"` // of the sidecar's
}

// Cost is what a process has cost.
type Cost struct {
	CPU    float64 `json:"cpuSecondsPer10000"`
	Idle   int64   `json:"residentBefore"` // bytes, before the first callback
	Memory int64   `json:"residentAfter"`  // and after the last
}

func costOf(before, after usage, callbacks int) Cost {
	return Cost{CPU: (after.CPU - before.CPU).Seconds() / float64(callbacks) * 10_000, Idle: before.Memory, Memory: after.Memory}
}

// JSON writes the report for programs.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Write writes the report for people, in tables that a terminal of eighty columns holds.
func (r Report) Write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d processors, %s, fsync on %s\n", r.Processors, r.Platform, r.Disk)
	if r.Callbacks > 0 {
		fmt.Fprintf(&b, "\n%s callbacks reached the subscriber in %.1f s: %s a second", count(r.Ledger.Seen), r.Seconds, count(int(r.PerSecond+0.5)))
		if r.Rate > 0 {
			fmt.Fprintf(&b, " of %s", count(r.Rate))
		}
		fmt.Fprintln(&b)
		times := [][]string{{"milliseconds", "p50", "p99", "p99.9", "longest"}}
		for _, l := range []struct {
			to string
			Latencies
		}{{"POST to 200", r.ToAnswer}, {"POST to WebSocket message", r.ToMessage}, {"look-up of an old payment", r.LookUp}} {
			if l.Most > 0 {
				times = append(times, []string{l.to, ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Most)})
			}
		}
		table(&b, times)
		l := r.Ledger
		table(&b, [][]string{{"ledger", "answered 200", "stored once", "seen", "lost", "repeated"},
			{"", count(l.Answered), count(l.Stored), count(l.Seen), count(l.Lost), count(l.Repeated)}})
		costs := [][]string{{"cost", "CPU s per 10,000", "us each", "MB before", "MB after"}}
		for _, c := range []struct {
			name string
			Cost
		}{{"edge", r.Edge}, {"sidecar", r.Sidecar}, {"edge and sidecar", r.Edge.and(r.Sidecar)}, {"(what measured)", r.Load}} {
			costs = append(costs, []string{c.name, fmt.Sprintf("%.2f", c.CPU), fmt.Sprintf("%.0f", c.CPU*100), mb(c.Idle), mb(c.Memory)})
		}
		table(&b, costs)
	}
	var idle [][]string
	if r.Sidecars > 0 {
		idle = append(idle, []string{"sidecar, at the edge", count(r.Sidecars), kb(r.PerSidecar)})
	}
	if r.Subscribers > 0 {
		idle = append(idle, []string{"subscriber, at the sidecar", count(r.Subscribers), kb(r.PerSubscriber)})
	}
	if len(idle) > 0 {
		table(&b, append([][]string{{"connected and idle", "how many", "kB each"}}, idle...))
	}
	if r.Payments > 0 {
		fmt.Fprintf(&b, "\nThe sidecar knew of %s payments before.\n", count(r.Payments))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// table writes rows below an empty line: the first column to the left, the others to the right.
func table(b *bytes.Buffer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	widths[0] = max(widths[0], len("look-up of an old payment")) // so that the tables stand in line
	fmt.Fprintln(b)
	for _, row := range rows {
		fmt.Fprintf(b, "%-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(b, "  %*s", widths[i+1], cell)
		}
		fmt.Fprintln(b)
	}
}

func (c Cost) and(d Cost) Cost { return Cost{c.CPU + d.CPU, c.Idle + d.Idle, c.Memory + d.Memory} }

// count writes a number with its thousands apart.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func ms(v float64) string { return fmt.Sprintf("%.2f", v) }
func mb(b int64) string   { return fmt.Sprintf("%.1f", float64(b)/1e6) }
func kb(b int64) string   { return fmt.Sprintf("%.1f", float64(b)/1e3) }
