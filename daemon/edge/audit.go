package edge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
)

// AuditEntry is one line of the audit: what was done to this edge, when, and by whom.
type AuditEntry struct {
	ID      int64     `json:"id"`
	Time    time.Time `json:"time"`
	Who     string    `json:"who"` // an operator's name on this machine, "sidecar NAME", an address, or "edge"
	Act     string    `json:"act"`
	Subject string    `json:"subject"` // an endpoint, or what kind of guest
	Detail  string    `json:"detail,omitempty"`
}

// The acts of the audit.
const (
	actEndpointAdded = "endpoint added"
	actInviteMade    = "invite made"
	actInviteUsed    = "invite used"
	actInviteRevoked = "invite revoked"
	actIssued        = "certificate issued"
	actRenewed       = "certificate renewed"
	actRevoked       = "sidecar revoked"
	actKeyAdded      = "key added"
	actKeyRetired    = "key retired"
	actRefused       = "connection refused"
	actBackup        = "backup"
	actRestore       = "restore"
	actSalvage       = "salvage"
	actJournalLost   = "journal lost"
	actIdentity      = "identity made anew"
)

// whoEdge is who did what nobody told the edge to do.
const whoEdge = "edge"

// auditLog is the append-only table of what was done, in edge.db: the file itself refuses to change or remove a line. An
// act and its line are committed together where there is a transaction (insertAudit); elsewhere record writes the line.
type auditLog struct {
	db  *sql.DB // the directory's
	log *slog.Logger

	mu       sync.Mutex
	refusals map[refused]*refusals
}

func newAuditLog(db *sql.DB, log *slog.Logger) *auditLog {
	return &auditLog{db: db, log: log, refusals: make(map[refused]*refusals)}
}

// execer is a database or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func insertAudit(ctx context.Context, db execer, who, act, subject, detail string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO audit (time, who, act, subject, detail) VALUES (?, ?, ?, ?, ?)`,
		time.Now().UnixMilli(), who, act, subject, detail)
	return err
}

// record adds a line about what has been done already, and so stands whatever becomes of the line.
func (a *auditLog) record(ctx context.Context, who, act, subject, detail string) {
	if err := insertAudit(context.WithoutCancel(ctx), a.db, who, act, subject, detail); err != nil {
		a.log.Error("the audit lacks a line", "who", who, "act", act, "subject", subject, "detail", detail, "err", err)
	}
}

// A stranger may be refused as often as he likes, and must not fill the disk with that. So the first refusal of a kind is
// a line at once; those that follow are counted, and become one line an hour later, then two, and so on up to a day.
const (
	refusedSoonest  = time.Hour
	refusedRarest   = 24 * time.Hour
	refusedKinds    = 256 // that are told apart
	refusedFrom     = 5   // addresses that a line names
	refusedAnything = "others"
)

// refused is a kind of refusal.
type refused struct {
	subject string // which kind of guest, or which endpoint's: of few that there can be
	put     bool   // its sidecar was put out by an operator, who is waiting for nothing else: no other refusal stands before it
}

// refusals is what was not yet written about one kind.
type refusals struct {
	count int
	from  []string // addresses; the first few
	last  string   // why, most lately
	due   time.Time
	wait  time.Duration
}

// refused records that somebody was not let in.
func (a *auditLog) refused(ctx context.Context, remote, subject, why string) {
	a.refuse(ctx, remote, refused{subject: subject}, why)
}

// revoked records that a sidecar was not let in which an operator has put out: of these there are as many as of endpoints.
func (a *auditLog) revoked(ctx context.Context, remote, endpoint, why string) {
	a.refuse(ctx, remote, refused{endpoint, true}, why)
}

// expect has the next refusal of an endpoint's sidecar be a line at once: it is put out now.
func (a *auditLog) expect(ctx context.Context, endpoint string) {
	a.mu.Lock()
	r := a.refusals[refused{endpoint, true}]
	delete(a.refusals, refused{endpoint, true})
	a.mu.Unlock()
	if r != nil && r.count > 0 {
		a.record(ctx, r.who(), actRefused, endpoint, r.told())
	}
}

func (a *auditLog) refuse(ctx context.Context, remote string, kind refused, why string) {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		remote = host
	}
	now := time.Now()
	a.mu.Lock()
	r := a.refusals[kind]
	if r == nil && len(a.refusals) >= refusedKinds && !kind.put {
		kind.subject = refusedAnything
		r = a.refusals[kind]
	}
	if r == nil || r.count == 0 && now.After(r.due) {
		a.refusals[kind] = &refusals{due: now.Add(refusedSoonest), wait: refusedSoonest}
		a.mu.Unlock()
		a.record(ctx, remote, actRefused, kind.subject, why)
		return
	}
	r.count++
	r.last = why
	if len(r.from) < refusedFrom && !slices.Contains(r.from, remote) {
		r.from = append(r.from, remote)
	}
	a.mu.Unlock()
	a.summarise(ctx, now)
}

