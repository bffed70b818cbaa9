package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/systemd"
)

func doctorCommand() *cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"}
	of := func(name, usage string, flags []cli.Flag, examine func(*cli.Context, func(doctor.Finding)) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, Flags: append([]cli.Flag{asJSON}, flags...),
			Action: func(c *cli.Context) error { return diagnose(c, patient{name, examine}) },
		}
	}
	return &cli.Command{
		Name:  "doctor",
		Usage: "find what is wrong on this machine with the sidecar, or the edge, and say what to do",
		Description: "Looks at what keeps a sidecar from its edge and from Safaricom, or an edge from its shops: names, ports, the handshakes, buffers, proxy, clock, " +
			"disk, permissions, credentials. It changes nothing, takes no link from a sidecar that runs, and prints no secret. Settings are those of the " +
			"file and the environment; hodi doctor sidecar and hodi doctor edge take the flags of hodi sidecar and hodi edge too. Run it as root, or as the daemon's user. Ends with 0 if nothing failed.",
		Flags:  []cli.Flag{asJSON},
		Action: examineAll,
		Subcommands: []*cli.Command{
			of("sidecar", "look at the sidecar alone, with the flags that it has", sidecarCommand().Flags, examineSidecar),
			of("edge", "look at the edge alone, with the flags that it has", edgeCommand().Flags, examineEdge),
		},
	}
}

// patient is what is examined: the sidecar or the edge.
type patient struct {
	name    string
	examine func(c *cli.Context, tell func(doctor.Finding)) error
}

// examineAll looks at what there is on this machine; where there is nothing, at the sidecar that somebody wants here.
func examineAll(c *cli.Context) error {
	var here []patient
	edgeHere, err := isHere(c, "edge", edgeCommand().Flags)
	if err != nil {
		return err
	}
	sidecarHere, err := isHere(c, "sidecar", sidecarCommand().Flags)
	if err != nil {
		return err
	}
	if sidecarHere || !edgeHere {
		here = append(here, patient{"sidecar", withFlags(sidecarCommand().Flags, examineSidecar)})
	}
	if edgeHere {
		here = append(here, patient{"edge", withFlags(edgeCommand().Flags, examineEdge)})
	}
	return diagnose(c, here...)
}

// isHere reports whether a daemon has its state here, or somebody has set what only it needs. A file that cannot be read says
// nothing here, and is told of later.
func isHere(c *cli.Context, part string, flags []cli.Flag) (here bool, err error) {
	err = withFlags(flags, func(c *cli.Context, _ func(doctor.Finding)) error {
		settings, _, _ := loadFile(c, part)
		if part == "edge" {
			s := settings.Edge
			over(c, "data", &s.Data)
			over(c, "public-url", &s.PublicURL)
			here = s.PublicURL != ""
			if s.Data == "" {
				s.Data, err = stateDir("edge")
			}
			here = here || exists(filepath.Join(s.Data, "edge.db"))
			return err
		}
		s, err := sidecarState(c, settings.Sidecar)
		here = s.Edge != "" || len(settings.Shortcode) > 0 || exists(filepath.Join(s.Data, "identity.json")) || exists(filepath.Join(s.Data, "sidecar.db"))
		return err
	})(c, nil)
	return here, err
}

// withFlags examines as if the command had these flags, of which none was given: their defaults count, and the environment.
func withFlags(flags []cli.Flag, examine func(*cli.Context, func(doctor.Finding)) error) func(*cli.Context, func(doctor.Finding)) error {
	return func(c *cli.Context, tell func(doctor.Finding)) error {
		set := flag.NewFlagSet("", flag.ContinueOnError)
		for _, f := range flags {
			if err := f.Apply(set); err != nil {
				return err
			}
		}
		inner := cli.NewContext(c.App, set, c)
		inner.Command = &cli.Command{Flags: flags}
		return examine(inner, tell)
	}
}

// diagnosis is what hodi doctor --json prints.
type diagnosis struct {
	Healthy  bool             `json:"healthy"` // nothing failed
	Failed   int              `json:"failed"`
	Warnings int              `json:"warnings"`
	Sidecar  []doctor.Finding `json:"sidecar,omitempty"`
	Edge     []doctor.Finding `json:"edge,omitempty"`
}

