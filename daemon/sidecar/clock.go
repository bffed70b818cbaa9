package sidecar

import (
	"context"
	"fmt"
	"time"
)

// Without its edge a sidecar goes on: it answers from what it has, and says how old that is. And it has the edge's clock to hold its own
// against, for a machine whose battery is dead begins in another year, with nobody there to see it.

// ClockOff is by how much this machine's clock may differ from the edge's before somebody is told.
const ClockOff = time.Minute

const (
	quietFor   = 10 * time.Second // without a link, before it is told: it is dialled anew within one
	clockLooks = 20 * time.Second
)

// noWordSince is since when nothing has come from the edge; zero: there is a link, or no edge, or it is gone for a moment only. A
// sidecar that has had no link says when it began.
func (s *Sidecar) noWordSince() time.Time {
	if s.tunnel == nil {
		return time.Time{}
	}
	t := s.tunnel.Status()
	since := t.Since
	if since.IsZero() {
		since = s.started
	}
	if t.Connected || time.Since(since) < quietFor {
		return time.Time{}
	}
	return since
}

// clockWrong says in what way this machine's clock is wrong, by the edge's; "" if it is right, or nobody knows.
func (s *Sidecar) clockWrong() string {
	if s.tunnel == nil {
		return ""
	}
	return wrongBy(s.tunnel.Status().Skew)
}

// wrongBy words how far the edge's clock is ahead.
func wrongBy(ahead time.Duration) string {
	if ahead.Abs() < ClockOff {
		return ""
	}
	way := "behind"
	if ahead < 0 {
		way = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %s %s the edge's", roughly(ahead.Abs()), way)
}

// roughly is a time that somebody reads.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}

// keepClock tells the log, once, that the clock is wrong, and once that it is right again.
func (s *Sidecar) keepClock(ctx context.Context) error {
	tick := time.NewTicker(clockLooks)
	defer tick.Stop()
	told, before := false, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		wrong := s.clockWrong()
		switch off := wrong != ""; {
		case off != before: // it may be being set just now
			before = off
		case off && !told:
			told = true
			s.log.Warn("the clock is wrong: "+wrong+". The days of the books, \"today\" at the till, and how long sessions, prompts and questions last go by it; "+
				"receipts and certificates are held against the edge's time. Set it, and switch time synchronisation on (timedatectl set-ntp true)", "skew", s.tunnel.Status().Skew)
		case !off && told && s.tunnel.Status().Connected:
			told = false
			s.log.Info("the clock is right again")
		}
	}
}
