package systemd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Pulse is by what a daemon is known to be alive, and fit to serve. It is about what starting the process anew can mend,
// and nothing else: not the network, not the other end of a link, not Daraja, and not the disk.
type Pulse struct {
	Dir     string                          // on the disk that Commits writes to
	Commits func(ctx context.Context) error // has the writer store something; an error is an answer: it lives, and cannot store
	Answers func(ctx context.Context) error // has the daemon's own port answer; an error is none
	Well    string                          // what the status says when all is well; default: "Serves."
	Busy    func() bool                     // the writer does something that may take minutes; default: it never does
}

const (
	askEvery    = 10 * time.Second
	silentAfter = 10 * time.Second       // a question that is open for so long
	lookEvery   = 500 * time.Millisecond // at what came of the questions
	moreTime    = 30 * time.Second       // for which the start may go on, each time that it is looked at
)

// Watch tells systemd that the daemon is ready, once it has both stored something and answered; from then on, as often
// as the watchdog wants to hear it, that it is alive; and when ctx ends, that it stops. It returns then. What it finds is
// the status.
//
// A writer that cannot store, because the disk is full or read-only, has answered, and to start it anew would end links and
// requests for nothing. A writer that says nothing has its disk looked at: one that takes nothing from us either is what
// keeps it, and a new process would wait for it too.
func (s *Service) Watch(ctx context.Context, p Pulse) {
	if !s.notified {
		return
	}
	defer s.send(daemon.SdNotifyStopping)
	s.giveBack() // whoever serves has opened its ports by now
	asking, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	writer, port, disk := new(question), new(question), new(question)
	all.Go(func() { writer.repeat(asking, p.Commits) })
	all.Go(func() { port.repeat(asking, p.Answers) })

	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var fed time.Time
	often := moreTime / 4
	if s.watchdog > 0 {
		often = min(often, s.watchdog/4)
	}
	well := cmp.Or(p.Well, "Serves.")
	for {
		w, a, now := writer.now(), port.now(), time.Now()
		alive, pulse := true, well
		switch {
		case a.silent(now) || a.err != nil:
			alive, pulse = false, "Does not answer on its own port."
			if a.err != nil {
				pulse = fmt.Sprintf("Does not answer on its own port: %v.", a.err)
			}
		case w.silent(now) && p.Busy != nil && p.Busy():
			pulse = "Serves, and tidies its database."
		case w.silent(now):
			d := disk.now()
			if !d.open && d.ended.Before(w.since) { // not asked since it fell silent
				all.Go(func() { disk.ask(ctx, func(context.Context) error { return touch(p.Dir) }) })
				d = disk.now()
			}
			alive, pulse = d.open || d.ended.Before(w.since) || d.err != nil, "Serves, and waits for the disk to store something."
			if !alive {
				pulse = "Does not store, although the disk does."
			}
		case w.err != nil:
			pulse = fmt.Sprintf("Serves, and cannot store: %v.", w.err)
		}
		fit := w.asked && !w.open && w.err == nil && a.asked && !a.open && a.err == nil
		if !fit && !s.isReady() && pulse == well {
			pulse = "" // not yet
		}
		s.found(fit, pulse)
		switch {
		case !alive || now.Sub(fed) < often:
		case s.isReady():
			fed = now
			if s.watchdog > 0 {
				s.send(daemon.SdNotifyWatchdog)
			}
		case w.asked && !w.open: // it serves as far as it can, and waits for its disk
			fed = now
			s.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", moreTime.Microseconds()))
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// touch writes a file and syncs it, past the daemon's own writer.
func touch(dir string) error {
	path := filepath.Join(dir, "pulse")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return err
	}
	return f.Sync()
}

// question is asked again and again, by one who may have to wait for long, and looked at by another who may not.
type question struct {
	mu sync.Mutex
	answer
}

// answer is what came of a question so far.
type answer struct {
	asked bool      // it was answered at least once
	err   error     // the last time
	ended time.Time // that was then
	open  bool      // it is being asked
	since time.Time // then
}

func (a answer) silent(now time.Time) bool { return a.open && now.Sub(a.since) > silentAfter }

func (q *question) now() answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answer
}

func (q *question) repeat(ctx context.Context, f func(context.Context) error) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			q.ask(ctx, f)
			again.Reset(askEvery)
		case <-ctx.Done():
			return
		}
	}
}

func (q *question) ask(ctx context.Context, f func(context.Context) error) {
	q.mu.Lock()
	q.open, q.since = true, time.Now()
	q.mu.Unlock()
	err := f(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	if ctx.Err() != nil {
		return // that is its own answer
	}
	q.asked, q.err, q.ended, q.open = true, err, time.Now(), false
}