func (r *refusals) who() string { return strings.Join(r.from, " ") }

func (r *refusals) told() string {
	return fmt.Sprintf("%d times more; most lately: %s", r.count, r.last)
}

// summarise writes what was counted and is due by now.
func (a *auditLog) summarise(ctx context.Context, now time.Time) {
	type line struct{ who, subject, detail string }
	var lines []line
	a.mu.Lock()
	for kind, r := range a.refusals {
		if now.Before(r.due) {
			continue
		}
		if r.count > 0 {
			lines = append(lines, line{r.who(), kind.subject, r.told()})
			r.wait = min(2*r.wait, refusedRarest)
			r.count, r.from, r.due = 0, nil, now.Add(r.wait)
		} else if now.After(r.due.Add(refusedRarest)) {
			delete(a.refusals, kind)
		}
	}
	a.mu.Unlock()
	for _, l := range lines {
		a.record(ctx, l.who, actRefused, l.subject, l.detail)
	}
}

// finish writes all that was counted: the edge stops.
func (a *auditLog) finish(ctx context.Context) { a.summarise(ctx, time.Now().Add(2*refusedRarest)) }

// list is the newest lines older than before, oldest first. before 0: the newest of all.
func (a *auditLog) list(ctx context.Context, before int64, limit int) ([]AuditEntry, error) {
	a.summarise(ctx, time.Now())
	list, err := a.query(ctx, `WHERE ? = 0 OR id < ? ORDER BY id DESC LIMIT ?`, before, before, limit)
	slices.Reverse(list)
	return list, err
}

// mishaps is the lines about what the disk did to the journal, since a time.
func (a *auditLog) mishaps(ctx context.Context, since time.Time) ([]AuditEntry, error) {
	return a.query(ctx, `WHERE act IN (?, ?) AND time >= ? ORDER BY id`, actSalvage, actJournalLost, since.UnixMilli())
}

func (a *auditLog) query(ctx context.Context, which string, args ...any) ([]AuditEntry, error) {
	rows, err := a.db.QueryContext(ctx, `SELECT id, time, who, act, subject, detail FROM audit `+which, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []AuditEntry{}
	for rows.Next() {
		var e AuditEntry
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Who, &e.Act, &e.Subject, &e.Detail); err != nil {
			return nil, err
		}
		e.Time = fromMilli(at)
		list = append(list, e)
	}
	return list, rows.Err()
}

// recordIn adds a line to the database in dir, which an edge may have open or not: a backup is made by a process of its own.
// That may be older than the edge, and then keeps off; or newer, and then leaves the form to the edge.
func recordIn(ctx context.Context, dir, who, act, detail string) error {
	if err := CheckForm(dir); err != nil {
		return err
	}
	return withDatabase(filepath.Join(dir, databaseFile), func(db *sql.DB) error {
		return insertAudit(ctx, db, who, act, whoEdge, detail)
	})
}

func withDatabase(path string, do func(*sql.DB) error) (err error) {
	dsn, err := journal.DataSource(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	return do(db)
}

// auditFinds picks the lines of an audit out of what is found in a damaged database. What was found may be of any table,
// come more than once, and be wrong: a line is only what looks like one in every column.
type auditFinds struct{ lines map[int64][]any }

const auditColumns = 6

func (f *auditFinds) look(id int64, values []any) {
	if id <= 0 || len(values) != auditColumns || values[0] != nil || f.lines[id] != nil {
		return
	}
	if at, ok := values[1].(int64); !ok || at < 1e12 || at > 1e14 {
		return
	}
	for _, v := range values[2:] {
		if _, ok := v.(string); !ok {
			return
		}
	}
	if f.lines == nil {
		f.lines = make(map[int64][]any)
	}
	f.lines[id] = values[1:]
}

// putInto writes the lines into the database at path, and one about the salvage.
func (f *auditFinds) putInto(ctx context.Context, path, detail string) error {
	return withDatabase(path, func(db *sql.DB) error {
		if err := up(ctx, db, path, nil); err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for id, values := range f.lines {
			if _, err := tx.ExecContext(ctx, `INSERT INTO audit (id, time, who, act, subject, detail) VALUES (?, ?, ?, ?, ?, ?)`, append([]any{id}, values...)...); err != nil {
				return err
			}
		}
		if err := insertAudit(ctx, tx, whoEdge, actSalvage, whoEdge, detail); err != nil {
			return err
		}
		return tx.Commit()
	})
}