func diagnose(c *cli.Context, parts ...patient) error {
	d := diagnosis{}
	asJSON := c.Bool("json")
	for _, p := range parts {
		if !asJSON {
			fmt.Fprintln(c.App.Writer, p.name)
		}
		into := &d.Sidecar
		if p.name == "edge" {
			into = &d.Edge
		}
		err := p.examine(c, func(f doctor.Finding) {
			*into = append(*into, f)
			switch f.Verdict {
			case doctor.Fail:
				d.Failed++
			case doctor.Warn:
				d.Warnings++
			}
			if !asJSON {
				writeFinding(c.App.Writer, f)
			}
		})
		if err != nil {
			return err
		}
		if !asJSON {
			fmt.Fprintln(c.App.Writer)
		}
	}
	d.Healthy = d.Failed == 0
	if asJSON {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		if err := e.Encode(d); err != nil {
			return err
		}
	} else {
		paragraph(c.App.Writer, d.verdict())
	}
	if !d.Healthy {
		return errSaid
	}
	return nil
}

func (d *diagnosis) verdict() string {
	switch {
	case d.Failed > 0 && d.Warnings > 0:
		return fmt.Sprintf("Not well: %s failed, and %s. Begin with the first that failed.", plural(d.Failed, "check"), plural(d.Warnings, "warning"))
	case d.Failed > 0:
		return fmt.Sprintf("Not well: %s failed. Begin with the first.", plural(d.Failed, "check"))
	case d.Warnings > 0:
		return fmt.Sprintf("It works, with %s.", plural(d.Warnings, "warning"))
	}
	return "All is well."
}

// writeFinding writes it for people: what was found beside its name, and below it what to do. Commands stand on lines of
// their own, unbroken, to be copied.
func writeFinding(w io.Writer, f doctor.Finding) {
	const first = 19
	mark := map[doctor.Verdict]string{doctor.OK: "ok", doctor.Warn: "warn", doctor.Fail: "FAIL", doctor.Skip: "-"}[f.Verdict]
	head := fmt.Sprintf("  %-4s  %-*s", mark, first-8, plain(f.Check))
	if len(head) > first+2 {
		fmt.Fprintln(w, head)
		head = ""
	}
	for _, text := range wrap(plain(f.Found), width-first-4) {
		fmt.Fprintf(w, "%-*s%s\n", first+2, head, text)
		head = ""
	}
	if f.Do != "" {
		for i, text := range wrap("→ "+f.Do, width-first-4) {
			if i > 0 {
				text = "  " + text
			}
			fmt.Fprintf(w, "%-*s%s\n", first+2, "", text)
		}
	}
	for _, command := range f.Commands {
		fmt.Fprintf(w, "        %s\n", command)
	}
}

// examineSidecar examines with what the settings say; where they say something that cannot be, with what is left.
func examineSidecar(c *cli.Context, tell func(doctor.Finding)) error {
	settings, folder, err := loadFile(c, "sidecar")
	s, stateErr := sidecarState(c, settings.Sidecar)
	if stateErr != nil {
		return stateErr
	}
	if err == nil {
		var p sidecarPlan
		if p, err = readSidecar(c, new(systemd.Service)); err == nil {
			_, err = p.config(slog.New(slog.DiscardHandler))
		}
		if errors.Is(err, errNoWayIn) {
			err = nil // it is the identity that is missing, and not a setting
		}
	}
	over(c, "edge", &s.Edge)
	over(c, "edge-websocket", &s.EdgeWebSocket)
	over(c, "daraja-url", &s.DarajaURL)
	over(c, "listen", &s.Listen)
	overBool(c, "accept-callbacks", &s.AcceptCallbacks)
	d := doctor.Sidecar{
		Dir: s.Data, Settings: settingsAre(c, "sidecar"), SettingsErr: err, Edge: s.Edge, WebSocket: s.EdgeWebSocket, Proxy: proxyFromEnvironment(),
		NeedsNoEdge: s.AcceptCallbacks, DarajaURL: s.DarajaURL, Listen: s.Listen,
		Runs:  func(ctx context.Context) (string, error) { return linkOf(ctx, s.Data) },
		Opens: sidecar.CheckForm,
	}
	for _, name := range slices.Sorted(maps.Keys(settings.Shortcode)) {
		table := settings.Shortcode[name]
		code := doctor.Shortcode{Name: name}
		read, err := shortcodes(map[string]shortcodeSettings{name: table}, folder)
		if code.Err = err; err == nil {
			code.Shortcode = read[0]
		}
		d.Shortcodes = append(d.Shortcodes, code)
		for _, file := range []doctor.Secret{{Setting: "consumer-key-file", Path: table.ConsumerKeyFile}, {Setting: "consumer-secret-file", Path: table.ConsumerSecretFile}, {Setting: "passkey-file", Path: table.PasskeyFile}} {
			if file.Path != "" {
				d.Secrets = append(d.Secrets, doctor.Secret{Setting: file.Setting + " of [shortcode." + name + "]", Path: within(folder, file.Path)})
			}
		}
	}
	d.Examine(c.Context, tell)
	return nil
}

