package correlate

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	_ "modernc.org/sqlite" // the driver

	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Config says where a Table is and how it judges. Path and Key are required. What SetRules takes may change later.
type Config struct {
	// Path of the SQLite file. It is made if it is not there.
	Path string
	// Key is the secret behind refs, 32 bytes.
	Key []byte
	// OldKeys are those that refs were made with before, and that are still believed. Default: none.
	OldKeys [][]byte
	// Trusting believes a callback with both ids of a payment even without the payment's ref, accepts an amount other than
	// asked for (unchecked), and takes sessions that nobody opened. For development only. Default: off.
	Trusting bool
	// QueryAbove is, by the name of a shortcode, the amount above which a success that a callback tells of does not count
	// before Daraja was asked, or a person has confirmed it. Default: callbacks are believed whatever the amount.
	QueryAbove map[string]push.Money
	// Limits bounds the prompts on one phone, and of one session. Default: no limits.
	Limits Limits
	// CacheSize is how many hot payments are kept in memory. Default: 10,000.
	CacheSize int
	// UnknownAfter is how long a payment stays PENDING without news. Default: 90 s.
	UnknownAfter time.Duration
	// FirstAsk is when Daraja is first asked about a payment, after its beginning. Default: 30 s.
	FirstAsk time.Duration
	// KeepEvents is how long events can be resumed from. Default: 7 days.
	KeepEvents time.Duration
	// KeepBodies is how long Retain keeps the bodies and headers of callbacks: two days at least, in which a callback may
	// still find its payment. Default: for ever.
	KeepBodies time.Duration
	// KeepPayments is how long Retain keeps payments. Default: for ever.
	KeepPayments time.Duration
	// Forwarding says that callbacks are given to the merchant's app, through an Outbox: their bodies are kept until they are
	// handled, or given up. Default: they are not.
	Forwarding bool
	// Publish is given the events of every commit, in order, under the lock that orders commits. It must not block and
	// must not call the Table. Default: nobody is told.
	Publish func([]Event)
	// Damaged is told, once, that the file is not what was written to it. Nothing may be storable then. It must not block
	// and must not call the Table. Default: only the errors say so.
	Damaged func(err error)
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// What callers can branch on.
var (
	ErrNotFound    = errors.New("not found")
	ErrAgain       = errors.New("a payment of this session has no result yet; charging again needs \"again\": true")
	ErrIdempotency = errors.New("the idempotency key was used for another request")
	ErrPinned      = errors.New("the session is for another amount, account reference or shortcode")
	ErrExpired     = errors.New("the session was opened more than a day ago")
	ErrConflict    = errors.New("the payment is known under other ids")
	ErrInvalid     = errors.New("the request is not complete")
)

// PromptLiveError refuses a second prompt for a phone that has one. It says nothing about whose that is.
type PromptLiveError struct{ RetryAfter time.Duration }

func (e *PromptLiveError) Error() string {
	return fmt.Sprintf("this phone has a live prompt; try again in %s", e.RetryAfter.Round(time.Second))
}

// Table is the payments of one sidecar. Its methods may be called from any goroutine.
type Table struct {
	cfg  Config // but what is in rules
	log  *slog.Logger
	wake chan struct{}
	long chan struct{} // the log is

	arrived chan struct{} // there may be something for the Outbox
	again   atomic.Bool   // and also among what it has read

	rules atomic.Pointer[rules]
	ruled chan struct{} // there are others

	read *sql.DB // for look-ups; it sees what is committed

	// The caches hold what is committed, never more: a transaction changes them when it has ended well. Readers take
	// from them and put nothing in, because what they read may be old by then.
	payments  *lru.Cache[string, *Payment]  // by id
	merchants *lru.Cache[string, string]    // MerchantRequestID to payment id
	sessions  *lru.Cache[string, *checkout] // by id

	signing sync.Mutex
	signers []hash.Hash // make the codes of refs, the first of them those of new ones; keeping them is most of what one costs

	counting sync.Mutex
	counts   map[string]int64 // of callbacks, by state; the writer makes a new one for every change

	failing atomic.Pointer[error] // why the last transaction could not be stored; nil if it was
	tidying atomic.Bool           // see Busy
	damaged sync.Once

	strangers strangers // in the audit

	epoch    uint64
	head     atomic.Uint64
	base     atomic.Pointer[string] // of callback addresses
	mu       sync.Mutex             // one writer at a time; what follows is the writer's
	db       *sql.DB
	conn     *sql.Conn
	do       statements
	spot     map[uint64]spot // how far each journal was applied, by its epoch
	reading  uint64          // the epoch that is in progress
	at       uint64          // the journal epoch last welcomed
	other    wire.Cursor     // the entry that a journal, by another under its number, was seen to have lost
	pruned   time.Time       // when old events were looked for last
	noticing bool            // there are C2B notices
	behind   int             // pages, or so, that were logged since the last checkpoint
}

// Open opens the file, or makes it. It starts nothing; Close releases the file.
func Open(ctx context.Context, cfg Config) (*Table, error) {
	t, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("correlate: open %s: %w", cfg.Path, err)
	}
	return t, nil
}

