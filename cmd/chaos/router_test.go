package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// A wire keeps what is written to it.
type wire struct {
	io.ReadCloser
	packets [][]byte
}

func (w *wire) Write(p []byte) (int, error) {
	w.packets = append(w.packets, bytes.Clone(p))
	return len(p), nil
}

func (w *wire) take(t *testing.T) []byte {
	t.Helper()
	if len(w.packets) != 1 {
		t.Fatalf("there are %d packets, want 1", len(w.packets))
	}
	p := w.packets[0]
	w.packets = nil
	return p
}

func (w *wire) wantNothing(t *testing.T, why string) {
	t.Helper()
	if len(w.packets) > 0 {
		t.Errorf("%d packets came through, and %s", len(w.packets), why)
		w.packets = nil
	}
}

// newLane is a lane of shop 1, with wires that keep what is written.
func newLane() (l *lane, shop, edge *wire) {
	shop, edge = new(wire), new(wire)
	l = &lane{shop: shop, edge: edge, in: inside(0, 0), out: outside(0, 0), rng: rand.New(rand.NewPCG(1, 1)),
		there: &slowly{to: edge, waiting: make(chan parcel, 8)}, hereabouts: &slowly{to: shop, waiting: make(chan parcel, 8)},
		address: func(netip.Addr) error { return nil }}
	l.now.Store(&weather{})
	return l, shop, edge
}

// packet is an IPv4 packet with right checksums.
func packet(protocol byte, from, to netip.Addr, payload string) []byte {
	var segment []byte
	sum := 6
	if protocol == protocolTCP {
		segment = make([]byte, 20)
		segment[12] = 5 << 4
		sum = 16
	} else {
		segment = make([]byte, 8)
		binary.BigEndian.PutUint16(segment[4:], uint16(8+len(payload)))
	}
	binary.BigEndian.PutUint16(segment, 40_000)
	binary.BigEndian.PutUint16(segment[2:], 443)
	segment = append(segment, payload...)
	p := make([]byte, 20, 20+len(segment))
	p[0], p[8], p[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(segment)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p))
	binary.BigEndian.PutUint16(segment[sum:], checksum(append(pseudo(p, len(segment)), segment...)))
	return append(p, segment...)
}

// pseudo is what TCP and UDP sum up beside themselves.
func pseudo(p []byte, length int) []byte {
	h := append([]byte(nil), p[12:20]...)
	return append(h, 0, p[9], byte(length>>8), byte(length))
}

// wantRight checks a packet's ends and its checksums.
func wantRight(t *testing.T, p []byte, from, to netip.Addr) {
	t.Helper()
	source, destination, ok := addresses(p)
	if !ok || source != from || destination != to {
		t.Errorf("the packet goes from %v to %v, want from %v to %v", source, destination, from, to)
	}
	if checksum(p[:20]) != 0 {
		t.Error("the header's checksum is wrong")
	}
	message := p[20:]
	if p[9] != protocolICMP {
		message = append(pseudo(p, len(p)-20), message...)
	}
	if checksum(message) != 0 {
		t.Errorf("the checksum of protocol %d is wrong", p[9])
	}
}

func TestRouterGivesEveryPacketTheAddressOfItsSide(t *testing.T) {
	for _, protocol := range []byte{protocolTCP, protocolUDP} {
		l, shop, edge := newLane()
		l.outward(packet(protocol, inside(0, 0), edgeAddress, "habari"))
		p := edge.take(t)
		wantRight(t, p, outside(0, 0), edgeAddress)
		if !bytes.HasSuffix(p, []byte("habari")) {
			t.Error("the payload was changed")
		}
		l.inward(packet(protocol, edgeAddress, outside(0, 0), "nzuri!!")) // of an odd length
		wantRight(t, shop.take(t), edgeAddress, inside(0, 0))
	}
}

func TestRouterThatForgotItsMappingLetsNothingInForTheOldOne(t *testing.T) {
	l, shop, edge := newLane()
	l.rebind()
	l.inward(packet(protocolUDP, edgeAddress, outside(0, 0), "x"))
	shop.wantNothing(t, "the router has forgotten whose that is")
	l.outward(packet(protocolUDP, inside(0, 0), edgeAddress, "x"))
	wantRight(t, edge.take(t), outside(0, 1), edgeAddress)
	l.inward(packet(protocolUDP, edgeAddress, outside(0, 1), "x"))
	wantRight(t, shop.take(t), edgeAddress, inside(0, 0))
}

