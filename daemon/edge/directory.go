package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Endpoint is one sidecar's inbox.
type Endpoint struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Keys    []Key     `json:"keys"`              // oldest first
	Joined  time.Time `json:"joined,omitzero"`   // when its sidecar was given its first certificate
	Expires time.Time `json:"expires,omitzero"`  // when the last that it was given ends
	Revoked time.Time `json:"revoked,omitzero"`  // when that was taken from it
	Seen    time.Time `json:"lastSeen,omitzero"` // when its sidecar was last connected
	Invited time.Time `json:"invited,omitzero"`  // until when a join code of it may be used
	device  enrol.Device
}

// Key is an address of an endpoint. Safaricom is told addresses once and for years, so one that is added works beside
// the older ones until an operator retires those by name.
type Key struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"` // notice; validation, lookup and bill are for later
	URL     string    `json:"url"`
	Created time.Time `json:"created"`
	Retired time.Time `json:"retired,omitzero"`
	Used    time.Time `json:"lastUsed,omitzero"` // when something was last posted to it
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

// directory knows the endpoints, with their keys and their sidecars. It is in memory, whole; the tables in edge.db are read at the
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
	places    map[string]place   // by key; none that is retired
	invites   map[string]*invite // by endpoint
}

// place is where what is posted to a key goes.
type place struct {
	endpoint string
	kind     wire.Kind
	used     *atomic.Int64 // Unix seconds; 0: not since this process began
}

