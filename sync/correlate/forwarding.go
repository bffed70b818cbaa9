package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What an operator sees of forwarding, and may do about it. How it goes on is in outbox.go.

// Forwarding is how it stands with the callbacks that the merchant's app is to be given.
type Forwarding struct {
	Began   time.Time // with what came next; zero: never
	Paused  time.Time // zero: it is not
	Why     string
	Waiting int       // not handled yet; countedTo at most
	Dead    int       // given up
	Oldest  time.Time // when the oldest of those that wait came to the edge; zero: none does
}

const countedTo = 100_000

// waits, as SQL, is where all callbacks are that the app has not handled and that were not given up.
const waits = `SELECT place FROM forwards WHERE state = 'waiting' AND state <> 'handled' UNION ALL
	SELECT c.place FROM cursors j LEFT JOIN forwarding f ON f.journal = j.number
		JOIN callbacks c ON c.place > max(j.number << 40, coalesce(f.place, 0)) AND c.place < (j.number + 1) << 40
	WHERE EXISTS (SELECT 1 FROM forwarder) AND NOT EXISTS (SELECT 1 FROM forwards w WHERE w.place = c.place)`

// Forwarding looks.
func (t *Table) Forwarding(ctx context.Context) (Forwarding, error) {
	var f Forwarding
	var began, paused, oldest int64
	err := t.read.QueryRowContext(ctx, "SELECT began, paused, why FROM forwarder").Scan(&began, &paused, &f.Why)
	if errors.Is(err, sql.ErrNoRows) {
		return f, nil
	}
	if err == nil {
		err = t.read.QueryRowContext(ctx, "SELECT count(*), (SELECT count(*) FROM forwards WHERE state = 'dead' AND state <> 'handled') FROM ("+waits+" LIMIT ?)", countedTo).Scan(&f.Waiting, &f.Dead)
	}
	if err == nil && f.Waiting > 0 {
		err = t.read.QueryRowContext(ctx, "SELECT coalesce(min(received), 0) FROM callbacks WHERE place IN ("+waits+" LIMIT ?)", countedTo).Scan(&oldest)
	}
	if err != nil {
		return Forwarding{}, fmt.Errorf("correlate: forwarding: %w", err)
	}
	f.Began, f.Paused, f.Oldest = instant(began), instant(paused), instant(oldest)
	return f, nil
}

// Paused reports whether forwarding is paused, and when it was last resumed: zero if never.
func (t *Table) Paused(ctx context.Context) (paused bool, resumed time.Time, err error) {
	var at int64
	err = t.read.QueryRowContext(ctx, "SELECT paused <> 0, resumed FROM forwarder").Scan(&paused, &at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, time.Time{}, fmt.Errorf("correlate: forwarding: %w", err)
	}
	return paused, instant(at), nil
}

// PauseForwarding has nothing given to the app until ResumeForwarding. What is paused already stays paused for its first reason.
func (t *Table) PauseForwarding(ctx context.Context, who, why string) error {
	return t.pause(ctx, "pause", who, why, "UPDATE forwarder SET paused = ?, why = ? WHERE paused = 0", func(x *tx) []any { return []any{millis(x.now), why} })
}

// ResumeForwarding goes on, and tries at once what waits for its next attempt.
func (t *Table) ResumeForwarding(ctx context.Context, who string) error {
	return t.pause(ctx, "resume", who, "", "UPDATE forwarder SET paused = 0, why = '', resumed = ? WHERE paused <> 0", func(x *tx) []any { return []any{millis(x.now)} })
}

// SentAgain notes since when there is an app again, where for a while there was none: what waited is not given up for that.
func (t *Table) SentAgain(ctx context.Context, since time.Time) error {
	err := t.write(ctx, func(x *tx) error {
		x.wrote = true
		_, err := t.conn.ExecContext(context.Background(), "UPDATE forwarder SET resumed = max(resumed, ?)", millis(since))
		return err
	})
	if err != nil {
		return fmt.Errorf("correlate: send again: %w", err)
	}
	return nil
}

func (t *Table) pause(ctx context.Context, verb, who, why, update string, args func(*tx) []any) error {
	err := t.write(ctx, func(x *tx) error {
		r, err := t.conn.ExecContext(context.Background(), update, args(x)...)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		x.wrote = true
		x.after = append(x.after, t.arrive)
		return x.audit(Act{Who: who, Act: "forwarding " + verb + "d", Detail: why})
	})
	if err != nil {
		return fmt.Errorf("correlate: %s forwarding: %w", verb, err)
	}
	return nil
}

// Again is which callbacks the app is to be given once more.
type Again struct {
	IDs      []string  // these; or else
	From, To time.Time // those that came to the edge between the two, From included; or else
	Dead     bool      // those that were given up
	Who      string    // asks for it, for the audit
	Only     bool      // to be counted, and not given
}

// Replayed is what came of that.
type Replayed struct {
	Callbacks int // are given once more
	Waiting   int // are on their way anyway
	Withheld  int // are nothing for the app
	Erased    int // are there no more, but for their place
	Unknown   int // ids that no callback has
}

// replayStep is how many callbacks a transaction looks at.
const replayStep = 500

