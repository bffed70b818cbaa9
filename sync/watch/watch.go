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

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

const (
	answerWithin = 45 * time.Second // for one question, with a new token if that is needed
	lookAgain    = time.Minute      // at the latest: a timer stands still while a laptop sleeps, the clock does not
	diskRetry    = 5 * time.Second  // after the table could not be read or written
)

// Watch asks about the payments of a Table. Table and Client are required.
type Watch struct {
	Table *correlate.Table
	// Client returns the client of a shortcode by its name, or nil if there is none any more.
	Client func(shortcode string) *daraja.Client
	// Apps are the names of the shortcodes, those together that have one app (one consumer key) at Daraja, which counts by
	// that. Default: all shortcodes have one.
	Apps [][]string
	// PerMinute is how many questions one app asks in a minute, one at a time. Default: 5.
	PerMinute int
	// Heard is told how each question was answered: "answered", "in_flight" (not yet), "refused", "limited" (asked too often) or
	// "down". It may be called by several at a time. Default: nobody is.
	Heard func(outcome string)
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger

	once    sync.Once
	states  []*state      // of each of Apps, and of whatever else there is
	stopped chan struct{} // closed by Stop
	stop    func()
}

// Status is how Daraja answers an app.
type Status struct {
	Shortcodes []string  // nil: all, or those that are in no app
	Failures   int       // questions in a row that came to nothing; 0: it answers, or was never asked
	Since      time.Time // the first of them
	Until      time.Time // it is not asked before
	Why        string    // the last of them
}

// Status says how Daraja answers, app by app: those that it does not answer.
func (w *Watch) Status() (list []Status) {
	w.init()
	for i, s := range w.states {
		r := s.get()
		if r.Failures == 0 {
			continue
		}
		st := Status{Failures: r.Failures, Since: r.Since, Until: r.Until, Why: r.Why}
		if i < len(w.Apps) {
			st.Shortcodes = w.Apps[i]
		}
		list = append(list, st)
	}
	return list
}

func (w *Watch) init() {
	w.once.Do(func() {
		w.stopped = make(chan struct{})
		w.stop = sync.OnceFunc(func() { close(w.stopped) })
		for range len(w.Apps) + 1 {
			w.states = append(w.states, &state{})
		}
	})
}

// Stop has Run end, and now or later return nil: it asks no further question, but hears the answers to those that it has asked.
func (w *Watch) Stop() {
	w.init()
	w.stop()
}

// Run asks until ctx ends, then returns nil. It has a loop for each app and one for silence, because a question may hang, one
// app's limit is not another's, and silence must be told on time; all have ended when it returns.
func (w *Watch) Run(ctx context.Context) error {
	w.init()
	log := w.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	perMinute := w.PerMinute
	if perMinute <= 0 {
		perMinute = 5
	}
	var all []string
	amongs := []correlate.Among{}
	for _, app := range w.Apps {
		all = append(all, app...)
		amongs = append(amongs, correlate.Among{Shortcodes: app})
	}
	amongs = append(amongs, correlate.Among{Shortcodes: all, Others: all != nil}) // of shortcodes that there are no more
	asking, enough := context.WithCancel(ctx)
	defer enough()
	telling, quiet := context.WithCancel(ctx)
	defer quiet()
	var loops, rest sync.WaitGroup
	defer rest.Wait()
	rest.Go(func() {
		select {
		case <-w.stopped:
			enough()
		case <-telling.Done():
		}
	})
	news := make([]chan<- struct{}, len(amongs))
	for i, among := range amongs {
		c := make(chan struct{}, 1)
		news[i] = c
		a := asker{table: w.Table, client: w.Client, log: log, news: c, among: among, every: time.Minute / time.Duration(perMinute), tell: w.Heard, state: w.states[i]}
		loops.Go(func() { a.run(asking, ctx) })
	}
	rest.Go(func() { w.silence(telling, log, news) })
	loops.Wait()
	quiet()
	return nil
}

// silence turns what has been PENDING for too long into UNKNOWN, and passes on that there is news.
func (w *Watch) silence(ctx context.Context, log *slog.Logger, news []chan<- struct{}) {
	for ctx.Err() == nil {
		next, err := w.Table.Silence(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("payments without news cannot be looked for", "err", err)
			next = time.Now().Add(diskRetry)
		}
		if wait(ctx, next, w.Table.Wake()) {
			for _, asker := range news {
				select {
				case asker <- struct{}{}:
				default:
				}
			}
		}
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