func newPlace(endpoint string, k Key) place { return place{endpoint, kinds[k.Kind], new(atomic.Int64)} }

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
		endpoints: make(map[string]*Endpoint), places: make(map[string]place), invites: make(map[string]*invite),
	}
	if err = up(ctx, db, path, log); err == nil {
		err = d.load(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return d, nil
}

func (d *directory) close() error { return d.db.Close() }

func (d *directory) load(ctx context.Context) error {
	rows, err := d.db.QueryContext(ctx, `SELECT name, created, device, joined, expires, revoked, seen FROM edge_endpoint`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e := new(Endpoint)
		var device []byte
		var created int64
		var joined, expires, revoked, seen sql.NullInt64
		if err := rows.Scan(&e.Name, &created, &device, &joined, &expires, &revoked, &seen); err != nil {
			return err
		}
		if device != nil && len(device) != len(e.device) {
			return fmt.Errorf("%w: the key of the sidecar of endpoint %s is not one", salvage.ErrDamaged, e.Name)
		}
		copy(e.device[:], device)
		e.Created, e.Joined, e.Expires, e.Revoked, e.Seen = fromMilli(created), perhaps(joined), perhaps(expires), perhaps(revoked), perhaps(seen)
		d.endpoints[e.Name] = e
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows, err = d.db.QueryContext(ctx, `SELECT key, endpoint, name, kind, created, retired, used FROM edge_key ORDER BY created, rowid`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k Key
		var endpoint string
		var created int64
		var retired, used sql.NullInt64
		if err := rows.Scan(&k.key, &endpoint, &k.Name, &k.Kind, &created, &retired, &used); err != nil {
			return err
		}
		k.Created, k.URL, k.Retired, k.Used = fromMilli(created), d.url(k.key), perhaps(retired), perhaps(used)
		if !retired.Valid {
			d.places[k.key] = newPlace(endpoint, k)
		}
		if e := d.endpoints[endpoint]; e != nil {
			e.Keys = append(e.Keys, k)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return d.loadInvites(ctx)
}

func (d *directory) loadInvites(ctx context.Context) error {
	rows, err := d.db.QueryContext(ctx, `SELECT endpoint, sum, created, expires, used, device, revoked FROM edge_invite`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		i := new(invite)
		var sum, device []byte
		var created, expires int64
		var used, revoked sql.NullInt64
		if err := rows.Scan(&i.endpoint, &sum, &created, &expires, &used, &device, &revoked); err != nil {
			return err
		}
		if copy(i.sum[:], sum) != len(i.sum) {
			continue // a code that cannot be used any more
		}
		copy(i.device[:], device)
		i.created, i.expires, i.used, i.revoked = fromMilli(created), fromMilli(expires), perhaps(used), perhaps(revoked)
		d.invites[i.endpoint] = i
	}
	return rows.Err()
}

// perhaps is a time that may not have been.
func perhaps(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return fromMilli(ms.Int64)
}

func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func (d *directory) url(key string) string { return d.public + "/c/" + key }

// find says where what is posted to a key goes.
func (d *directory) find(key string) (place, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.places[key]
	if ok {
		if now := time.Now().Unix(); p.used.Load() != now {
			p.used.Store(now)
		}
	}
	return p, ok
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

// joined is how many endpoints have a sidecar that may come.
func (d *directory) joined() (n int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, e := range d.endpoints {
		if e.device != (enrol.Device{}) && e.Revoked.IsZero() {
			n++
		}
	}
	return n
}

// sorted is the endpoints by name. d.mu is held.
func (d *directory) sorted() []Endpoint {
	list := make([]Endpoint, 0, len(d.endpoints))
	for _, e := range d.endpoints {
		c := *e
		c.Keys = slices.Clone(e.Keys)
		for i, k := range c.Keys {
			if p, ok := d.places[k.key]; ok && p.used.Load() != 0 {
				c.Keys[i].Used = time.Unix(p.used.Load(), 0).UTC()
			}
		}
		if i := d.invites[e.Name]; i != nil && i.open(time.Now()) {
			c.Invited = i.expires
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ensure makes an endpoint with its first key, unless there is one of this name.
func (d *directory) ensure(ctx context.Context, who, name string) (r Registered, made bool, err error) {
	if !nameForm.MatchString(name) {
		return Registered{}, false, fmt.Errorf("%w: an endpoint's name is 1 to 63 letters, digits, dots, hyphens and underscores", errInvalid)
	}
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.endpoints[name]; e != nil {
		return Registered{e.Name, e.callback()}, false, nil
	}
	e := &Endpoint{Name: name, Created: fromMilli(time.Now().UnixMilli())}
	k := d.newKey("key-1", "notice")
	err = d.commit(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO edge_endpoint (name, created) VALUES (?, ?)`, name, e.Created.UnixMilli()); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, name, k); err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actEndpointAdded, name, "with its first key, "+k.Name)
	})
	if err != nil {
		return Registered{}, false, err
	}
	e.Keys = []Key{k}
	d.endpoints[name] = e
	d.places[k.key] = newPlace(name, k)
	d.changed()
	return Registered{name, k.URL}, true, nil
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
	d.places[k.key] = newPlace(endpoint, k)
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

// seen records when endpoints' sidecars were last connected, and when keys were last used: often enough to tell a shop that is
// gone from one that sleeps, and seldom enough to cost nothing.
func (d *directory) seen(ctx context.Context, sidecars map[string]time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commit(ctx, func(tx *sql.Tx) error {
		for name, at := range sidecars {
			e := d.endpoints[name]
			if e == nil || !at.After(e.Seen) {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE edge_endpoint SET seen = ? WHERE name = ?`, at.UnixMilli(), name); err != nil {
				return err
			}
			e.Seen = fromMilli(at.UnixMilli())
		}
		for _, e := range d.endpoints {
			for i := range e.Keys {
				k := &e.Keys[i]
				p, ok := d.places[k.key]
				if !ok || p.used.Load() == 0 || p.used.Load() == k.Used.Unix() {
					continue
				}
				used := time.Unix(p.used.Load(), 0).UTC()
				if _, err := tx.ExecContext(ctx, `UPDATE edge_key SET used = ? WHERE key = ?`, used.UnixMilli(), k.key); err != nil {
					return err
				}
				k.Used = used
			}
		}
		return nil
	})
}