// Replay gives callbacks to the app once more, under the ids that they always had. Those of one payment come in their order.
func (t *Table) Replay(ctx context.Context, a Again) (r Replayed, err error) {
	if a.From.IsZero() != a.To.IsZero() || !a.Only && a.Who == "" {
		return r, fmt.Errorf("correlate: replay: %w", ErrInvalid)
	}
	if len(a.IDs) > 0 {
		err = t.replayIDs(ctx, a, &r)
	} else {
		err = t.replayRange(ctx, a, &r)
	}
	if err != nil {
		return r, fmt.Errorf("correlate: replay: %w", err)
	}
	if a.Only || r.Callbacks == 0 {
		return r, nil
	}
	return r, t.Audit(ctx, Act{Who: a.Who, Act: "callbacks replayed", Subject: a.subject(), Detail: fmt.Sprintf("%d callbacks", r.Callbacks)})
}

func (a Again) subject() string {
	switch {
	case len(a.IDs) == 1:
		return a.IDs[0]
	case len(a.IDs) > 0:
		return fmt.Sprintf("%s and others", a.IDs[0])
	case a.Dead:
		return "those given up"
	}
	return a.From.UTC().Format(time.RFC3339) + " to " + a.To.UTC().Format(time.RFC3339)
}

func (t *Table) replayIDs(ctx context.Context, a Again, r *Replayed) error {
	return t.write(ctx, func(x *tx) error {
		*r = Replayed{}
		for _, id := range a.IDs {
			at, err := push.ParseCursor(id)
			if err != nil {
				return fmt.Errorf("%q: %w", id, ErrInvalid)
			}
			s := x.applied(at.Epoch)
			if s.number == 0 || at.Seq >= 1<<seqBits {
				r.Unknown++
				continue
			}
			n, _, err := x.replay(a, r, "callbacks.place = ?", s.in()|int64(at.Seq))
			if err != nil {
				return err
			}
			if n == 0 {
				r.Unknown++
			}
		}
		return nil
	})
}

func (t *Table) replayRange(ctx context.Context, a Again, r *Replayed) error {
	for after, more := int64(-1), true; more; {
		so := *r
		err := t.write(ctx, func(x *tx) (err error) {
			n := 0
			*r = so
			if a.Dead {
				n, after, err = x.replay(a, r, "callbacks.place IN (SELECT place FROM forwards WHERE state = 'dead' AND state <> 'handled' AND place > ? ORDER BY place LIMIT ?) ORDER BY callbacks.place", after, replayStep)
			} else {
				n, after, err = x.replay(a, r, "callbacks.place > ? AND received >= ? AND received < ? ORDER BY callbacks.place LIMIT ?", after, millis(a.From), millis(a.To), replayStep)
			}
			more = n == replayStep
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// replay marks the callbacks that a condition chooses, and says how many those are, and which was the last.
func (x *tx) replay(a Again, r *Replayed, where string, args ...any) (n int, last int64, err error) {
	rows, err := x.t.conn.QueryContext(context.Background(), `SELECT callbacks.place, callbacks.state, kind, marks, length(header) + length(body) = 0, `+appState+`
		FROM callbacks LEFT JOIN forwards f ON f.place = callbacks.place WHERE `+where, args...)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	var again []Delivery
	for rows.Next() {
		var d Delivery
		var c Callback
		var kind, marks int64
		var erased bool
		if err := rows.Scan(&d.place, &c.State, &kind, &marks, &erased, &d.State); err != nil {
			return 0, 0, err
		}
		n, last = n+1, d.place
		c.Source, _ = unmark(marks)
		c.posted = kind == int64(wire.KindNotice)
		switch {
		case !c.ForTheApp():
			r.Withheld++
		case d.State == AppWaiting:
			r.Waiting++
		case erased:
			r.Erased++
		default:
			r.Callbacks++
			again = append(again, Delivery{place: d.place, Handling: Handling{State: AppWaiting, Replay: true}})
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || a.Only || len(again) == 0 {
		return n, last, err
	}
	x.again()
	return n, last, x.forwarded(again)
}

// appState, as SQL, is the state of a callback at the app, and appOf all that became of it there; f is its row, if it has one.
const appState = `CASE WHEN f.state IS NOT NULL THEN f.state WHEN NOT EXISTS (SELECT 1 FROM forwarder) OR callbacks.place <= coalesce((SELECT place FROM forwarding WHERE journal = callbacks.place >> 40), 0) THEN '' ELSE 'waiting' END`
const appOf = appState + `, coalesce(f.attempts, 0), coalesce(f.status, 0), coalesce(f.error, ''), coalesce(f.first, 0), coalesce(f.last, 0), coalesce(f.due, 0), coalesce(f.replay, 0)`

// inApp, as SQL, chooses callbacks by what became of them at the app.
func inApp(states []string) (where string, args []any) {
	var parts []string
	for _, s := range states {
		switch s {
		case AppWaiting:
			parts = append(parts, "callbacks.place IN ("+waits+")")
		case AppHandled:
			parts = append(parts, "f.state = 'handled'")
		default:
			parts = append(parts, "callbacks.place IN (SELECT place FROM forwards WHERE state = ? AND state <> 'handled')")
			args = append(args, s)
		}
	}
	return "(" + strings.Join(parts, " OR ") + ")", args
}
