package edge

import (
	"context"
	"fmt"

	"github.com/hodihq/hodi/systemd"
)

// What the edge is asked by whoever would start it anew.

// Commits has the journal store something. An error says that it lives, and cannot.
func (e *Edge) Commits(ctx context.Context) error { return e.disk.Commit(ctx) }

// Answers knocks at the TCP port, as anybody does: what comes back is an answer, whatever it says. When so many come that
// this knock is not heard, to have let in others is one too: a flood is nothing that a new process would end.
func (e *Edge) Answers(ctx context.Context) error {
	before := e.port.accepted.Load()
	words := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	if e.settings.Load().config.ProxyHeader {
		words = localProxy + words
	}
	if err := systemd.Knock(ctx, e.config.HTTP.Addr(), words); err != nil && e.port.accepted.Load() == before {
		return fmt.Errorf("edge: %w", err)
	}
	e.directory.find("") // and who posts is asked for a key
	return nil
}

// localProxy begins a connection of a proxy that speaks for itself (PROXY protocol, version 2, LOCAL).
const localProxy = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
