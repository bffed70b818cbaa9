package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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

// runUnit runs a daemon, and meanwhile keeps systemd informed, and looks at the settings when it is asked to (SIGHUP). Nothing
// that runs changes by that: certificates are taken by themselves when they change, and for all else there is the restart,
// which refuses nobody where systemd holds the ports. What is wrong with the settings is said before that.
func runUnit(ctx context.Context, unit *systemd.Service, pulse systemd.Pulse, logger *slog.Logger, check func() error, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { unit.Watch(ctx, pulse) })
	if !hangsUp() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGHUP)
		defer signal.Stop(asked)
		watch.Go(func() {
			for {
				select {
				case <-asked:
				case <-ctx.Done():
					return
				}
				if err := unit.Reload(check); err != nil {
					logger.Error("the settings on disk are not good: those in use stay, and the next start would fail", "err", err)
				} else {
					logger.Info("the settings on disk are good: what was changed in them is taken at the next start")
				}
			}
		})
	}
	defer watch.Wait()
	defer cancel()
	return run(ctx)
}
