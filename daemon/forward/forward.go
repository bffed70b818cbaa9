// Package forward gives callbacks to the merchant's own app: each as Daraja sent it, signed as Standard Webhooks has it, until
// the app says that it has it.
//
// The files: forward.go is the loop that owns all of it, queue.go whose turn it is, attempt.go one request and what its answer
// means, retry.go when the next one is, address.go where to.
//
// What is to be done and what was done is in the table: see correlate.Outbox. Nothing here is a copy of it that could be lost.
// At least once: a crash between the app's answer and our note of it has the app given the same callback again, under the
// same webhook-id.
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

// Config says where callbacks go. Table, URL and Secrets are required; URL, Secrets and AtOnce may change later: Set.
type Config struct {
	Table *correlate.Table
	// URL is the app's: see Address.
	URL string
	// Secrets returns what requests are signed with: one signature for each, the newest first. In the form of Standard Webhooks:
	// whsec_ and base64.
	Secrets func() []string
	// AtOnce is how many requests may be with the app at a time; those of one payment are one at a time. Default: 8.
	AtOnce int
	// Timeout is how long the app may take to answer. Default: 20 s.
	Timeout time.Duration
	// GiveUpAfter is how long a callback is tried, from its first attempt on or, if it had to wait through a pause, from the end
	// of that. Default: three days.
	GiveUpAfter time.Duration
	// Transport carries the requests. Default: one that follows nobody's proxy settings and checks certificates.
	Transport http.RoundTripper
	// Tried is told what came of each attempt: "handled", "refused", "gone" (410) or "unreachable". Default: nobody is.
	Tried func(outcome string)
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

const (
	windowSize = 4096                   // callbacks that are known of at a time; the rest stay in the table
	diskRetry  = 2 * time.Second        // after the table could not be read or written
	drain      = 300 * time.Millisecond // for answers that are on their way when Run is to end
	maxIdle    = 256                    // connections to the app, for a minute; there are no more of them than attempts at a time
	lookAgain  = time.Minute            // at the latest: a timer stands still while a laptop sleeps, the clock does not
)

// Forwarder gives callbacks to one app.
type Forwarder struct {
	config Config
	aim    atomic.Pointer[aim]
	client *http.Client
	log    *slog.Logger

	changed chan struct{} // somebody has paused it, or resumed
	handled atomic.Int64  // when the app last took one, in Unix milliseconds
	status  atomic.Int64  // and its last answer; 0: none
	resumed atomic.Int64  // when forwarding was last resumed, in Unix milliseconds
	again   atomic.Int64  // since when there is somewhere to send to again; 0: there always was
}

// aim is where callbacks go now. An attempt that is under way goes on with what it began with.
type aim struct {
	url     string // "": nowhere
	secrets func() []string
	atOnce  int
}

func aimOf(c Config) *aim {
	a := &aim{url: c.URL, secrets: c.Secrets, atOnce: c.AtOnce}
	if a.atOnce <= 0 {
		a.atOnce = 8
	}
	return a
}

// New checks what can be checked. It starts nothing.
func New(c Config) (*Forwarder, error) {
	f := &Forwarder{config: c, log: c.Logger, changed: make(chan struct{}, 1)}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.config.Timeout <= 0 {
		f.config.Timeout = 20 * time.Second
	}
	if f.config.GiveUpAfter <= 0 {
		f.config.GiveUpAfter = 3 * 24 * time.Hour
	}
	for _, s := range c.Secrets() {
		if _, err := signer(s); err != nil {
			return nil, fmt.Errorf("forward: %w", err)
		}
	}
	if len(c.Secrets()) == 0 {
		return nil, errors.New("forward: there is no secret to sign with")
	}
	f.aim.Store(aimOf(c))
	transport := c.Transport
	if transport == nil {
		transport = &http.Transport{
			MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: time.Minute, DisableCompression: true,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	// An answer that leads elsewhere is none: what customers paid is not told to whom nobody has named.
	f.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return f, nil
}

// Set has callbacks go by URL, Secrets and AtOnce of c from now on; what is with the app goes on. At another URL those that wait
// are tried at once. With none they wait until there is one, and their time does not go by. Not for two at a time. Secrets must be good: see CheckSecret.
func (f *Forwarder) Set(c Config) {
	before := f.aim.Load()
	if before.url == "" && c.URL != "" { // as after a pause: see end
		f.again.Store(time.Now().UnixMilli())
	}
	f.aim.Store(aimOf(c))
	if before.url != c.URL {
		f.change()
	}
}

// Last is when the app last took a callback, and its last answer since this process began: zero, and 0, if there was none.
func (f *Forwarder) Last() (handled time.Time, status int) {
	if ms := f.handled.Load(); ms != 0 {
		handled = time.UnixMilli(ms).UTC()
	}
	return handled, int(f.status.Load())
}

// Pause has nothing given to the app any more.
func (f *Forwarder) Pause(ctx context.Context, who string) error {
	defer f.change()
	return f.config.Table.PauseForwarding(ctx, who, who+" has paused it")
}

// Resume goes on, and tries at once what waits for its next attempt.
func (f *Forwarder) Resume(ctx context.Context, who string) error {
	defer f.change()
	return f.config.Table.ResumeForwarding(ctx, who)
}

func (f *Forwarder) change() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Run forwards until ctx ends, then returns nil.
//
//	Table ──Next──▶ queue ──whose turn──▶ attempts, AtOnce of them ──▶ app
//	  ▲                ▲                     │
//	  └──── Record ────┴──── outcomes ◀──────┘
//
// The loop owns the queue and the outbox. An attempt is a goroutine that is waited for; what it learns is committed before the
// next callback of the same payment leaves.
func (f *Forwarder) Run(ctx context.Context) error {
	l := &loop{Forwarder: f, outcomes: make(chan outcome, f.aim.Load().atOnce), more: true}
	if !l.open(ctx) {
		return nil
	}
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	for ctx.Err() == nil {
		l.read(ctx)
		l.send(attempts)
		l.wait(ctx)
	}
	patience := time.AfterFunc(drain, cut)
	defer patience.Stop()
	for l.flying > 0 {
		l.take(<-l.outcomes)
		l.note(context.WithoutCancel(ctx), false)
	}
	l.workers.Wait()
	return nil
}

// loop is what a Run owns.
type loop struct {
	*Forwarder
	outbox   *correlate.Outbox
	queue    queue
	outcomes chan outcome
	workers  sync.WaitGroup
	flying   int       // attempts under way
	learnt   []outcome // that are not in the table yet
	more     bool      // the outbox may have more
	paused   bool
	kept     int64     // again, as the table has it
	away     bool      // some wait because the app was not there
	until    time.Time // the app wants to be left alone until then
	broken   time.Time // the disk failed; not before
}

// open begins, or goes on where it was. It reports false if ctx ended before the disk let it.
func (l *loop) open(ctx context.Context) bool {
	for {
		var err error
		if l.outbox, err = l.config.Table.Outbox(ctx); err == nil {
			err = l.look(ctx)
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		l.failed("begin", err)
		select {
		case <-time.After(diskRetry):
		case <-ctx.Done():
			return false
		}
	}
}

func (l *loop) failed(what string, err error) {
	l.log.Error("forward: cannot "+what, "err", err)
	l.config.Table.Met(err)
	l.broken = time.Now().Add(diskRetry)
}

// look asks whether an operator, or the app, has paused it. If not, whoever waits is tried now.
func (l *loop) look(ctx context.Context) error {
	paused, resumed, err := l.config.Table.Paused(ctx)
	if err != nil {
		return err
	}
	if !resumed.IsZero() {
		l.resumed.Store(resumed.UnixMilli())
	}
	if l.paused = paused; !paused {
		l.until = time.Time{}
		l.queue.wake(time.Now(), func(*item) bool { return true })
	}
	if again := l.again.Load(); again != l.kept {
		if err := l.config.Table.SentAgain(ctx, time.UnixMilli(again)); err != nil {
			return err
		}
		l.kept = again
	}
	return nil
}

// read takes up what has come, as far as there is room.
func (l *loop) read(ctx context.Context) {
	for l.more && l.queue.len() < windowSize && !time.Now().Before(l.broken) {
		room := windowSize - l.queue.len()
		list, err := l.outbox.Next(ctx, room)
		for _, d := range list {
			l.queue.add(d)
		}
		if err != nil {
			if ctx.Err() == nil {
				l.failed("read callbacks", err)
			}
			return
		}
		l.more = len(list) >= room
	}
}

// send begins attempts: of whom it is the turn, and as many as may be.
func (l *loop) send(ctx context.Context) {
	now := time.Now()
	to := l.aim.Load()
	for to.url != "" && !l.paused && l.flying < to.atOnce && !now.Before(l.until) && !now.Before(l.broken) {
		it := l.queue.next(now)
		if it == nil {
			return
		}
		l.flying++
		l.workers.Go(func() { l.outcomes <- l.attempt(ctx, to, it) })
	}
}

// wait waits for something to do, and does what an outcome means.
func (l *loop) wait(ctx context.Context) {
	now := time.Now()
	at := now.Add(lookAgain)
	if due, some := l.due(); some && due.Before(at) {
		at = due
	}
	if l.broken.After(now) && l.broken.Before(at) {
		at = l.broken
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case o := <-l.outcomes:
		l.take(o)
		for len(l.outcomes) > 0 { // whatever has come already goes in one transaction
			l.take(<-l.outcomes)
		}
	case <-l.config.Table.Arrived():
		l.more = true
	case <-l.changed:
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			l.failed("see whether it is paused", err)
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	l.note(ctx, true)
}

// due is when the next attempt may begin without anything else happening, if one may.
func (l *loop) due() (at time.Time, some bool) {
	at, some = l.queue.first()
	for _, not := range []time.Time{l.until, l.broken} {
		if at.Before(not) {
			at = not
		}
	}
	to := l.aim.Load()
	return at, some && to.url != "" && !l.paused && l.flying < to.atOnce
}

func (l *loop) take(o outcome) {
	l.flying--
	if o.cut {
		l.queue.put(o.item, time.Now().Add(diskRetry))
		return
	}
	if o.tried && l.config.Tried != nil {
		l.config.Tried(o.word())
	}
	l.learnt = append(l.learnt, o)
}

// note commits what was learnt, and only then goes by it. What the disk does not take is kept, and its callbacks are with nobody
// in the meantime.
func (l *loop) note(ctx context.Context, again bool) {
	if len(l.learnt) == 0 || again && time.Now().Before(l.broken) {
		return
	}
	list := make([]correlate.Delivery, len(l.learnt))
	for i, o := range l.learnt {
		list[i] = o.item.Delivery
		list[i].Handling = o.Handling
	}
	if err := l.outbox.Record(context.WithoutCancel(ctx), list); err != nil {
		l.failed("write down what the app has answered", err)
		return
	}
	for _, o := range l.learnt {
		l.follow(ctx, o)
	}
	l.learnt = l.learnt[:0]
}

// follow goes by an outcome.
func (l *loop) follow(ctx context.Context, o outcome) {
	it := o.item
	it.Handling = o.Handling
	now := time.Now()
	if o.Status != 0 {
		l.status.Store(int64(o.Status))
	}
	switch o.State {
	case correlate.AppWaiting:
		l.queue.put(it, o.Due)
		l.away = l.away || it.away
	case correlate.AppHandled:
		l.handled.Store(o.Last.UnixMilli())
		l.queue.done(it)
		if l.away { // it is back
			l.queue.wake(now, func(other *item) bool { return other.away })
			l.away = false
		}
	default:
		if o.State == correlate.AppDead {
			l.log.Error("a callback was given up: the app has not handled it. hodi callbacks --app dead lists such, hodi replay --dead gives them once more",
				"callback", it.ID, "attempts", it.Attempts, "status", it.Status, "err", it.Error)
		}
		l.queue.done(it)
	}
	if o.to.url != l.aim.Load().url { // what the app wanted there
		o.hold, o.gone = 0, false
	}
	if o.hold > 0 {
		l.until = now.Add(o.hold)
	}
	if o.gone && !l.paused {
		l.paused = true
		l.log.Error("the app answers 410 Gone: nothing is forwarded until somebody says hodi forward resume", "callback", it.ID)
		if err := l.config.Table.PauseForwarding(context.WithoutCancel(ctx), "app", "the app answered 410 Gone"); err != nil {
			l.failed("write down that it is paused", err)
		}
	}
	if o.State == correlate.AppWaiting && it.Attempts == 1 {
		l.log.Warn("the app has not handled a callback; it is tried again", "callback", it.ID, "status", it.Status, "err", it.Error)
	}
}
