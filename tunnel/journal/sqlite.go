package journal

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hodihq/hodi/tunnel/wire"

	_ "modernc.org/sqlite" // the driver
)

// SQLite is a Journal in one SQLite file, which may hold other tables too.
//
// The writer (writer.go) is the connection that writes, the numbers, and all that is on disk. Whoever has the pen works
// with it, one at a time: an Append that finds the pen lying there writes what it has by itself; those that come
// meanwhile wait for the writer's goroutine, which takes all of them at once. What callers and the writer share of an
// endpoint is its history in memory (history.go): where it stands, its newest entries, and who waits for more. Older
// entries are read over connections of their own (read.go).
//
//	Append ──pen, or requests──▶ writer ──one transaction, one fsync──▶ edge.db ──▶ Next, Entry (old entries)
//	   ▲                            │
//	   └───────── committed ────────┴──publish──▶ history ──▶ Next, Entry (new entries)
type SQLite struct {
	limits   atomic.Pointer[Limits]
	log      *slog.Logger
	read     *sql.DB
	writer   *writer
	pen      chan struct{} // has a token while somebody works with the writer
	requests chan *request
	acks     chan struct{} // has a token when there are acknowledgements to save
	long     chan struct{} // has a token when the log is long (checkpoint.go)
	stop     chan struct{} // closed by Close
	ended    chan struct{} // closed by the writer when it has answered all it took, and nobody works with the file any more
	damage   chan struct{} // closed when SQLite meets damage in the file
	damaging sync.Once
	stopping sync.Once
	closing  error
	failing  atomic.Pointer[error] // why the last transaction failed; nil if it did not
	idle     sync.Pool             // *request of appends that were answered

	mu        sync.RWMutex
	histories map[string]*history // only the writer adds to it
	dirty     []*history          // acknowledged further than is saved
}

const (
	seqBits     = 40 // a thousand years at 30 callbacks a second
	maxSeq      = 1<<seqBits - 1
	maxEndpoint = 1<<(63-seqBits) - 1
)

// OpenSQLite opens the journal in the file at path, and makes it if there is none. A nil Logger discards. The writer
// runs until Close, which waits for it.
func OpenSQLite(ctx context.Context, path string, limits Limits, logger *slog.Logger) (*SQLite, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &SQLite{
		log:       logger,
		pen:       make(chan struct{}, 1),
		requests:  make(chan *request, maxWaiting),
		acks:      make(chan struct{}, 1),
		long:      make(chan struct{}, 1),
		stop:      make(chan struct{}),
		ended:     make(chan struct{}),
		damage:    make(chan struct{}),
		histories: make(map[string]*history),
	}
	s.SetLimits(limits)
	dsn, err := DataSource(path)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", path, err)
	}
	write, err := sql.Open("sqlite", dsn)
	if err == nil {
		s.read, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	}
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", path, err)
	}
	s.read.SetMaxOpenConns(8)
	s.writer = &writer{s: s, db: write}
	if err := s.writer.open(ctx, path); err != nil {
		s.writer.close()
		s.read.Close()
		return nil, fmt.Errorf("journal: open %s: %w", path, err)
	}
	go s.writer.run()
	return s, nil
}

// SetLimits has other limits hold from now on.
func (s *SQLite) SetLimits(l Limits) {
	l = l.withDefaults()
	s.limits.Store(&l)
}

// DataSource makes the file, for its owner alone, and says how SQLite is to open it. An edge keeps tables of its own in
// the same file.
func DataSource(path string) (dsn string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/...
	}
	u := url.URL{Scheme: "file", Path: slashed, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)"}
	return u.String(), nil
}

// Close ends the writer once it has stored what is already waiting, and closes the file.
func (s *SQLite) Close() error {
	s.stopping.Do(func() {
		close(s.stop)
		<-s.ended
		if err := s.read.Close(); s.closing == nil {
			s.closing = err
		}
	})
	return s.closing
}

// Append is that of Journal.
func (s *SQLite) Append(ctx context.Context, endpoint string, e wire.Entry) (uint64, error) {
	if err := e.Check(); err != nil {
		return 0, fmt.Errorf("journal: append to %s: %w", endpoint, err)
	}
	r, _ := s.idle.Get().(*request)
	if r == nil {
		r = new(request)
	}
	r.endpoint, r.what, r.entry = endpoint, appendEntry, e
	if err := s.ask(ctx, r); err != nil { // it may not have been answered: others must not use it
		return 0, fmt.Errorf("journal: append to %s: %w", endpoint, err)
	}
	seq := r.entry.Seq
	*r = request{done: r.done}
	s.idle.Put(r)
	return seq, nil
}

// State is that of Journal.
func (s *SQLite) State(ctx context.Context, endpoint string) (wire.State, error) {
	h, err := s.history(ctx, endpoint)
	if err != nil {
		return wire.State{}, fmt.Errorf("journal: state of %s: %w", endpoint, err)
	}
	return h.now(), nil
}

// Renew is that of Journal.
func (s *SQLite) Renew(ctx context.Context, endpoint string, beyond wire.Epoch) (wire.State, error) {
	r := &request{endpoint: endpoint, what: renewEpoch}
	if beyond < wire.MaxEpoch {
		r.beyond = beyond
	}
	if err := s.ask(ctx, r); err != nil {
		return wire.State{}, fmt.Errorf("journal: renew %s: %w", endpoint, err)
	}
	return r.state, nil
}

// history finds what is known of an endpoint, and has one made that is new.
func (s *SQLite) history(ctx context.Context, endpoint string) (*history, error) {
	if h := s.known(endpoint); h != nil {
		return h, nil
	}
	if err := s.ask(ctx, &request{endpoint: endpoint, what: beginHistory}); err != nil {
		return nil, err
	}
	return s.known(endpoint), nil
}

func (s *SQLite) known(endpoint string) *history {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.histories[endpoint]
}

// ask has a request answered. One that comes alone is seen to here, to its end, whatever becomes of ctx. Else it is handed
// to the writer's goroutine, and if ctx ends meanwhile, takes its course.
func (s *SQLite) ask(ctx context.Context, r *request) error {
	if r.done == nil {
		r.done = make(chan struct{}, 1)
	}
	select {
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	if s.writer.alone(r) {
		<-r.done
		return r.err
	}
	select {
	case s.requests <- r:
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
	}
	select {
	case <-r.done:
		return r.err
	default:
		return ErrClosed // it came when the writer had looked for the last time
	}
}
