package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// While a link is over WebSocket, QUIC is probed: with the whole handshake, for there are networks that let the first
// packets through and no others. They are seldom: a network that blocks UDP does so for years, and a probe of it costs
// some 5 kB.
const (
	probeFirst   = 10 * time.Second // of the first link over WebSocket: it may have come before QUIC by chance
	probeOften   = time.Minute
	probeRare    = 8 * time.Minute // each wait is twice the one before, to this
	probeMetered = time.Hour       // to this, where bytes cost
	probeTrust   = time.Minute     // QUIC is believed in when a link has lived so long
)

var errMoved = errors.New("the link moves")

// outlook is what a Client knows of the ways to its edge.
type outlook struct {
	over    string // the transport of the link, or of the last one
	since   time.Time
	blocked string        // why it is not QUIC
	wait    time.Duration // for the next probe
	strange time.Duration // that a proxy is left alone after it has refused our password; 0: it has not
	proxyAt time.Time     // when that ends; and when the edge, which has refused our certificate, is asked again
}

// settled records what carries the link that now is up.
func (c *Client) settled(over, why string) {
	c.mu.Lock()
	o := &c.outlook
	before := *o
	if over != TransportQUIC && before.over == TransportQUIC && time.Since(before.since) > probeTrust {
		o.wait = 0
	}
	o.over, o.since, o.blocked = over, time.Now(), why
	if over == TransportWebSocket {
		o.strange, o.proxyAt = 0, time.Time{}
	}
	c.mu.Unlock()
	switch {
	case over == before.over:
	case over == TransportWebSocket:
		c.log().Warn("the link is over WebSocket, not QUIC", "edge", c.Edge, "why", why)
	case before.over != "":
		c.log().Info("the link is over QUIC again", "edge", c.Edge)
	}
}

// notQUIC is why the last link was not over QUIC.
func (c *Client) notQUIC() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outlook.blocked
}

// whyNot puts what came of a try over QUIC into words; "" if none has failed.
func (c *Client) whyNot(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errSilent):
		return fmt.Sprintf("QUIC to %s was not answered (UDP is probably blocked)", c.Edge)
	case errors.Is(err, errRefused):
		return fmt.Sprintf("QUIC to %s was refused (UDP is blocked, or the edge does not listen for it)", c.Edge)
	}
	return fmt.Sprintf("QUIC to %s does not work: %v", c.Edge, err)
}

// probe looks for a way back to QUIC until ctx ends. When it has one it calls move: the link then ends as soon as
// nothing is in hand, and says Hello there.
func (l *clientLink) probe(ctx context.Context, move context.CancelCauseFunc) error {
	c := l.client
	if over, _ := l.conn.Transport(); over == TransportQUIC {
		return nil
	}
	for {
		here, due := c.here(), time.NewTimer(c.probeWait())
		select {
		case <-ctx.Done():
			due.Stop()
			return nil
		case <-here.left: // what was blocked there may not be here
			due.Stop()
		case <-due.C:
		}
		conn, err := c.tryQUIC(ctx, new(voice), tryWithin)
		if err == nil {
			c.log().Info("QUIC works: the link moves there", "edge", c.Edge)
			l.next = conn
			move(errMoved)
			return nil
		}
		if ctx.Err() == nil {
			c.log().Debug("QUIC does not work yet", "edge", c.Edge, "err", err)
			c.stillBlocked(c.whyNot(err))
		}
	}
}

// probeWait is how long to wait for the next probe.
func (c *Client) probeWait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.outlook.wait
	most := probeRare
	if c.Metered {
		most = probeMetered
	}
	c.outlook.wait = min(max(2*wait, probeOften), most)
	if wait == 0 {
		wait = probeFirst
	}
	return between(wait/2, wait*3/2) // so that many who have lost QUIC together do not come back together
}

func (c *Client) stillBlocked(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outlook.blocked = why
	if c.status.Transport == TransportWebSocket {
		c.status.Why = why
	}
}
