package sandbox

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver
)

// keep is how long a finished request can be asked about.
const keep = 7 * 24 * time.Hour

// schema holds a request as one document, with the few facts beside it that it is looked up by. due is when something
// happens to it next, in Unix milliseconds.
const schema = `
CREATE TABLE IF NOT EXISTS request (
	id       TEXT PRIMARY KEY,
	checkout TEXT NOT NULL,
	phone    TEXT NOT NULL,
	stage    TEXT NOT NULL,
	created  INTEGER NOT NULL,
	due      INTEGER,
	receipt  TEXT UNIQUE,
	doc      TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS request_checkout ON request (checkout);
CREATE INDEX IF NOT EXISTS request_due ON request (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS request_created ON request (created);
CREATE TABLE IF NOT EXISTS behaviour (phone TEXT PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS token (value TEXT PRIMARY KEY, expires INTEGER NOT NULL);
`

// store is what a sandbox remembers. It takes no context: a request that goes away must not take a transaction, or in
// memory the whole database, with it. Commits survive a killed process; surviving a power cut is more than a toy needs.
type store struct {
	db   *sql.DB
	lock *flock.Flock
}

func openStore(dir string, now time.Time) (*store, error) {
	st := &store{}
	dsn := ":memory:"
	if dir != "" {
		st.lock = flock.New(filepath.Join(dir, "sandbox.lock"), flock.SetPermissions(0o600))
		switch ok, err := st.lock.TryLock(); {
		case err != nil:
			return nil, err
		case !ok:
			return nil, fmt.Errorf("%s is in use by another sandbox", dir)
		}
		file, err := filepath.Abs(filepath.Join(dir, "sandbox.db"))
		if err != nil {
			return nil, errors.Join(err, st.close())
		}
		if err := ownersOnly(file); err != nil {
			return nil, errors.Join(err, st.close())
		}
		if file = filepath.ToSlash(file); file[0] != '/' {
			file = "/" + file // C:/...
		}
		dsn = (&url.URL{Scheme: "file", Path: file, RawQuery: "_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(5000)"}).String()
	}
	var err error
	if st.db, err = sql.Open("sqlite", dsn); err != nil {
		return nil, errors.Join(err, st.close())
	}
	st.db.SetMaxOpenConns(1) // in memory, a second connection would be a second database
	if _, err := st.db.Exec(schema); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if _, err := st.db.Exec(`DELETE FROM request WHERE due IS NULL AND created < ?`, now.Add(-keep).UnixMilli()); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if _, err := st.db.Exec(`DELETE FROM token WHERE expires < ?`, now.Add(-keep).UnixMilli()); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if err := st.markInterrupted(now); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

func (st *store) close() error {
	var err error
	if st.db != nil {
		err = st.db.Close()
	}
	if st.lock != nil {
		err = errors.Join(err, st.lock.Close())
	}
	return err
}

// ownersOnly makes the file, if there is none, for its owner alone: numbers are in it, and the addresses at which callbacks
// are believed. SQLite makes those beside it like it.
func ownersOnly(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close()) // one of before was for all
}

// markInterrupted ends the posts that an earlier sandbox had begun when it was killed. Nobody knows whether they arrived.
func (st *store) markInterrupted(now time.Time) error {
	all, err := st.requests(`WHERE doc LIKE '%"begun":%'`)
	if err != nil {
		return err
	}
	for _, r := range all {
		marked := false
		for i := range r.Posts {
			if p := &r.Posts[i]; !p.Begun.IsZero() && p.Ended.IsZero() {
				p.Ended, p.Error, marked = now, "the sandbox was stopped while it was sending this", true
			}
		}
		if marked {
			if err := st.put(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// put stores a request as it is now. It fails if another one has its receipt.
func (st *store) put(r *request) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var due, receipt any
	if t := r.next(); !t.IsZero() {
		due = t.UnixMilli()
	}
	if r.Receipt != "" {
		receipt = r.Receipt
	}
	_, err = st.db.Exec(`INSERT INTO request (id, checkout, phone, stage, created, due, receipt, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, due = excluded.due, receipt = excluded.receipt, doc = excluded.doc`,
		r.MerchantRequestID, r.CheckoutRequestID, r.Phone, r.Stage, r.Created.UnixMilli(), due, receipt, string(doc))
	return err
}

// requests reads what a WHERE clause selects.
func (st *store) requests(where string, args ...any) ([]*request, error) {
	rows, err := st.db.Query(`SELECT doc FROM request `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*request
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		r := new(request)
		if err := json.Unmarshal([]byte(doc), r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// request reads the first that a WHERE clause selects, or nil.
func (st *store) request(where string, args ...any) (*request, error) {
	all, err := st.requests(where+` LIMIT 1`, args...)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

func (st *store) due(now time.Time) ([]*request, error) {
	return st.requests(`WHERE due <= ? ORDER BY due, created, rowid`, now.UnixMilli())
}

func (st *store) nextDue() (time.Time, error) {
	var due sql.NullInt64
	if err := st.db.QueryRow(`SELECT min(due) FROM request WHERE due IS NOT NULL`).Scan(&due); err != nil || !due.Valid {
		return time.Time{}, err
	}
	return time.UnixMilli(due.Int64), nil
}

func (st *store) receiptTaken(receipt string) (bool, error) {
	var n int
	err := st.db.QueryRow(`SELECT count(*) FROM request WHERE receipt = ?`, receipt).Scan(&n)
	return n > 0, err
}

func (st *store) addToken(value string, expires time.Time, only bool) error {
	if only {
		if _, err := st.db.Exec(`DELETE FROM token`); err != nil {
			return err
		}
	}
	_, err := st.db.Exec(`INSERT INTO token (value, expires) VALUES (?, ?)`, value, expires.UnixMilli())
	return err
}

// tokenExpiry is zero for a token that was never given out, or was ended.
func (st *store) tokenExpiry(value string) (time.Time, error) {
	var ms int64
	switch err := st.db.QueryRow(`SELECT expires FROM token WHERE value = ?`, value).Scan(&ms); {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	}
	return time.UnixMilli(ms), nil
}

// behaviours reads how each phone behaves; "" is every phone that has no entry of its own.
func (st *store) behaviours() (map[string]Behaviour, error) {
	rows, err := st.db.Query(`SELECT phone, doc FROM behaviour`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]Behaviour{"": Behaviour{}.withDefaults()}
	for rows.Next() {
		var phone, doc string
		if err := rows.Scan(&phone, &doc); err != nil {
			return nil, err
		}
		var b Behaviour
		if err := json.Unmarshal([]byte(doc), &b); err != nil {
			return nil, err
		}
		all[phone] = b.withDefaults()
	}
	return all, rows.Err()
}

// setBehaviour sets one phone's behaviour, or with phone "" that of every phone without its own.
func (st *store) setBehaviour(phone string, b Behaviour) error {
	doc, err := json.Marshal(b)
	if err != nil {
		return err
	}
	_, err = st.db.Exec(`INSERT INTO behaviour (phone, doc) VALUES (?, ?) ON CONFLICT (phone) DO UPDATE SET doc = excluded.doc`, phone, string(doc))
	return err
}

// forgetPhones leaves no phone a behaviour of its own.
func (st *store) forgetPhones() error {
	_, err := st.db.Exec(`DELETE FROM behaviour WHERE phone <> ''`)
	return err
}
