//go:build !unix

package doctor

import (
	"errors"
	"net"
)

func granted(*net.UDPConn) (read, write int, err error) {
	return 0, 0, errors.New("it does not say how large they are")
}
