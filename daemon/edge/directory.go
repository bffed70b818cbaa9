package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Endpoint is one sidecar's inbox.
type Endpoint struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Keys    []Key     `json:"keys"` // oldest first
	token   [sha256.Size]byte
}

// Key is an address of an endpoint. Safaricom is told addresses once and for years, so one that is added works beside
// the older ones until an operator retires those by name.
type Key struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"` // notice; validation, lookup and bill are for later
	URL     string    `json:"url"`
	Created time.Time `json:"created"`
	Retired time.Time `json:"retired,omitzero"`
	key     string
}

// What an operator may have to tell apart.
var (
	errExists  = errors.New("there is one of this name already")
	errUnknown = errors.New("there is none of this name")
	errInvalid = errors.New("it is not valid")
)

// kinds are the words for what a key is for.
var kinds = map[string]wire.Kind{
	"notice":     wire.KindNotice,
	"validation": wire.KindValidation,
	"lookup":     wire.KindLookup,
	"bill":       wire.KindBill,
}

// directory knows the endpoints, by key and by token. It is in memory, whole; the tables in edge.db are read at the
// start and written before memory is, whether or not the operator waits for it: what is written and not in memory
// would come true at the next start.
type directory struct {
	db     *sql.DB // one connection
	public string  // base of addresses
	copy   string  // the file with a copy of it all: see damage.go
	log    *slog.Logger
	audit  *auditLog

	mu        sync.RWMutex
	endpoints map[string]*Endpoint
	places    map[string]place // by key; none that is retired
	tokens    map[[sha256.Size]byte]*Endpoint
}

// place is where what is posted to a key goes.
type place struct {
	endpoint string
	kind     wire.Kind
}

const directorySchema = `
CREATE TABLE IF NOT EXISTS edge_endpoint (
	name    TEXT PRIMARY KEY,
	token   BLOB NOT NULL UNIQUE, -- SHA-256 of it
	created INTEGER NOT NULL      -- Unix milliseconds
) STRICT;
CREATE TABLE IF NOT EXISTS edge_key (
	key      TEXT PRIMARY KEY, -- 32 hex digits
	endpoint TEXT NOT NULL REFERENCES edge_endpoint (name),
	name     TEXT NOT NULL,
	kind     TEXT NOT NULL CHECK (kind IN ('notice', 'validation', 'lookup', 'bill')),
	created  INTEGER NOT NULL,
	retired  INTEGER,
	UNIQUE (endpoint, name)
) STRICT;`

