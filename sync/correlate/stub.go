package correlate

import (
	"context"
	"errors"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

var errTODO = errors.New("not written yet")

type Table struct{}

func Open(ctx context.Context, cfg Config) (*Table, error) { return nil, errTODO }
func (t *Table) Close() error                              { return errTODO }
func (t *Table) Epoch() uint64                             { return 0 }
func (t *Table) Head() uint64                              { return 0 }

// Session is one checkout.
type Session struct {
	ID               string
	Amount           push.Money // pinned; 0: the page chooses
	AccountReference string     // pinned; "": the page chooses
	Shortcode        string     // pinned; "": the page chooses
	Created          time.Time
	Opened           bool // by the app; otherwise it only came about
}

func (t *Table) OpenSession(ctx context.Context, s Session) (Session, error) { return s, errTODO }
func (t *Table) Session(ctx context.Context, id string) (Session, error)     { return Session{}, errTODO }

// Request is what a payment begins with.
type Request struct {
	Session          string
	Phone            string // normalised
	Amount           push.Money
	AccountReference string
	Shortcode        string // its name in the configuration
	Number           string // what customers pay to
	Environment      string
	IdempotencyKey   string
	Again            bool // the caller knows that the last payment has no result and wants to charge anyway
}

// Begun is the answer to a Request.
type Begun struct {
	Payment Payment
	Send    bool // a new payment, to be sent to Daraja now; otherwise Payment is the answer as it stands
}

func (t *Table) Begin(ctx context.Context, r Request) (Begun, error) { return Begun{}, errTODO }
func (t *Table) Ref(paymentID string) string                         { return "" }
func (t *Table) Accepted(ctx context.Context, paymentID, merchantRequestID, checkoutRequestID string) (Payment, error) {
	return Payment{}, errTODO
}
func (t *Table) Refused(ctx context.Context, paymentID string, outcome daraja.Outcome, code, desc string) (Payment, error) {
	return Payment{}, errTODO
}
func (t *Table) Ambiguous(ctx context.Context, paymentID, why string) (Payment, error) {
	return Payment{}, errTODO
}

// Registration is a push that the app makes itself.
type Registration struct {
	PaymentID         string // of a reservation that is now completed; "" otherwise
	Session           string // "": a session of its own
	Phone             string // normalised
	MerchantRequestID string // both ids or none: without them the payment is reserved, and has a ref
	CheckoutRequestID string
	AccountReference  string
	Shortcode         string
	Number            string
	Environment       string
	Amount            push.Money // 0: not known
}

func (t *Table) Register(ctx context.Context, r Registration) (Payment, error) {
	return Payment{}, errTODO
}
func (t *Table) Silence(ctx context.Context) (next time.Time, err error) { return time.Time{}, errTODO }
func (t *Table) Due(ctx context.Context, limit int) (due []Payment, next time.Time, err error) {
	return nil, time.Time{}, errTODO
}
func (t *Table) Answer(ctx context.Context, paymentID string, a daraja.Answer) (Payment, error) {
	return Payment{}, errTODO
}
func (t *Table) Asked(ctx context.Context, paymentID string) error { return errTODO }
func (t *Table) Wake() <-chan struct{}                             { return nil }

func (t *Table) Cursor(ctx context.Context) (wire.Cursor, error)    { return wire.Cursor{}, errTODO }
func (t *Table) Welcome(ctx context.Context, w wire.Welcome) error { return errTODO }
func (t *Table) Apply(ctx context.Context, epoch wire.Epoch, entries []wire.Entry) error {
	return errTODO
}
func (t *Table) CallbackBase() string { return "" }
func (t *Table) Receive(ctx context.Context, e wire.Entry, session string) (Callback, error) {
	return Callback{}, errTODO
}

func (t *Table) Payment(ctx context.Context, id string) (Payment, error) { return Payment{}, errTODO }

// Filter chooses payments. The zero Filter is all of them.
type Filter struct {
	Status    string
	Session   string
	Shortcode string
	From, To  time.Time // of their beginning: From ≤ t < To
	After     string    // what the last page returned as next
	Limit     int       // default 100
}

func (t *Table) Payments(ctx context.Context, f Filter) (list []Payment, next string, err error) {
	return nil, "", errTODO
}

// Query finds payments by what a person may hold in hand. Fields that are set must all match.
type Query struct {
	Receipt           string
	CheckoutRequestID string
	Phone             string // normalised
	Limit             int    // default 50
}

func (t *Table) Search(ctx context.Context, q Query) ([]Payment, error) { return nil, errTODO }

// Snapshot is a session's present state and the place in the history that it is of.
type Snapshot struct {
	Message    push.Message
	Exists     bool   // the session has a payment
	Head       uint64 // of all events: later ones are not in Message
	SessionSeq uint64 // of the session's newest event; 0 if it has none
}

func (t *Table) Snapshot(ctx context.Context, session string) (Snapshot, error) {
	return Snapshot{}, errTODO
}
func (t *Table) Events(ctx context.Context, session string, after uint64, limit int) ([]Event, error) {
	return nil, errTODO
}
func (t *Table) Oldest(ctx context.Context) (uint64, error) { return 0, errTODO }

// The states of a callback.
const (
	StateApplied   = "applied"   // it changed its payment
	StateRepeated  = "repeated"  // it said what was known
	StateOverruled = "overruled" // it said something else than what stands and may not be unsaid
	StateUnmatched = "unmatched" // its payment is not known yet
	StateUnparsed  = "unparsed"  // it could not be read
	StateSuspect   = "suspect"   // it was not believed
)

// Callback is a callback as it came, and what became of it.
type Callback struct {
	ID        string // journal epoch and seq, in the form of a cursor
	Received  time.Time
	State     string
	Error     string // why it is unparsed, suspect or overruled
	PaymentID string
	Session   string // whose address it was posted to, in development
	Ref       string // without its MAC
	Remote    string
	Header    []byte
	Body      []byte
}

// CallbackFilter chooses callbacks. The zero CallbackFilter is all of them.
type CallbackFilter struct {
	States []string
	After  string // the ID behind which to begin
	Limit  int    // default 100
}

func (t *Table) Callbacks(ctx context.Context, f CallbackFilter) (list []Callback, next string, err error) {
	return nil, "", errTODO
}
func (t *Table) Counts(ctx context.Context) (map[string]int64, error) { return nil, errTODO }

// Stats is how the cache is doing.
type Stats struct{ Hits, Misses uint64 }

func (t *Table) Stats() Stats { return Stats{} }
