package main

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/systemd"
	"github.com/urfave/cli/v2"
)

func sidecarCommand() *cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "keep state in `DIR`; if not given, /var/lib/hodi/sidecar/default for root, else your state folder", EnvVars: []string{"HODI_SIDECAR_DATA"}}
	flags := append([]cli.Flag{
		data,
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "serve the app and the pages on `ADDRESS`", EnvVars: []string{"HODI_SIDECAR_LISTEN"}},
		&cli.StringFlag{Name: "edge", Usage: "reach the edge at `HOST:PORT` (UDP; TCP where that is blocked), if not where the join code said", EnvVars: []string{"HODI_SIDECAR_EDGE"}},
		&cli.StringFlag{Name: "edge-websocket", Usage: "find the edge at `HOST:PORT` where UDP is blocked; --edge's if not given", EnvVars: []string{"HODI_SIDECAR_EDGE_WEBSOCKET"}},
		&cli.BoolFlag{Name: "metered", Usage: "spare the bytes of the link to the edge, for an uplink that is paid by the megabyte", EnvVars: []string{"HODI_SIDECAR_METERED"}},
		&cli.DurationFlag{Name: "canary", Usage: "have the edge send something every `DURATION` that both disks have to store, to know that callbacks get through; 30s if not given, 2m where --metered", EnvVars: []string{"HODI_SIDECAR_CANARY"}},
		&cli.StringFlag{Name: "daraja-url", Usage: "ask `URL` in place of Safaricom's own hosts (a sandbox)", EnvVars: []string{"HODI_SIDECAR_DARAJA_URL"}},
		&cli.StringSliceFlag{Name: "origin", Usage: "let pages of `ORIGIN` read sessions (again for more)", EnvVars: []string{"HODI_SIDECAR_ORIGINS"}},
		&cli.StringSliceFlag{Name: "host", Usage: "answer to `NAME` besides localhost and the names of --origin and --public-url (again for more)", EnvVars: []string{"HODI_SIDECAR_HOSTS"}},
		&cli.StringFlag{Name: "certificate-file", Usage: "serve --listen over TLS with the certificate chain in `FILE` (PEM), read again when it changes", EnvVars: []string{"HODI_SIDECAR_CERTIFICATE_FILE"}},
		&cli.StringFlag{Name: "key-file", Usage: "and with its private key in `FILE` (PEM)", EnvVars: []string{"HODI_SIDECAR_KEY_FILE"}},
		&cli.BoolFlag{Name: "insecure-listen", Usage: "let other machines reach --listen without TLS: a proxy has the certificate, or nobody else is on that network", EnvVars: []string{"HODI_SIDECAR_INSECURE_LISTEN"}},
		&cli.IntFlag{Name: "prompts-per-phone", Value: 6, Usage: "send at most `N` prompts an hour to one phone that are not paid; -1 for no limit", EnvVars: []string{"HODI_SIDECAR_PROMPTS_PER_PHONE"}},
		&cli.IntFlag{Name: "prompts-per-phone-day", Value: 20, Usage: "and at most `N` a day", EnvVars: []string{"HODI_SIDECAR_PROMPTS_PER_PHONE_DAY"}},
		&cli.IntFlag{Name: "prompts-per-session", Value: 10, Usage: "and at most `N` an hour from one session, to whatever phones", EnvVars: []string{"HODI_SIDECAR_PROMPTS_PER_SESSION"}},
		&cli.IntFlag{Name: "prompts-per-till", Value: 12, Usage: "and at most `N` a minute from one till, paid or not; -1 for no limit", EnvVars: []string{"HODI_SIDECAR_PROMPTS_PER_TILL"}},
		&cli.IntFlag{Name: "prompts-per-till-hour", Value: 120, Usage: "and at most `N` an hour", EnvVars: []string{"HODI_SIDECAR_PROMPTS_PER_TILL_HOUR"}},
		&cli.DurationFlag{Name: "retain-bodies", Value: 90 * 24 * time.Hour, Usage: "keep what callbacks said, numbers and names included, for `TIME`; -1s for ever", EnvVars: []string{"HODI_SIDECAR_RETAIN_BODIES"}},
		&cli.DurationFlag{Name: "retain-payments", Usage: "keep payments for `TIME`, 720h at least; for ever if not given", EnvVars: []string{"HODI_SIDECAR_RETAIN_PAYMENTS"}},
		&cli.BoolFlag{Name: "accept-callbacks", Usage: "take callbacks on POST /c/KEY/REF too: Safaricom reaches this sidecar by itself, at --public-url", EnvVars: []string{"HODI_SIDECAR_ACCEPT_CALLBACKS"}},
		&cli.StringFlag{Name: "public-url", Usage: "be known to others as `URL`, like https://pay.example.co.ke; what --listen says if not given", EnvVars: []string{"HODI_SIDECAR_PUBLIC_URL"}},
		&cli.BoolFlag{Name: "dev", Usage: "for development on loopback: any session id, no key, the webhook route", EnvVars: []string{"HODI_SIDECAR_DEV"}},
		&cli.DurationFlag{Name: "unknown-after", Value: 90 * time.Second, Usage: "say UNKNOWN after `TIME` of silence", EnvVars: []string{"HODI_SIDECAR_UNKNOWN_AFTER"}},
		&cli.DurationFlag{Name: "first-ask", Value: 30 * time.Second, Usage: "ask Daraja after `TIME` of silence", EnvVars: []string{"HODI_SIDECAR_FIRST_ASK"}},
		&cli.IntFlag{Name: "queries-per-minute", Value: 5, Usage: "ask Daraja at most `N` times a minute", EnvVars: []string{"HODI_SIDECAR_QUERIES_PER_MINUTE"}},
		debugFlag(),
	}, append(forwardFlags(), metricsFlags("sidecar", "127.0.0.1:9465")...)...)
	return &cli.Command{
		Name:        "sidecar",
		Usage:       "the daemon beside the app: takes callbacks from the edge, tells tills and pages",
		Flags:       flags,
		Action:      runSidecar,
		Subcommands: append(backupCommands("sidecar", []cli.Flag{data}, backupSidecar, restoreSidecar), refKeyCommand(data), checkCommand("sidecar", flags, checkSidecar)),
	}
}

