package edge

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// crowd is those on the TCP port of whom nobody knows yet whether they have any business here: they have not posted to a
// known key, and have not said the name of the tunnel. They may not cost more than so many connections, and those who
// have business must not wait behind them. So they stand in two rooms:
//
//	friends    from an address that Safaricom publishes, that the operator named, or from which a known key was posted
//	           before. No single address is held to a share: all of Safaricom comes from twelve
//	strangers  all others, and no address more than its share of them
//
// A room that is full takes a newcomer in the place of who has stood in it longest, if he had his time; else the newcomer
// is the one to go, because of those who came a moment ago each is about to say what he wants. Nobody can have an address
// in TCP that is not his.
type crowd struct {
	familiar    func(netip.Addr) bool // by what the operator said
	size, share int

	mu                 sync.Mutex
	friends, strangers *list.List // of *guest, the oldest first
	from               map[netip.Addr]*list.List
	posted             *lru.Cache[netip.Addr, struct{}]
	linked             *lru.Cache[netip.Addr, struct{}] // from which a sidecar was let in
	linking            chan struct{}                    // closed when there is another one of these
	pace               *lru.Cache[errand, *rate.Limiter]
}

// errand is whose handshakes are counted, and what for.
type errand struct {
	from   netip.Addr
	tunnel bool
}

const (
	maxCrowd  = 2048            // in each room
	maxFrom   = 256             // of strangers, from one address
	patience  = 2 * time.Second // for which nobody is sent away for another's sake
	maxPosted = 4096            // addresses that are remembered, of either kind
	maxPaced  = 4096            // and errands whose handshakes are counted

	handshakes     = 10  // of strangers of one address on one errand, in a second
	handshakesOnce = 100 // and of those that come at once
)

func newCrowd(familiar func(netip.Addr) bool) *crowd {
	return &crowd{
		familiar: familiar, size: maxCrowd, share: maxFrom, friends: list.New(), strangers: list.New(), from: make(map[netip.Addr]*list.List),
		posted: newLRU[netip.Addr, struct{}](maxPosted), linked: newLRU[netip.Addr, struct{}](maxPosted), linking: make(chan struct{}),
		pace: newLRU[errand, *rate.Limiter](maxPaced),
	}
}

func newLRU[K comparable, V any](size int) *lru.Cache[K, V] {
	c, err := lru.New[K, V](size)
	if err != nil { // of a size below one
		panic(err)
	}
	return c
}

var errCrowded = errors.New("too many who have not said what they want")

