package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/cmd/hodi/bundle"
	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/daemon/salvage"
)

func supportCommand() *cli.Command {
	return &cli.Command{
		Name:  "support-bundle",
		Usage: "write a file that tells those who help you how this machine's sidecar and edge are",
		Description: "The file is safe to send: it has versions, settings (of a text only whether it is set), what hodi status and hodi doctor find, counts, sizes and times, " +
			"and by the way it is made no name, phone number, amount, receipt, address, key or body. Open it and look. It works when a daemon is down, too. " +
			"Run it as root, or as the daemon's user.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "write `FILE`, which must not be there; if not given, hodi-support-DATE.zip in this folder"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "ask the sidecar at `ADDRESS`", EnvVars: []string{"HODI_SIDECAR_LISTEN"}},
			&cli.StringFlag{Name: "data", Usage: "whose state is in `DIR`, with the key that it is asked with", EnvVars: []string{"HODI_SIDECAR_DATA"}},
			&cli.StringFlag{Name: "edge-data", Usage: "ask the edge whose state is in `DIR`", EnvVars: []string{"HODI_EDGE_DATA"}},
			&cli.BoolFlag{Name: "no-doctor", Usage: "leave out what hodi doctor finds, which takes a while where there is no network"},
		},
		Action: writeSupport,
	}
}

// writeSupport makes the whole file in memory, which is some kilobytes, so that a full disk leaves nothing behind.
func writeSupport(c *cli.Context) error {
	now := time.Now()
	name := c.String("output")
	if name == "" {
		name = "hodi-support-" + now.Format("20060102-150405") + ".zip"
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("support-bundle: %w", err)
	}
	if exists(name) {
		return fmt.Errorf("support-bundle: %s is there already: name another with --output", name)
	}
	var file bytes.Buffer
	if err := bundle.Write(&file, now, gather(c, now)...); err != nil {
		return fmt.Errorf("support-bundle: %w", err)
	}
	switch err := salvage.WriteFile(name, file.Bytes()); {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("support-bundle: the disk is full, and nothing was written: %s has no room for %s. Name a place on another disk with --output", filepath.Dir(name), bytesText(int64(file.Len())))
	case err != nil:
		return fmt.Errorf("support-bundle: nothing was written: %w", err)
	}
	fmt.Fprintf(c.App.Writer, "%s\n\n", name)
	paragraph(c.App.Writer, fmt.Sprintf("It has %s: versions, settings, counts, sizes and times, as JSON in a zip file. No name, number, amount, receipt, address or key can be in it. Open it and look; then send it.", bytesText(int64(file.Len()))))
	return nil
}

// gather asks everybody who can tell something. What one of them cannot tell is no reason to do without the others.
func gather(c *cli.Context, now time.Time) []bundle.Part {
	h := new(health)
	sidecarErr, edgeErr := askSidecar(c, h), askEdge(c, h)
	parts := []bundle.Part{
		{Name: bundle.Say("machine"), Value: machineFacts(now)},
		{Name: bundle.Say("settings"), Value: settingsFacts(c)},
		{Name: bundle.Say("sidecar"), Value: sidecarFactsOf(c, h.Sidecar, sidecarErr)},
		{Name: bundle.Say("edge"), Value: edgeFactsOf(c, h.Edge, edgeErr)},
	}
	if !c.Bool("no-doctor") {
		parts = append(parts, bundle.Part{Name: bundle.Say("doctor"), Value: doctorFactsOf(c, h)})
	}
	return parts
}

// doctorWithin is how long hodi doctor may take.
const doctorWithin = 90 * time.Second

type findingFacts struct {
	Check, Verdict bundle.Word
}

type doctorFacts struct {
	Sidecar, Edge []findingFacts `json:",omitempty"`
	Why           []bundle.Word  `json:",omitempty"` // it could not look
}

// doctorFactsOf has the doctor look at what there is on this machine; where there is nothing, at the sidecar that somebody wants here.
func doctorFactsOf(c *cli.Context, h *health) (d doctorFacts) {
	ctx, cancel := context.WithTimeout(c.Context, doctorWithin)
	defer cancel()
	within := *c
	within.Context = ctx
	look := func(into *[]findingFacts, flags []cli.Flag, told map[string]string, examine func(*cli.Context, func(doctor.Finding)) error) {
		err := withFlags(flags, func(inner *cli.Context, tell func(doctor.Finding)) error {
			for ours, theirs := range told {
				if c.IsSet(ours) {
					if err := inner.Set(theirs, c.String(ours)); err != nil {
						return err
					}
				}
			}
			return examine(inner, tell)
		})(&within, func(f doctor.Finding) { *into = append(*into, findingFactsOf(f)) })
		if err != nil {
			d.Why = append(d.Why, whyOf(err.Error())...)
		}
	}
	if h.Sidecar != nil || h.Edge == nil {
		look(&d.Sidecar, sidecarCommand().Flags, map[string]string{"data": "data", "listen": "listen"}, examineSidecar)
	}
	if h.Edge != nil {
		look(&d.Edge, edgeCommand().Flags, map[string]string{"edge-data": "data"}, examineEdge)
	}
	return d
}

func findingFactsOf(f doctor.Finding) findingFacts {
	check, name, _ := strings.Cut(f.Check, " ")
	if check != "Daraja" && name != "" { // whose name is that of a shortcode
		check = f.Check
	}
	return findingFacts{
		bundle.OneOf(check, "DNS", "Daraja", "QUIC", "TCP", "TCP port", "TLS", "UDP buffers", "UDP port", "certificate", "clock", "database", "disk", "edge", "identity", "link", "name", "public TCP", "public UDP",
			"permissions", "proxy", "settings", "sidecar"),
		bundle.OneOf(string(f.Verdict), "ok", "warn", "fail", "skip"),
	}
}

// whyOf is what is told of an error: those of these words that are in it.
func whyOf(text string) []bundle.Word {
	return bundle.Phrases(text,
		"no space left on device", "disk is full", "permission denied", "read-only file system", "input/output error", "no such file or directory", "too many open files",
		"malformed", "not a database", "is damaged", "locked", "a newer hodi has used this database",
		"does not answer", "not answered", "was refused", "connection refused", "connection reset", "no such host", "network is unreachable", "no route to host", "timeout", "deadline exceeded",
		"certificate", "expired", "revoked", "unknown authority", "two machines use one identity", "proxy", "captive", "UDP is", "QUIC", "WebSocket",
		"wants a key", "is no sidecar", "no edge answers", "no sidecar answers", "unknown setting", "is not known", "toml", "clock", "401", "403", "404", "429", "500", "502", "503")
}
