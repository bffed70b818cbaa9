package correlate

import (
	"context"
	"fmt"
	"time"
)

// A session's id is in the customer's browser, and whoever has it can have prompts sent to any phone. So there is an end to
// that: of prompts on one phone, whichever sessions and shortcodes they come from; of prompts of one session, whichever
// phones they go to; and of the session. The first must not become a way to keep somebody from paying: for that the
// customer turns to the shop, and what the shop asks for itself is not refused for what strangers did.

// sessionLife is how long a session that was opened can begin payments.
const sessionLife = 24 * time.Hour

// Limits bounds the prompts that are sent and not paid: who pays is not pestered, and may come as often as he likes.
type Limits struct {
	PhoneHour, PhoneDay int // on one phone, in an hour and in a day; default: no limit
	SessionHour         int // of one session, in an hour; default: no limit
}

// LimitError refuses one prompt too many.
type LimitError struct {
	Session    bool // it is the session that has had enough, not the phone
	RetryAfter time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("too many prompts that were not paid; try again in %s", e.RetryAfter.Round(time.Second))
}

// bounded refuses a prompt that would be one too many.
func (x *tx) bounded(r Request) error {
	l := x.rules.limits
	for _, bound := range []struct {
		most    int
		within  time.Duration
		which   string
		value   string
		session bool
	}{
		{l.PhoneHour, time.Hour, ofPhone, r.Phone, false},
		{l.PhoneDay, 24 * time.Hour, ofPhone, r.Phone, false},
		{l.SessionHour, time.Hour, ofSession, r.Session, true},
	} {
		if bound.most <= 0 || r.ByShop && !bound.session {
			continue
		}
		wait, err := x.untilFewer(bound.which, bound.value, bound.most, bound.within)
		if err != nil {
			return err
		}
		if wait > 0 {
			return &LimitError{Session: bound.session, RetryAfter: wait}
		}
	}
	return nil
}

// What counts as a prompt. What Daraja refused no phone has seen; but a session may not have Daraja asked for ever either.
const (
	ofPhone   = "phone = ? AND phone <> '' AND NOT (status = 'FAILED' AND merchant = '' AND decided = '')"
	ofSession = "session = ?"
)

// untilFewer is how long it takes until fewer than most unpaid prompts were sent within the time before. What lies in the future
// was written before the clock was set back, and counts until it is past.
func (x *tx) untilFewer(which, value string, most int, within time.Duration) (wait time.Duration, err error) {
	rows, err := x.t.conn.QueryContext(context.Background(), "SELECT created FROM payments WHERE "+which+" AND created > ? AND ref AND status <> 'SUCCESS' ORDER BY created DESC LIMIT ?",
		value, x.now.Add(-within).UnixMilli(), most)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n, oldest := 0, int64(0)
	for rows.Next() {
		if err := rows.Scan(&oldest); err != nil {
			return 0, err
		}
		n++
	}
	if err := rows.Err(); err != nil || n < most {
		return 0, err
	}
	return min(max(instant(oldest).Add(within).Sub(x.now), time.Second), within), nil
}
