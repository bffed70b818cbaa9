package forward

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// When a callback that the app has not handled is tried again. That is written down with each attempt, and goes on over restarts,
// which is why it is a line of arithmetic here and no library that keeps it in memory.
const (
	retryFirst   = 5 * time.Second  // at the longest, before the second attempt
	retryMost    = 10 * time.Minute // and before any
	retryAfterIs = 6 * time.Hour    // the longest that an app may ask for
)

// backoff is how long to wait after so many attempts: any time up to a longest one, which doubles. Full jitter, so that what
// failed together does not come back together.
func backoff(attempts int) time.Duration {
	longest := retryMost
	if attempts < 8 {
		longest = min(retryFirst<<(attempts-1), retryMost)
	}
	return rand.N(longest) + time.Millisecond
}

// retryAfter reads how long an app wants to be left alone: seconds, or a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, retryAfterIs), true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), retryAfterIs), true
}
