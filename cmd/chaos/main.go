// Chaos breaks a running Hodi in every way that we know of, and shows that no callback is lost.
//
// It starts an edge, several sidecars and their subscribers as processes that anybody could start, posts callbacks at a
// steady rate as Daraja does, kills, freezes and cuts off whatever it likes, and at the end compares what it was promised
// with what is there:
//
//	posters ──POST──▶ edge ══ router ══ sidecar ──WebSocket──▶ subscribers
//	   │               ▲         ▲         ▲                       │
//	   │             kill -9   loss, cut  kill -9                  │
//	   └──"200"──▶ ledger ◀── GET /callbacks, /payments ◀──────────┘
//
// It is a judge from outside: it knows Hodi by its commands, its HTTP and its WebSocket, and package client.
//
// The files: world.go is the processes and process.go one of them; router.go is the network, network_linux.go what it is
// made of; load.go posts, in the shapes of shapes.go; subscribers.go listens; faults.go breaks, and pulse.go measures how
// soon deliveries go on; ledger.go accounts, audit.go asks the sidecars at the end; report.go tells.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

// settings are what a run is.
type settings struct {
	hodi      string
	seed      uint64
	callbacks int
	kills     int
	duration  time.Duration
	rate      float64
	sidecars  int
	calm      time.Duration
	loopback  bool
	json      string
	keep      bool
	profile   string
	only      string
}

func main() {
	var s settings
	flag.StringVar(&s.hodi, "hodi", "./hodi", "the `binary` to break")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()%1_000_000), "of what is drawn: shapes, faults, lost packets (the processes' own timing is not)")
	flag.IntVar(&s.callbacks, "callbacks", 1_000_000, "end when so many were answered 200")
	flag.IntVar(&s.kills, "kills", 100, "and so many processes were killed")
	flag.DurationVar(&s.duration, "duration", 0, "end after this time in place of both")
	flag.Float64Var(&s.rate, "rate", 1_300, "callbacks per second")
	flag.IntVar(&s.sidecars, "sidecars", 4, "up to 200")
	flag.DurationVar(&s.calm, "calm", 8*time.Second, "the longest time between one fault and the next, at the edge and at each sidecar")
	flag.BoolVar(&s.loopback, "loopback", false, "without network namespaces, and without faults of the network")
	flag.StringVar(&s.json, "json", "", "write the report to `file` too")
	flag.StringVar(&s.only, "only", "", "inject only faults with `words` in their names")
	flag.StringVar(&s.profile, "profile", "", "write a profile of this program's own processor time to `file`")
	flag.BoolVar(&s.keep, "keep", false, "keep data and logs of a run in which nothing was found")
	flag.Parse()
	if flag.NArg() > 0 || s.sidecars < 1 || s.sidecars > 200 {
		flag.Usage()
		os.Exit(2)
	}
	if !s.loopback {
		if done, err := asRoot(); done {
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				os.Exit(max(exit.ExitCode(), 1))
			}
			return
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // asked again, it ends at once
	if s.profile != "" {
		f, err := os.Create(s.profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	r, err := run(ctx, s, os.Stderr)
	pprof.StopCPUProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r.print(os.Stdout)
	if s.json != "" {
		if err := r.save(s.json); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if r.bad() > 0 {
		os.Exit(1)
	}
}

// run is one run, from an empty folder to the report. When ctx ends the breaking ends, and the accounting is still done.
func run(ctx context.Context, s settings, words io.Writer) (_ *report, err error) {
	opened := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(words, "chaos: %4.0f s: "+format+"\n", append([]any{time.Since(opened).Seconds()}, args...)...)
	}
	if s.hodi, err = filepath.Abs(s.hodi); err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	dir, err := os.MkdirTemp("", "hodi-chaos-")
	if err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	tidy := func() {
		if !s.keep {
			_ = os.RemoveAll(dir)
		}
	}
	l := newLedger(s.sidecars)
	w, err := build(ctx, dir, s.hodi, s.sidecars, s.loopback, s.seed, func(name string, why error) {
		l.find(unruly, "%s ended by itself: %v", name, why)
	})
	defer func() {
		if w == nil {
			return
		}
		if end := w.end(); err == nil && end != nil {
			err = end
		}
	}()
	if err == nil {
		err = w.open(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (the logs are in %s)", err, dir)
	}
	if w.network == nil {
		say("on loopback, without faults of the network: %s", w.why)
	}
	say("%d sidecars, %.0f callbacks a second, seed %d, in %s", s.sidecars, s.rate, s.seed, dir)

	always := context.WithoutCancel(ctx)
	listening, hush := context.WithCancel(always)
	calm, hurry := context.WithCancel(listening)
	defer hurry()
	posting, silence := context.WithCancel(always)
	breaking, mend := context.WithCancel(ctx)
	listeners := &readers{ledger: l}
	var subscribers, load, storm sync.WaitGroup
	defer func() {
		mend()
		storm.Wait()
		silence()
		load.Wait()
		hush()
		subscribers.Wait()
	}()
	for _, one := range w.shops {
		if err := listeners.run(listening, calm, &subscribers, one, s.seed); err != nil {
			return nil, err
		}
	}
	d, t := newLoad(w, l, s.rate, s.seed), newStorm(w, l, s.calm, s.only, s.seed)
	began := time.Now()
	var loading error
	load.Go(func() { loading = d.run(posting); mend() })
	storm.Go(func() { t.run(breaking) })

	for told := began; rest(breaking, 100*time.Millisecond) == nil; {
		_, answered := l.progress()
		took := time.Since(began)
		if s.duration > 0 && took >= s.duration || s.duration == 0 && answered >= s.callbacks && t.killed() >= s.kills {
			break
		}
		if time.Since(told) >= 10*time.Second {
			told = time.Now()
			say("%s answered 200, %d killed, %d findings", thousands(answered), t.killed(), l.bad())
		}
	}
	mend()
	storm.Wait()
	say("everything is mended; the last callbacks are posted")
	silence()
	load.Wait()
	if loading != nil {
		return nil, loading
	}
	took := time.Since(began)
	say("all posted; what is stored is delivered")
	hurry()
	stored := settle(always, w, l)
	hush()
	subscribers.Wait()
	usage := used(w)
	say("accounting")
	examine(always, w, l, stored)
	r := newReport(w, l, d, t, usage, s.seed, took)
	if r.Directory = dir; r.bad() == 0 {
		tidy()
	}
	return r, nil
}
