package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Way gets a message to a person. Each is slow and fails, and none waits for another.
type Way interface {
	Name() string // for people: e-mail, webhook, command
	// Send returns when the message is handed over for good. An error holds no secret.
	Send(ctx context.Context, m Message) error
}

// lane is how far a way has come among the messages.
type lane struct {
	After  uint64    `json:"after"`          // the last message that it is done with
	Sent   time.Time `json:"sent,omitzero"`  // when it last told one
	Fails  time.Time `json:"fails,omitzero"` // since when it fails; zero: it does not
	Error  string    `json:"error,omitempty"`
	GaveUp time.Time `json:"gaveUp,omitzero"` // when a message was given up, if none was told since
}

// The clocks of a lane.
const (
	sendWithin  = 30 * time.Second
	finishAfter = 2 * time.Second // for what is being sent when the process ends
	retryFirst  = 30 * time.Second
	retryMost   = time.Hour
	giveUpAfter = 24 * time.Hour // a condition that lasts is told of anew by then
)

// deliver sends messages by the way of a name, one after the other, until ctx is done.
func (n *Notifier) deliver(ctx context.Context, name string) {
	for tries := 0; ; {
		way, m, news := n.next(name)
		if way == nil {
			select {
			case <-news:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := n.send(ctx, way, m)
		if err != nil && ctx.Err() != nil {
			return // at the next start
		}
		wait := n.sent(name, m, err, &tries)
		if wait == 0 {
			continue
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// next is the message that a way is to send; without one, what to wait for.
func (n *Notifier) next(name string) (Way, Message, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := slices.IndexFunc(n.ways, func(w Way) bool { return w.Name() == name })
	l := n.lane[name]
	if at < 0 || l == nil {
		return nil, Message{}, n.news
	}
	m, ok := n.mail.next(l.After)
	if !ok {
		return nil, Message{}, n.news
	}
	return n.ways[at], m, nil
}

// send has a little time when the process ends, so that what is half sent is not sent twice.
func (n *Notifier) send(ctx context.Context, way Way, m Message) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendWithin)
	defer cancel()
	var last *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		last = time.AfterFunc(finishAfter, cancel)
	})
	defer func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if last != nil {
			last.Stop()
		}
	}()
	err := way.Send(bounded, m)
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return errors.New("it did not end within " + sendWithin.String())
	}
	return err
}

// sent takes down what became of a message, and says how long to wait before the next try; 0: the next message.
func (n *Notifier) sent(name string, m Message, err error, tries *int) (wait time.Duration) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lane[name]
	if l == nil { // it was put away meanwhile
		return 0
	}
	defer n.changed()
	switch {
	case err == nil:
		if !l.Fails.IsZero() {
			n.log.Info("a person can be told again", "by", name, "since", now.Sub(l.Fails).Round(time.Second))
		}
		*l = lane{After: m.Number, Sent: now.Round(0).UTC()}
		*tries = 0
		return 0
	case l.Fails.IsZero():
		l.Fails = now.Round(0).UTC()
	}
	l.Error = plain(err)
	*tries++
	if now.Sub(m.Time).Abs() >= giveUpAfter {
		n.log.Error("a person was not told, and it is given up", "by", name, "what", m.Subject, "err", l.Error)
		l.After, l.GaveUp = m.Number, now.Round(0).UTC()
		*tries = 0
		return 0
	}
	level := slog.LevelWarn
	if *tries > 1 {
		level = slog.LevelDebug
	}
	n.log.Log(context.Background(), level, "a person could not be told; it is tried again", "by", name, "what", m.Subject, "tries", *tries, "err", l.Error)
	return backoff(*tries)
}

// backoff is how long to wait after so many tries: full jitter under a bound that doubles.
func backoff(tries int) time.Duration {
	longest := retryMost
	if tries < 8 {
		longest = min(retryFirst<<(tries-1), retryMost)
	}
	return rand.N(longest) + time.Second
}

// plain is an error as one line that is not too long.
func plain(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "..."
	}
	return text
}

// Answer is what a way said to a test.
type Answer struct {
	Way   string `json:"way"`
	Error string `json:"error,omitempty"` // "": it was told
}

// Test sends a message now by every way, and says what came of it.
func (n *Notifier) Test(ctx context.Context) []Answer {
	n.mu.Lock()
	ways := slices.Clone(n.ways)
	n.mu.Unlock()
	m := n.test(time.Now())
	answers := make([]Answer, len(ways))
	var all sync.WaitGroup
	for i, w := range ways {
		answers[i].Way = w.Name()
		all.Go(func() {
			if err := n.send(ctx, w, m); err != nil {
				answers[i].Error = plain(err)
			}
		})
	}
	all.Wait()
	return answers
}

// WayState is how a way is.
type WayState struct {
	Way     string    `json:"way"`
	Waiting int       `json:"waiting"`             // messages that it has not told yet
	Sent    time.Time `json:"lastTold,omitzero"`   // when it last told one
	Fails   time.Time `json:"failsSince,omitzero"` // zero: it does not
	Error   string    `json:"error,omitempty"`
	GaveUp  time.Time `json:"gaveUp,omitzero"` // when a message was given up, if none was told since
}

// States says how each way is.
func (n *Notifier) States() []WayState {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := []WayState{}
	for _, w := range n.ways {
		s := WayState{Way: w.Name()}
		if l := n.lane[s.Way]; l != nil {
			s.Waiting, s.Sent, s.Fails, s.Error, s.GaveUp = n.mail.waiting(l.After), l.Sent, l.Fails, l.Error, l.GaveUp
		}
		list = append(list, s)
	}
	return list
}
