package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/urfave/cli/v2"
)

// debugFlag opens a door for whoever works on the speed of a daemon. It is not in the help: what comes out of it is for
// people who have the source, and it must never be a door to the street.
func debugFlag() cli.Flag {
	return &cli.StringFlag{Name: "debug-listen", Hidden: true, Usage: "serve profiles of this process on `ADDRESS`, of loopback only", EnvVars: []string{"HODI_DEBUG_LISTEN"}}
}

// serveDebug serves profiles (go tool pprof http://ADDRESS/debug/pprof/profile) where --debug-listen says so, until stop
// is called.
func serveDebug(c *cli.Context, logger *slog.Logger) (stop func(), err error) {
	address := c.String("debug-listen")
	if address == "" {
		return func() {}, nil
	}
	if !isLoopback(address) {
		return nil, fmt.Errorf("--debug-listen %s: profiles are shown on loopback only: write 127.0.0.1:PORT", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--debug-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // its end is ours
	}()
	logger.Info("profiles are served", "debug", listener.Addr().String())
	return func() {
		_ = server.Close()
		<-ended
	}, nil
}
