package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/systemd"
	"github.com/urfave/cli/v2"
)

func edgeCommand() *cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "keep state in `DIR`; if not given, /var/lib/hodi/edge for root, else your state folder", EnvVars: []string{"HODI_EDGE_DATA"}}
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"}
	flags := append([]cli.Flag{
		data,
		&cli.StringFlag{Name: "listen", Value: ":443", Usage: "take callbacks, and sidecars without UDP, on `ADDRESS` (TCP)", EnvVars: []string{"HODI_EDGE_LISTEN"}},
		&cli.StringFlag{Name: "tunnel-listen", Usage: "take sidecars on `ADDRESS` (UDP); --listen's if not given", EnvVars: []string{"HODI_EDGE_TUNNEL_LISTEN"}},
		&cli.StringFlag{Name: "public-url", Usage: "be known to Safaricom as `URL`, like https://hooks.example.co.ke", EnvVars: []string{"HODI_EDGE_PUBLIC_URL"}},
		&cli.StringFlag{Name: "certificate-file", Usage: "prove the public name with the certificate chain in `FILE` (PEM)", EnvVars: []string{"HODI_EDGE_CERTIFICATE_FILE"}},
		&cli.StringFlag{Name: "key-file", Usage: "and with its private key in `FILE` (PEM)", EnvVars: []string{"HODI_EDGE_KEY_FILE"}},
		&cli.BoolFlag{Name: "plain-http", Usage: "no TLS: a proxy in front of this edge has the certificate", EnvVars: []string{"HODI_EDGE_PLAIN_HTTP"}},
		&cli.BoolFlag{Name: "new-identity", Usage: "if ca.crt and ca.key are lost for good, make others: every shop has to join anew"},
		debugFlag(),
	}, slices.Concat(acmeFlags(), sourceFlags(), limitFlags(), metricsFlags("edge", "127.0.0.1:9464"), notifyFlags())...)
	return &cli.Command{
		Name:   "edge",
		Usage:  "the public daemon: stores Safaricom's callbacks and hands them to sidecars",
		Flags:  flags,
		Action: runEdge,
		Subcommands: append([]*cli.Command{
			{
				Name: "invite", Usage: "make a join code for a shop, and its endpoint if it is new", ArgsUsage: "SHOP",
				Description: "Asks the edge that runs on this machine. The code works once, in hodi join, for as long as --for says, and another invite of the same shop takes its place.",
				Flags: []cli.Flag{
					data,
					&cli.DurationFlag{Name: "for", Value: edge.DefaultInviteLife, Usage: "let the code be used for `TIME`, 168h at most"},
					&cli.StringFlag{Name: "edge", Usage: "say in the code that this edge is reached at `HOST:PORT`; if not given, --public-url's host and the port of --tunnel-listen"},
					&cli.BoolFlag{Name: "revoke", Usage: "take back the code that was not used yet"},
				},
				Action: taking(1, "the name of one shop: hodi edge invite SHOP", inviteEndpoint),
			},
			{
				Name: "revoke", Usage: "put a shop's sidecar out: its link ends, and its certificate is never taken again", ArgsUsage: "SHOP", Flags: []cli.Flag{data},
				Action: taking(1, "the name of one shop: hodi edge revoke SHOP", revokeSidecar),
			},
			{Name: "endpoints", Usage: "list endpoints: their sidecars, keys, and how far each has been delivered", Flags: []cli.Flag{data, asJSON}, Action: listEndpoints},
			{
				Name: "key", Usage: "the addresses of an endpoint: list, add, retire",
				Description: "Safaricom is told an address once and keeps it for years. So a new key works beside the older ones until you retire those.",
				Subcommands: []*cli.Command{
					{Name: "list", Usage: "list the keys of an endpoint", ArgsUsage: "ENDPOINT", Flags: []cli.Flag{data, asJSON},
						Action: taking(1, "the name of one endpoint: hodi edge key list SHOP", listKeys)},
					{Name: "add", Usage: "add a key, and with it an address", ArgsUsage: "ENDPOINT",
						Flags:  []cli.Flag{data, asJSON, &cli.StringFlag{Name: "name", Usage: "call it `NAME`; key-2 and so on if not given"}},
						Action: taking(1, "the name of one endpoint: hodi edge key add SHOP", addKey)},
					{Name: "retire", Usage: "retire a key: its address answers 404 from then on", ArgsUsage: "ENDPOINT KEY", Flags: []cli.Flag{data, asJSON},
						Action: taking(2, "the names of an endpoint and of its key: hodi edge key retire SHOP KEY", retireKey)},
				},
			},
			{
				Name: "audit", Usage: "list what was done to this edge, when and by whom",
				Description: "Lists the newest lines of a table that nothing changes and nothing is removed from. Who was refused is counted: the first of a kind is a line at once, those that follow become one by the hour, and more seldom if they go on.",
				Flags:       auditFlags(data),
				Action:      listEdgeAudit,
			},
			notifyCommand(data),
			checkCommand("edge", flags, checkEdge),
		}, backupCommands("edge", []cli.Flag{data}, backupEdge, restoreEdge)...),
	}
}

