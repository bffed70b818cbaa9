package correlate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// The states of a callback on its way to the merchant's app. One that is older than forwarding has none.
const (
	AppWaiting  = "waiting"  // it is not handled yet
	AppHandled  = "handled"  // the app has answered that it has it
	AppDead     = "dead"     // it was given up
	AppWithheld = "withheld" // it is nothing that an app should see: see ForTheApp
)

// AppStates are all of them.
func AppStates() []string { return []string{AppWaiting, AppHandled, AppDead, AppWithheld} }

// Handling is what became of a callback at the merchant's app.
type Handling struct {
	State       string
	Attempts    int
	Status      int       // the app's last answer; 0: there was none
	Error       string    // why it is not handled
	First, Last time.Time // attempts; of one that is handled, Last is when it was
	Due         time.Time // the next attempt
	Replay      bool      // somebody asked for it again
}

// A Delivery is a callback that the app is to be given. Its body stays where it is: see Table.Stored.
type Delivery struct {
	ID string
	// Subjects are what it is about, as far as that is known: its payment, its MerchantRequestID. Two callbacks that have
	// one in common are of the same payment, and are given to the app one after the other.
	Subjects []string
	Stored   time.Time
	Handling

	place int64
}

// ForTheApp reports whether a callback is for the merchant's app. What is not believed is not, and neither is what does
// not count yet or must not undo what does: an app that books whatever it is told would book it.
func (c *Callback) ForTheApp() bool {
	switch c.State {
	case StateSuspect, StateForged, StateHeld, StateOverruled:
		return false
	}
	return c.Source != wire.SourceEnforced && c.posted
}

// Outbox is the reader of callbacks that the merchant's app is to be given. There is one at a time, and its methods are for
// one goroutine.
//
// It goes through each journal once: up to floor everything there is was read, and what is behind that was, up to ahead,
// came live, before its backlog. What was tried and is not handled yet is found by its row in the table forwards. So after a
// crash that which had no row yet is read once more, and given to the app once more, under the same id.
type Outbox struct {
	t       *Table
	floor   map[uint64]int64   // by the number of a journal
	ahead   map[uint64]int64   //
	kept    map[uint64]int64   // of floor, what is in the file
	held    map[int64]struct{} // given out and not handled yet; it may have no row
	waiting int64              // of those that have a row: read up to here; noMore if all were
	unkept  int                // results since the cursor was last written
}

const (
	noMore     = -1
	cursorLags = 500 // results; a crash reads so many rows for nothing
)

