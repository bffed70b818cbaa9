package enrol

import (
	"sync"
	"time"
)

// Clock is what time it is at the least. A computer whose battery is empty begins in 1970 with every power cut, and would
// find every certificate to be of the future; so its time is the latest of what its clock says and what it was once told,
// and the time since then. The zero Clock is the machine's.
type Clock struct {
	mu   sync.Mutex
	told time.Time // the latest time that somebody said who can be trusted
	at   time.Time // when that was, by our own clock, which runs evenly even where it is wrong
}

// Tell records a time that an edge said, or that was on disk.
func (c *Clock) Tell(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); t.After(c.told.Add(now.Sub(c.at))) || c.at.IsZero() {
		c.told, c.at = t, now
	}
}

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.at.IsZero() {
		return now
	}
	if told := c.told.Add(now.Sub(c.at)); told.After(now) {
		return told
	}
	return now
}
