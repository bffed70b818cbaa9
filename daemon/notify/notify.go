// Package notify tells a person what an edge has found that somebody should see to: by e-mail, a webhook or a command.
//
//	edge ──Look──▶ book ──message──▶ numbered messages ──┬──▶ e-mail     each way has its own place among them,
//	               what was told                         ├──▶ webhook    and none waits for another
//	               of each condition                     └──▶ command
//
// The files: condition.go is what may be so, book.go what was told of it and what is to be told next, words.go how, message.go
// the message, lane.go how one gets to a person, store.go how all that outlives a restart; email.go, webhook.go and command.go
// are the ways.
package notify

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config is what a Notifier is made of.
type Config struct {
	Look     func(ctx context.Context) []Condition // what is so now; required. It is asked four times a minute
	Ways     []Way                                 // by which a person is told, each of another name; none: nothing is looked at
	File     string                                // keeps what was told; "": nothing is kept
	Edge     string                                // whose messages they are, for people; default "this edge"
	Location *time.Location                        // of the times in messages; default: the machine's
	Logger   *slog.Logger                          // default: nothing is logged
}

// Notifier tells a person.
type Notifier struct {
	config Config
	log    *slog.Logger
	wake   chan struct{} // look at once
	dirty  chan struct{} // there is something to keep
	pace   *rate.Limiter // of messages

	mu   sync.Mutex
	ways []Way
	book book
	mail mail
	lane map[string]*lane // by the name of its way
	news chan struct{}    // closed, and another, when there is a message or the ways are others
}

// The clocks.
const (
	lookEvery = 15 * time.Second
	lookLeast = time.Second / 2  // between two looks: whoever posts forgeries wakes us as often, and a look asks the disk
	fewAtOnce = 4                // messages; after them one every
	seldom    = 10 * time.Minute // whatever happens: what comes meanwhile is in it
)

// New reads what was told before. It starts nothing.
func New(c Config) *Notifier {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Location == nil {
		c.Location = time.Local
	}
	if c.Edge == "" {
		c.Edge = "this edge"
	}
	n := &Notifier{
		config: c, log: c.Logger, wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1), news: make(chan struct{}),
		pace: rate.NewLimiter(rate.Every(seldom), fewAtOnce), lane: make(map[string]*lane),
	}
	n.ways = slices.Clone(c.Ways)
	n.load()
	return n
}

// Set changes the ways. A message that is on its way by one that there is no more is given up.
func (n *Notifier) Set(ways ...Way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways = slices.Clone(ways)
	n.spread()
}

// Wake has the conditions looked at now. It does not wait.
func (n *Notifier) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// spread wakes whoever waits for news. n.mu is held.
func (n *Notifier) spread() {
	close(n.news)
	n.news = make(chan struct{})
	n.Wake()
}

// Run looks and tells until ctx is done. What is being sent then has a moment to end; what was not sent is at the next start.
func (n *Notifier) Run(ctx context.Context) {
	keeping, kept := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { n.keep(keeping) })
	defer func() {
		kept()
		keeper.Wait()
	}()

	var lanes sync.WaitGroup
	defer lanes.Wait()
	running := make(map[string]context.CancelFunc)
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		names := n.names()
		for name, stop := range running {
			if !slices.Contains(names, name) {
				stop()
				delete(running, name)
			}
		}
		for _, name := range names {
			if running[name] == nil {
				going, stop := context.WithCancel(ctx)
				running[name] = stop
				lanes.Go(func() { n.deliver(going, name) })
			}
		}
		if len(names) > 0 {
			n.look(ctx)
		}
		looked := time.Now()
		select {
		case <-tick.C:
		case <-n.wake:
			rest := time.NewTimer(time.Until(looked.Add(lookLeast)))
			select {
			case <-rest.C:
			case <-ctx.Done():
			}
			rest.Stop()
		case <-ctx.Done():
		}
	}
}

// names are those of the ways. One that is new has a lane from here on: what was told before it came is not owed to it.
func (n *Notifier) names() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.ways {
		names = append(names, w.Name())
		if n.lane[w.Name()] == nil {
			n.lane[w.Name()] = &lane{After: n.mail.Last}
			n.changed()
		}
	}
	for name := range n.lane {
		if !slices.Contains(names, name) { // should it come back, it is new
			delete(n.lane, name)
			n.changed()
		}
	}
	return names
}

// look asks what is so, and has told what there is to tell of it.
func (n *Notifier) look(ctx context.Context) {
	conditions := n.config.Look(ctx)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.book.note(conditions, now) {
		n.changed()
	}
	if !n.book.due(now) || !n.pace.AllowN(now, 1) {
		return
	}
	items := n.book.tell(now)
	m := n.compose(items, now)
	n.mail.post(m)
	n.log.Info("a person is told", "what", m.Subject)
	n.changed()
	n.spread()
}

// changed has what is in memory kept, by keep. n.mu is held.
func (n *Notifier) changed() {
	select {
	case n.dirty <- struct{}{}:
	default:
	}
}
