// Package loopback is for tests: it gives them addresses of this machine that stay theirs.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// Address is an address, for TCP and for UDP, to which a test comes back: whoever listens there may be ended and started
// again. A port that the system chose could be anybody's meanwhile, because the system chooses among the same ones for
// every socket that dials, and a test process is seldom alone.
//
// The port is below those that a system chooses from, and its namesake on another address of the loopback network is held
// for as long as the test lasts, so that no other test, in this process or in another, is given the same.
func Address(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		hold, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		own := fmt.Sprintf("127.0.0.1:%d", port)
		if free("tcp", own) && free("udp", own) {
			if err == nil { // where there is no such address, chance is all there is
				t.Cleanup(func() { hold.Close() })
			}
			return own
		}
		if err == nil {
			hold.Close()
		}
	}
	t.Fatal("there is no free port on this machine")
	return ""
}

func free(network, address string) bool {
	if network == "udp" {
		socket, err := net.ListenPacket(network, address)
		if err == nil {
			socket.Close()
		}
		return err == nil
	}
	listener, err := net.Listen(network, address)
	if err == nil {
		listener.Close()
	}
	return err == nil
}
