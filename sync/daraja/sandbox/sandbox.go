// Package sandbox is a pretend Safaricom: Daraja's API for STK push, a phone that shows the prompt, and one callback per request.
//
// In the order things happen: token.go lets a client in, push.go takes its request, fields.go finds fault with it,
// request.go is the life of what was accepted, phone.go is what the person with the phone does, callback.go posts the
// result, query.go answers whoever asks. store.go remembers it all, control.go is the same phone for scripts, and page.go
// for people.
//
// It behaves as Daraja was seen to behave, faults included, and moves no money.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// What a sandbox expects of its clients unless it is told otherwise. They are no secrets: nothing real believes them.
const (
	DefaultConsumerKey    = "hodi-sandbox-consumer-key"
	DefaultConsumerSecret = "hodi-sandbox-consumer-secret"
	DefaultPasskey        = "hodi-sandbox-passkey"
	DefaultShortcode      = "174379"
	DefaultBusiness       = "Duka la Hodi"
)

// Config says how a sandbox behaves. For every delay zero means the default and a negative value none.
type Config struct {
	Listener net.Listener // where Run serves Handler; nil: the caller serves Handler, and Run does the rest
	Dir      string       // an existing folder for sandbox.db; "" keeps everything in memory

	ConsumerKey, ConsumerSecret, Passkey string // default: the constants
	Shortcode                            string // the one merchant; default DefaultShortcode
	Business                             string // the merchant's name on the prompt; default DefaultBusiness

	AckDelay      time.Duration // from a push to its reply; default 300 ms
	PromptDelay   time.Duration // from a push to the prompt on the phone; default 1 s
	AnswerDelay   time.Duration // from the prompt to the answer of a phone that answers by itself; default 1 s
	CallbackDelay time.Duration // from the answer to the callback; default 2 s
	PromptTimeout time.Duration // how long a prompt waits for its answer; default 60 s

	QueryPerMinute int  // STK queries let through, evenly spaced and without a burst; default 5, negative: any number
	TextExpiry     bool // expires_in as the string "3599", as older Daraja wrote it, not as a number
	OneToken       bool // a new token ends the one before, as Daraja's own text says

	HTTP   *http.Client // posts callbacks; nil: one that gives up after 10 s and follows no redirect
	Logger *slog.Logger // nil discards
}

// Sandbox is a pretend Safaricom. Its mutex owns everything it remembers: whoever reads or changes a request holds it.
type Sandbox struct {
	config Config
	log    *slog.Logger
	http   *http.Client
	routes http.Handler

	mu        sync.Mutex
	store     *store
	nextQuery time.Time     // when the rate limit lets the next query through
	changed   chan struct{} // closed, and made anew, whenever anything changed

	posts sync.WaitGroup // callbacks on their way; Run waits for them
}

// Open reads what an earlier sandbox left in the folder. Nothing happens before Run.
func Open(ctx context.Context, c Config) (*Sandbox, error) {
	text := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	text(&c.ConsumerKey, DefaultConsumerKey)
	text(&c.ConsumerSecret, DefaultConsumerSecret)
	text(&c.Passkey, DefaultPasskey)
	text(&c.Shortcode, DefaultShortcode)
	text(&c.Business, DefaultBusiness)
	delay := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
		*d = max(*d, 0)
	}
	delay(&c.AckDelay, 300*time.Millisecond)
	delay(&c.PromptDelay, time.Second)
	delay(&c.AnswerDelay, time.Second)
	delay(&c.CallbackDelay, 2*time.Second)
	delay(&c.PromptTimeout, time.Minute)
	if c.QueryPerMinute == 0 {
		c.QueryPerMinute = 5
	}
	s := &Sandbox{config: c, log: c.Logger, http: c.HTTP, changed: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.http == nil {
		s.http = &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	var err error
	if s.store, err = openStore(c.Dir, s.now()); err != nil {
		return nil, fmt.Errorf("sandbox: open: %w", err)
	}
	s.routes = s.handler()
	return s, ctx.Err()
}

// Close lets go of the folder. Run must have returned.
func (s *Sandbox) Close() error {
	if err := s.store.close(); err != nil {
		return fmt.Errorf("sandbox: close: %w", err)
	}
	return nil
}

// Handler serves Daraja's API, the phone and its controls. Prompts and callbacks need Run as well.
func (s *Sandbox) Handler() http.Handler { return s.routes }

// Run serves, shows prompts, lets them lapse and posts callbacks, until the context ends. Then it is gone within 500 ms: a
// callback on its way gets most of that time to arrive.
func (s *Sandbox) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	posting, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()

	served := make(chan error, 1)
	server := &http.Server{
		Handler:           s.routes,
		BaseContext:       func(net.Listener) context.Context { return running },
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Minute, // longer than anybody holds a reply back; the stream of events has its own
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.config.Listener != nil {
		go func() {
			err := server.Serve(s.config.Listener)
			stop() // nobody can reach this sandbox any more
			served <- err
		}()
	} else {
		served <- http.ErrServerClosed
	}
	err := s.work(running, posting)
	stop()

	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
	defer cancel()
	if server.Shutdown(down) != nil {
		server.Close()
	}
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	late := time.AfterFunc(200*time.Millisecond, abort)
	defer late.Stop()
	s.posts.Wait()
	if err != nil {
		return fmt.Errorf("sandbox: run: %w", err)
	}
	return nil
}

// work does what is due, and sleeps until the next thing is or something changed.
func (s *Sandbox) work(ctx, posting context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.mu.Lock()
		next, err := s.step(posting)
		changed := s.changed
		s.mu.Unlock()
		if err != nil {
			return err
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}

// step moves every request on whose time has come, and says when the next one's does. s.mu is held.
func (s *Sandbox) step(posting context.Context) (next time.Time, err error) {
	now := s.now()
	due, err := s.store.due(now)
	if err != nil {
		return next, err
	}
	for _, r := range due {
		posts := s.advance(r, now)
		// Stored before anything leaves: a sandbox killed here has lost a callback, as Daraja would, and never sends two.
		if err := s.store.put(r); err != nil {
			return next, err
		}
		for _, i := range posts {
			s.posts.Add(1)
			go s.post(posting, r.MerchantRequestID, i)
		}
	}
	if len(due) > 0 {
		s.touch()
	}
	return s.store.nextDue()
}

// touch wakes all who wait for a change. s.mu is held.
func (s *Sandbox) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// now is the time in whole milliseconds, as it is stored.
func (s *Sandbox) now() time.Time { return time.Now().Truncate(time.Millisecond) }

// await returns nil once the condition holds. It is called with s.mu held, at first and after every change.
func (s *Sandbox) await(ctx context.Context, holds func() (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := holds()
		changed := s.changed
		s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause waits, or returns false when the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