// Outbox begins to forward, or goes on where it was. The first time it begins with what comes next.
func (t *Table) Outbox(ctx context.Context) (*Outbox, error) {
	o := &Outbox{t: t, floor: map[uint64]int64{}, ahead: map[uint64]int64{}, kept: map[uint64]int64{}, held: map[int64]struct{}{}}
	err := t.write(ctx, func(x *tx) error {
		bg := context.Background()
		r, err := t.conn.ExecContext(bg, "INSERT OR IGNORE INTO forwarder (one, began, paused, why) VALUES (1, ?, 0, '')", millis(x.now))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		x.wrote = true
		for _, s := range t.spot {
			if _, err := t.conn.ExecContext(bg, "INSERT INTO forwarding (journal, place) VALUES (?, ?)", int64(s.number), s.in()|int64(s.seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = o.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("correlate: outbox: %w", err)
	}
	return o, nil
}

func (o *Outbox) load(ctx context.Context) error {
	rows, err := o.t.read.QueryContext(ctx, "SELECT journal, place FROM forwarding")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var journal, place int64
		if err := rows.Scan(&journal, &place); err != nil {
			return err
		}
		o.floor[uint64(journal)] = place
	}
	o.kept = maps.Clone(o.floor)
	return rows.Err()
}

// Arrived is signalled when there may be more for an Outbox, or when it may go on.
func (t *Table) Arrived() <-chan struct{} { return t.arrived }

func (t *Table) arrive() {
	select {
	case t.arrived <- struct{}{}:
	default:
	}
}

// outgoing is what Next reads of a callback, in the order of its scan.
const outgoing = `c.place, ` + `(SELECT epoch FROM cursors WHERE number = c.place >> 40), c.state, c.kind, c.marks, c.stored, c.payment,
	coalesce(nullif(c.merchant, ''), (SELECT p.merchant FROM payments p WHERE p.id = c.payment AND c.payment <> ''), ''),
	coalesce(f.attempts, 0), coalesce(f.status, 0), coalesce(f.first, 0), coalesce(f.last, 0), coalesce(f.due, 0), coalesce(f.replay, 0)`

// Next returns callbacks to give to the app, in the order in which they became known here, at most room of them, and each
// once: what was tried before comes first. Fewer than room are all there are, and it may be a few more. Those that are not for
// the app it notes as such. With an error come those that were found before it.
func (o *Outbox) Next(ctx context.Context, room int) ([]Delivery, error) {
	list, err := o.next(ctx, room)
	if err != nil {
		return list, fmt.Errorf("correlate: outbox: %w", err)
	}
	return list, nil
}

func (o *Outbox) next(ctx context.Context, room int) (list []Delivery, err error) {
	if o.t.again.Swap(false) {
		o.waiting = 0
	}
	for o.waiting != noMore && len(list) < room {
		const query = "SELECT " + outgoing + " FROM forwards f JOIN callbacks c ON c.place = f.place WHERE f.state = 'waiting' AND f.state <> 'handled' AND f.place > ? ORDER BY f.place LIMIT ?"
		found, last, full, err := o.read(ctx, query, o.waiting, page(room-len(list)))
		if err != nil {
			return list, err
		}
		list = append(list, found...)
		if o.waiting = last; !full {
			o.waiting = noMore
		}
	}
	if o.waiting != noMore {
		return list, nil
	}
	for _, s := range o.t.spots() {
		// What is applied up to here has no gaps, so once it was read, it is all that there will be.
		whole, end := s.in()|int64(s.seq), s.in()+1<<seqBits
		from := max(o.floor[s.number], s.in())
		for from < whole && len(list) < room {
			found, last, full, err := o.read(ctx, untried, from, whole+1, page(room-len(list)))
			if err != nil {
				return list, err
			}
			list = append(list, found...)
			if from = last; !full {
				from = whole
			}
		}
		o.floor[s.number] = max(from, o.floor[s.number])
		for from = max(from, o.ahead[s.number]); from >= whole && len(list) < room; {
			found, last, full, err := o.read(ctx, untried, from, end, page(room-len(list)))
			if err != nil {
				return list, err
			}
			list = append(list, found...)
			from = max(from, last)
			o.ahead[s.number] = from
			if !full {
				break
			}
		}
	}
	return list, nil
}

const untried = "SELECT " + outgoing + " FROM callbacks c LEFT JOIN forwards f ON f.place = c.place WHERE c.place > ? AND c.place < ? AND f.place IS NULL ORDER BY c.place LIMIT ?"

// page is how many rows are read to find so many that were not given out yet.
func page(room int) int { return max(room, 100) }

// read runs a query of Next, which has a place as its first argument and its limit as the last. Last is the place up to which it
// came, and full that there may be more.
func (o *Outbox) read(ctx context.Context, query string, args ...any) (list []Delivery, last int64, full bool, err error) {
	rows, err := o.t.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, false, err
	}
	defer rows.Close()
	last, _ = args[0].(int64)
	var not []Delivery
	n := 0
	for rows.Next() {
		var d Delivery
		var c Callback
		var epoch, kind, marks, stored, first, final, due int64
		var merchant string
		if err := rows.Scan(&d.place, &epoch, &c.State, &kind, &marks, &stored, &c.PaymentID, &merchant,
			&d.Attempts, &d.Status, &first, &final, &due, &d.Replay); err != nil {
			return nil, 0, false, err
		}
		n, last = n+1, d.place
		if _, given := o.held[d.place]; given {
			continue
		}
		c.Source, _ = unmark(marks)
		c.posted = kind == int64(wire.KindNotice)
		d.ID = push.Cursor{Epoch: uint64(epoch), Seq: seqAt(d.place)}.String()
		d.State, d.Stored, d.First, d.Last, d.Due = AppWaiting, instant(stored), instant(first), instant(final), instant(due)
		if !c.ForTheApp() {
			d.State = AppWithheld
			not = append(not, d)
			continue
		}
		for _, subject := range []string{c.PaymentID, merchant} {
			if subject != "" {
				d.Subjects = append(d.Subjects, subject)
			}
		}
		list = append(list, d)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, 0, false, err
	}
	if len(not) > 0 {
		if err := o.t.write(ctx, func(x *tx) error { return x.forwarded(not) }); err != nil {
			return nil, 0, false, err
		}
	}
	for _, d := range list {
		o.held[d.place] = struct{}{}
	}
	return list, last, n == args[len(args)-1], nil
}

// spots is how far each journal was applied.
func (t *Table) spots() []spot {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]spot, 0, len(t.spot))
	for _, s := range t.spot {
		if s.number != 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b spot) int { return cmp.Compare(a.number, b.number) })
	return list
}

