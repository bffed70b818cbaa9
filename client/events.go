package client

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// When to connect again. The sidecar is mostly in the same shop, often on the same machine: so soon at first, and never so
// rarely that a healed network stays silent for long.
const (
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 3 * time.Second
	longestRest = 30 * time.Second // that a sidecar can ask for
	settled     = 5 * time.Second  // a connection that lived so long was a good one
)

// place is how far a sequence has read.
type place struct {
	after string      // what to ask for; "" from now on
	last  push.Cursor // of the newest message given; zero before the first
}

// take reports whether a message is one to give. One with a gap before it always is: it replaces what was known.
func (p *place) take(m push.Message) bool {
	if m.ID.IsZero() {
		return true
	}
	if !m.Gap && m.ID.Epoch == p.last.Epoch && m.ID.Seq <= p.last.Seq {
		return false
	}
	p.last, p.after = m.ID, m.ID.String()
	return true
}

// errEnough: the loop that reads the sequence has ended it.
var errEnough = errors.New("client: enough")

// events connects, gives what comes, and connects again. It runs in the goroutine of the loop that reads it.
func (c *Client) events(ctx context.Context, path, after string, all bool) iter.Seq2[push.Message, error] {
	return func(yield func(push.Message, error) bool) {
		root, err := c.root()
		if err != nil {
			yield(push.Message{}, err)
			return
		}
		at := &place{after: after}
		at.last, _ = push.ParseCursor(after)
		var wait time.Duration
		for ctx.Err() == nil {
			good, err := c.connect(ctx, root, path, at, all, yield)
			if err == errEnough || ctx.Err() != nil {
				return
			}
			if e, ok := errors.AsType[*Error](err); ok {
				yield(push.Message{}, e)
				return
			}
			if good {
				wait = 0
			}
			wait = min(max(2*wait, firstRetry), lastRetry)
			rest := wait/2 + rand.N(wait/2+1)
			if asked, ok := errors.AsType[*busy](err); ok {
				rest += min(asked.rest, longestRest)
			}
			c.log.Warn("client: not connected to the sidecar", "err", discreet(err), "retry", rest)
			timer := time.NewTimer(rest)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}
}

// root is the base address for both HTTP and WebSockets.
func (c *Client) root() (string, error) {
	base, err := url.Parse(c.base)
	if err != nil || base.Host == "" {
		return "", &Error{Reason: "the base address is not a URL"}
	}
	switch base.Scheme {
	case "http", "https":
	case "ws", "wss":
		base.Scheme = "http" + strings.TrimPrefix(base.Scheme, "ws")
	default:
		return "", &Error{Reason: "the base address is neither http nor https"}
	}
	return strings.TrimRight(base.String(), "/"), nil
}

// discreet is an error without the address that it happened at, which may name a session: a session's id is its key.
func discreet(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
