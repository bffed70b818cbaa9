package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/hub"
	"github.com/hodihq/hodi/sync/push"
)

// How a reader is kept.
const (
	replayAfter = 2 * time.Second  // so long no new attempt, before an old completion is told again
	beatEvery   = 15 * time.Second // a sign of life at least so often
	pongWithin  = 10 * time.Second // or the other end is dead: noticed within 25 s
	writeTime   = 10 * time.Second // for one message; slower is too slow
)

// A feed is one reader's place in the history of events, and what it is to be told first.
type feed struct {
	session  string // "" for all
	after    uint64
	greeting []byte      // the snapshot; nil if there is nothing to say
	id       push.Cursor // of the snapshot
	replay   string      // the payment whose completion is to be told again; "" for none
	gap      bool        // the next event is marked: something before it may have been missed
}

// feed finds the place of a reader who comes with a cursor, or without one. No cursor is refused: one that cannot be
// gone on from is answered with the present state, and told so.
func (s *Sidecar) feed(ctx context.Context, session, after string) (*feed, error) {
	gap := false
	if after != "" {
		place, ok, err := s.resume(ctx, after)
		if err != nil {
			return nil, err
		}
		if ok {
			return &feed{session: session, after: place}, nil
		}
		gap = true
	}
	if session == "" {
		if !gap {
			return &feed{after: s.hub.Head()}, nil
		}
		oldest, err := s.table.Oldest(ctx)
		if err != nil {
			return nil, err
		}
		return &feed{after: max(oldest, 1) - 1, gap: true}, nil // all that is left
	}
	snapshot, err := s.table.Snapshot(ctx, session)
	if err != nil {
		return nil, err
	}
	f := &feed{session: session, after: snapshot.Head, gap: gap && !snapshot.Exists}
	if snapshot.Exists {
		m := snapshot.Message
		m.Gap = gap
		f.id = m.ID
		f.greeting = m.Append(nil)
		if !gap && m.Data.Status.Ended() {
			f.replay = m.Data.PaymentID
		}
	}
	return f, nil
}

// resume reports whether a reader can go on from a cursor.
func (s *Sidecar) resume(ctx context.Context, after string) (place uint64, ok bool, err error) {
	c, err := push.ParseCursor(after)
	if err != nil || c.Epoch != s.table.Epoch() || c.Seq > s.hub.Head() {
		return 0, false, nil
	}
	oldest, err := s.table.Oldest(ctx)
	return c.Seq, c.Seq+1 >= oldest, err
}

// A transport is how a reader is written to. Each call has its deadline.
type transport struct {
	greet func(after, id push.Cursor, message []byte) error // first; message is nil if there is nothing to say
	event func(id push.Cursor, message []byte) error
	beat  func(after push.Cursor) error // a sign of life
}

// follow tells a reader everything from its place on, until it cannot be written to or ctx ends. It is the one loop behind
// every transport: it holds a number and nothing else, so a reader that is slow here is slow alone.
func (s *Sidecar) follow(ctx context.Context, f *feed, to transport) error {
	if err := to.greet(s.cursor(f.after), f.id, f.greeting); err != nil {
		return err
	}
	f.greeting = nil // an idle reader holds no message
	started := time.Now()
	nextBeat := started.Add(beatEvery)
	for {
		wake := nextBeat
		replayAt := started.Add(replayAfter)
		if f.replay != "" && replayAt.Before(wake) {
			wake = replayAt
		}
		events, err := s.next(ctx, f, wake)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := s.tell(f, to, e); err != nil {
				return err
			}
		}
		now := time.Now()
		if f.replay != "" && !now.Before(replayAt) {
			if err := s.tellAgain(ctx, f, to); err != nil {
				return err
			}
		}
		if !now.Before(nextBeat) {
			if err := to.beat(s.cursor(f.after)); err != nil {
				return err
			}
			nextBeat = now.Add(beatEvery)
		}
	}
}

// next waits for events, until a time at which there is something else to do.
func (s *Sidecar) next(ctx context.Context, f *feed, until time.Time) ([]hub.Event, error) {
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	events, after, err := s.hub.Next(wait, f.session, f.after)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	f.after = after
	return events, err
}

func (s *Sidecar) tell(f *feed, to transport, e hub.Event) error {
	data := e.Data
	if f.replay != "" || f.gap {
		var m push.Message
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		if m.Type == push.PaymentCompleted || m.Data.PaymentID != f.replay {
			f.replay = "" // told now, or another attempt has begun
		}
		if f.gap {
			f.gap, m.Gap = false, true
			data = m.Append(nil)
		}
	}
	return to.event(s.cursor(e.Seq), data)
}

// tellAgain tells the completion that the reader came too late for, in the form of a completion: the pages of the public
// write-ups understand no other. It is not told once a new attempt has begun, which closes on the first completion it sees.
func (s *Sidecar) tellAgain(ctx context.Context, f *feed, to transport) error {
	snapshot, err := s.table.Snapshot(ctx, f.session)
	if err != nil {
		return err
	}
	m := snapshot.Message
	if !snapshot.Exists || m.Data.PaymentID != f.replay || !m.Data.Status.Ended() {
		f.replay = ""
		return nil
	}
	if snapshot.SessionSeq > f.after {
		return nil // there is news that the reader has not been told yet; it is in the hub by now, and comes first
	}
	f.replay = ""
	m.Type, m.Replay, m.Final = push.PaymentCompleted, true, true
	return to.event(s.cursor(snapshot.SessionSeq), m.Append(nil))
}

// waitForNews waits until the session's state is another than the one at a place in the history.
func (s *Sidecar) waitForNews(ctx, life context.Context, session string, now correlate.Snapshot, place uint64, wait time.Duration) (correlate.Snapshot, error) {
	if place < now.SessionSeq {
		return now, nil // it is news already
	}
	ctx, cancel := contextOver(ctx, life)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	if _, _, err := s.hub.Next(ctx, session, place); err != nil && ctx.Err() == nil {
		return now, err
	}
	return s.table.Snapshot(context.WithoutCancel(ctx), session)
}

// Bounds on readers. They are far above what a shop has and below what its computer can hold.
const (
	maxReaders        = 20_000
	maxSessionReaders = 500 // of one session: tabs, tills, the app; in dev a whole class may share one
)

// limits counts readers.
type limits struct {
	mu       sync.Mutex
	total    int
	sessions map[string]int
}

func (l *limits) enter(session string) *problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxReaders {
		return problemf(http.StatusServiceUnavailable, "overloaded", "too many are listening to this sidecar").after(5 * time.Second)
	}
	if session != "" {
		if l.sessions[session] >= maxSessionReaders {
			return problemf(http.StatusTooManyRequests, "too-many", "too many are listening to this session").after(5 * time.Second)
		}
		if l.sessions == nil {
			l.sessions = map[string]int{}
		}
		l.sessions[session]++
	}
	l.total++
	return nil
}

func (l *limits) leave(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if session != "" {
		if l.sessions[session]--; l.sessions[session] <= 0 {
			delete(l.sessions, session)
		}
	}
}

func (l *limits) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}
