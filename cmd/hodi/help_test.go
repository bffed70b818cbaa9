package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestHelpFitsATerminalOfEightyColumns(t *testing.T) {
	app := newApp(nil, nil)
	var look func(l line, commands []*cli.Command)
	look = func(l line, commands []*cli.Command) {
		var b bytes.Buffer
		writeHelp(&b, app, l)
		for text := range strings.Lines(b.String()) {
			if len(strings.TrimSuffix(text, "\n")) > width {
				t.Errorf("the help of %v has a line of %d columns: %s", l.path, len(text)-1, text)
			}
		}
		for _, c := range commands {
			look(line{command: c, path: append(l.path[:len(l.path):len(l.path)], c.Name)}, c.Subcommands)
		}
	}
	look(line{}, app.Commands)
}

func TestDevsWelcomeFitsATerminalOfEightyColumns(t *testing.T) {
	h := house{Sidecar: "http://127.0.0.1:65535", Edge: "http://127.0.0.1:65535", Sandbox: "http://127.0.0.1:65535", Callback: "http://127.0.0.1:65535/c/" + strings.Repeat("0", 32)}
	var b bytes.Buffer
	h.welcome(&b, false)
	for text := range strings.Lines(b.String()) {
		if len(strings.TrimSuffix(text, "\n")) > width {
			t.Errorf("a line of %d columns: %s", len(text)-1, text)
		}
	}
}
