package correlate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Config says where a Table is and how it judges. Path and Key are required.
type Config struct {
	// Path of the SQLite file. It is made if it is not there.
	Path string
	// Key is the secret behind refs, 32 bytes.
	Key []byte
	// Trusting believes a callback with both ids of a payment even without the payment's ref, accepts an amount other than
	// asked for (unchecked), and takes sessions that nobody opened. For development only. Default: off.
	Trusting bool
	// CacheSize is how many hot payments are kept in memory. Default: 10,000.
	CacheSize int
	// UnknownAfter is how long a payment stays PENDING without news. Default: 90 s.
	UnknownAfter time.Duration
	// FirstAsk is when Daraja is first asked about a payment, after its beginning. Default: 30 s.
	FirstAsk time.Duration
	// KeepEvents is how long events can be resumed from. Default: 7 days.
	KeepEvents time.Duration
	// Publish is given the events of every commit, in order, under the lock that orders commits. It must not block and
	// must not call the Table. Default: nobody is told.
	Publish func([]Event)
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Event is one numbered update.
type Event struct {
	Seq     uint64
	Session string
	Message push.Message // in what Publish is given; Events leaves it to the reader to decode
	Encoded []byte       // the message as JSON, which nobody may change
}

// What callers can branch on.
var (
	ErrNotFound    = errors.New("not found")
	ErrAgain       = errors.New("the last payment of this session has no result yet; charging again needs \"again\": true")
	ErrIdempotency = errors.New("the idempotency key was used for another request")
	ErrPinned      = errors.New("the session is for another amount, account reference or shortcode")
	ErrConflict    = errors.New("the payment is known under other ids")
	ErrInvalid     = errors.New("the request is not complete")
)

// PromptLiveError refuses a second prompt for a phone that has one. It says nothing about whose that is.
type PromptLiveError struct{ RetryAfter time.Duration }

func (e *PromptLiveError) Error() string {
	return fmt.Sprintf("this phone has a live prompt; try again in %s", e.RetryAfter.Round(time.Second))
}

var _ = context.Background
