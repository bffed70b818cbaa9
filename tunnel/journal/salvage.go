package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/hodihq/hodi/tunnel/wire"
)

// A Find is a row of a damaged file: its number, and its values as SQLite has them. It may be of any table, come more than
// once, and be wrong.
type Find struct {
	ID     int64
	Values []any
}

// Salvaged says what was found of an endpoint's history.
type Salvaged struct {
	Endpoint string
	Entries  int
	Lost     int // numbers between the first and the last for which nothing was found
}

// maxHole bounds how many numbers in a row may be missing before entries that may have been forgotten: then they were, and
// only their remains were found.
const maxHole = 100_000

// Salvage makes a journal at path, where nothing is, of what was found in a damaged one. What was found tells by its checksum
// whether it is right. Every history has a new epoch, so that sidecars are sent all of it; numbers for which nothing was
// found are told to them as lost. names are the endpoints that there are: where one of them, and one history, are left
// over in the end, they belong together. Of histories without a name nothing is taken: nameless says how many
// entries those had.
func Salvage(ctx context.Context, path string, finds iter.Seq[Find], names []string, limits Limits) (list []Salvaged, nameless int, err error) {
	fail := func(err error) ([]Salvaged, int, error) {
		return nil, 0, fmt.Errorf("journal: salvage into %s: %w", path, err)
	}
	dsn, err := DataSource(path)
	if err != nil {
		return fail(err)
	}
	db, err := sql.Open("sqlite", dsn+"&_pragma=cache_size(-16000)")
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if err := up(ctx, db, path); err != nil {
		return fail(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fail(err)
	}
	defer tx.Rollback()
	s := &salvage{tx: tx, limits: limits.withDefaults(), endpoints: make(map[int64]*found)}
	if err := s.collect(ctx, finds); err != nil {
		return fail(err)
	}
	s.name(names)
	for _, id := range s.ids() {
		f := s.endpoints[id]
		if f.name == "" {
			nameless += f.entries
			if _, err := tx.ExecContext(ctx, `DELETE FROM journal_entry WHERE id BETWEEN ? AND ?`, id<<seqBits, id<<seqBits|maxSeq); err != nil {
				return fail(err)
			}
			continue
		}
		one, err := s.settle(ctx, id, f)
		if err != nil {
			return fail(err)
		}
		list = append(list, one)
	}
	if err := tx.Commit(); err != nil {
		return fail(err)
	}
	return list, nameless, nil
}

type salvage struct {
	tx        *sql.Tx
	limits    Limits
	endpoints map[int64]*found
}

// found is what is known of an endpoint by its id.
type found struct {
	name    string
	epoch   wire.Epoch
	acked   uint64
	entries int
	newest  time.Time // when the newest entry came

	canaries uint64 // as the endpoint's row has it
}

func (s *salvage) ids() []int64 {
	var ids []int64
	for id := range s.endpoints {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *salvage) at(id int64) *found {
	if s.endpoints[id] == nil {
		s.endpoints[id] = new(found)
	}
	return s.endpoints[id]
}

// collect stores the entries among the finds, and remembers the endpoints. Epochs and acknowledgements only ever grow.
func (s *salvage) collect(ctx context.Context, finds iter.Seq[Find]) error {
	insert, err := s.tx.PrepareContext(ctx, `INSERT OR IGNORE INTO journal_entry (id, total, data, crc) VALUES (?, 0, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for f := range finds {
		if name, epoch, acked, canaries, ok := asEndpoint(f); ok {
			e := s.at(f.ID)
			if e.name == "" {
				e.name = name
			}
			e.epoch, e.acked, e.canaries = max(e.epoch, epoch), max(e.acked, acked), max(e.canaries, canaries)
			continue
		}
		entry, data, ok := asEntry(f)
		if !ok {
			continue
		}
		r, err := insert.ExecContext(ctx, f.ID, data, crcOf(data))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n > 0 {
			e := s.at(f.ID >> seqBits)
			if entry.Kind != wire.KindCanary {
				e.entries++
			}
			if entry.Received.After(e.newest) {
				e.newest = entry.Received
			}
		}
	}
	return nil
}

// asEndpoint reads the row of an endpoint. It may be from before there were canaries.
func asEndpoint(f Find) (name string, epoch wire.Epoch, acked, canaries uint64, ok bool) {
	if len(f.Values) != 4 && len(f.Values) != 7 || f.Values[0] != nil || f.ID < 1 || f.ID > maxEndpoint {
		return "", 0, 0, 0, false
	}
	name, isText := f.Values[1].(string)
	e, isEpoch := f.Values[2].(int64)
	a, isSeq := f.Values[3].(int64)
	ok = isText && isEpoch && isSeq && name != "" && utf8.ValidString(name) && e > 0 && wire.Epoch(e) < wire.MaxEpoch && a >= 0 && a <= maxSeq
	c := int64(0)
	if len(f.Values) == 7 {
		var isCount bool
		c, isCount = f.Values[4].(int64)
		ok = ok && isCount && c >= 0 && c <= maxSeq
	}
	return name, wire.Epoch(e), uint64(a), uint64(c), ok
}

func asEntry(f Find) (e wire.Entry, data []byte, ok bool) {
	if len(f.Values) != 3 && len(f.Values) != 4 || f.Values[0] != nil || f.ID <= maxSeq {
		return e, nil, false
	}
	data, ok = f.Values[2].([]byte)
	if !ok {
		return e, nil, false
	}
	var crc sql.NullInt64
	if len(f.Values) == 4 {
		crc.Int64, crc.Valid = f.Values[3].(int64)
		if f.Values[3] != nil && !crc.Valid {
			return e, nil, false
		}
	}
	e, err := decode(data, crc, uint64(f.ID)&maxSeq)
	return e, data, err == nil
}

// name gives the one history without a name the one name without a history.
func (s *salvage) name(names []string) {
	var nameless []int64
	for _, id := range s.ids() {
		f := s.endpoints[id]
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == f.name })
		if f.name == "" {
			nameless = append(nameless, id)
		}
	}
	if len(nameless) == 1 && len(names) == 1 {
		s.endpoints[nameless[0]].name = names[0]
	}
}

// keep is how long an entry was kept. If nothing tells what was acknowledged, it may have been.
func (s *salvage) keep(f *found, seq uint64) time.Duration {
	if seq <= f.acked || f.epoch == 0 {
		return s.limits.KeepAcked
	}
	return s.limits.KeepUnacked
}

// settle makes a history of an endpoint's entries: without remains of what was forgotten, and without holes.
func (s *salvage) settle(ctx context.Context, id int64, f *found) (done Salvaged, err error) {
	first := id << seqBits
	rows, err := s.tx.QueryContext(ctx, `SELECT id, data FROM journal_entry WHERE id BETWEEN ? AND ? ORDER BY id DESC`, first, first|maxSeq)
	if err != nil {
		return done, err
	}
	defer rows.Close()
	const canary = -1 // in sizes
	var sizes []int64 // of the entries, from the newest down to the oldest that is kept; 0: none
	head, oldest := uint64(0), uint64(0)
	stands := uint64(math.MaxUint64) // that far down the canary before stands for others
	var newest run                   // of canaries
	canaries := uint64(0)
	for rows.Next() {
		var id int64
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return done, err
		}
		seq := uint64(id) & maxSeq
		e, err := wire.ParseEntry(data)
		if err != nil {
			return done, err
		}
		if head == 0 {
			head, oldest = seq, seq+1
		}
		own := e.Kind != wire.KindLost && e.Kind != wire.KindCanary // received says when it came
		old := own && e.Received.Before(f.newest.Add(-s.keep(f, seq)))
		stood := oldest - max(min(stands, oldest), seq+1)
		hole := oldest - 1 - seq - stood
		if seq <= f.acked && old || hole > maxHole && (seq <= f.acked || old) {
			break
		}
		canaries += stood
		sizes = append(sizes, slices.Repeat([]int64{canary}, int(stood))...)
		sizes = append(sizes, make([]int64, hole)...)
		size := int64(len(data))
		stands = seq
		if e.Kind == wire.KindCanary {
			size, stands = canary, e.Run()
			canaries++
			if newest.last == 0 {
				newest = run{first: stands, last: seq}
			}
		}
		sizes = append(sizes, size)
		oldest = seq
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return done, err
	}
	if _, err := s.tx.ExecContext(ctx, `DELETE FROM journal_entry WHERE id BETWEEN ? AND ?`, first, first|int64(max(oldest, 1)-1)); err != nil {
		return done, err
	}
	put, err := s.tx.PrepareContext(ctx, `INSERT INTO journal_entry (id, total, data, crc) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET total = excluded.total`)
	if err != nil {
		return done, err
	}
	defer put.Close()
	stay, err := s.tx.PrepareContext(ctx, `UPDATE journal_entry SET total = ? WHERE id = ?`)
	if err != nil {
		return done, err
	}
	defer stay.Close()
	done.Endpoint = f.name
	total := int64(0)
	for i, size := range slices.Backward(sizes) {
		seq := head - uint64(i)
		if size == canary { // it is there, or another stands for it, and it counts for nothing
			if _, err := stay.ExecContext(ctx, total, first|int64(seq)); err != nil {
				return done, err
			}
			continue
		}
		var data []byte
		if size == 0 {
			body := ""
			if seq <= f.acked {
				body = lostAcknowledged
			}
			e := lost(seq, body)
			data = e.AppendBody(nil)
			size = int64(len(data))
			done.Lost++
		} else {
			done.Entries++
			data = []byte{} // it is there
		}
		total += size
		if _, err := put.ExecContext(ctx, first|int64(seq), total, data, crcOf(data)); err != nil {
			return done, err
		}
	}
	epoch := max(f.epoch+1, wire.Epoch(time.Now().UnixMilli()))
	_, err = s.tx.ExecContext(ctx, `INSERT INTO journal_endpoint (id, name, epoch, acked, canaries, canary, canary_run) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		id, f.name, int64(epoch), int64(min(f.acked, head)), int64(max(f.canaries, canaries)), int64(newest.last), int64(newest.first))
	return done, err
}
