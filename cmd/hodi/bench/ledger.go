package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

// Ledger accounts for every callback.
type Ledger struct {
	Posted   int `json:"posted"`
	Answered int `json:"answered"` // with 200
	Refused  int `json:"refused"`  // with anything else, or not at all
	Stored   int `json:"stored"`   // of those answered 200: in the table, exactly once, and its payment has ended
	Seen     int `json:"seen"`     // of those answered 200: by the subscriber
	Lost     int `json:"lost"`     // answered 200, and not stored or not seen
	Repeated int `json:"repeated"` // stored or seen more than once
}

// Clean reports whether every callback was answered 200, stored once and seen once.
func (l Ledger) Clean() bool {
	return l.Answered == l.Posted && l.Lost == 0 && l.Repeated == 0
}

// compare fills in the ledger and the times.
func (r *run) compare(ctx context.Context, posts []post, sightings []sighting) error {
	stored, err := r.stored(ctx)
	if err != nil {
		return fmt.Errorf("bench: ledger: %w", err)
	}
	seen, first := make([]int, len(posts)), make([]int64, len(posts))
	for _, s := range sightings {
		if seen[s.number]++; seen[s.number] == 1 {
			first[s.number] = s.at
		}
	}
	l := Ledger{Posted: len(posts)}
	var toAnswer, toMessage []time.Duration
	begin, end := posts[0].due, int64(0)
	for n, p := range posts {
		if stored[n] > 1 || seen[n] > 1 {
			l.Repeated++
		}
		if p.answered == 0 {
			l.Refused++
			continue
		}
		l.Answered++
		toAnswer = append(toAnswer, time.Duration(p.answered-p.due))
		if stored[n] == 1 {
			l.Stored++
		}
		if seen[n] > 0 {
			l.Seen++
			toMessage = append(toMessage, time.Duration(first[n]-p.due))
			end = max(end, first[n])
		}
		if stored[n] == 0 || seen[n] == 0 {
			l.Lost++
		}
	}
	r.report.Ledger = l
	r.report.ToAnswer, r.report.ToMessage = latencies(toAnswer), latencies(toMessage)
	if took := time.Duration(end - begin); took > 0 {
		r.report.Seconds, r.report.PerSecond = took.Seconds(), float64(l.Seen)/took.Seconds()
	}
	return nil
}

// stored counts, for every callback, how often it was applied to its payment, of those payments that have ended.
func (r *run) stored(ctx context.Context) (map[int]int, error) {
	t, err := r.table(ctx)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	numbers := make(map[string]int, r.Callbacks) // by payment
	for f := (correlate.Filter{From: r.began, Limit: 5000}); ; {
		page, next, err := t.Payments(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			if n := numberOf(p.MerchantRequestID); n >= 0 && p.Status.Ended() {
				numbers[p.ID] = n
			}
		}
		if f.After = next; next == "" {
			break
		}
	}
	stored := make(map[int]int, r.Callbacks)
	for f := (correlate.CallbackFilter{Limit: 5000}); ; {
		page, next, err := t.Callbacks(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if n, ok := numbers[c.PaymentID]; ok {
				stored[n]++
			}
		}
		if f.After = next; next == "" {
			return stored, nil
		}
	}
}

// Latencies is how long something took, in milliseconds.
type Latencies struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Most float64 `json:"most"`
}

func latencies(all []time.Duration) Latencies {
	if len(all) == 0 {
		return Latencies{}
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[int(share*float64(len(all)-1))]) / float64(time.Millisecond)
	}
	return Latencies{at(0.5), at(0.99), at(0.999), at(1)}
}
