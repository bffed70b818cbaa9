package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// Payment finds a payment by its id or by its MerchantRequestID (the newest, should several have it).
func (t *Table) Payment(ctx context.Context, id string) (Payment, error) {
	if p, ok := t.payments.Get(id); ok {
		return *p, nil
	}
	if known, ok := t.merchants.Get(id); ok {
		if p, ok := t.payments.Get(known); ok {
			return *p, nil
		}
	}
	p, err := scanPayment(t.read.QueryRowContext(ctx, "SELECT "+paymentAll+" FROM payments WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		p, err = scanPayment(t.read.QueryRowContext(ctx, "SELECT "+paymentAll+" FROM payments WHERE merchant = ? AND merchant <> '' ORDER BY row DESC LIMIT 1", id))
	}
	if err != nil {
		return Payment{}, fmt.Errorf("correlate: payment: %w", notFound(err))
	}
	return *p, nil
}

// Filter chooses payments. The zero Filter is all of them.
type Filter struct {
	Status    string
	Session   string
	Shortcode string    // its name in the configuration
	Doubted   bool      // only those in doubt
	From, To  time.Time // of their beginning: From ≤ t < To
	After     string    // what the page before returned as next
	Limit     int       // default 100
}

// Payments lists payments, the newest first. Next is for the page after it, "" on the last.
func (t *Table) Payments(ctx context.Context, f Filter) (list []Payment, next string, err error) {
	setDefault(&f.Limit, 100)
	from, where, args := "payments", []string{"true"}, []any{}
	add := func(cond string, values ...any) { where, args = append(where, cond), append(args, values...) }
	if f.Status != "" {
		add("status = ?", f.Status)
	}
	switch status := push.Status(f.Status); { // each index is made for what is said here once more
	case status == push.Unknown, status == push.Failed:
		add("status IN ('UNKNOWN', 'FAILED')")
	case status == push.Pending && f.Session == "": // a few among millions, of which SQLite knows nothing
		add("due_at > 0")
		from = "payments INDEXED BY payments_due"
	}
	if f.Doubted {
		add("doubt <> ''")
		from = "payments INDEXED BY payments_doubt"
	}
	if f.Session != "" {
		add("session = ?", f.Session)
	}
	if f.Shortcode != "" {
		add("shortcode = ?", f.Shortcode)
	}
	if !f.From.IsZero() {
		add("created >= ?", f.From.UnixMilli())
	}
	if !f.To.IsZero() {
		add("created < ?", f.To.UnixMilli())
	}
	if f.After != "" {
		at, err := push.ParseCursor(f.After)
		if err != nil {
			return nil, "", fmt.Errorf("correlate: payments: after: %w", err)
		}
		add("created <= ? AND (created < ? OR row < ?)", int64(at.Epoch), int64(at.Epoch), int64(at.Seq))
	}
	list, err = t.list(ctx, "SELECT "+paymentAll+" FROM "+from+" WHERE "+strings.Join(where, " AND ")+" ORDER BY created DESC, row DESC LIMIT ?", append(args, f.Limit+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("correlate: payments: %w", err)
	}
	if len(list) > f.Limit {
		list = list[:f.Limit]
		last := list[f.Limit-1]
		next = push.Cursor{Epoch: uint64(last.Created.UnixMilli()), Seq: uint64(last.row)}.String()
	}
	return list, next, nil
}

// Query finds payments by what a person may hold in hand. What is set must all match.
type Query struct {
	Receipt           string
	CheckoutRequestID string
	Phone             string // normalised
	Limit             int    // default 50
}

// Search returns payments, the newest first.
func (t *Table) Search(ctx context.Context, q Query) ([]Payment, error) {
	setDefault(&q.Limit, 50)
	var where []string
	var args []any
	for _, c := range []struct{ column, value string }{{"receipt", strings.ToUpper(q.Receipt)}, {"checkout", q.CheckoutRequestID}, {"phone", q.Phone}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ? AND "+c.column+" <> ''"), append(args, c.value)
		}
	}
	if len(where) == 0 {
		return nil, nil
	}
	list, err := t.list(ctx, "SELECT "+paymentAll+" FROM payments WHERE "+strings.Join(where, " AND ")+" ORDER BY row DESC LIMIT ?", append(args, q.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("correlate: search: %w", err)
	}
	return list, nil
}

func (t *Table) list(ctx context.Context, query string, args ...any) (list []Payment, err error) {
	defer func() { t.Met(err) }()
	rows, err := t.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scanPayment(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *p)
	}
	return list, rows.Err()
}

// CallbackFilter chooses callbacks. The zero CallbackFilter is all of them.
type CallbackFilter struct {
	States []string
	App    []string // what became of them at the merchant's app: AppStates
	After  string   // the ID behind which to begin
	Limit  int      // default 100
}

// Callbacks lists callbacks in the order of their ids. Next is for the page after it, "" on the last.
func (t *Table) Callbacks(ctx context.Context, f CallbackFilter) (list []Callback, next string, err error) {
	setDefault(&f.Limit, 100)
	where, args := []string{"true"}, []any{}
	if len(f.States) > 0 {
		where = append(where, "callbacks.state IN (?"+strings.Repeat(", ?", len(f.States)-1)+")")
		indexed := true
		for _, s := range f.States {
			args = append(args, s)
			indexed = indexed && s != StateApplied
		}
		if indexed {
			where = append(where, "callbacks.state <> 'applied'")
		}
	}
	if len(f.App) > 0 {
		in, more := inApp(f.App)
		where, args = append(where, in), append(args, more...)
	}
	if f.After != "" {
		at, err := push.ParseCursor(f.After)
		if err != nil {
			return nil, "", fmt.Errorf("correlate: callbacks: after: %w", err)
		}
		where, args = append(where, "callbacks.place > coalesce((SELECT number FROM cursors WHERE epoch = ?), 0) << 40 | ?"), append(args, int64(at.Epoch), int64(min(at.Seq, 1<<seqBits-1)))
	}
	rows, err := t.read.QueryContext(ctx, "SELECT callbacks.place, "+epochOf+", received, stored, callbacks.state, callbacks.error, payment, session, ref, remote, marks, header, body, "+appOf+
		" FROM callbacks LEFT JOIN forwards f ON f.place = callbacks.place WHERE "+strings.Join(where, " AND ")+" ORDER BY callbacks.place LIMIT ?", append(args, f.Limit+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("correlate: callbacks: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c Callback
		var place, epoch, received, stored, marks, first, last, due int64
		if err := rows.Scan(&place, &epoch, &received, &stored, &c.State, &c.Error, &c.PaymentID, &c.Session, &c.Ref, &c.Remote, &marks, &c.Header, &c.Body,
			&c.App.State, &c.App.Attempts, &c.App.Status, &c.App.Error, &first, &last, &due, &c.App.Replay); err != nil {
			return nil, "", fmt.Errorf("correlate: callbacks: %w", err)
		}
		c.Source, c.Misdated = unmark(marks)
		c.App.First, c.App.Last, c.App.Due = instant(first), instant(last), instant(due)
		c.ID, c.Received, c.Stored = push.Cursor{Epoch: uint64(epoch), Seq: seqAt(place)}.String(), instant(received), instant(stored)
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("correlate: callbacks: %w", err)
	}
	if len(list) > f.Limit {
		list = list[:f.Limit]
		next = list[f.Limit-1].ID
	}
	return list, next, nil
}
