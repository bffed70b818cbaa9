package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"syscall"

	"github.com/hodihq/hodi/systemd"
)

// listenStream is the port that systemd holds for this unit, else one that is opened here.
func listenStream(unit *systemd.Service, address string) (net.Listener, error) {
	if l := unit.Stream(); l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, portHint(err))
	}
	return l, nil
}

func listenDatagram(unit *systemd.Service, address string) (net.PacketConn, error) {
	if c := unit.Datagram(); c != nil {
		return c, nil
	}
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, portHint(err))
	}
	return c, nil
}

// portHint says what to do about a port that cannot be had.
func portHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return " (ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.Errno(10048)): // Windows: WSAEADDRINUSE
		return " (another program has this port)"
	}
	return ""
}

// runUnit runs a daemon, and meanwhile keeps systemd informed.
func runUnit(ctx context.Context, unit *systemd.Service, pulse systemd.Pulse, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { unit.Watch(ctx, pulse) })
	defer watch.Wait()
	defer cancel()
	return run(ctx)
}
