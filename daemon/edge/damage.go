package edge

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/journal"
)

// What the edge does about a database that is damaged or gone.
//
// The callbacks in it that were not delivered are nowhere else, so all that can still be read is moved into a new file, and
// the damaged one is kept beside it. The endpoints are small, hardly change, and are worth more: without its keys the edge
// would answer 404 to Safaricom, which delivers once. So they are kept a second time, in endpoints.json, and an edge that
// has neither does not start.

// rosterFile is the copy of the endpoints. Where the two differ, the database is right.
const rosterFile = "endpoints.json"

type roster struct {
	Note      string           `json:"note"`
	Endpoints []rosterEndpoint `json:"endpoints"`
}

type rosterEndpoint struct {
	Name    string      `json:"name"`
	Created time.Time   `json:"created"`
	Device  string      `json:"device,omitempty"` // SHA-256 of its sidecar's public key, in hex
	Joined  time.Time   `json:"joined,omitzero"`
	Expires time.Time   `json:"expires,omitzero"`
	Revoked time.Time   `json:"revoked,omitzero"`
	Keys    []rosterKey `json:"keys"`
}

type rosterKey struct {
	Key     string    `json:"key"`
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Created time.Time `json:"created"`
	Retired time.Time `json:"retired,omitzero"`
}

// readRoster reads the copy; nil if there is none.
func readRoster(path string) (*roster, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(roster)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, e := range r.Endpoints {
		if device, err := hex.DecodeString(e.Device); err != nil || len(device) != 0 && len(device) != len(enrol.Device{}) || !nameForm.MatchString(e.Name) {
			return nil, fmt.Errorf("%s: endpoint %q is not as it was written", path, e.Name)
		}
		for _, k := range e.Keys {
			if key, err := hex.DecodeString(k.Key); err != nil || len(key) != 16 || kinds[k.Kind] == 0 {
				return nil, fmt.Errorf("%s: key %q of endpoint %s is not as it was written", path, k.Name, e.Name)
			}
		}
	}
	return r, nil
}

// roster is the endpoints as the copy has them. d.mu is held, or nobody else is there yet.
func (d *directory) roster() *roster {
	r := &roster{Note: "A copy of what edge.db knows of endpoints, for the day on which edge.db is damaged. Changing it changes nothing.", Endpoints: []rosterEndpoint{}}
	for _, e := range d.sorted() {
		out := rosterEndpoint{Name: e.Name, Created: e.Created, Joined: e.Joined, Expires: e.Expires, Revoked: e.Revoked, Keys: []rosterKey{}}
		if e.device != (enrol.Device{}) {
			out.Device = hex.EncodeToString(e.device[:])
		}
		for _, k := range e.Keys {
			out.Keys = append(out.Keys, rosterKey{k.key, k.Name, k.Kind, k.Created, k.Retired})
		}
		r.Endpoints = append(r.Endpoints, out)
	}
	return r
}

// copyOut writes the copy, if it is not what is there.
func (d *directory) copyOut() error {
	b, err := json.MarshalIndent(d.roster(), "", "\t")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if was, err := os.ReadFile(d.copy); err == nil && string(was) == string(b) {
		return nil
	}
	return salvage.WriteFile(d.copy, b)
}

// changed brings the copy up to date with a change that is committed, and so stands whatever becomes of the copy.
func (d *directory) changed() {
	if err := d.copyOut(); err != nil {
		d.log.Error("the copy of the endpoints could not be written; it is tried again at the next change and the next start", "file", d.copy, "err", err)
	}
}

