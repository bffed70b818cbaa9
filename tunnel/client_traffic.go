package tunnel

import (
	"net"
	"sync"
	"time"
)

// Traffic is what the way to the edge has cost in bytes: links, tries that led to none, probes and renewals, with the
// headers of IP, UDP and TCP, as who sells bytes counts them. What a kernel adds to TCP is an estimate: a header for each
// segment, and one for its acknowledgement.
type Traffic struct {
	In, Out           int64     // since the Client was made: they never go down
	TodayIn, TodayOut int64     // since Since
	Since             time.Time // midnight in Nairobi, or later, if the counting began later; zero: nothing was counted yet
}

// MeteredBudget is what a day on which nothing happens may cost a metered sidecar, with its canaries, in bytes.
const MeteredBudget = 3_000_000

const (
	udpHeader  = 28 // bytes, with that of IPv4
	udp6Header = 48 // with that of IPv6
	tcpHeader  = 52 // with that of IPv4 and the time stamps
	tcpSegment = 1400
	zoneOffset = 3 * time.Hour // of Nairobi, whose days those of bundles and of books are
)

// tally counts traffic. The zero value counts from the first packet on.
type tally struct {
	mu          sync.Mutex
	day         time.Time // the midnight before today
	total, base Traffic   // base is what total was when today began
}

// today sees to it that what is counted next is counted today. A day that does not follow on the one before, because the
// machine slept or its clock was set, begins when somebody looks.
func (t *tally) today() {
	now := time.Now()
	midnight := now.UTC().Add(zoneOffset).Truncate(24 * time.Hour).Add(-zoneOffset)
	if midnight.Equal(t.day) {
		return
	}
	t.base = t.total
	if t.base.Since = now; midnight.Equal(t.day.Add(24 * time.Hour)) {
		t.base.Since = midnight
	}
	t.day = midnight
}

func (t *tally) count(in, out int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.today()
	t.total.In += int64(in)
	t.total.Out += int64(out)
}

func (t *tally) traffic() Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.day.IsZero() {
		return Traffic{}
	}
	t.today()
	return Traffic{t.total.In, t.total.Out, t.total.In - t.base.In, t.total.Out - t.base.Out, t.base.Since}
}

// ledger is where the traffic of a Client is counted.
func (c *Client) ledger() *tally {
	if c.bill != nil {
		return c.bill
	}
	return &c.tally
}

// header is what is before each packet to or from an address.
func header(addr net.Addr) int {
	if udp, ok := addr.(*net.UDPAddr); ok && udp.IP.To4() == nil {
		return udp6Header
	}
	return udpHeader
}

// counted is a TCP connection whose bytes are counted, beneath TLS and a proxy.
type counted struct {
	net.Conn
	bill *tally
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.bill.count(n+segments(n)*tcpHeader, segments(n)*tcpHeader)
	}
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.bill.count(segments(n)*tcpHeader, n+segments(n)*tcpHeader)
	}
	return n, err
}

func segments(n int) int { return (n + tcpSegment - 1) / tcpSegment }
