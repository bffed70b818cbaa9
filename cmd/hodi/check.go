package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/systemd"
)

// checkCommand looks at the settings of a daemon as the daemon would at its start, and starts nothing.
func checkCommand(of string, flags []cli.Flag, check func(c *cli.Context, logger *slog.Logger) error) *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "the settings: check",
		Subcommands: []*cli.Command{{
			Name: "check", Usage: "say what is wrong with the settings, or that nothing is; start nothing",
			Description: "Reads file, environment and flags as hodi " + of + " does, and the files that they name. Ends with 1 if something is wrong.",
			Flags:       flags,
			Action: func(c *cli.Context) error {
				logger, err := newLogger(c, slog.LevelInfo)
				if err != nil {
					return err
				}
				if err := check(c, logger); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "the settings are good: hodi %s can start with them\n", of)
				return nil
			},
		}},
	}
}

func checkEdge(c *cli.Context, logger *slog.Logger) error {
	p, err := readEdge(c, new(systemd.Service))
	if err == nil {
		_, err = p.config(logger) // which warns
	}
	if err == nil {
		err = p.check()
	}
	return err
}

func checkSidecar(c *cli.Context, logger *slog.Logger) error {
	p, err := readSidecar(c, new(systemd.Service))
	if err == nil {
		_, err = p.config(logger) // which warns
	}
	if err == nil {
		err = p.check()
	}
	return err
}

// at is the address of a listener that there is not.
type at string

func (a at) Network() string           { return "tcp" }
func (a at) String() string            { return string(a) }
func (a at) Addr() net.Addr            { return a }
func (a at) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (a at) Close() error              { return nil }

// checkAddress asks nobody where a name leads: that may be another place tomorrow.
func checkAddress(setting, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is not an address: write HOST:PORT, or :PORT for all addresses of this machine", setting, strings.TrimSpace(address))
	}
	return nil
}

func checkPair(certificate, key string) error {
	if certificate == "" && key == "" {
		return nil
	}
	if certificate == "" || key == "" {
		return errors.New("certificate-file and key-file belong together: one of them is missing")
	}
	if _, err := tls.LoadX509KeyPair(certificate, key); err != nil {
		return fmt.Errorf("certificate-file and key-file: %w", err)
	}
	return nil
}