// sidecarConfig is what all commands of the sidecar need to know.
func sidecarConfig(c *cli.Context) (sidecarSettings, error) {
	settings, _, err := loadFile(c, "sidecar")
	if err != nil {
		return sidecarSettings{}, err
	}
	return sidecarState(c, settings.Sidecar)
}

// sidecarState puts flags over what a file says about where things lie.
func sidecarState(c *cli.Context, s sidecarSettings) (_ sidecarSettings, err error) {
	over(c, "data", &s.Data)
	if s.Data == "" {
		s.Data, err = stateDir("sidecar/default")
	}
	return s, err
}

func runSidecar(c *cli.Context) error {
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
	read := func() (sidecarPlan, error) { return readSidecar(c, unit) }
	s, err := read()
	if err != nil {
		return err
	}
	level.Set(s.level)
	config, err := s.config(logger)
	if unit.Supervised() && noWayIn(s, err) {
		return awaitJoin(c.Context, unit, asked, s, logger, func() (bool, error) {
			s, err := read()
			if err == nil {
				_, err = s.config(logger)
			}
			return !noWayIn(s, err), err
		})
	}
	if err != nil {
		return err
	}
	listener, err := listenStream(unit, s.Listen)
	if err != nil {
		return fmt.Errorf("sidecar: cannot serve the app: %w", err)
	}
	defer listener.Close()

	config.Listener = listener
	if l := listenMetrics(s.Metrics, logger); l != nil {
		defer l.Close()
		config.Metrics = l
	}
	d, err := sidecar.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer d.Close()
	scheme := "http://"
	if s.CertificateFile != "" {
		scheme = "https://"
	}
	logger.Info("sidecar serves", "url", scheme+listener.Addr().String(), "data", s.Data)
	again := reloader[sidecarPlan]{running: s, read: read, tell: d.Reloaded, log: logger, use: func(p sidecarPlan) error {
		next, err := p.config(logger)
		if err == nil {
			err = d.Reload(c.Context, next)
		}
		if err == nil {
			level.Set(p.level)
		}
		return err
	}}
	return endedByRequest(c.Context, runUnit(c.Context, unit, systemd.Pulse{Dir: s.Data, Commits: d.Commits, Answers: d.Answers, Busy: d.Busy}, asked, again.reload, d.Run))
}

var errNoWayIn = errors.New("sidecar: no way in for callbacks: join an edge (hodi edge invite SHOP there, then hodi join here), or give --accept-callbacks where Safaricom reaches this machine")

// sidecarPlan is what file, environment and flags say together.
type sidecarPlan struct {
	sidecarSettings
	shortcodes map[string]shortcodeSettings
	folder     string // of the file
	listen     string // as they say it: systemd may hold the port
	level      slog.Level
}