// settingsAre says where they are from.
func settingsAre(c *cli.Context, part string) string {
	for _, path := range settingsFiles(c, part) {
		if at, err := filepath.Abs(path); err == nil && exists(at) {
			return at
		}
	}
	return "there is no file of them: what it does anyway, and what the environment says"
}

// linkOf asks the sidecar that runs on a folder how its link is.
func linkOf(ctx context.Context, data string) (string, error) {
	var is sidecarStatus
	if err := console.Ask(ctx, data, operator(), http.MethodGet, "/status", nil, &is); err != nil {
		return "", err
	}
	switch {
	case is.Link == nil:
		return "no edge is set", nil
	case is.Link.Connected:
		return fmt.Sprintf("its link is up, over %s", map[string]string{"quic": "QUIC", "websocket": "a WebSocket"}[is.Link.Transport]), nil
	}
	return "it has no link (hodi status says more)", nil
}

// examineEdge examines with what the settings say; where they say something that cannot be, with what is left.
func examineEdge(c *cli.Context, tell func(doctor.Finding)) error {
	s, err := edgeConfig(c)
	if err == nil {
		var p edgePlan
		if p, err = readEdge(c, new(systemd.Service)); err == nil {
			_, err = p.config(slog.New(slog.DiscardHandler))
		}
	}
	over(c, "listen", &s.Listen)
	over(c, "tunnel-listen", &s.TunnelListen)
	over(c, "public-url", &s.PublicURL)
	over(c, "certificate-file", &s.CertificateFile)
	over(c, "key-file", &s.KeyFile)
	overBool(c, "plain-http", &s.PlainHTTP)
	overBool(c, "acme", &s.ACME)
	if s.Data == "" {
		over(c, "data", &s.Data)
		if s.Data == "" {
			var stateErr error
			if s.Data, stateErr = stateDir("edge"); stateErr != nil {
				return stateErr
			}
		}
	}
	s.TunnelListen = cmp.Or(s.TunnelListen, s.Listen)
	d := doctor.Edge{
		Dir: s.Data, Settings: settingsAre(c, "edge"), SettingsErr: err, Listen: s.Listen, TunnelListen: s.TunnelListen, LocalTCP: reachable(s.Listen), LocalUDP: reachable(s.TunnelListen),
		PublicURL: s.PublicURL, PlainHTTP: s.PlainHTTP, ACME: s.ACME, CertificateFile: s.CertificateFile,
		Runs:  func(ctx context.Context) (string, error) { return endpointsOf(ctx, s.Data) },
		Opens: edge.CheckForm,
	}
	if s.KeyFile != "" {
		d.Secrets = []doctor.Secret{{Setting: "key-file", Path: s.KeyFile}}
	}
	d.Examine(c.Context, tell)
	return nil
}

// endpointsOf asks the edge that runs on a folder how many of its shops are there.
func endpointsOf(ctx context.Context, data string) (string, error) {
	var listed struct{ Endpoints []endpoint }
	if err := console.Ask(ctx, data, operator(), http.MethodGet, "/endpoints", nil, &listed); err != nil {
		return "", err
	}
	connected := 0
	for _, e := range listed.Endpoints {
		if e.Connected {
			connected++
		}
	}
	return fmt.Sprintf("%d of %s connected", connected, plural(len(listed.Endpoints), "shop")), nil
}
