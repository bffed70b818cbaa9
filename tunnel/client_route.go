package tunnel

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	lookEvery  = 500 * time.Millisecond // at the network and the clock
	sleptAfter = 5 * time.Second        // that a look comes late, or that the wall clock jumps ahead meanwhile
)

// somewhere stands for the edge while nobody has told its address: an address that leads nowhere, by the way that most
// others take.
var somewhere = netip.MustParseAddrPort("192.0.2.1:443")

// spot is what lies between the machine and the edge, as far as the machine itself can know. It never changes: when
// something does, the Client has another one.
type spot struct {
	from  netip.Addr    // our address on the way to the edge; none: there is no way
	slept int           // how often the machine was seen to have slept
	left  chan struct{} // closed when this is no longer the spot
}

// here is the present spot. Whoever tries something that depends on it begins anew when it is left.
func (c *Client) here() *spot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spot == nil {
		c.spot = &spot{left: make(chan struct{})}
	}
	return c.spot
}

// watch looks where we are until ctx ends. A change of network comes with no packet, and none may ever come again by
// the old one; a machine that wakes has links that the edge gave up long ago. Neither is found out by waiting for a Pong
// without losing seconds.
func (c *Client) watch(ctx context.Context) {
	route, wall := c.Route, c.wall
	if route == nil {
		route = routeUDP
	}
	if wall == nil {
		wall = func() time.Time { return time.Now().Round(0) } // without its monotonic reading
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var toward netip.AddrPort
	looked, shown := time.Now(), wall()
	for {
		// The address that we have by the way to one edge says nothing about the way to another.
		if t := c.toward(toward); t != toward {
			toward = t
			c.move(func(p *spot) { p.from = route(toward) }, false)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The monotonic clock stands still in the sleep of some systems (Linux) and goes on in that of others. Here
		// either shows: as a wall clock that is ahead, or as a look that comes late. A clock that is set forward looks
		// like a sleep, and costs a handshake.
		passed, went := time.Since(looked), wall().Sub(shown)
		looked, shown = time.Now(), wall()
		if passed > lookEvery+sleptAfter || went-passed > sleptAfter {
			c.log().Info("the machine slept, or its clock was set", "for", max(passed, went).Round(time.Second))
			c.move(func(p *spot) { p.slept++; p.from = route(toward) }, true)
		} else if from := route(toward); from != c.here().from {
			c.log().Info("the way to the edge is another one", "from", c.here().from, "to", from)
			c.pace.forget()
			c.move(func(p *spot) { p.from = from }, true)
		}
	}
}

// move makes another spot of the present one. It is told to those who wait, unless only our knowledge is new.
func (c *Client) move(change func(p *spot), tell bool) {
	old := c.here()
	p := *old
	change(&p)
	if tell {
		p.left = make(chan struct{})
	}
	c.mu.Lock()
	c.spot = &p
	c.mu.Unlock()
	if tell {
		close(old.left)
	}
}

// toward is the edge's address for watch: that of the link; without one, the one that was watched before, or the last
// one known.
func (c *Client) toward(before netip.AddrPort) netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if remote, err := netip.ParseAddrPort(c.status.Remote); err == nil {
		return remote
	}
	if udp, ok := c.address.(*net.UDPAddr); ok && (!before.IsValid() || before == somewhere) {
		return netip.AddrPortFrom(udp.AddrPort().Addr().Unmap(), udp.AddrPort().Port())
	}
	if before.IsValid() {
		return before
	}
	return somewhere
}

// routeUDP asks the kernel. A connected UDP socket has an address, and has sent nothing.
func routeUDP(edge netip.AddrPort) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(edge))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
