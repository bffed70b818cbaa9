package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is what a run came to.
type report struct {
	Seed      uint64              `json:"seed"`
	Network   string              `json:"network"`
	Machine   string              `json:"machine"`
	Seconds   float64             `json:"seconds"`
	Sidecars  int                 `json:"sidecars"`
	Posted    int                 `json:"posted"`
	Answered  int                 `json:"answered200"`
	Refused   int64               `json:"refused"`
	Broken    int64               `json:"broken"`
	Payments  int                 `json:"payments"`
	Events    int                 `json:"events"`
	Told      int                 `json:"told"` // over all subscribers
	Faults    []faultReport       `json:"faults"`
	Injected  int                 `json:"injected"`
	Kills     int                 `json:"kills"`
	Counts    map[string]int      `json:"findings"`
	Words     map[string][]string `json:"words,omitempty"`
	Resident  map[string]string   `json:"resident,omitempty"` // when all was delivered
	CPU       map[string]float64  `json:"cpuSeconds"`         // of the posting, the breaking and the delivering
	Directory string              `json:"directory,omitempty"`
}

// A faultReport is one kind of fault, and the deliveries around those that no other fault overlapped.
type faultReport struct {
	Name     string  `json:"name"`
	Times    int     `json:"times"`
	Measured int     `json:"measured"`
	Silence  figures `json:"longestSilence"`
	First    figures `json:"firstDelivery"`
	Stays    bool    `json:"stays"` // it has no end to count from
}

// figures are of many durations.
type figures struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

func figuresOf(all []time.Duration) figures {
	if len(all) == 0 {
		return figures{}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return figures{at(0.5), at(0.99), all[len(all)-1]}
}

func newReport(w *world, l *ledger, d *load, t *storm, u usage, seed uint64, took time.Duration) *report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &report{
		Seed: seed, Seconds: took.Seconds(), Sidecars: len(w.shops), Posted: len(l.posts), Answered: l.answered, Payments: len(l.byID),
		Refused: d.refused.Load(), Broken: d.broken.Load(), Counts: map[string]int{}, Words: l.findings, Kills: t.kills, Resident: u.resident, CPU: u.cpu,
		Machine: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Network: "network namespaces, and a router of our own between them",
	}
	if w.network == nil {
		r.Network = "loopback, so no fault of the network was injected: " + w.why
	}
	for _, kind := range []string{lost, repeated, misordered, altered, misjudged, misstated, unruly} {
		r.Counts[kind] = l.counts[kind]
	}
	for _, h := range l.histories {
		r.Events += len(h.told)
		for _, at := range h.readers {
			r.Told += int(at - h.begin)
		}
	}
	for i, k := range t.kinds {
		f := faultReport{Name: k.name, Times: t.times[i], Stays: k.hold == [2]time.Duration{}}
		var silences, firsts []time.Duration
		for _, m := range t.measures[i] {
			if m.alone && !m.missing {
				silences, firsts = append(silences, m.silence), append(firsts, m.first)
			}
		}
		f.Measured, f.Silence, f.First = len(silences), figuresOf(silences), figuresOf(firsts)
		r.Faults = append(r.Faults, f)
		r.Injected += f.Times
	}
	return r
}

// bad is how much was found.
func (r *report) bad() (n int) {
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// print writes the report for people, in Markdown.
func (r *report) print(to io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(to, format+"\n", args...) }
	p("")
	p("%s callbacks answered 200 (%s posted, %d without an answer, %d refused), %s payments, %s events told %s times; %.0f s, seed %d",
		thousands(r.Answered), thousands(r.Posted), r.Broken, r.Refused, thousands(r.Payments), thousands(r.Events), thousands(r.Told), r.Seconds, r.Seed)
	p("1 edge, %d sidecars with 3 subscribers each; %s; %s", r.Sidecars, r.Machine, r.Network)
	for _, name := range slices.Sorted(maps.Keys(r.CPU)) {
		p("%s: %.1f s of processor time, %s resident", name, r.CPU[name], cmp.Or(r.Resident[name], "-"))
	}
	p("")
	p("| fault | injected | measured | longest silence p50 | p99 | max | first delivery after it p50 | p99 | max |")
	p("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, f := range r.Faults {
		first := []string{"", "", ""}
		if !f.Stays {
			first = []string{short(f.First.P50), short(f.First.P99), short(f.First.Max)}
		}
		if f.Measured == 0 {
			p("| %s | %d | 0 | | | | | | |", f.Name, f.Times)
			continue
		}
		p("| %s | %d | %d | %s | %s | %s | %s |", f.Name, f.Times, f.Measured, short(f.Silence.P50), short(f.Silence.P99), short(f.Silence.Max), strings.Join(first, " | "))
	}
	p("")
	p("%d faults, %d processes killed", r.Injected, r.Kills)
	var parts []string
	for _, kind := range []string{lost, repeated, misordered, altered, misjudged, misstated, unruly} {
		parts = append(parts, fmt.Sprintf("%s %d", kind, r.Counts[kind]))
	}
	p("%s", strings.Join(parts, ", "))
	for _, kind := range slices.Sorted(maps.Keys(r.Words)) {
		for _, words := range r.Words[kind] {
			p("%s: %s", strings.ToUpper(kind), words)
		}
		if more := r.Counts[kind] - len(r.Words[kind]); more > 0 {
			p("%s: and %d more", strings.ToUpper(kind), more)
		}
	}
	if r.bad() > 0 {
		p("what the processes logged, and their data, are in %s; again: --seed %d", r.Directory, r.Seed)
	}
}

// save writes the report for programs.
func (r *report) save(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("chaos: report: %w", err)
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// short is a duration as a reader of tables wants it.
func short(d time.Duration) string {
	return cmp.Or(map[bool]string{true: fmt.Sprintf("%d ms", d.Milliseconds())}[d < time.Second], fmt.Sprintf("%.1f s", d.Seconds()))
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// usage is what the processes have used.
type usage struct {
	resident map[string]string
	cpu      map[string]float64
}

// used asks the system, where it tells.
func used(w *world) usage {
	u := usage{map[string]string{}, map[string]float64{"chaos": spent().Seconds()}}
	for _, p := range w.processes() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
		for line := range strings.Lines(string(status)) {
			if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				u.resident[p.name] = strings.TrimSpace(size)
			}
		}
		u.cpu[p.name] = p.cpu().Seconds()
	}
	return u
}
