package watch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

// How Daraja is left alone. It is another sidecar, or the merchant's own program, that may use the same app: so all that is
// waited has a random part, or they would come back together.
const (
	arrestAtLeast = 12 * time.Second // when it says that it is asked too often: its own limit is one in 12 s
	arrestAtMost  = 10 * time.Minute // unless it says more itself
	downAfter     = 3                // questions in a row that came to nothing: then it is down, and only probed
	probeFirst    = 15 * time.Second // after the third; each time twice as long
	probeLast     = 5 * time.Minute
	restAtMost    = 2 * time.Hour // whatever the file says, which was perhaps written under another clock
)

// asker asks with one app of Daraja's, one question at a time, and never two within Every. It is the owner of rest, and tells
// state what it is.
//
//	answers ──three in a row come to nothing──▶ down: one question, ever more seldom ──an answer──▶ answers
//	answers ──"too often"──▶ left alone, longer each time ──an answer──▶ answers
type asker struct {
	table  *correlate.Table
	client func(shortcode string) *daraja.Client
	log    *slog.Logger
	news   <-chan struct{}
	among  correlate.Among
	every  time.Duration
	tell   func(outcome string) // nil: nobody
	state  *state

	asked time.Time // the last question
	rest  correlate.Rest
	turn  bool // who has waited longest is next
}

// state is what others may know of an asker.
type state struct {
	mu   sync.Mutex
	rest correlate.Rest
}

func (s *state) set(r correlate.Rest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = r
}

func (s *state) get() correlate.Rest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rest
}

// run asks until ctx ends; a question that is asked by then has its answer heard, unless work ends, too.
func (a *asker) run(ctx, work context.Context) {
	for ctx.Err() == nil {
		err := a.recall(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			a.log.Error("how Daraja was asked before cannot be read", "err", err)
		}
		wait(ctx, time.Now().Add(diskRetry), nil)
	}
	gone := a.among.Shortcodes != nil && !a.among.Others // what was given up when a shortcode was not configured is to be taken up
	for ctx.Err() == nil {
		if gone {
			if err := a.table.Askable(ctx, a.among.Shortcodes); err == nil {
				gone = false
			} else if ctx.Err() == nil {
				a.log.Error("payments to a shortcode that is configured again cannot be looked for", "err", err)
			}
		}
		if free := a.free(); time.Now().Before(free) {
			wait(ctx, free, nil)
			continue
		}
		// Which payment is asked about is decided when a question is free, not before: whoever stands at the till by then
		// goes first.
		among := a.among
		among.Longest = a.turn
		due, next, err := a.table.Due(ctx, among, 1)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				a.log.Error("payments to ask about cannot be looked for", "err", err)
			}
			wait(ctx, time.Now().Add(diskRetry), nil)
		case len(due) == 0:
			wait(ctx, next, a.news)
		default:
			a.ask(work, due[0])
		}
	}
}

