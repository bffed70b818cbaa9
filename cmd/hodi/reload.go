package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/reload"
)

// A plan is what file, environment and flags say together of a daemon.
type plan[P any] interface {
	// over is the plan, but for what only a start changes: that is as it is running. It names what differs.
	over(running P) (merged P, live, start []string)
	// check says why the daemon could not be started with it.
	check() error
}

// A reloader reads the settings of a daemon again while it runs: all of them, from where they are read at its start. They have to
// be good for the next start, and what of them can be taken now has to be good beside what cannot. Else nothing changes.
type reloader[P plan[P]] struct {
	running P
	read    func() (P, error)
	use     func(P) error // gives the daemon what may change while it runs
	tell    func(reload.Outcome)
	log     *slog.Logger
}

func (r *reloader[P]) reload() error {
	live, start, err := r.take()
	outcome := reload.Outcome{Time: time.Now().UTC().Truncate(time.Millisecond), Later: start}
	if err != nil {
		outcome.Error = err.Error()
	}
	r.tell(outcome) // and only then the log, which somebody may wait for
	if err != nil {
		r.log.Error("the settings are not good: nothing has changed, those from before are in use, and a start would fail", "err", err)
		return err
	}
	r.log.Info("the settings were read again, and are in use", "changed", cmp.Or(strings.Join(live, ", "), "nothing"))
	if len(start) > 0 {
		r.log.Warn("some of them take effect at the next start only", "settings", strings.Join(start, ", "))
	}
	return nil
}

func (r *reloader[P]) take() (live, start []string, err error) {
	next, err := r.read()
	if err == nil {
		err = next.check()
	}
	if err != nil {
		return nil, nil, err
	}
	merged, live, start := next.over(r.running)
	if err := merged.check(); err != nil {
		return nil, nil, fmt.Errorf("they are good for a start, but not beside what only a start changes (%s): %w", strings.Join(start, ", "), err)
	}
	if err := r.use(merged); err != nil {
		return nil, nil, err
	}
	r.running = merged
	return live, start, nil
}
