package tunnel

import (
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	restFirst = 5 * time.Second  // the silence that a metered link begins with
	restLeast = 2 * time.Second  // and goes down to
	restMost  = 25 * time.Second // and up to: the shortest timeouts of NAT for UDP are 30 s
	blameless = 3 * time.Second  // without a link, after which it was not the silence that broke it
)

// pace is how long a metered link may be silent: as long as whatever is on the way (NAT, a firewall) still lets the edge
// speak first, as it has to with a callback. It is learned, and outlives the link.
type pace struct {
	mu     sync.Mutex
	now    time.Duration // the next silence; 0: restFirst
	held   time.Duration // the longest that was borne
	limit  time.Duration // one that was not; 0: not known
	broken int           // how often in a row now was not borne

	died time.Time     // when a link was found dead after a silence
	of   time.Duration // the silence that it was

	until  time.Time     // a callback is expected
	roused chan struct{} // closed when one begins to be
}

// Expect says that a callback may come until then. A metered link is as lively as any other so long, and is asked at
// once whether it still lives: what is on the way must be known to be open before the callback comes, not after. It may
// be called at any time, again and again; what was said last counts.
func (c *Client) Expect(until time.Time) {
	p := &c.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.until.After(now) && until.After(now) && p.roused != nil {
		close(p.roused)
		p.roused = nil
	}
	p.until = until
}

// metered is the pace of a Client that has one.
func (c *Client) metered() *pace {
	if c.Metered {
		return &c.pace
	}
	return nil
}

// silent is how long the edge may hear nothing from us.
func (c *Client) silent() time.Duration {
	if c.Metered {
		return wire.MaxIdle
	}
	return silentFor
}

// idle is the idle timeout of our connection.
func (c *Client) idle() time.Duration {
	if c.Metered {
		return wire.MaxIdle
	}
	return idleTimeout
}

// lively reports whether the link has to be, and if not what is closed when it has. A link that is not metered always is.
func (p *pace) lively() (bool, <-chan struct{}) {
	if p == nil {
		return true, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.After(time.Now()) {
		return true, nil
	}
	if p.roused == nil {
		p.roused = make(chan struct{})
	}
	return false, p.roused
}

// rest is how long the link may be silent now.
func (p *pace) rest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == 0 {
		p.now = restFirst
	}
	return p.now
}

// bore records that the edge could speak first after a silence.
func (p *pace) bore(silence time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = max(p.held, silence)
	p.broken = 0
	if next := min(silence*3/2, restMost); silence == p.now && (p.limit == 0 || next < p.limit) {
		p.now = next
	}
}

// broke records that it could not, although the link lives. Once may be chance.
func (p *pace) broke(silence time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silence != p.now {
		return
	}
	if p.broken++; p.broken < 2 {
		return
	}
	p.broken, p.limit = 0, silence
	if p.held < silence && p.held > 0 {
		p.now = p.held
	} else {
		p.now, p.held = max(restLeast, silence/2), 0
	}
}

// lost records that the link was found dead after a silence, and back that there is one again. If that was easy it was
// the silence that broke it: NAT drops a TCP connection altogether.
func (p *pace) lost(silence time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.died, p.of = time.Now(), silence
}

func (p *pace) back() {
	p.mu.Lock()
	died, of := p.died, p.of
	p.died = time.Time{}
	p.mu.Unlock()
	if !died.IsZero() && time.Since(died) < blameless {
		p.broke(of)
	}
}

// forget is for another network, which has timeouts of its own.
func (p *pace) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.held, p.limit, p.broken, p.died = 0, 0, 0, 0, time.Time{}
}