func open(ctx context.Context, cfg Config) (_ *Table, err error) {
	setDefault(&cfg.CacheSize, 10_000)
	setDefault(&cfg.KeepEvents, 7*24*time.Hour)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Table{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), long: make(chan struct{}, 1), arrived: make(chan struct{}, 1), ruled: make(chan struct{}, 1), spot: make(map[uint64]spot), counts: make(map[string]int64)}
	if err := t.SetKeys(cfg.Key, cfg.OldKeys...); err != nil {
		return nil, err
	}
	t.rules.Store(rulesOf(cfg))
	if t.payments, err = lru.New[string, *Payment](cfg.CacheSize); err != nil {
		return nil, err
	}
	if t.merchants, err = lru.New[string, string](cfg.CacheSize); err != nil {
		return nil, err
	}
	if t.sessions, err = lru.New[string, *checkout](cfg.CacheSize); err != nil {
		return nil, err
	}

	// The file holds phone numbers. SQLite gives its companions (-wal, -shm) the same mode.
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	file, err := dataSource(cfg.Path)
	if err != nil {
		return nil, err
	}
	if t.db, err = sql.Open("sqlite", fmt.Sprintf("%s&_pragma=journal_mode(wal)&_pragma=secure_delete(on)&_pragma=wal_autocheckpoint(%d)&_pragma=cache_size(-8000)&_txlock=immediate", file, checkpointSelf)); err != nil {
		return nil, err
	}
	t.db.SetMaxOpenConns(1)
	if t.conn, err = t.db.Conn(ctx); err != nil {
		return nil, err
	}
	if err := migrate(ctx, t.conn, cfg.Path, t.log); err != nil {
		return nil, err
	}
	if t.do, err = prepare(ctx, t.conn); err != nil {
		return nil, err
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if t.read, err = sql.Open("sqlite", file+"&_pragma=query_only(1)&_pragma=cache_size(-2000)"); err != nil {
		return nil, err
	}
	t.read.SetMaxOpenConns(4)
	t.read.SetMaxIdleConns(2)
	t.wakeUp() // what came due while nobody ran
	return t, nil
}

// dataSource says how SQLite is to open the file.
func dataSource(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if path = filepath.ToSlash(path); path[0] != '/' {
		path = "/" + path // C:/...
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)&_pragma=synchronous(full)"}
	return u.String(), nil
}

// load reads the few things that the writer keeps in mind.
func (t *Table) load(ctx context.Context) error {
	var journal int64
	var base string
	row := t.conn.QueryRowContext(ctx, "SELECT epoch, journal, callback, (SELECT coalesce(max(seq), 0) FROM events), EXISTS (SELECT 1 FROM money) FROM store")
	var epoch, head int64
	if err := row.Scan(&epoch, &journal, &base, &head, &t.noticing); err != nil {
		return err
	}
	t.epoch, t.at = uint64(epoch), uint64(journal)
	t.head.Store(uint64(head))
	t.base.Store(&base)
	return t.loadProgress(ctx)
}

// Close releases the file. It waits for the writer that is at work.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	if t.read != nil {
		errs = append(errs, t.read.Close())
	}
	errs = append(errs, t.do.close())
	if t.conn != nil {
		t.conn.Close()
	}
	if t.db != nil {
		errs = append(errs, t.db.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("correlate: close: %w", err)
	}
	return nil
}

// Epoch is that of the history of events: when the file was made.
func (t *Table) Epoch() uint64 { return t.epoch }

// Head is the Seq of the newest event.
func (t *Table) Head() uint64 { return t.head.Load() }

// Wake is signalled when something may be due earlier than was last said.
func (t *Table) Wake() <-chan struct{} { return t.wake }

func (t *Table) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Ref is the part of a callback address that names a payment: its id, and the code that nobody else can make.
func (t *Table) Ref(paymentID string) string { return paymentID + t.mac(paymentID) }

func (t *Table) mac(paymentID string) string {
	t.signing.Lock()
	defer t.signing.Unlock()
	return code(t.signers[0], paymentID)
}

// made reports whether a ref was made here, with a key that is not retired.
func (t *Table) made(paymentID, given string) bool {
	t.signing.Lock()
	defer t.signing.Unlock()
	for _, signer := range t.signers {
		if hmac.Equal([]byte(given), []byte(code(signer, paymentID))) {
			return true
		}
	}
	return false
}

func code(signer hash.Hash, paymentID string) string {
	signer.Reset()
	signer.Write([]byte(paymentID))
	var sum [sha256.Size]byte
	return hex.EncodeToString(signer.Sum(sum[:0])[:16])
}

// SetKeys changes the key that refs are made with from now on, and those that are believed besides.
func (t *Table) SetKeys(key []byte, old ...[]byte) error {
	var signers []hash.Hash
	for _, k := range append([][]byte{key}, old...) {
		if len(k) != 32 {
			return fmt.Errorf("correlate: the callback key has %d bytes, not 32", len(k))
		}
		signers = append(signers, hmac.New(sha256.New, k))
	}
	t.signing.Lock()
	defer t.signing.Unlock()
	t.signers = signers
	return nil
}

// splitRef takes a ref apart. What does not have the form of a ref is not ours: an app may end its addresses as it likes.
func splitRef(ref string) (paymentID, code string, ours bool) {
	if len(ref) != 64 || !isHex(ref) {
		return "", "", false
	}
	return ref[:32], ref[32:], true
}

func isHex(s string) bool {
	for _, r := range []byte(s) {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// newID mints 32 hex digits.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// now is the time to the millisecond, so that a payment is the same before and after it was stored.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()).UTC() }

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Event is one numbered update.
type Event struct {
	Seq     uint64
	Session string
	Message push.Message // in what Publish is given; not decoded again in what Events reads
	Encoded []byte       // the message as JSON: one encoding for all readers, which nobody may change

	prev uint64 // the payment's event before this one
}
