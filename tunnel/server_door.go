package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// door counts those who have not yet said who they are, from their first packet on.
//
// All shops of a country may come from the few addresses of its mobile network, and all at once after a power cut. So an
// address is held to a share only where the door is half full: what one stranger can fill is that half, and the rest is
// for those who come from elsewhere.
type door struct {
	waiting atomic.Int64

	mu   sync.Mutex
	from map[netip.Addr]int
}

// ErrCrowded is why Refused is told of somebody for whom there was no place. It is told in the way of all other packets, and
// so must not wait.
var ErrCrowded = errors.New("too many connections have not said who they are")

const doorShare = maxPending / 8 // of one address, when the door is half full

// open lets somebody in who has to leave again, unless too many stand there.
func (d *door) open(from net.Addr) (leave func(), ok bool) {
	at := neighbourhood(from)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.waiting.Load(); n >= maxPending || n >= maxPending/2 && d.from[at] >= doorShare {
		return nil, false
	}
	d.waiting.Add(1)
	if d.from == nil {
		d.from = make(map[netip.Addr]int)
	}
	d.from[at]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waiting.Add(-1)
		if d.from[at]--; d.from[at] == 0 {
			delete(d.from, at)
		}
	}), true
}

// crowded asks newcomers to show that they are where they claim to be, once there are many of them: it costs a round
// trip, and takes out of the crowd forged addresses, and tries that a sidecar has given up while we were away.
func (d *door) crowded(net.Addr) bool { return d.waiting.Load() > crowd }

// neighbourhood is what counts as one address: in IPv6 everybody has a whole network of them.
func neighbourhood(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{} // no network
	}
	at := p.Addr().Unmap().WithZone("")
	if at.Is6() {
		if p, err := at.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return at
}
