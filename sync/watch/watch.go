// Package watch asks Daraja about payments of which nothing was heard.
//
// The table says what is due, and keeps it over restarts; the watch brings the clock and Daraja together. Silence is
// never a failure: a payment without news becomes UNKNOWN, and goes on being asked about.
package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

const (
	answerWithin = 45 * time.Second // for one question, with a new token if that is needed
	retryAtLeast = 12 * time.Second // after Daraja said that it is asked too often: its own limit is one in 12 s
	lookAgain    = time.Minute      // at the latest: a timer stands still while a laptop sleeps, the clock does not
	diskRetry    = 5 * time.Second  // after the table could not be read or written
)

// Watch asks about the payments of a Table. Table and Client are required.
type Watch struct {
	Table *correlate.Table
	// Client returns the client of a shortcode by its name, or nil if there is none any more.
	Client func(shortcode string) *daraja.Client
	// PerMinute is how many questions the whole sidecar asks in a minute, one at a time. Default: 5.
	PerMinute int
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Run asks until ctx ends, then returns nil. It has two loops, because a question may hang and silence must be told on
// time; both have ended when it returns.
func (w *Watch) Run(ctx context.Context) error {
	log := w.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	perMinute := w.PerMinute
	if perMinute <= 0 {
		perMinute = 5
	}
	news := make(chan struct{}, 1)
	a := asker{table: w.Table, client: w.Client, log: log, news: news, limit: rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), 1)}
	var loops sync.WaitGroup
	loops.Go(func() { a.run(ctx) })
	w.silence(ctx, log, news)
	loops.Wait()
	return nil
}

// silence turns what has been PENDING for too long into UNKNOWN, and passes on that there is news.
func (w *Watch) silence(ctx context.Context, log *slog.Logger, news chan<- struct{}) {
	for ctx.Err() == nil {
		next, err := w.Table.Silence(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("payments without news cannot be looked for", "err", err)
			next = time.Now().Add(diskRetry)
		}
		if wait(ctx, next, w.Table.Wake()) {
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}
}

// asker asks one question at a time.
type asker struct {
	table  *correlate.Table
	client func(shortcode string) *daraja.Client
	log    *slog.Logger
	news   <-chan struct{}
	limit  *rate.Limiter
	pause  time.Time // not before, by Daraja's own word
}

func (a *asker) run(ctx context.Context) {
	for ctx.Err() == nil {
		if time.Now().Before(a.pause) {
			wait(ctx, a.pause, nil)
			continue
		}
		// Which payment is asked about is decided when a question is free, not before: whoever stands at the till by then
		// goes first.
		due, next, err := a.table.Due(ctx, 1)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				a.log.Error("payments to ask about cannot be looked for", "err", err)
			}
			wait(ctx, time.Now().Add(diskRetry), nil)
		case len(due) == 0:
			wait(ctx, next, a.news)
		default:
			if free := a.ask(ctx, due[0]); !free.IsZero() {
				wait(ctx, free, nil)
			}
		}
	}
}

// ask asks about one payment, or returns when it may.
func (a *asker) ask(ctx context.Context, p correlate.Payment) (free time.Time) {
	client := a.client(p.Shortcode)
	if client == nil {
		a.log.Warn("a payment cannot be asked about: its shortcode is not configured", "payment", p.ID, "shortcode", p.Shortcode)
		if err := a.table.Unaskable(ctx, p.ID); err != nil {
			a.failed(ctx, p, err)
			return time.Now().Add(diskRetry)
		}
		return time.Time{}
	}
	if !a.limit.Allow() {
		r := a.limit.Reserve()
		defer r.Cancel()
		return time.Now().Add(r.Delay())
	}
	if err := a.table.Asked(ctx, p.ID); err != nil {
		a.failed(ctx, p, err)
		return time.Now().Add(diskRetry)
	}
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	answer, err := client.Query(bounded, p.CheckoutRequestID)
	cancel()
	if err != nil {
		a.noAnswer(ctx, p, err)
		return time.Time{}
	}
	if _, err := a.table.Answer(ctx, p.ID, answer); err != nil {
		a.failed(ctx, p, err)
	}
	return time.Time{}
}

// noAnswer is for every answer that says nothing about the payment. The table has the next question noted already.
func (a *asker) noAnswer(ctx context.Context, p correlate.Payment, err error) {
	if ctx.Err() != nil {
		return
	}
	if d, ok := daraja.RetryAfter(err); ok {
		a.pause = time.Now().Add(max(d, retryAtLeast))
		a.log.Warn("Daraja wants to be asked less often", "pause", time.Until(a.pause).Round(time.Second), "err", err)
		return
	}
	if daraja.InFlight(err) {
		a.log.Debug("Daraja does not know yet", "payment", p.ID)
		return
	}
	a.log.Info("Daraja could not be asked", "payment", p.ID, "err", err)
}

func (a *asker) failed(ctx context.Context, p correlate.Payment, err error) {
	if ctx.Err() == nil {
		a.log.Error("a question to Daraja cannot be recorded", "payment", p.ID, "err", err)
	}
}

// wait waits until a time (zero: none), for news, or for the end, whichever is first, and never for long. It reports
// whether there is news.
func wait(ctx context.Context, until time.Time, news <-chan struct{}) bool {
	d := lookAgain
	if !until.IsZero() {
		d = min(d, max(time.Until(until), 0))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-news:
		return true
	case <-timer.C:
		return false
	}
}
