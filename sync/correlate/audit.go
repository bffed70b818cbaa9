package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// An Act is something that was done to a sidecar, or refused to somebody, and that may be asked about later: an
// administrative act, a decision about a payment, a caller who was turned away. It is written once and never changed: the
// file itself refuses to. So no Act may hold what might have to be forgotten, such as a phone number or a name, nor a secret.
type Act struct {
	ID      int64
	Time    time.Time
	Who     string // an operator's name on this machine, "app", "till NAME", an address, or "sidecar" for what it did by itself
	Act     string // what, as in "payment confirmed"
	Subject string // to what: an id, a name
	Detail  string // for people

	// Strangers marks what anybody can bring about who reaches a port. There is no end to that, so of each such act only the
	// first few of an hour are written one by one, and of the rest how many they were.
	Strangers bool
}

// strangersAct is how many acts of one kind by strangers are written in an hour.
const strangersAct = 20

// strangers counts what strangers did in an hour, by act.
type strangers struct {
	mu  sync.Mutex
	did map[string]*hour
}

type hour struct {
	began time.Time
	n     int
	last  Act
}

// tell says what is to be written of an act: itself, and before it how many were not written in the hour before.
func (s *strangers) tell(a Act, now time.Time) (lines []Act) {
	if !a.Strangers {
		return []Act{a}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.did[a.Act]
	if h == nil || now.Sub(h.began).Abs() >= time.Hour {
		if h != nil && h.n > strangersAct {
			more := h.last
			more.Subject, more.Detail = "", fmt.Sprintf("and %d more in the hour from %s on", h.n-strangersAct, h.began.Format(time.RFC3339))
			lines = append(lines, more)
		}
		h = &hour{began: now}
		if s.did == nil {
			s.did = make(map[string]*hour)
		}
		s.did[a.Act] = h
	}
	if h.n++; h.n <= strangersAct {
		lines = append(lines, a)
	}
	h.last = a
	return lines
}

// Audit writes down an act.
func (t *Table) Audit(ctx context.Context, a Act) error {
	lines := t.strangers.tell(a, now())
	if len(lines) == 0 {
		return nil
	}
	if err := t.write(ctx, func(x *tx) error { return x.writeActs(lines) }); err != nil {
		return fmt.Errorf("correlate: audit: %w", err)
	}
	return nil
}

// Record writes an act into the file at path, which a Table may have open or not: a copy is made, and put back, by a process of
// its own.
func Record(ctx context.Context, path string, a Act) error {
	if err := record(ctx, path, a); err != nil {
		return fmt.Errorf("correlate: audit: %w", err)
	}
	return nil
}

func record(ctx context.Context, path string, a Act) error {
	if err := Check(path); err != nil { // its audit may be another too
		return err
	}
	file, err := dataSource(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", file+"&mode=rw")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, insertAct, now().UnixMilli(), a.Who, a.Act, a.Subject, a.Detail)
	return errors.Join(err, db.Close())
}

const insertAct = "INSERT INTO audit (time, who, act, subject, detail) VALUES (?, ?, ?, ?, ?)"

// audit writes down an act together with what else the transaction does: there is no act without its line, nor a line
// without its act.
func (x *tx) audit(a Act) error { return x.writeActs(x.t.strangers.tell(a, x.now)) }

func (x *tx) writeActs(lines []Act) error {
	for _, a := range lines {
		x.wrote = true
		_, err := x.t.conn.ExecContext(context.Background(), insertAct,
			x.now.UnixMilli(), a.Who, a.Act, a.Subject, a.Detail)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return nil
}

// Acts returns the newest acts, the oldest of them first, at most limit of them; if before is not 0, of those before that ID.
func (t *Table) Acts(ctx context.Context, before int64, limit int) ([]Act, error) {
	rows, err := t.read.QueryContext(ctx, "SELECT id, time, who, act, subject, detail FROM (SELECT * FROM audit WHERE ? = 0 OR id < ? ORDER BY id DESC LIMIT ?) ORDER BY id", before, before, limit)
	if err != nil {
		return nil, fmt.Errorf("correlate: acts: %w", err)
	}
	defer rows.Close()
	var list []Act
	for rows.Next() {
		var a Act
		var at int64
		if err := rows.Scan(&a.ID, &at, &a.Who, &a.Act, &a.Subject, &a.Detail); err != nil {
			return nil, fmt.Errorf("correlate: acts: %w", err)
		}
		a.Time = instant(at)
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("correlate: acts: %w", err)
	}
	return list, nil
}
