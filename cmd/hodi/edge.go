package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/urfave/cli/v2"
)

func edgeCommand() *cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "keep state in `DIR`", EnvVars: []string{"HODI_EDGE_DATA"}}
	return &cli.Command{
		Name:  "edge",
		Usage: "the public daemon: stores Safaricom's callbacks and hands them to sidecars",
		Flags: []cli.Flag{
			data,
			&cli.StringFlag{Name: "listen", Value: ":443", Usage: "take callbacks on `ADDRESS` (TCP)", EnvVars: []string{"HODI_EDGE_LISTEN"}},
			&cli.StringFlag{Name: "tunnel-listen", Usage: "take sidecars on `ADDRESS` (UDP); as --listen if not given", EnvVars: []string{"HODI_EDGE_TUNNEL_LISTEN"}},
			&cli.StringFlag{Name: "public-url", Usage: "what Safaricom reaches this edge by, `URL` like https://hooks.example.co.ke", EnvVars: []string{"HODI_EDGE_PUBLIC_URL"}},
			&cli.StringFlag{Name: "certificate-file", Usage: "the public certificate chain, PEM `FILE`", EnvVars: []string{"HODI_EDGE_CERTIFICATE_FILE"}},
			&cli.StringFlag{Name: "key-file", Usage: "its private key, PEM `FILE`", EnvVars: []string{"HODI_EDGE_KEY_FILE"}},
			&cli.BoolFlag{Name: "plain-http", Usage: "no TLS: a proxy in front of this edge has the certificate", EnvVars: []string{"HODI_EDGE_PLAIN_HTTP"}},
		},
		Action: runEdge,
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add an endpoint for a sidecar and write what the sidecar needs", ArgsUsage: "NAME",
				Flags: []cli.Flag{data, &cli.StringFlag{Name: "out", Usage: "write token and ca.crt into `DIR` (default: ./NAME)"}},
				Action: func(c *cli.Context) error {
					if c.NArg() != 1 {
						return errors.New("edge add: say the name of one endpoint: hodi edge add SHOP")
					}
					return addEndpoint(c)
				},
			},
			{Name: "endpoints", Usage: "list endpoints, their keys and links", Flags: []cli.Flag{data}, Action: listEndpoints},
		},
	}
}

func edgeConfig(c *cli.Context) (edgeSettings, error) {
	settings, folder, err := loadFile(c)
	if err != nil {
		return edgeSettings{}, err
	}
	s := settings.Edge
	s.CertificateFile, s.KeyFile = within(folder, s.CertificateFile), within(folder, s.KeyFile)
	over(c, "data", &s.Data)
	if s.Data == "" {
		if s.Data, err = stateDir("edge"); err != nil {
			return edgeSettings{}, err
		}
	}
	return s, nil
}

func runEdge(c *cli.Context) error {
	s, err := edgeConfig(c)
	if err != nil {
		return err
	}
	over(c, "listen", &s.Listen)
	over(c, "tunnel-listen", &s.TunnelListen)
	over(c, "public-url", &s.PublicURL)
	over(c, "certificate-file", &s.CertificateFile)
	over(c, "key-file", &s.KeyFile)
	overBool(c, "plain-http", &s.PlainHTTP)
	if s.TunnelListen == "" {
		s.TunnelListen = s.Listen
	}
	logger, err := newLogger(c, slog.LevelInfo)
	if err != nil {
		return err
	}
	listener, err := listenPublic(s)
	if err != nil {
		return err
	}
	defer listener.Close()
	conn, err := net.ListenPacket("udp", s.TunnelListen)
	if err != nil {
		return fmt.Errorf("edge: cannot take sidecars: %w", err)
	}
	defer conn.Close()
	if s.PublicURL == "" && s.CertificateFile != "" {
		return errors.New("edge: --public-url is missing: callback addresses are made from it, and Safaricom keeps them for years")
	}

	e, err := edge.Open(c.Context, edge.Config{Dir: s.Data, HTTP: listener, UDP: conn, PublicURL: s.PublicURL, Logger: logger})
	if err != nil {
		return err
	}
	defer e.Close()
	logger.Info("edge serves", "callbacks", listener.Addr().String(), "sidecars", conn.LocalAddr().String(), "data", s.Data)
	return endedByRequest(c.Context, e.Run(c.Context))
}

// listenPublic opens the port that Safaricom posts to. Without a certificate it must be a port that only this machine
// reaches, or one that somebody said a proxy stands in front of.
func listenPublic(s edgeSettings) (net.Listener, error) {
	withTLS := s.CertificateFile != "" || s.KeyFile != ""
	if !withTLS && !s.PlainHTTP && !isLoopback(s.Listen) {
		return nil, fmt.Errorf("edge: %s is public and there is no certificate: give --certificate-file and --key-file, "+
			"or --plain-http where a proxy has it", s.Listen)
	}
	var config *tls.Config
	if withTLS {
		certificate, err := tls.LoadX509KeyPair(s.CertificateFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("edge: certificate: %w", err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, fmt.Errorf("edge: cannot take callbacks: %w", err)
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	return listener, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// admin asks the edge that runs on this machine, through the socket in its state folder.
func admin(c *cli.Context, method, path string, body string, into any) error {
	s, err := edgeConfig(c)
	if err != nil {
		return err
	}
	socket := filepath.Join(s.Data, "admin.sock")
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
	}
	request, err := http.NewRequestWithContext(c.Context, method, "http://edge"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no edge answers at %s: start it first (hodi edge), or name its folder with --data", socket)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		var problem struct{ Title, Detail string }
		_ = json.NewDecoder(response.Body).Decode(&problem)
		return fmt.Errorf("edge: %s %s", problem.Title, problem.Detail)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

func addEndpoint(c *cli.Context) error {
	name := c.Args().First()
	body, _ := json.Marshal(map[string]string{"name": name})
	var added struct{ Token, CA, Callback string }
	if err := admin(c, http.MethodPost, "/endpoints", string(body), &added); err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = name
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	for file, content := range map[string]string{"token": added.Token + "\n", "ca.crt": added.CA} {
		if err := os.WriteFile(filepath.Join(out, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "endpoint %s\n  callbacks  %s\n  for the sidecar  %s and %s (carry them over by a safe way; the token is a secret)\n  then, beside the app:  hodi sidecar --edge HOST:PORT --ca-file ca.crt --token-file token\n",
		name, added.Callback, filepath.Join(out, "token"), filepath.Join(out, "ca.crt"))
	return nil
}

func listEndpoints(c *cli.Context) error {
	var list struct {
		Endpoints []struct {
			Name, Callback string
			Connected      bool
			Head, Acked    uint64
		}
	}
	if err := admin(c, http.MethodGet, "/endpoints", "", &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ENDPOINT\tLINK\tSTORED\tDELIVERED\tCALLBACKS")
	for _, e := range list.Endpoints {
		link := "away"
		if e.Connected {
			link = "connected"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", e.Name, link, e.Head, e.Acked, e.Callback)
	}
	return w.Flush()
}