// readSidecar reads it, without doing any of it.
func readSidecar(c *cli.Context, unit *systemd.Service) (sidecarPlan, error) {
	settings, folder, err := loadFile(c, "sidecar")
	if err != nil {
		return sidecarPlan{}, err
	}
	p := sidecarPlan{shortcodes: settings.Shortcode, folder: folder}
	if p.sidecarSettings, err = sidecarState(c, settings.Sidecar); err != nil {
		return p, err
	}
	s := &p.sidecarSettings
	over(c, "listen", &s.Listen)
	p.listen = s.Listen
	if l := unit.Stream(); l != nil {
		s.Listen = l.Addr().String()
	}
	over(c, "edge", &s.Edge)
	over(c, "edge-websocket", &s.EdgeWebSocket)
	over(c, "daraja-url", &s.DarajaURL)
	over(c, "public-url", &s.PublicURL)
	overBool(c, "accept-callbacks", &s.AcceptCallbacks)
	overBool(c, "metered", &s.Metered)
	if c.IsSet("canary") {
		s.Canary = duration(c.Duration("canary"))
	}
	overBool(c, "dev", &s.Dev)
	overDuration(c, "unknown-after", &s.UnknownAfter)
	overDuration(c, "first-ask", &s.FirstAsk)
	overDuration(c, "retain-bodies", &s.RetainBodies)
	overDuration(c, "retain-payments", &s.RetainPayments)
	if c.IsSet("origin") {
		s.Origins = c.StringSlice("origin")
	}
	if c.IsSet("host") {
		s.Hosts = c.StringSlice("host")
	}
	s.CertificateFile, s.KeyFile = within(p.folder, s.CertificateFile), within(p.folder, s.KeyFile)
	over(c, "certificate-file", &s.CertificateFile)
	over(c, "key-file", &s.KeyFile)
	overBool(c, "insecure-listen", &s.InsecureListen)
	for flag, setting := range map[string]*int{"prompts-per-phone": &s.PromptsPerPhone, "prompts-per-phone-day": &s.PromptsPerPhoneDay, "prompts-per-session": &s.PromptsPerSession,
		"prompts-per-till": &s.PromptsPerTill, "prompts-per-till-hour": &s.PromptsPerTillHour} {
		if c.IsSet(flag) {
			*setting = c.Int(flag) // else the sidecar's own default, which in dev is another
		}
	}
	if c.IsSet("queries-per-minute") || s.QueriesPerMinute == 0 {
		s.QueriesPerMinute = c.Int("queries-per-minute")
	}
	if p.level, err = logLevel(c, s.LogLevel, slog.LevelInfo); err != nil {
		return p, fmt.Errorf("sidecar: %w", err)
	}
	overForward(c, folder, s)
	if err := overMetrics(c, &s.Metrics, &s.MetricsInsecure); err != nil {
		return p, fmt.Errorf("sidecar: %w", err)
	}
	return p, nil
}

// config is what the sidecar is to be by it; errors are what is wrong with it.
func (p sidecarPlan) config(logger *slog.Logger) (config sidecar.Config, err error) {
	s := p.sidecarSettings
	if !isLoopback(s.Listen) && s.CertificateFile == "" && !s.InsecureListen {
		return config, fmt.Errorf("sidecar: %s can be reached from other machines: give --certificate-file and --key-file, or --insecure-listen where a proxy has the certificate or nobody else is on that network", s.Listen)
	}
	if err := checkForward(s); err != nil {
		return config, err
	}
	if !sidecar.HasJoined(s.Data) && s.Edge == "" && !s.AcceptCallbacks && !s.Dev {
		return config, errNoWayIn
	}
	codes, err := shortcodes(p.shortcodes, p.folder)
	if err != nil {
		return config, err
	}
	limits, err := queryAbove(p.shortcodes)
	if err != nil {
		return config, err
	}
	if len(codes) == 0 {
		logger.Warn("no [shortcode.NAME] is configured: this sidecar follows payments but cannot ask for one")
	}
	if s.AcceptCallbacks {
		warnOfWords(logger, s.PublicURL)
	}
	return sidecar.Config{
		Dir: s.Data, Dev: s.Dev,
		Edge: s.Edge, WebSocket: s.EdgeWebSocket, Metered: s.Metered, Canary: time.Duration(s.Canary), Proxy: proxyFromEnvironment(),
		Shortcodes: codes, DarajaURL: s.DarajaURL,
		KeepBodies: time.Duration(s.RetainBodies), KeepPayments: time.Duration(s.RetainPayments),
		CertificateFile: s.CertificateFile, KeyFile: s.KeyFile, PlainHTTP: s.InsecureListen, Hosts: s.Hosts,
		PromptsPerPhone: s.PromptsPerPhone, PromptsPerPhoneDay: s.PromptsPerPhoneDay, PromptsPerSession: s.PromptsPerSession,
		PromptsPerTill: s.PromptsPerTill, PromptsPerTillHour: s.PromptsPerTillHour,
		Origins: s.Origins, QueryAbove: limits, AcceptCallbacks: s.AcceptCallbacks, PublicURL: s.PublicURL,
		UnknownAfter: time.Duration(s.UnknownAfter), FirstAsk: time.Duration(s.FirstAsk), QueriesPerMinute: s.QueriesPerMinute,
		Forward: s.Forward, ForwardSecretFile: s.ForwardSecretFile, ForwardAtOnce: s.ForwardAtOnce, ForwardInsecure: s.ForwardInsecure,
		Version: version(), Logger: logger,
	}, nil
}

func (p sidecarPlan) over(running sidecarPlan) (merged sidecarPlan, live, start []string) {
	live, start = reload.Changed(running.sidecarSettings, p.sidecarSettings)
	if !reflect.DeepEqual(running.shortcodes, p.shortcodes) {
		live = append(live, "shortcode")
	}
	p.sidecarSettings = reload.Merge(running.sidecarSettings, p.sidecarSettings)
	return p, live, start
}

func (p sidecarPlan) check() error {
	config, err := p.config(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(
		checkAddress("listen", p.listen), checkAddress("edge", p.Edge), checkAddress("edge-websocket", p.EdgeWebSocket),
		checkPair(p.CertificateFile, p.KeyFile),
	); err != nil {
		return err
	}
	config.Listener = at(p.Listen)
	return sidecar.Check(config)
}
