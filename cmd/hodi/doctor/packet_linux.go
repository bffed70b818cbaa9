package doctor

import (
	"net"

	"golang.org/x/sys/unix"
)

// packetOn is how large a packet the kernel believes to pass on the way to an address: by the interface that leads there, and
// by what routers have said. 0: it does not know.
func packetOn(remote string) int {
	to, err := net.ResolveUDPAddr("udp", remote)
	if err != nil || to.IP == nil {
		return 0
	}
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	mtu := 0
	_ = raw.Control(func(fd uintptr) {
		if to.IP.To4() != nil {
			mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
		} else {
			mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU)
		}
	})
	return mtu
}
