package edge

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// clerk tells the operator what happens at the door, however often it does. The first of a kind is told at once; those that
// follow are counted and told together, so that a flood of them is neither a flood of lines nor a wait for the disk.
type clerk struct {
	log   *slog.Logger
	audit func(ctx context.Context, remote, subject, why string) // of refusals; it counts by itself

	mu    sync.Mutex
	notes map[string]*note // of these there are as many as there are calls of note in the code, for each endpoint
	news  chan struct{}
}

// note is what happened since it was last told.
type note struct {
	what, subject string
	level         slog.Level
	times         int
	last          []any // of the most recent
	remote        string
}

const tellEvery = 10 * time.Second

func newClerk(log *slog.Logger, audit func(ctx context.Context, remote, subject, why string)) *clerk {
	return &clerk{log: log, audit: audit, notes: make(map[string]*note), news: make(chan struct{}, 1)}
}

// note takes down that remote did what, to subject: an endpoint, or a part of the edge. It does not wait.
func (k *clerk) note(what, subject, remote string, facts ...any) {
	k.take(slog.LevelWarn, what, subject, remote, facts)
}

// fail takes down what the edge itself could not do for remote. It is no line of the audit, for nobody was refused, and
// where the disk is full there is no room for one.
func (k *clerk) fail(what, subject, remote string, facts ...any) {
	k.take(slog.LevelError, what, subject, remote, facts)
}

func (k *clerk) take(level slog.Level, what, subject, remote string, facts []any) {
	k.mu.Lock()
	n := k.notes[what+"\x00"+subject]
	if n == nil {
		n = &note{what: what, subject: subject, level: level}
		k.notes[what+"\x00"+subject] = n
	}
	n.times++
	n.remote, n.last = remote, facts
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// run tells what was noted until ctx is done, and then what was left.
func (k *clerk) run(ctx context.Context) {
	for {
		select {
		case <-k.news:
		case <-ctx.Done():
			k.tell()
			return
		}
		k.tell()
		pause := time.NewTimer(tellEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

func (k *clerk) tell() {
	k.mu.Lock()
	notes := k.notes
	k.notes = make(map[string]*note)
	k.mu.Unlock()
	for _, n := range notes {
		facts := append([]any{"to", n.subject, "times", n.times, "remote", n.remote}, n.last...)
		k.log.Log(context.Background(), n.level, n.what, facts...)
		if n.level == slog.LevelError {
			continue
		}
		k.audit(context.Background(), n.remote, n.subject, fmt.Sprintf("%s, %d times", n.what, n.times))
	}
}
