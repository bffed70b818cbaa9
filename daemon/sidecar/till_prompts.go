package sidecar

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

// The limits on phones do not hold for a till, so that whoever was pestered can pay at the shop. But who has stolen a till's
// cookie could have any phones prompted with it, as fast as the sidecar goes: so each till has limits of its own, on what it
// asks for and on the sessions that it opens. They are kept in memory: a thief cannot restart the sidecar.

// turns is when tills asked for something in the last hour.
type turns struct {
	mu   sync.Mutex
	last map[int64][]time.Time // by the till's number, oldest first; no longer than the limit of an hour
}

// take counts one more, if a till may: at most some in a minute, and some in an hour; 0 is no limit. Wait is how long until it may.
func (t *turns) take(till int64, minute, hour int, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.last[till]
	for len(list) > 0 && (now.Sub(list[0]) >= time.Hour || list[0].After(now)) { // the latter: the clock was set back
		list = list[1:]
	}
	for _, l := range []struct {
		most   int
		within time.Duration
	}{{minute, time.Minute}, {hour, time.Hour}} {
		if l.most <= 0 || len(list) < l.most {
			continue
		}
		// The last but so many must be past: then there are fewer in the time before.
		wait = max(wait, list[len(list)-l.most].Add(l.within).Sub(now))
	}
	if wait <= 0 {
		list = append(list, now)
	}
	if t.last == nil {
		t.last = make(map[int64][]time.Time)
	}
	t.last[till] = list
	return wait
}

// tillMay refuses a till that asks too often, and writes that down: it may have been stolen.
func (s *Sidecar) tillMay(r *http.Request, till *correlate.Till, counted *turns, what string) *problem {
	if till == nil {
		return nil
	}
	minute, hour := s.settings.Load().config.tillLimits()
	wait := counted.take(till.ID, minute, hour, time.Now())
	if wait <= 0 {
		return nil
	}
	s.log.Warn("sidecar: a till asks too often; if nobody is that busy there, revoke it: hodi till revoke", "till", till.ID, "name", till.Name, "for", what)
	a := correlate.Act{Who: hostname(r.RemoteAddr), Act: "refused: till asks too often", Subject: till.Subject(), Detail: "for " + what, Strangers: true}
	if err := s.table.Audit(context.WithoutCancel(r.Context()), a); err != nil {
		s.log.Warn("sidecar: a refusal could not be written down", "err", err)
	}
	return problemf(http.StatusTooManyRequests, "till-limit", "this till has asked for too many payments in a short time: wait, or ask at another till").after(max(wait, time.Second))
}

// tillLimits is how often a till may ask in a minute and in an hour; 0 is no limit.
func (c Config) tillLimits() (minute, hour int) {
	minute, hour = c.PromptsPerTill, c.PromptsPerTillHour
	if minute == 0 {
		minute = 12
	}
	if hour == 0 {
		hour = 120
	}
	return max(minute, 0), max(hour, 0)
}