// taking holds a command to so many names.
func taking(n int, what string, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != n {
			return fmt.Errorf("say %s", what)
		}
		return action(c)
	}
}

func edgeConfig(c *cli.Context) (edgeSettings, error) {
	settings, folder, err := loadFile(c, "edge")
	if err != nil {
		return edgeSettings{}, err
	}
	s := settings.Edge
	s.CertificateFile, s.KeyFile, s.ACMECAFile = within(folder, s.CertificateFile), within(folder, s.KeyFile), within(folder, s.ACMECAFile)
	for _, path := range []*string{&s.NotifySMTPPasswordFile, &s.NotifySMTPCAFile, &s.NotifyWebhookFile, &s.NotifyWebhookSecretFile} {
		*path = within(folder, *path)
	}
	over(c, "data", &s.Data)
	if s.Data == "" {
		if s.Data, err = stateDir("edge"); err != nil {
			return edgeSettings{}, err
		}
	}
	return s, nil
}

func runEdge(c *cli.Context) error {
	unit, err := systemd.FromEnvironment()
	if err != nil {
		return err
	}
	asked, stopAsking := hangups()
	defer stopAsking()
	var level slog.LevelVar
	logger, err := newLoggerAt(c, &level)
	if err != nil {
		return err
	}
	stopDebug, err := serveDebug(c, logger)
	if err != nil {
		return err
	}
	defer stopDebug()
	read := func() (edgePlan, error) { return readEdge(c, unit) }
	s, err := read()
	if err != nil {
		return err
	}
	level.Set(s.level)
	config, err := s.config(logger)
	if err != nil {
		return err
	}
	if s.HTTPListen != "" {
		if config.ACME.HTTP, err = unit.Listen(s.HTTPListen); err != nil {
			return fmt.Errorf("edge: cannot answer the authority: %w%s", err, portHint(err))
		}
		defer config.ACME.HTTP.Close()
	}
	listener, err := listenStream(unit, s.Listen)
	if err != nil {
		return fmt.Errorf("edge: cannot take callbacks: %w", err)
	}
	defer listener.Close()
	conn, err := listenDatagram(unit, s.TunnelListen)
	if err != nil {
		return fmt.Errorf("edge: cannot take sidecars: %w", err)
	}
	defer conn.Close()
	config.HTTP, config.UDP = listener, conn
	if l := listenMetrics(s.Metrics, logger); l != nil {
		defer l.Close()
		config.Metrics = l
	}
	e, err := edge.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer e.Close()
	logger.Info("edge serves", "callbacks", listener.Addr().String(), "sidecars", conn.LocalAddr().String(), "data", s.Data)
	again := reloader[edgePlan]{running: s, read: read, tell: e.Reloaded, log: logger, use: func(p edgePlan) error {
		next, err := p.config(logger)
		if err == nil {
			err = e.Reload(next)
		}
		if err == nil {
			level.Set(p.level)
		}
		return err
	}}
	return endedByRequest(c.Context, runUnit(c.Context, unit, systemd.Pulse{Dir: s.Data, Commits: e.Commits, Answers: e.Answers}, asked, again.reload, e.Run))
}