func TestShopThatMovedIsReachedWhereItIsNow(t *testing.T) {
	l, shop, edge := newLane()
	if err := l.move(); err != nil {
		t.Fatal(err)
	}
	l.outward(packet(protocolUDP, inside(0, 0), edgeAddress, "x"))
	edge.wantNothing(t, "nobody has that address any more")
	l.outward(packet(protocolUDP, inside(0, 1), edgeAddress, "x"))
	wantRight(t, edge.take(t), outside(0, 1), edgeAddress)
	l.inward(packet(protocolUDP, edgeAddress, outside(0, 1), "x"))
	wantRight(t, shop.take(t), edgeAddress, inside(0, 1))
}

func TestWeatherDoesWhatItsNameSays(t *testing.T) {
	l, shop, edge := newLane()
	udp := func() []byte { return packet(protocolUDP, inside(0, 0), edgeAddress, "datagram") }
	tcp := func() []byte { return packet(protocolTCP, inside(0, 0), edgeAddress, "segment") }
	back := func(protocol byte) []byte { return packet(protocol, edgeAddress, outside(0, 0), "answer") }

	l.turn(func(f *weather) { f.cut = true })
	l.outward(tcp())
	l.inward(back(protocolTCP))
	edge.wantNothing(t, "the wire is cut")
	shop.wantNothing(t, "the wire is cut")

	l.turn(func(f *weather) { *f = weather{udp: dropped} })
	l.outward(udp())
	l.inward(back(protocolUDP))
	edge.wantNothing(t, "UDP is dropped")
	shop.wantNothing(t, "UDP is dropped")
	l.outward(tcp())
	edge.take(t)

	l.turn(func(f *weather) { *f = weather{udp: refused} })
	asked := udp()
	l.outward(asked)
	edge.wantNothing(t, "UDP is refused")
	answer := shop.take(t)
	wantRight(t, answer, edgeAddress, inside(0, 0))
	if answer[9] != protocolICMP || answer[20] != 3 || answer[21] != 3 || !bytes.Equal(answer[28:], asked[:28]) {
		t.Errorf("the refusal is %x", answer)
	}

	l.turn(func(f *weather) { *f = weather{loss: 0.05} })
	for range 10_000 {
		l.outward(udp())
	}
	if lost := 10_000 - len(edge.packets); lost < 400 || lost > 600 {
		t.Errorf("%d of 10,000 packets were lost, want about 500", lost)
	}
	edge.packets = nil

	l.turn(func(f *weather) { *f = weather{delay: time.Nanosecond} })
	first, second := udp(), tcp()
	l.outward(first)
	l.outward(second)
	edge.wantNothing(t, "it is on its way")
	close(l.there.waiting)
	l.there.run()
	if len(edge.packets) != 2 || edge.packets[0][9] != protocolUDP || edge.packets[1][9] != protocolTCP {
		t.Errorf("%d packets came, or in another order", len(edge.packets))
	}
}

func TestShopIsToldWhenItsPacketFoundNobody(t *testing.T) {
	l, shop, edge := newLane()
	l.outward(packet(protocolUDP, inside(0, 0), edgeAddress, "x"))
	refusal := unreachable(edge.take(t)) // as the edge's kernel sends it, when no process has the port
	l.inward(refusal)
	p := shop.take(t)
	wantRight(t, p, edgeAddress, inside(0, 0))
	if source, _, _ := addresses(p[28:]); source != inside(0, 0) {
		t.Errorf("it is about a packet of %v, which the shop never sent", source)
	}
}

func FuzzRouterSurvivesAnyPacket(f *testing.F) {
	f.Add(packet(protocolUDP, inside(0, 0), edgeAddress, "x"))
	f.Add(packet(protocolTCP, edgeAddress, outside(0, 0), "x"))
	f.Add(unreachable(packet(protocolUDP, outside(0, 0), edgeAddress, "x")))
	f.Fuzz(func(t *testing.T, p []byte) {
		l, _, _ := newLane()
		l.turn(func(f *weather) { f.udp = refused })
		l.outward(bytes.Clone(p))
		l.turn(func(f *weather) { f.udp = 0 })
		l.outward(bytes.Clone(p))
		if _, _, ok := addresses(p); ok {
			l.inward(bytes.Clone(p))
		}
	})
}
