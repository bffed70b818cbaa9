package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The router stands between the edge and the shops, and every packet passes through it: so each fault of the network is
// a line here. A shop's packets leave with another address than they came with, as behind any shop's router:
//
//	edge 10.77.0.1                   router                    shop 1
//	                10.99.N.1 ◀──────────────────── 10.88.M.1
//
// M counts the addresses that the shop has had, N those too that the router has given it on the internet.
var edgeAddress = netip.AddrFrom4([4]byte{10, 77, 0, 1})

func inside(shop int, m uint8) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 88, m, uint8(shop + 1)})
}
func outside(shop int, n uint8) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 99, n, uint8(shop + 1)})
}

// A weather is what happens to the packets of one shop, in both directions.
type weather struct {
	cut   bool
	loss  float64
	delay time.Duration // each way
	udp   treatment
}

// A treatment is what a router does with UDP.
type treatment uint8

const (
	dropped treatment = iota + 1
	refused           // and says so
)

// A lane is the way between one shop and the edge.
type lane struct {
	host   host
	number int
	shop   io.ReadWriteCloser // IPv4 packets, one each
	edge   io.Writer
	now    atomic.Pointer[weather]

	mu         sync.Mutex
	rng        *rand.Rand
	in, out    netip.Addr
	moves      uint8                  // how many insides there were
	bindings   uint8                  // how many outsides
	address    func(netip.Addr) error // gives the shop another address
	there      *slowly                // what is on its way, where there is delay
	hereabouts *slowly
}

// turn changes the weather.
func (l *lane) turn(change func(*weather)) {
	f := *l.now.Load()
	change(&f)
	l.now.Store(&f)
}

// rebind forgets which connections are whose, as a router does that was switched off and on: what comes for the old
// address on the internet has no way in, and what leaves has another one.
func (l *lane) rebind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bindings++
	l.out = outside(l.number, l.bindings)
}

// move gives the shop another address, as another network would.
func (l *lane) move() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves++
	to := inside(l.number, l.moves)
	if err := l.address(to); err != nil {
		return err
	}
	l.bindings++
	l.in, l.out = to, outside(l.number, l.bindings)
	return nil
}

// outward takes a packet of the shop to the edge.
func (l *lane) outward(p []byte) {
	f := l.now.Load()
	source, destination, ok := addresses(p)
	l.mu.Lock()
	in, out, lose := l.in, l.out, l.rng.Float64() < f.loss
	l.mu.Unlock()
	switch {
	case !ok || source != in || destination != edgeAddress || f.cut || lose:
		return
	case p[9] == protocolUDP && f.udp == dropped:
		return
	case p[9] == protocolUDP && f.udp == refused:
		_, _ = l.shop.Write(unreachable(p))
		return
	}
	readdress(p, 12, out)
	l.there.send(p, f.delay)
}

// inward takes a packet of the edge to the shop.
func (l *lane) inward(p []byte) {
	f := l.now.Load()
	_, destination, _ := addresses(p)
	l.mu.Lock()
	in, out, lose := l.in, l.out, l.rng.Float64() < f.loss
	l.mu.Unlock()
	if destination != out || f.cut || lose || p[9] == protocolUDP && f.udp != 0 {
		return
	}
	readdress(p, 16, in)
	l.hereabouts.send(p, f.delay)
}

// distribute takes what the edge sends to the lanes, until there is no more.
func distribute(edge io.Reader, lanes []*lane) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := edge.Read(buffer)
		if err != nil {
			return
		}
		p := buffer[:n]
		if _, destination, ok := addresses(p); ok {
			if shop := int(destination.As4()[3]) - 1; shop >= 0 && shop < len(lanes) {
				lanes[shop].inward(p)
			}
		}
	}
}

// collect takes what a shop sends to the edge, until there is no more.
func (l *lane) collect() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.shop.Read(buffer)
		if err != nil {
			return
		}
		l.outward(buffer[:n])
	}
}

// slowly delivers packets later, in their order.
type slowly struct {
	to      io.Writer
	waiting chan parcel
}

type parcel struct {
	due    time.Time
	packet []byte
}

// send takes a packet, and is done with it when it returns. One too many is dropped, as by any queue.
func (s *slowly) send(p []byte, delay time.Duration) {
	if delay == 0 {
		_, _ = s.to.Write(p)
		return
	}
	select {
	case s.waiting <- parcel{time.Now().Add(delay), append([]byte(nil), p...)}:
	default:
	}
}

func (s *slowly) run() {
	for p := range s.waiting {
		time.Sleep(time.Until(p.due))
		_, _ = s.to.Write(p.packet)
	}
}

const (
	protocolICMP = 1
	protocolTCP  = 6
	protocolUDP  = 17
)

// addresses are the source and the destination of an IPv4 packet.
func addresses(p []byte) (source, destination netip.Addr, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 || len(p) < headerLength(p) {
		return source, destination, false
	}
	return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), true
}

func headerLength(p []byte) int { return int(p[0]&15) * 4 }

// readdress writes another address into a packet, at 12 its source, at 16 its destination, and puts the checksums right.
func readdress(p []byte, at int, to netip.Addr) {
	was, is := [4]byte(p[at:at+4]), to.As4()
	copy(p[at:], is[:])
	header := headerLength(p)
	adjust(p[10:12], was, is)
	first := binary.BigEndian.Uint16(p[6:])&0x1fff == 0 // of a packet that came in fragments only the first has ports
	switch rest := p[header:]; {
	case !first:
	case p[9] == protocolTCP && len(rest) >= 18:
		adjust(rest[16:18], was, is)
	case p[9] == protocolUDP && len(rest) >= 8 && (rest[6] != 0 || rest[7] != 0):
		adjust(rest[6:8], was, is)
	case p[9] == protocolICMP && len(rest) >= 8+20 && rest[0] == 3 && at == 16:
		// It tells the shop that a packet of its own did not arrive; the shop knows that one by its own address.
		inner := rest[8:]
		copy(inner[12:], is[:])
		adjust(inner[10:12], was, is)
		binary.BigEndian.PutUint16(rest[2:], 0)
		binary.BigEndian.PutUint16(rest[2:], checksum(rest))
	}
}

// adjust corrects an Internet checksum for four bytes that changed (RFC 1624).
func adjust(sum []byte, was, is [4]byte) {
	s := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < 4; i += 2 {
		s += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(is[i:]))
	}
	binary.BigEndian.PutUint16(sum, ^fold(s))
}

func checksum(b []byte) uint16 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return ^fold(s)
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// unreachable is what a router answers to a packet that it refuses: ICMP, the port cannot be reached, and the beginning
// of the packet.
func unreachable(p []byte) []byte {
	quoted := p[:min(len(p), headerLength(p)+8)]
	r := make([]byte, 20+8+len(quoted))
	r[0], r[8], r[9] = 0x45, 64, protocolICMP
	binary.BigEndian.PutUint16(r[2:], uint16(len(r)))
	copy(r[12:16], p[16:20])
	copy(r[16:20], p[12:16])
	binary.BigEndian.PutUint16(r[10:], checksum(r[:20]))
	message := r[20:]
	message[0], message[1] = 3, 3
	copy(message[8:], quoted)
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return r
}
