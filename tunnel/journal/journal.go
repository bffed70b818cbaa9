// Package journal is the edge's durable, numbered history of callbacks, one for each endpoint.
package journal

import (
	"context"
	"errors"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Journal keeps a history for each endpoint: entries numbered from 1 without a gap, in an epoch. Its methods may be
// called at the same time. Package journaltest says what an implementation must do.
type Journal interface {
	// Append stores an entry, and returns its number when it would survive a power cut; e.Seq is ignored. An error of
	// ctx means that it is not known whether the entry was stored: it may be, later, too. Any other error means that
	// it was not, and will not be. Header and Body must not be changed afterwards. Of a canary (wire.KindCanary) only the
	// kind and the time count, and the time only if it begins a run: the rest is as wire.CanaryOf says. It takes no room.
	Append(ctx context.Context, endpoint string, e wire.Entry) (seq uint64, err error)

	// State says where the endpoint's history is. It begins one for an endpoint that has none.
	State(ctx context.Context, endpoint string) (wire.State, error)

	// Entry returns one entry, or ErrNoEntry. That at State.Acked is never forgotten.
	Entry(ctx context.Context, endpoint string, seq uint64) (wire.Entry, error)

	// Next returns entries behind after, in order, as soon as there is one: at least one, and no more than maxBytes in
	// frames unless the first alone is larger. They begin at the oldest entry held where after lies before it.
	// The entries are shared: their bytes must not be changed.
	Next(ctx context.Context, endpoint string, after uint64, maxBytes int) ([]wire.Entry, error)

	// Ack notes that the endpoint's reader has committed everything up to seq, so that it may be forgotten some day.
	// It never goes backwards, and does nothing for an entry that is forgotten already. It is refused with ErrEpoch for another epoch than the present one, and with ErrNoEntry
	// for an entry that there never was.
	Ack(ctx context.Context, endpoint string, epoch wire.Epoch, seq uint64) error

	// Renew puts the endpoint's history, as it is, into a new epoch, greater than the present one and than beyond: that
	// which a reader knows of a history that this one has forgotten. A beyond that is no epoch counts for nothing.
	Renew(ctx context.Context, endpoint string, beyond wire.Epoch) (wire.State, error)

	// Close waits for appends that are under way and releases everything. Calls that wait get ErrClosed.
	Close() error
}

// What callers of a Journal may have to tell apart. The errors of a Journal say the rest of the sentence.
var (
	ErrFull    = errors.New("the endpoint holds as many unacknowledged entries as it may")
	ErrNoEntry = errors.New("no such entry")
	ErrEpoch   = errors.New("another epoch")
	ErrClosed  = errors.New("closed")
)

// Limits bound what is kept, for each endpoint by itself.
type Limits struct {
	KeepAcked   time.Duration // how long entries are kept once they are acknowledged; default 7 days
	KeepUnacked time.Duration // how long they are kept when they never are; default 90 days
	MaxBytes    int64         // unacknowledged bytes, past which Append gives ErrFull; default 256 MiB
}

func (l Limits) withDefaults() Limits {
	if l.KeepAcked == 0 {
		l.KeepAcked = 7 * 24 * time.Hour
	}
	if l.KeepUnacked == 0 {
		l.KeepUnacked = 90 * 24 * time.Hour
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = 256 << 20
	}
	return l
}
