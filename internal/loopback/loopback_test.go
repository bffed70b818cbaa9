package loopback_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/hodihq/hodi/internal/loopback"
)

func TestAnAddressIsOneTestsAlone(t *testing.T) {
	lowest := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if lowest, err = strconv.Atoi(strings.Fields(string(b))[0]); err != nil {
			t.Fatal(err)
		}
	}
	if lowest < 32768 {
		t.Skipf("SKIPPED: this system gives ports from %d on to who dials: there is no room below them", lowest)
	}
	seen := make(map[string]bool)
	for range 100 {
		own := loopback.Address(t)
		_, port, err := net.SplitHostPort(own)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(port); seen[own] || err != nil || n >= lowest {
			t.Errorf("given %s, %v", own, err)
		}
		seen[own] = true
		for range 2 { // one comes, goes, and comes back
			tcp, err := net.Listen("tcp", own)
			if err != nil {
				t.Fatal(err)
			}
			udp, err := net.ListenPacket("udp", own)
			if err != nil {
				t.Fatal(err)
			}
			tcp.Close()
			udp.Close()
		}
	}
}
