// Package watch asks Daraja about payments of which nothing was heard.
package watch

import (
	"context"
	"errors"
	"log/slog"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

// Watch asks about the payments of a Table. Table and Client are required.
type Watch struct {
	Table *correlate.Table
	// Client returns the client of a shortcode by its name, or nil if there is none any more.
	Client func(shortcode string) *daraja.Client
	// PerMinute is how many questions the whole sidecar asks in a minute, one at a time. Default: 5.
	PerMinute int
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Run asks until ctx ends, then returns nil.
func (w *Watch) Run(ctx context.Context) error { return errors.ErrUnsupported }
