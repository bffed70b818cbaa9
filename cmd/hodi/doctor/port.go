package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"
)

// held says who has a port that a daemon wants which does not run; "" if nobody, or systemd for it, or nobody may know.
func held(network, address, socket string) string {
	err := bind(network, address)
	if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.Errno(10048)) || bySystemd(socket) { // Windows: WSAEADDRINUSE
		return ""
	}
	return fmt.Sprintf("another program has its port, %s (%s)", address, network)
}

// bind takes a port for a moment.
func bind(network, address string) error {
	if network == "tcp" {
		l, err := net.Listen(network, address)
		if err == nil {
			l.Close()
		}
		return err
	}
	c, err := net.ListenPacket(network, address)
	if err == nil {
		c.Close()
	}
	return err
}

// bySystemd reports whether systemd holds the ports of a unit. To ask the port itself would start the daemon.
func bySystemd(socket string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", socket).Run() == nil
}

func whoHas(network, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("sudo ss -lnp%c 'sport = :%s'", network[0], port)
}
