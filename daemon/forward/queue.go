package forward

import (
	"container/heap"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

// An item is a callback whose turn comes, or that is with the app.
type item struct {
	correlate.Delivery
	away bool // the app was not there when it was tried

	number uint64    // in the order in which they were taken up
	due    time.Time // not before
	before int       // how many of the same payment are before it
	behind []*item   // those of the same payment that wait for it
}

// queue says whose turn it is: of each payment the first, of those the one that is due first.
//
// Two callbacks are of one payment if they have a subject in common. What they are about is learnt by and by (a callback may
// be there before its payment is), so each waits for the last one before it of each of its subjects.
type queue struct {
	count  int
	last   map[string]*item // of each subject
	ready  ready
	number uint64
}

func (q *queue) len() int { return q.count }

func (q *queue) add(d correlate.Delivery) {
	if q.last == nil {
		q.last = map[string]*item{}
	}
	q.count++
	q.number++
	it := &item{Delivery: d, number: q.number, due: d.Due}
	for _, s := range d.Subjects {
		if other := q.last[s]; other != nil && other != it {
			other.behind = append(other.behind, it)
			it.before++
		}
		q.last[s] = it
	}
	if it.before == 0 {
		heap.Push(&q.ready, it)
	}
}

// next takes out whose turn it is, or nil. It is with the app until put or done.
func (q *queue) next(now time.Time) *item {
	if len(q.ready) == 0 || q.ready[0].due.After(now) {
		return nil
	}
	return heap.Pop(&q.ready).(*item)
}

// first is when the next turn is.
func (q *queue) first() (due time.Time, some bool) {
	if len(q.ready) == 0 {
		return due, false
	}
	return q.ready[0].due, true
}

// put gives an item another turn.
func (q *queue) put(it *item, due time.Time) {
	it.due = due
	heap.Push(&q.ready, it)
}

// done lets those go that waited for an item.
func (q *queue) done(it *item) {
	q.count--
	for _, s := range it.Subjects {
		if q.last[s] == it {
			delete(q.last, s)
		}
	}
	for _, other := range it.behind {
		if other.before--; other.before == 0 {
			heap.Push(&q.ready, other)
		}
	}
	it.behind = nil
}

// wake has it be the turn of those now that were to wait.
func (q *queue) wake(now time.Time, who func(*item) bool) {
	for _, it := range q.ready {
		if it.due.After(now) && who(it) {
			it.due = now
		}
	}
	heap.Init(&q.ready)
}

// ready is a heap by when they are due, and then by their order.
type ready []*item

func (r ready) Len() int { return len(r) }
func (r ready) Less(i, j int) bool {
	if !r[i].due.Equal(r[j].due) {
		return r[i].due.Before(r[j].due)
	}
	return r[i].number < r[j].number
}
func (r ready) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *ready) Push(x any)   { *r = append(*r, x.(*item)) }
func (r *ready) Pop() any {
	old := *r
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*r = old[:len(old)-1]
	return it
}
