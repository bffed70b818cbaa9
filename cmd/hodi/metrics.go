package main

import (
	"log/slog"
	"net"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/metrics"
)

// metricsFlags are for who watches a daemon with Prometheus. They are the same in both; of is edge or sidecar.
func metricsFlags(of, example string) []cli.Flag {
	env := "HODI_" + strings.ToUpper(of) + "_METRICS"
	return []cli.Flag{
		&cli.StringFlag{Name: "metrics", Usage: "show Prometheus how the " + of + " is, on `ADDRESS`/metrics, like " + example + "; nowhere if not given", EnvVars: []string{env}},
		&cli.BoolFlag{Name: "metrics-insecure", Usage: "let other machines read --metrics, which asks nobody for a key: nobody else is on that network", EnvVars: []string{env + "_INSECURE"}},
	}
}

// overMetrics puts the flags over what the file says, and checks it.
func overMetrics(c *cli.Context, address *string, insecure *bool) error {
	over(c, "metrics", address)
	overBool(c, "metrics-insecure", insecure)
	if *address == "" {
		return nil
	}
	return metrics.CheckAddress(*address, *insecure)
}

// listenMetrics opens the port for Prometheus; nil: there is to be none, or it cannot be had, which is no reason to take no
// callbacks.
func listenMetrics(address string, logger *slog.Logger) net.Listener {
	if address == "" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		logger.Error("metrics are not served: set metrics to an address that can be had"+portHint(err), "err", err)
		return nil
	}
	return l
}
