package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/systemd"
)

// A sidecar that no edge knows has nothing to do. At a terminal it says so and ends. As a unit, which somebody enabled when they
// installed the package, it would be started again each second, and no boot, upgrade or app would learn why: it waits
// instead, is a unit that runs, and tells everybody who asks what is to be done.

const notJoined = "This sidecar has not joined an edge yet. On the edge: hodi edge invite SHOP. Then here: hodi join."

// errJoined ends a process that waited, so that systemd starts another. Its code is EX_TEMPFAIL of sysexits(3).
var errJoined = &exitError{75, errors.New("sidecar: there is a way in for callbacks now, and it starts with that")}

// joinedEvery is how often it is looked whether hodi join was here.
const joinedEvery = time.Second

// noWayIn reports whether that is what is wrong with settings, of which err is what was found wrong. Where an edge is named in
// them, only its own join code makes that one a way in.
func noWayIn(s sidecarPlan, err error) bool {
	return errors.Is(err, errNoWayIn) || err == nil && s.Edge != "" && !sidecar.HasJoined(s.Data)
}

// awaitJoin answers at the sidecar's port until the sidecar has joined an edge, or the settings, at which wayIn looks when they
// are read again, have another way in.
func awaitJoin(ctx context.Context, unit *systemd.Service, asked <-chan os.Signal, s sidecarPlan, logger *slog.Logger, wayIn func() (bool, error)) error {
	l, err := listenStream(unit, s.Listen)
	if err != nil {
		return fmt.Errorf("sidecar: cannot serve the app: %w", err)
	}
	defer l.Close()
	logger.Warn("waits for hodi join: this sidecar has not joined an edge", "url", "http://"+l.Addr().String(), "data", s.Data)
	found := make(chan struct{}, 1)
	reload := func() error {
		switch ok, err := wayIn(); {
		case !ok: // which the status says anyway
			return nil
		case err != nil:
			logger.Error("the settings on disk are not good", "err", err)
			return err
		}
		select {
		case found <- struct{}{}:
		default:
		}
		return nil
	}
	pulse := systemd.Pulse{
		Dir: s.Data, Well: notJoined,
		Commits: func(context.Context) error { return nil },
		Answers: func(ctx context.Context) error {
			return systemd.Knock(ctx, l.Addr(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		},
	}
	return runUnit(ctx, unit, pulse, asked, reload, func(ctx context.Context) error { return serveNotJoined(ctx, l, s.Data, found) })
}

func serveNotJoined(ctx context.Context, l net.Listener, data string, found <-chan struct{}) error {
	server := &http.Server{Handler: http.HandlerFunc(sayNotJoined), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	ended := func(err error) error {
		server.Close()
		<-served
		return err
	}
	look := time.NewTicker(joinedEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if sidecar.HasJoined(data) {
				return ended(errJoined)
			}
		case <-found:
			return ended(errJoined)
		case err := <-served:
			return fmt.Errorf("sidecar: %w", err)
		case <-ctx.Done():
			return ended(nil)
		}
	}
}

func sayNotJoined(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:hodi:not-joined", "title": http.StatusText(http.StatusServiceUnavailable), "status": http.StatusServiceUnavailable, "detail": notJoined,
	})
}
