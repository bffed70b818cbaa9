package main

import (
	"net"
	"strings"
	"testing"
)

// Between the two is a network that swallows UDP: the sidecar knows the edge by its TCP port, and at the UDP port of that
// number is a socket that nobody reads.
func TestAPaymentArrivesWhereUDPDoesNot(t *testing.T) {
	s := newPairBy(t, func(s *pair) string {
		hole, err := net.ListenPacket("udp", s.callbacks)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hole.Close() })
		return s.callbacks
	})
	s.subscribe()
	s.register(0, 3)
	s.post(0, 3)
	s.wantPaid(0, 3)
	s.wantTold(0, 3)
	_, status := call(t, "GET", s.url+"/status", nil)
	link, _ := status["link"].(map[string]any)
	why, _ := link["why"].(string)
	if link["transport"] != "websocket" || !strings.Contains(why, "UDP is probably blocked") {
		t.Errorf("link %v", link)
	}
	// An edge that is killed is found again the same way.
	s.edge.kill()
	s.register(3, 5)
	s.startEdge()
	s.post(3, 5)
	s.wantPaid(3, 5)
	s.sidecar.end()
	s.edge.end()
}
