//go:build unix

package doctor

import (
	"net"

	"golang.org/x/sys/unix"
)

// granted is what the kernel says that a socket's buffers are.
func granted(conn *net.UDPConn) (read, write int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var inside error
	err = raw.Control(func(fd uintptr) {
		if read, inside = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); inside == nil {
			write, inside = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		}
	})
	if err == nil {
		err = inside
	}
	return read, write, err
}