// recall goes on from where the process before this one ended.
func (a *asker) recall(ctx context.Context) error {
	known, err := a.table.Rests(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for name, r := range known {
		if a.among.Shortcodes != nil && slices.Contains(a.among.Shortcodes, name) == a.among.Others {
			continue
		}
		if r.Asked.After(now) { // under another clock
			r.Asked = now
		}
		if r.Asked.After(a.asked) {
			a.asked = r.Asked
		}
		if r.Failures > 0 && r.Until.After(a.rest.Until) && r.Until.Before(now.Add(restAtMost)) {
			a.rest = r
		}
	}
	a.state.set(a.rest)
	return nil
}

// free is when the next question may leave.
func (a *asker) free() time.Time {
	free := a.rest.Until
	if next := a.asked.Add(a.every); !a.asked.IsZero() && next.After(free) {
		free = next
	}
	return free
}

// ask asks about one payment.
func (a *asker) ask(ctx context.Context, p correlate.Payment) {
	client := a.client(p.Shortcode)
	if client == nil || another(client.Shortcode, p) {
		a.log.Warn("a payment cannot be asked about: its shortcode is not configured, or has another number by now", "payment", p.ID, "shortcode", p.Shortcode)
		if err := a.table.Unaskable(ctx, p.ID); err != nil {
			a.failed(ctx, p, err)
			wait(ctx, time.Now().Add(diskRetry), nil)
		}
		return
	}
	if err := a.table.Asked(ctx, p.ID); err != nil { // before the question leaves: a crash does not ask twice
		a.failed(ctx, p, err)
		wait(ctx, time.Now().Add(diskRetry), nil)
		return
	}
	a.asked, a.turn = time.Now(), !a.turn
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	answer, err := client.Query(bounded, p.CheckoutRequestID)
	cancel()
	if ctx.Err() != nil && err != nil {
		return
	}
	a.heard(ctx, p, err)
	if err != nil {
		return
	}
	if _, err := a.table.Answer(ctx, p.ID, answer); err != nil {
		a.failed(ctx, p, err)
	}
}

// another reports whether the name of a payment's shortcode has come to mean another business since. That one knows nothing of it,
// and what Daraja says to it must settle nothing.
func another(code daraja.Shortcode, p correlate.Payment) bool {
	return p.Number != "" && (code.Number != p.Number || code.Environment != p.Environment)
}

// heard takes note of how Daraja has answered: err is nil, or says that there is no result. The table has the next
// question about the payment noted already.
func (a *asker) heard(ctx context.Context, p correlate.Payment, err error) {
	left, told := daraja.RetryAfter(err)
	if a.tell != nil {
		a.tell(word(err, told))
	}
	switch {
	case !told && !daraja.Down(err):
		switch {
		case daraja.InFlight(err):
			a.log.Debug("Daraja does not know yet", "payment", p.ID)
		case err != nil:
			a.log.Warn("Daraja will not say what became of a payment", "payment", p.ID, "err", err)
		}
		if a.rest.Failures > 0 {
			a.log.Info("Daraja answers again", "after", time.Since(a.rest.Since).Round(time.Second))
			a.settle(ctx, p, correlate.Rest{})
		}
		return
	case told:
		left = max(left, min(max(left, arrestAtLeast)<<min(a.rest.Failures, 6), arrestAtMost), arrestAtLeast)
	case a.rest.Failures+1 >= downAfter:
		left = min(probeFirst<<min(a.rest.Failures+1-downAfter, 6), probeLast)
	}
	now := time.Now()
	next := correlate.Rest{Failures: a.rest.Failures + 1, Since: a.rest.Since, Why: err.Error()}
	if next.Since.IsZero() {
		next.Since = now
	}
	if next.Until = now; left > 0 {
		next.Until = now.Add(left + rand.N(left/2))
	}
	if told {
		a.log.Warn("Daraja wants to be asked less often", "pause", next.Until.Sub(now).Round(time.Second), "err", err)
	} else if next.Failures <= downAfter {
		a.log.Warn("Daraja could not be asked", "payment", p.ID, "times", next.Failures, "pause", next.Until.Sub(now).Round(time.Second), "err", err)
	}
	a.settle(ctx, p, next)
}

// word is how a question was answered.
func word(err error, tooOften bool) string {
	switch {
	case err == nil:
		return "answered"
	case tooOften:
		return "limited"
	case daraja.Down(err):
		return "down"
	case daraja.InFlight(err):
		return "in_flight"
	}
	return "refused"
}

// settle remembers, here and over a restart.
func (a *asker) settle(ctx context.Context, p correlate.Payment, r correlate.Rest) {
	a.rest = r
	a.state.set(r)
	names := a.among.Shortcodes
	if names == nil || a.among.Others {
		names = []string{p.Shortcode}
	}
	if err := a.table.SetRest(ctx, names, r); err != nil {
		a.failed(ctx, p, err)
	}
}

func (a *asker) failed(ctx context.Context, p correlate.Payment, err error) {
	if ctx.Err() == nil {
		a.log.Error("a question to Daraja cannot be recorded", "payment", p.ID, "err", err)
	}
}