// edgePlan is what file, environment and flags say together.
type edgePlan struct {
	edgeSettings
	newIdentity bool
	listen      string // as they say it: systemd may hold the port
	level       slog.Level
}

// readEdge reads it, without doing any of it.
func readEdge(c *cli.Context, unit *systemd.Service) (p edgePlan, err error) {
	if p.edgeSettings, err = edgeConfig(c); err != nil {
		return p, err
	}
	s := &p.edgeSettings
	over(c, "listen", &s.Listen)
	p.listen = s.Listen
	over(c, "tunnel-listen", &s.TunnelListen)
	if l := unit.Stream(); l != nil {
		s.Listen = l.Addr().String()
	}
	over(c, "public-url", &s.PublicURL)
	over(c, "certificate-file", &s.CertificateFile)
	over(c, "key-file", &s.KeyFile)
	overBool(c, "plain-http", &s.PlainHTTP)
	overACME(c, s)
	overSource(c, s)
	overLimits(c, s)
	overNotify(c, s)
	if s.TunnelListen == "" {
		s.TunnelListen = s.Listen
	}
	if err := overMetrics(c, &s.Metrics, &s.MetricsInsecure); err != nil {
		return p, fmt.Errorf("edge: %w", err)
	}
	p.newIdentity = c.Bool("new-identity")
	if p.level, err = logLevel(c, s.LogLevel, slog.LevelInfo); err != nil {
		return p, fmt.Errorf("edge: %w", err)
	}
	return p, nil
}

// config is what the edge is to be by it; errors are what is wrong with it.
func (p edgePlan) config(logger *slog.Logger) (config edge.Config, err error) {
	s := p.edgeSettings
	if s.PublicURL == "" && (s.CertificateFile != "" || s.ACME || s.PlainHTTP) {
		return config, errors.New("edge: --public-url is missing: callback addresses are made from it, and Safaricom keeps them for years")
	}
	limits, err := s.limits()
	if err != nil {
		return config, err
	}
	config = edge.Config{Dir: s.Data, PublicURL: s.PublicURL, Limits: limits, NewIdentity: p.newIdentity, Version: version(), Logger: logger}
	if err := setSource(&config, s, logger); err != nil {
		return config, err
	}
	if config.Notify, err = notifyWays(s, logger); err != nil {
		return config, err
	}
	warnOfWords(logger, s.PublicURL)
	return config, setCertificate(&config, s)
}

func (p edgePlan) over(running edgePlan) (merged edgePlan, live, start []string) {
	live, start = reload.Changed(running.edgeSettings, p.edgeSettings)
	p.edgeSettings = reload.Merge(running.edgeSettings, p.edgeSettings)
	return p, live, start
}

func (p edgePlan) check() error {
	config, err := p.config(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(
		checkAddress("listen", p.listen), checkAddress("tunnel-listen", p.TunnelListen), checkAddress("http-listen", p.HTTPListen),
		checkPair(p.CertificateFile, p.KeyFile), edge.Check(config),
	)
}

// warnOfWords says early what Daraja would say to the first push: that it refuses the callback address.
func warnOfWords(logger *slog.Logger, publicURL string) {
	if word := daraja.ForbiddenWord(publicURL); word != "" {
		logger.Warn("Safaricom refuses callback addresses with certain words in them: choose another name for this machine", "word", word, "public-url", publicURL)
	}
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