// neighbourhood is what counts as one address: in IPv6 everybody has a whole network of them.
func neighbourhood(remote string) netip.Addr {
	at, _ := addressOf(remote)
	if at.Is6() {
		if p, err := at.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return at
}

// enter puts g into its room, and sends away who has to make place for it, or returns an error.
func (c *crowd) enter(g *guest) error {
	at, _ := addressOf(g.RemoteAddr().String())
	g.address, g.since = neighbourhood(g.RemoteAddr().String()), time.Now()
	var gone net.Conn
	defer func() {
		if gone != nil {
			gone.Close() // whoever serves it takes note of it
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.friend = c.posted.Contains(g.address) || c.familiar(at); g.friend {
		var ok bool
		if gone, ok = c.place(c.friends, c.size); ok {
			g.inRoom = c.friends.PushBack(g)
			return nil
		}
		return errCrowded
	}
	own := c.from[g.address]
	if own == nil {
		own = list.New()
	}
	gone, ok := c.place(own, c.share)
	if ok && gone == nil {
		gone, ok = c.place(c.strangers, c.size)
	}
	if !ok {
		return errCrowded
	}
	c.from[g.address] = own // which place may have forgotten, when it was empty
	g.inRoom, g.inOwn = c.strangers.PushBack(g), own.PushBack(g)
	return nil
}

// place makes place for one in a room, if need be by taking out the one who is there longest. c.mu is held.
func (c *crowd) place(room *list.List, size int) (gone net.Conn, ok bool) {
	if room.Len() < size {
		return nil, true
	}
	oldest := room.Front().Value.(*guest)
	if time.Since(oldest.since) < patience {
		return nil, false
	}
	c.remove(oldest)
	return oldest.Conn, true
}

// remove takes g out of its room, if it is in one. c.mu is held.
func (c *crowd) remove(g *guest) {
	if g.inRoom == nil {
		return
	}
	if g.friend {
		c.friends.Remove(g.inRoom)
	} else {
		c.strangers.Remove(g.inRoom)
		if own := c.from[g.address]; own != nil {
			if own.Remove(g.inOwn); own.Len() == 0 {
				delete(c.from, g.address)
			}
		}
	}
	g.inRoom, g.inOwn = nil, nil
}

// leave is for those who go, and those who are known by now.
func (c *crowd) leave(g *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(g)
}

// known is for who has posted to a known key: he leaves the crowd, and his address is a friend's from now on.
func (c *crowd) known(g *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.inRoom == nil {
		return
	}
	c.remove(g)
	c.posted.Add(g.address, struct{}{})
}

// mayShake counts a handshake of g, and says whether its address has not had too many.
func (c *crowd) mayShake(g *guest, tunnel bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.friend {
		return true
	}
	e := errand{g.address, tunnel}
	l, ok := c.pace.Get(e)
	if !ok {
		l = rate.NewLimiter(handshakes, handshakesOnce)
		c.pace.Add(e, l)
	}
	return l.Allow()
}

// admitted remembers that a sidecar was let in from an address, over whatever carries its link.
func (c *crowd) admitted(remote string) {
	at := neighbourhood(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.linked.Get(at); !known {
		c.linked.Add(at, struct{}{})
		close(c.linking)
		c.linking = make(chan struct{})
	}
}

// links reports whether a sidecar was let in from g's address: a mobile network has all its shops behind one, and they may
// come all at once. next is closed when another address is such a one.
func (c *crowd) links(g *guest) (yes bool, next <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.linked.Contains(g.address), c.linking
}

// count is how many stand there.
func (c *crowd) count() (friends, strangers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.friends.Len(), c.strangers.Len()
}

// guest is a connection on the TCP port, from the moment it is accepted.
type guest struct {
	net.Conn
	first []byte // that was read already
	crowd *crowd
	gate  chan struct{} // while it shakes hands: see port.shake
	blind atomic.Bool   // see unwatch

	// of crowd
	address       netip.Addr
	since         time.Time
	friend        bool
	inRoom, inOwn *list.Element // nil: in no room
}

// unwatch spares the request at hand a guard. From the end of a body to the answer net/http has a goroutine of its own read
// one byte ahead, which tells a handler that its client is gone; and that goroutine is stopped by a deadline in the past. To
// whom a callback matters as much when nobody waits for the answer, that is work for nothing. A Read may return nothing at
// any time, and the guard takes that for its end; were net/http to read in another way, it would read again.
func (g *guest) unwatch() { g.blind.Store(true) }

func (g *guest) Read(b []byte) (int, error) {
	if len(g.first) > 0 && len(b) > 0 {
		n := copy(b, g.first)
		g.first = g.first[n:]
		return n, nil
	}
	if len(b) == 1 && g.blind.CompareAndSwap(true, false) {
		return 0, nil
	}
	if g.gate != nil {
		<-g.gate
		defer func() { g.gate <- struct{}{} }()
	}
	return g.Conn.Read(b)
}

func (g *guest) Write(b []byte) (int, error) {
	if g.gate != nil {
		<-g.gate
		defer func() { g.gate <- struct{}{} }()
	}
	return g.Conn.Write(b)
}

func (g *guest) Close() error {
	g.crowd.leave(g)
	return g.Conn.Close()
}
