package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hodihq/hodi/tunnel/wire"
)

// What happens when the disk has not kept what it was given.
//
// An entry that is not as it was written stops nobody: in its place readers are given one of the kind lost, which says so
// to the sidecar. It is made anew at every reading, always the same, so that a cursor can stand behind it; and if the disk
// comes to its senses, the real one has another checksum, and the history is sent anew.
//
// Damage to the file itself, which SQLite reports, is another matter: what stands behind a damaged page is not lost, it only
// cannot be found any more. Damaged tells of that, and who owns the journal closes it and has all that is left moved to a
// new file: Salvage.

// ErrDamaged is behind errors about a file that is not what was written to it.
var ErrDamaged = errors.New("the file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crcOf(data []byte) int64 { return int64(crc32.Checksum(data, castagnoli)) }

// decode reads an entry as it is on disk.
func decode(data []byte, crc sql.NullInt64, seq uint64) (wire.Entry, error) {
	if crc.Valid && crc.Int64 != crcOf(data) {
		return wire.Entry{}, fmt.Errorf("entry %d: %w: its checksum is wrong", seq, ErrDamaged)
	}
	e, err := wire.ParseEntry(data)
	if err != nil {
		return e, fmt.Errorf("entry %d: %w: %w", seq, ErrDamaged, err)
	}
	if e.Seq != seq {
		return e, fmt.Errorf("%w: entry %d is where %d ought to be", ErrDamaged, e.Seq, seq)
	}
	return e, nil
}

// IsDamage reports whether an error says that the file is not what was written to it, so that to try again is of no use.
func IsDamage(err error) bool {
	if errors.Is(err, ErrDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS: // a sector that cannot be read, too
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// lostAcknowledged is the body of a lost entry that an Ack had spoken for.
const lostAcknowledged = "acknowledged"

// lost is what stands for an entry that the disk did not keep.
func lost(seq uint64, body string) wire.Entry {
	return wire.Entry{Seq: seq, Kind: wire.KindLost, Received: time.UnixMilli(0).UTC(), Body: []byte(body)}
}

// held reads one entry from disk.
func (s *SQLite) held(ctx context.Context, h *history, seq uint64) (wire.Entry, error) {
	var data []byte
	var crc sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT data, crc FROM journal_entry WHERE id = ?`, h.row(seq)).Scan(&data, &crc)
	if errors.Is(err, sql.ErrNoRows) {
		return s.stands(ctx, h, seq)
	}
	if err != nil {
		return wire.Entry{}, err
	}
	return decode(data, crc, seq)
}

// gone notes that an entry is lost, and returns what stands for it.
func (s *SQLite) gone(h *history, seq uint64, why error) wire.Entry {
	const most = 10_000 // numbers that are remembered, so that each is told of once
	h.mu.Lock()
	known := h.lost[seq] || len(h.lost) >= most
	if !known {
		if h.lost == nil {
			h.lost = make(map[uint64]bool)
		}
		h.lost[seq] = true
	}
	h.mu.Unlock()
	if !known {
		s.log.Error("a stored callback cannot be read: its sidecar is told that it is lost", "endpoint", h.name, "seq", seq, "err", why)
	}
	return lost(seq, "")
}

// beside returns what stands for entries that are lost, from one that cannot be read to before the next that can.
func (s *SQLite) beside(ctx context.Context, h *history, from, to uint64) ([]wire.Entry, error) {
	const most = 256 // in one go
	var entries []wire.Entry
	for seq := from; seq <= to && len(entries) < most; seq++ {
		e, err := s.held(ctx, h, seq)
		switch {
		case err == nil:
			if len(entries) == 0 { // so it can be read after all
				entries = append(entries, e)
			}
			return entries, nil
		case !errors.Is(err, ErrDamaged) && !errors.Is(err, sql.ErrNoRows):
			return entries, err
		case seq < h.now().Oldest: // it is not lost, but forgotten meanwhile
			return entries, nil
		}
		entries = append(entries, s.gone(h, seq, err))
	}
	return entries, nil
}

// Lost is how many entries of an endpoint were found to be lost since the journal was opened.
func (s *SQLite) Lost(endpoint string) int {
	h := s.known(endpoint)
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lost)
}

// Held is how many bytes an endpoint holds that its reader has not acknowledged, and how many it may.
func (s *SQLite) Held(endpoint string) (held, limit int64) {
	if h := s.known(endpoint); h != nil {
		held = h.unacked()
	}
	return held, s.limits.Load().MaxBytes
}

// meet tells who owns the journal of damage to its file.
func (s *SQLite) meet(err error) {
	if IsDamage(err) {
		s.damaging.Do(func() {
			s.log.Error("the journal's file is damaged", "err", err)
			close(s.damage)
		})
	}
}

// Damaged is closed when the journal's file turns out to be damaged. The journal is then to be closed and salvaged.
func (s *SQLite) Damaged() <-chan struct{} { return s.damage }

// Probe reports whether the journal can store, and if the last attempt to store something failed, tries.
func (s *SQLite) Probe(ctx context.Context) error {
	if s.failing.Load() == nil {
		return nil
	}
	return s.Commit(ctx)
}

// Commit has the writer store something and take it back: it answers for the writer and for its disk.
func (s *SQLite) Commit(ctx context.Context) error {
	if err := s.ask(ctx, &request{what: probeDisk}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
