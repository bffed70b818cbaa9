package notify

import (
	"cmp"
	"slices"
	"time"
)

// book is what was told of each condition. Its rules:
//
//   - A condition is told of when it begins, once a day while it lasts, and when it has ended. That it has is believed when it
//     is no more for a while, which gets longer for one that comes and goes: so that is not told of each time.
//   - Whatever there is to tell is told together.
//   - Of what is counted it is told at once that there is more, and for a day from then on no more. It has no end.
type book struct {
	Records []*record `json:"conditions"`
}

// record is what was told of one condition. It is open while the condition lasts.
type record struct {
	Kind    Kind      `json:"kind"`
	Subject string    `json:"subject,omitempty"`
	Since   time.Time `json:"since"`         // when it began
	Found   time.Time `json:"found"`         // when that was noticed
	Ends    time.Time `json:"ends,omitzero"` // as in Condition
	Detail  string    `json:"detail,omitempty"`
	Told    time.Time `json:"told,omitzero"`    // most lately; zero: not yet, since it began
	Gone    time.Time `json:"gone,omitzero"`    // since when it is no more, if that is not believed yet
	Over    time.Time `json:"over,omitzero"`    // when it ended; the record is closed
	Times   int       `json:"times,omitempty"`  // it has begun of late
	Count   uint64    `json:"count,omitempty"`  // as in Condition
	Before  uint64    `json:"before,omitempty"` // the Count that is no news
}

// The clocks of the book.
const (
	remindEvery = 24 * time.Hour
	settleFirst = 10 * time.Minute // that a condition has to be no more, when it has begun once of late
	settleMost  = 6 * time.Hour
	ofLate      = 24 * time.Hour
)

// note takes down what is so, and reports whether that is to be kept.
func (b *book) note(conditions []Condition, now time.Time) (changed bool) {
	type key struct {
		kind    Kind
		subject string
	}
	known := make(map[key]*record, len(b.Records))
	for _, r := range b.Records {
		known[key{r.Kind, r.Subject}] = r
	}
	present := make(map[*record]bool, len(conditions))
	for _, c := range conditions {
		r := known[key{c.Kind, c.Subject}]
		if r == nil {
			if c.Phase != Lasts {
				continue
			}
			r = &record{Kind: c.Kind, Subject: c.Subject, Over: now.Add(-ofLate)} // closed, and not of late
			b.Records, changed = append(b.Records, r), true
		}
		present[r] = true
		changed = r.see(c, now) || changed
	}
	b.Records = slices.DeleteFunc(b.Records, func(r *record) bool {
		drop := r.miss(present[r], now, &changed)
		changed = changed || drop
		return drop
	})
	return changed
}

func (r *record) open() bool { return r.Over.IsZero() }

// see takes down that a condition was mentioned.
func (r *record) see(c Condition, now time.Time) (changed bool) {
	switch {
	case c.Kind.counted():
		return r.count(c, now)
	case c.Phase == Moot:
		if !r.open() {
			return false
		}
		r.Told, r.Gone, r.Over = time.Time{}, time.Time{}, now
		return true
	case c.Phase == Unsure:
		changed = r.open() && !r.Gone.IsZero()
		r.Gone = time.Time{}
		return changed
	}
	if !r.open() {
		r.begin(c, now)
		return true
	}
	changed = !r.Gone.IsZero() || !r.Ends.Equal(c.Ends)
	r.Gone, r.Ends, r.Detail = time.Time{}, c.Ends, c.Detail
	return changed
}

func (r *record) begin(c Condition, now time.Time) {
	times := 1
	if now.Sub(r.Over).Abs() < ofLate {
		times += r.Times
	}
	*r = record{Kind: c.Kind, Subject: c.Subject, Since: c.Since, Found: now, Ends: c.Ends, Detail: c.Detail, Times: times, Count: r.Count, Before: r.Before}
	if r.Since.IsZero() {
		r.Since = now
	}
}

// count takes down how many there are.
func (r *record) count(c Condition, now time.Time) (changed bool) {
	switch {
	case c.Count == r.Count:
		return false
	case c.Count < r.Count: // some were erased, or it is another's count
		r.Count, r.Before = c.Count, min(r.Before, c.Count)
		return true
	}
	if !r.open() {
		r.begin(c, now)
	}
	r.Count = c.Count
	return true
}

// miss looks at what a record says by itself, and reports whether it is of no more use.
func (r *record) miss(present bool, now time.Time, changed *bool) (drop bool) {
	switch {
	case r.Kind.counted():
		if r.open() && !r.Told.IsZero() && r.Count <= r.Before && now.Sub(r.Told).Abs() >= remindEvery {
			r.Told, r.Over, *changed = time.Time{}, now, true
		}
		return false // or what was told would be news again
	case !r.open():
		return r.Told.IsZero() && now.Sub(r.Over).Abs() >= ofLate && !present
	case present:
		return false
	case r.Told.IsZero():
		return true // nobody has heard of it
	case r.Gone.IsZero():
		r.Gone, *changed = now, true
	}
	return false
}

// ended reports whether it is believed that a condition is no more.
func (r *record) ended(now time.Time) bool {
	return r.open() && !r.Gone.IsZero() && now.Sub(r.Gone).Abs() >= settle(r.Times)
}

func settle(times int) time.Duration {
	if times > 6 {
		return settleMost
	}
	return min(settleFirst<<(max(times, 1)-1), settleMost)
}

// remind reports whether it is to be said again that a condition lasts.
func (r *record) remind(now time.Time) bool {
	return r.lasting() && now.Sub(r.Told).Abs() >= remindEvery
}

// lasting reports whether a condition was told of, and lasts. One that may have ended is not told of until that is known.
func (r *record) lasting() bool {
	return r.open() && !r.Told.IsZero() && r.Gone.IsZero() && (!r.Kind.counted() || r.Count > r.Before)
}

// due reports whether there is something to tell that waits for nothing more.
func (b *book) due(now time.Time) bool {
	return slices.ContainsFunc(b.Records, func(r *record) bool {
		fresh := r.open() && r.Told.IsZero() && now.Sub(r.Found).Abs() >= r.Kind.gather()
		return fresh || r.ended(now) || r.remind(now)
	})
}

// tell takes down that all there is to tell is told now, and says what that is.
func (b *book) tell(now time.Time) (items []Item) {
	again := slices.ContainsFunc(b.Records, func(r *record) bool { return r.remind(now) })
	for _, r := range b.Records {
		i := Item{Kind: r.Kind, Subject: r.Subject, Since: r.Since, Ends: r.Ends, Detail: r.Detail, Count: r.Count - min(r.Before, r.Count)}
		switch {
		case r.open() && r.Told.IsZero():
			i.State, r.Told, r.Before = Begun, now, r.Count
		case r.ended(now):
			i.State, i.Until = Over, r.Gone
			r.Told, r.Gone, r.Over = time.Time{}, time.Time{}, now
		case again && r.lasting(): // also one that was told of less than a day ago, so that there is one message in a day
			i.State, r.Told, r.Before = Still, now, r.Count
		default:
			continue
		}
		items = append(items, i)
	}
	slices.SortFunc(items, func(x, y Item) int {
		return cmp.Or(cmp.Compare(x.State.order(), y.State.order()), cmp.Compare(x.Kind.order(), y.Kind.order()), cmp.Compare(x.Subject, y.Subject))
	})
	return items
}