// ErrErased is that of a callback only its place is left: it was too old to be kept, or its customer was forgotten.
var ErrErased = errors.New("what it said was erased")

// Stored reads what is to be sent. ErrErased is for what cannot be sent any more. The callback may be none for the app by now.
func (t *Table) Stored(ctx context.Context, d Delivery) (Callback, error) {
	var c Callback
	var kind, marks, received, stored int64
	err := t.read.QueryRowContext(ctx, "SELECT received, stored, state, payment, session, kind, marks, header, body FROM callbacks WHERE place = ?", d.place).
		Scan(&received, &stored, &c.State, &c.PaymentID, &c.Session, &kind, &marks, &c.Header, &c.Body)
	if err == nil && len(c.Header)+len(c.Body) == 0 {
		err = ErrErased
	}
	if err != nil {
		return Callback{}, fmt.Errorf("correlate: outbox: %s: %w", d.ID, err)
	}
	c.Source, c.Misdated = unmark(marks)
	c.ID, c.Received, c.Stored, c.posted = d.ID, instant(received), instant(stored), kind == int64(wire.KindNotice)
	return c, nil
}

// Record commits what became of callbacks that Next gave out, and how far all were tried. Those that are no longer waiting
// are not the Outbox's any more.
func (o *Outbox) Record(ctx context.Context, results []Delivery) error {
	o.unkept += len(results)
	err := o.t.write(ctx, func(x *tx) error {
		if err := x.forwarded(results); err != nil {
			return err
		}
		done := 0
		for _, d := range results {
			if d.State != AppWaiting {
				done++
			}
		}
		if o.unkept < cursorLags && done < len(o.held) {
			return nil
		}
		return o.keepCursors(x, results)
	})
	if err != nil {
		return fmt.Errorf("correlate: outbox: %w", err)
	}
	for _, d := range results {
		if d.State != AppWaiting {
			delete(o.held, d.place)
		}
	}
	return nil
}

// keepCursors writes up to where everything has its row.
func (o *Outbox) keepCursors(x *tx, results []Delivery) error {
	rows := make(map[int64]bool, len(results)) // those written just now are not seen by others yet
	for _, d := range results {
		rows[d.place] = true
	}
	reached := maps.Clone(o.floor)
	for place := range o.held {
		if journal := uint64(place >> seqBits); !rows[place] && place <= reached[journal] {
			reached[journal] = place - 1
		}
	}
	for journal, place := range reached {
		if place <= o.kept[journal] {
			continue
		}
		x.wrote = true
		if _, err := o.t.conn.ExecContext(context.Background(), "INSERT INTO forwarding (journal, place) VALUES (?, ?) ON CONFLICT DO UPDATE SET place = excluded.place", int64(journal), place); err != nil {
			return err
		}
	}
	x.after = append(x.after, func() {
		maps.Copy(o.kept, reached)
		o.unkept = 0
	})
	return nil
}

// forwarded writes what became of callbacks.
func (x *tx) forwarded(results []Delivery) error {
	for _, d := range results {
		x.wrote = true
		x.rows++
		_, err := x.t.conn.ExecContext(context.Background(), "INSERT OR REPLACE INTO forwards (place, state, attempts, status, error, first, last, due, replay) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			d.place, d.State, d.Attempts, d.Status, d.Error, millis(d.First), millis(d.Last), millis(d.Due), d.Replay)
		if err != nil {
			return fmt.Errorf("forward: %w", err)
		}
	}
	return nil
}

// judgedAnew sees to it that a callback which was withheld from the app is looked at again.
func (x *tx) judgedAnew(place int64) error {
	r, err := x.t.conn.ExecContext(context.Background(), "UPDATE forwards SET state = 'waiting', due = 0 WHERE place = ? AND state = 'withheld'", place)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	x.again()
	return nil
}

// again has the Outbox read once more what waits.
func (x *tx) again() {
	x.wrote = true
	x.after = append(x.after, func() {
		x.t.again.Store(true)
		x.t.arrive()
	})
}
