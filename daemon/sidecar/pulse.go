package sidecar

import (
	"context"
	"fmt"

	"github.com/hodihq/hodi/systemd"
)

// What the sidecar is asked by whoever would start it anew: not whether the edge is connected.

// Commits has the table store something. An error says that it lives, and cannot.
func (s *Sidecar) Commits(ctx context.Context) error { return s.table.Commit(ctx) }

// Busy reports whether the table has reason not to store for minutes.
func (s *Sidecar) Busy() bool { return s.table.Busy() }

// Answers knocks at the sidecar's own port; what comes back is an answer, whatever it says.
func (s *Sidecar) Answers(ctx context.Context) error {
	if err := systemd.Knock(ctx, s.config.Listener.Addr(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	return nil
}
