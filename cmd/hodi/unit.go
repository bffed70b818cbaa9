package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hodihq/hodi/systemd"
)

// listenStream is the port that systemd holds for this unit, else one that is opened here, which systemd then keeps for the
// unit's next process.
func listenStream(unit *systemd.Service, address string) (net.Listener, error) {
	if l := unit.Stream(); l != nil {
		return l, nil
	}
	l, err := unit.Listen(address)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, portHint(err))
	}
	return l, nil
}

func listenDatagram(unit *systemd.Service, address string) (net.PacketConn, error) {
	if c := unit.Datagram(); c != nil {
		return c, nil
	}
	c, err := unit.ListenPacket(address)
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

// hangups is where SIGHUP arrives, once it is called: a daemon that starts is not ended by it. Where that is a terminal's affair,
// nothing arrives. Windows knows no such signal.
func hangups() (asked chan os.Signal, stop func()) {
	if asked = make(chan os.Signal, 1); !hangsUp() {
		signal.Notify(asked, syscall.SIGHUP)
	}
	return asked, func() { signal.Stop(asked) }
}

// runUnit runs a daemon, and meanwhile keeps systemd informed, and has the settings read again when somebody asks for that.
func runUnit(ctx context.Context, unit *systemd.Service, pulse systemd.Pulse, asked <-chan os.Signal, reload func() error, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { unit.Watch(ctx, pulse) })
	watch.Go(func() {
		for {
			select {
			case <-asked:
				_ = unit.Reload(reload) // which has said what is wrong
			case <-ctx.Done():
				return
			}
		}
	})
	defer watch.Wait()
	defer cancel()
	return run(ctx)
}
