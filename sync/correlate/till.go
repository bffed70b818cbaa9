package correlate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Till is a device that an operator let in: it may see payments and ask for them, and nothing else.
type Till struct {
	ID      int64
	Name    string
	Created time.Time
	Seen    time.Time // to the hour, or so
	Revoked time.Time // zero: it is let in
}

// seenEvery is how often it is written down that a till is in use.
const seenEvery = time.Hour

// AddTill makes a till and the token that it is known by. The token is told this once: the file holds only its hash, so
// that nobody who comes by a copy of the file can be a till.
func (t *Table) AddTill(ctx context.Context, name, who string) (till Till, token string, err error) {
	var b [16]byte
	rand.Read(b[:])
	token = hex.EncodeToString(b[:])
	sum := sha256.Sum256([]byte(token))
	err = t.write(ctx, func(x *tx) error {
		x.wrote = true
		till = Till{Name: name, Created: x.now, Seen: x.now}
		r, err := t.conn.ExecContext(context.Background(), "INSERT INTO tills (name, token, created, seen, revoked) VALUES (?, ?, ?, ?, 0)", name, sum[:], millis(x.now), millis(x.now))
		if err != nil {
			return err
		}
		if till.ID, err = r.LastInsertId(); err != nil {
			return err
		}
		return x.audit(Act{Who: who, Act: "till let in", Subject: till.Subject()})
	})
	if err != nil {
		return Till{}, "", fmt.Errorf("correlate: add till: %w", err)
	}
	return till, token, nil
}

// Subject is what the audit calls a till.
func (t Till) Subject() string { return fmt.Sprintf("till %d, %s", t.ID, t.Name) }

// TillByToken finds the till that a token belongs to, if that is let in still, and writes down now and then that it was
// seen. One that was not seen for longer than idle is not let in any more. Otherwise it is ErrNotFound.
func (t *Table) TillByToken(ctx context.Context, token string, idle time.Duration) (Till, error) {
	sum := sha256.Sum256([]byte(token)) // looked up by its hash, so the time that takes tells nothing about the token
	till, err := scanTill(t.read.QueryRowContext(ctx, "SELECT "+tillAll+" FROM tills WHERE token = ? AND revoked = 0", sum[:]))
	at := now()
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && at.Sub(till.Seen) > idle:
		return Till{}, fmt.Errorf("correlate: till: %w", ErrNotFound)
	case err != nil:
		return Till{}, fmt.Errorf("correlate: till: %w", err)
	case at.Sub(till.Seen).Abs() < seenEvery:
		return till, nil
	}
	err = t.write(ctx, func(x *tx) error {
		x.wrote = true
		_, err := t.conn.ExecContext(context.Background(), "UPDATE tills SET seen = ? WHERE id = ?", millis(at), till.ID)
		return err
	})
	if err != nil { // it is a till all the same
		t.log.Warn("it could not be written down that a till was seen", "till", till.ID, "err", err)
	}
	return till, nil
}

// Tills lists all tills that there ever were, in the order in which they were let in.
func (t *Table) Tills(ctx context.Context) ([]Till, error) {
	rows, err := t.read.QueryContext(ctx, "SELECT "+tillAll+" FROM tills ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("correlate: tills: %w", err)
	}
	defer rows.Close()
	var list []Till
	for rows.Next() {
		till, err := scanTill(rows)
		if err != nil {
			return nil, fmt.Errorf("correlate: tills: %w", err)
		}
		list = append(list, till)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("correlate: tills: %w", err)
	}
	return list, nil
}

// RevokeTill ends a till: its token is nothing any more. To revoke it again changes nothing.
func (t *Table) RevokeTill(ctx context.Context, id int64, who string) (till Till, err error) {
	err = t.write(ctx, func(x *tx) (err error) {
		bg := context.Background()
		till, err = scanTill(t.conn.QueryRowContext(bg, "SELECT "+tillAll+" FROM tills WHERE id = ?", id))
		if err != nil || !till.Revoked.IsZero() {
			return notFound(err)
		}
		x.wrote = true
		till.Revoked = x.now
		if _, err := t.conn.ExecContext(bg, "UPDATE tills SET revoked = ? WHERE id = ?", millis(x.now), id); err != nil {
			return err
		}
		return x.audit(Act{Who: who, Act: "till revoked", Subject: till.Subject()})
	})
	if err != nil {
		return Till{}, fmt.Errorf("correlate: revoke till: %w", err)
	}
	return till, nil
}

const tillAll = "id, name, created, seen, revoked"

func scanTill(row interface{ Scan(...any) error }) (till Till, err error) {
	var created, seen, revoked int64
	err = row.Scan(&till.ID, &till.Name, &created, &seen, &revoked)
	till.Created, till.Seen, till.Revoked = instant(created), instant(seen), instant(revoked)
	return till, err
}