func openDirectory(ctx context.Context, path, public string, log *slog.Logger) (*directory, error) {
	dsn, err := journal.DataSource(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	d := &directory{
		db: db, public: public, copy: filepath.Join(filepath.Dir(path), rosterFile), log: log, audit: newAuditLog(db, log),
		endpoints: make(map[string]*Endpoint), places: make(map[string]place), tokens: make(map[[sha256.Size]byte]*Endpoint),
	}
	if err := d.load(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func (d *directory) close() error { return d.db.Close() }

func (d *directory) load(ctx context.Context) error {
	if _, err := d.db.ExecContext(ctx, directorySchema+auditSchema); err != nil {
		return err
	}
	rows, err := d.db.QueryContext(ctx, `SELECT name, token, created FROM edge_endpoint`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e := new(Endpoint)
		var token []byte
		var created int64
		if err := rows.Scan(&e.Name, &token, &created); err != nil {
			return err
		}
		if len(token) != sha256.Size {
			return fmt.Errorf("%w: the token of endpoint %s is not one", salvage.ErrDamaged, e.Name)
		}
		e.token, e.Created = [sha256.Size]byte(token), fromMilli(created)
		d.endpoints[e.Name], d.tokens[e.token] = e, e
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows, err = d.db.QueryContext(ctx, `SELECT key, endpoint, name, kind, created, retired FROM edge_key ORDER BY created, rowid`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k Key
		var endpoint string
		var created int64
		var retired sql.NullInt64
		if err := rows.Scan(&k.key, &endpoint, &k.Name, &k.Kind, &created, &retired); err != nil {
			return err
		}
		k.Created, k.URL = fromMilli(created), d.url(k.key)
		if retired.Valid {
			k.Retired = fromMilli(retired.Int64)
		} else {
			d.places[k.key] = place{endpoint, kinds[k.Kind]}
		}
		if e := d.endpoints[endpoint]; e != nil {
			e.Keys = append(e.Keys, k)
		}
	}
	return rows.Err()
}

func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func (d *directory) url(key string) string { return d.public + "/c/" + key }

// find says where what is posted to a key goes.
func (d *directory) find(key string) (place, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.places[key]
	return p, ok
}

// authorize says whom a token is for. What a guesser could learn from the time it takes concerns hashes, of which he
// cannot choose a digit.
func (d *directory) authorize(_ context.Context, token []byte) (tunnel.Endpoint, error) {
	sum := sha256.Sum256(token)
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.tokens[sum]
	if e == nil || subtle.ConstantTimeCompare(e.token[:], sum[:]) != 1 {
		return tunnel.Endpoint{}, errors.New("edge: the token is not known")
	}
	return tunnel.Endpoint{Name: e.Name, Callback: e.callback()}, nil
}

// callback is the address that new payments are given: that of the newest key for notices.
func (e *Endpoint) callback() string {
	for _, k := range slices.Backward(e.Keys) {
		if k.Kind == "notice" && k.Retired.IsZero() {
			return k.URL
		}
	}
	return ""
}

func (d *directory) list() []Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.sorted()
}

// sorted is the endpoints by name. d.mu is held.
func (d *directory) sorted() []Endpoint {
	list := make([]Endpoint, 0, len(d.endpoints))
	for _, e := range d.endpoints {
		c := *e
		c.Keys = slices.Clone(e.Keys)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// set makes an endpoint with its first key, or, if that may be, changes the token of the one there is.
func (d *directory) set(ctx context.Context, who, name string, token []byte, mayExist bool) (Registered, error) {
	if !nameForm.MatchString(name) {
		return Registered{}, fmt.Errorf("%w: an endpoint's name is 1 to 63 letters, digits, dots, hyphens and underscores", errInvalid)
	}
	if len(token) < 16 || len(token) > wire.MaxToken {
		return Registered{}, fmt.Errorf("%w: a token is 16 to %d bytes", errInvalid, wire.MaxToken)
	}
	sum := sha256.Sum256(token)
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[name]
	switch other := d.tokens[sum]; {
	case other != nil && other != e:
		return Registered{}, fmt.Errorf("%w: another endpoint has this token", errInvalid)
	case e != nil && !mayExist:
		return Registered{}, fmt.Errorf("endpoint %s: %w", name, errExists)
	case e != nil && other == e:
		return Registered{e.Name, e.callback()}, nil
	case e != nil:
		err := d.commit(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `UPDATE edge_endpoint SET token = ? WHERE name = ?`, sum[:], name); err != nil {
				return err
			}
			return insertAudit(ctx, tx, who, actTokenRenewed, name, "")
		})
		if err != nil {
			return Registered{}, err
		}
		delete(d.tokens, e.token)
		e.token, d.tokens[sum] = sum, e
		d.changed()
		return Registered{e.Name, e.callback()}, nil
	}

	e = &Endpoint{Name: name, Created: fromMilli(time.Now().UnixMilli()), token: sum}
	k := d.newKey("key-1", "notice")
	err := d.commit(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO edge_endpoint (name, token, created) VALUES (?, ?, ?)`, name, sum[:], e.Created.UnixMilli()); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, name, k); err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actEndpointAdded, name, "with its first key, "+k.Name)
	})
	if err != nil {
		return Registered{}, err
	}
	e.Keys = []Key{k}
	d.endpoints[name], d.tokens[sum] = e, e
	d.places[k.key] = place{name, kinds[k.Kind]}
	d.changed()
	return Registered{name, k.URL}, nil
}

// newKey draws a key. Hex, because it can spell none of the words that Safaricom refuses in addresses.
func (d *directory) newKey(name, kind string) Key {
	var b [16]byte
	rand.Read(b[:])
	key := hex.EncodeToString(b[:])
	return Key{Name: name, Kind: kind, URL: d.url(key), Created: fromMilli(time.Now().UnixMilli()), key: key}
}

// commit does something, and what the audit says about it, in one step.
func (d *directory) commit(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func insertKey(ctx context.Context, db execer, endpoint string, k Key) error {
	_, err := db.ExecContext(ctx, `INSERT INTO edge_key (key, endpoint, name, kind, created) VALUES (?, ?, ?, ?, ?)`,
		k.key, endpoint, k.Name, k.Kind, k.Created.UnixMilli())
	return err
}

func (d *directory) addKey(ctx context.Context, who, endpoint, name, kind string) (Key, error) {
	if kind == "" {
		kind = "notice"
	}
	ctx = context.WithoutCancel(ctx)
	if kind != "notice" {
		return Key{}, fmt.Errorf("%w: this edge makes keys of the kind notice only", errInvalid)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[endpoint]
	if e == nil {
		return Key{}, fmt.Errorf("endpoint %s: %w", endpoint, errUnknown)
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(e.Keys, func(k Key) bool { return k.Name == name })
	}
	if name == "" {
		n := len(e.Keys) + 1
		for taken(fmt.Sprintf("key-%d", n)) {
			n++
		}
		name = fmt.Sprintf("key-%d", n)
	}
	if !nameForm.MatchString(name) {
		return Key{}, fmt.Errorf("%w: a key's name is 1 to 63 letters, digits, dots, hyphens and underscores", errInvalid)
	}
	if taken(name) {
		return Key{}, fmt.Errorf("key %s: %w", name, errExists)
	}
	k := d.newKey(name, kind)
	err := d.commit(ctx, func(tx *sql.Tx) error {
		if err := insertKey(ctx, tx, endpoint, k); err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actKeyAdded, endpoint, k.Name)
	})
	if err != nil {
		return Key{}, err
	}
	e.Keys = append(e.Keys, k)
	d.places[k.key] = place{endpoint, kinds[kind]}
	d.changed()
	return k, nil
}

func (d *directory) retireKey(ctx context.Context, who, endpoint, name string) error {
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[endpoint]
	if e == nil {
		return fmt.Errorf("endpoint %s: %w", endpoint, errUnknown)
	}
	i := slices.IndexFunc(e.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return fmt.Errorf("key %s: %w", name, errUnknown)
	}
	k := &e.Keys[i]
	if !k.Retired.IsZero() {
		return nil
	}
	live := 0
	for _, k := range e.Keys {
		if k.Retired.IsZero() && k.Kind == "notice" {
			live++
		}
	}
	if live == 1 && k.Kind == "notice" {
		return fmt.Errorf("%w: key %s is the only address of endpoint %s: add another first", errInvalid, name, endpoint)
	}
	now := fromMilli(time.Now().UnixMilli())
	err := d.commit(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE edge_key SET retired = ? WHERE key = ?`, now.UnixMilli(), k.key); err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actKeyRetired, endpoint, name)
	})
	if err != nil {
		return err
	}
	k.Retired = now
	delete(d.places, k.key)
	d.changed()
	return nil
}