// putBack fills the tables from the copy.
func (d *directory) putBack(ctx context.Context, r *roster) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, e := range r.Endpoints {
		device, err := hex.DecodeString(e.Device)
		if err != nil {
			return err
		}
		if len(device) == 0 {
			device = nil
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO edge_endpoint (name, created, device, joined, expires, revoked) VALUES (?, ?, ?, ?, ?, ?)`,
			e.Name, e.Created.UnixMilli(), device, orNull(e.Joined), orNull(e.Expires), orNull(e.Revoked))
		if err != nil {
			return err
		}
		for _, k := range e.Keys {
			_, err := tx.ExecContext(ctx, `INSERT INTO edge_key (key, endpoint, name, kind, created, retired) VALUES (?, ?, ?, ?, ?, ?)`,
				k.Key, e.Name, k.Name, k.Kind, k.Created.UnixMilli(), orNull(k.Retired))
			if err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// openState opens the database. If it is damaged, what is left of it is moved into a new one first.
func (e *Edge) openState(ctx context.Context) error {
	path := filepath.Join(e.config.Dir, databaseFile)
	if err := salvage.Finish(path); err != nil {
		return err
	}
	if err := CheckForm(e.config.Dir); err != nil { // also of one that is damaged: it is for the newer hodi to mend
		return err
	}
	copied, copyErr := readRoster(filepath.Join(e.config.Dir, rosterFile))
	err := salvage.Check(ctx, path)
	gone := false
	switch {
	case err != nil && !salvage.IsDamage(err):
		return err
	case err == nil && salvage.Missing(path):
		if gone, err = e.missing(path, copied, copyErr); err != nil && !salvage.IsDamage(err) {
			return err
		}
	}
	for range 2 {
		if err == nil {
			if err = e.openDatabase(ctx, path, copied); err == nil {
				if gone {
					e.directory.audit.record(ctx, whoEdge, actJournalLost, whoEdge, "the database was gone, and a new one was begun: callbacks that no sidecar had fetched by then are lost")
				}
				return nil
			}
		}
		if !salvage.IsDamage(err) && !errors.Is(err, journal.ErrDamaged) {
			return err
		}
		if copied == nil {
			return fmt.Errorf("%w; and there is no copy of its endpoints (%s: %v), without which every callback would be answered 404. "+
				"Put a backup back (hodi edge restore --replace FILE); nothing was changed", err, rosterFile, cmpErr(copyErr))
		}
		if err = e.rescue(ctx, path, copied, err); err != nil {
			return err
		}
	}
	return err
}

func cmpErr(err error) any {
	if err == nil {
		return "it is not there"
	}
	return err
}

// missing says what to do without a database: begin, at the first start; begin anew, where one is gone; go on with what is
// left of it; or refuse.
func (e *Edge) missing(path string, copied *roster, copyErr error) (gone bool, err error) {
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return false, fmt.Errorf("%s: %w: it is gone, and its log is still there", path, salvage.ErrDamaged)
	}
	switch _, err := os.Stat(filepath.Join(e.config.Dir, caKeyFile)); {
	case copied != nil && len(copied.Endpoints) > 0:
		e.log.Error("the database is gone. The endpoints are put back from their copy; callbacks that no sidecar had fetched are lost, and every sidecar is told that there is another journal",
			"file", path, "copy", rosterFile)
		return true, nil
	case copied != nil || errors.Is(err, fs.ErrNotExist):
		return false, nil // nothing was ever there
	default:
		return false, fmt.Errorf("%s is gone, and so is the copy of its endpoints (%s: %v): every callback would be answered 404. "+
			"Put a backup back (hodi edge restore --replace FILE), or remove %s and %s too to begin anew with other keys", path, rosterFile, cmpErr(copyErr), caKeyFile, caFile)
	}
}

// openDatabase opens the two that share it.
func (e *Edge) openDatabase(ctx context.Context, path string, copied *roster) error {
	directory, err := openDirectory(ctx, path, strings.TrimRight(e.config.PublicURL, "/"), e.log)
	if err != nil {
		return err
	}
	if len(directory.endpoints) == 0 && copied != nil && len(copied.Endpoints) > 0 {
		if err = directory.putBack(ctx, copied); err == nil {
			err = directory.load(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, directory.close())
	}
	j, err := journal.OpenSQLite(ctx, path, e.settings.Load().config.Limits, e.log)
	if err != nil {
		return errors.Join(err, directory.close())
	}
	directory.changed()
	e.directory, e.journal, e.disk = directory, j, j
	return nil
}

// rescue moves what is left of a damaged database into a new one, and the damaged one aside.
func (e *Edge) rescue(ctx context.Context, path string, copied *roster, why error) error {
	stamp := salvage.Stamp(time.Now())
	e.log.Error("the database is damaged: what can be read of it is moved into a new one", "file", path, "err", why)
	rows, err := salvage.Rows(path)
	if err != nil {
		return fmt.Errorf("%w; and it could not be salvaged: %w", why, err)
	}
	var lines auditFinds
	finds := func(yield func(journal.Find) bool) {
		for r := range rows {
			lines.look(r.ID, r.Values)
			if !yield(journal.Find(r)) {
				return
			}
		}
	}
	var names []string
	for _, endpoint := range copied.Endpoints {
		names = append(names, endpoint.Name)
	}
	list, nameless, err := journal.Salvage(ctx, salvage.Fresh(path, stamp), finds, names, e.settings.Load().config.Limits)
	if err != nil {
		return fmt.Errorf("%w; and it could not be salvaged (is there as much room again?): %w", why, err)
	}
	detail := why.Error()
	for _, s := range list {
		detail += fmt.Sprintf("; %s: %d callbacks salvaged, %d lost", s.Endpoint, s.Entries, s.Lost)
	}
	if err := lines.putInto(ctx, salvage.Fresh(path, stamp), detail); err != nil {
		return fmt.Errorf("%w; and its audit could not be salvaged: %w", why, err)
	}
	aside, err := salvage.Replace(path, stamp)
	if err != nil {
		return fmt.Errorf("%w; and it could not be replaced: %w", why, err)
	}
	for _, s := range list {
		e.log.Error("callbacks were salvaged; their sidecar is sent them again, and told of those that are lost", "endpoint", s.Endpoint, "salvaged", s.Entries, "lost", s.Lost)
	}
	if nameless > 0 {
		e.log.Error("callbacks of which it is not known whose they are were left behind", "callbacks", nameless)
	}
	e.log.Error("the damaged database was moved aside: keep it until every shop has what it misses, then remove it", "file", aside)
	return nil
}

// damaged is why Run ends when SQLite has met damage. Nothing can be stored then; the next Open reads the whole file.
func (e *Edge) damaged() error {
	path := filepath.Join(e.config.Dir, databaseFile)
	err := fmt.Errorf("edge: %s is damaged: started again, the edge moves what is left of it into a new one", path)
	if e := salvage.Suspect(path, err); e != nil {
		err = fmt.Errorf("%w (and that could not be noted: %w)", err, e)
	}
	return err
}
