package correlate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// A Line is one line of the books: a payment, or money that only a C2B notice has told of. What both tell of is one line,
// that of the payment.
type Line struct {
	At        time.Time // when the money moved; of a payment that is not made, when it began
	Began     time.Time // of a payment
	PaymentID string    // "" of money that came by another way
	Session   string
	Status    push.Status
	Receipt   string // "" if M-Pesa has said that it is paid, and not yet with which
	Amount    push.Money

	AccountReference string
	Shortcode        string // its name in the configuration; "" if that is not known
	Number           string // what was paid to
	Environment      string // "" if that is not known
	Phone            string
	Doubt            string
	DecidedBy        string
}

// LedgerFilter chooses lines. The zero LedgerFilter is all that was ever paid.
type LedgerFilter struct {
	From, To time.Time // From ≤ At < To
	Unpaid   bool      // those that are not made, and no others
}

// The parts of the books, each in an order in which it can be gone on with: by a time, and by what tells lines of one time
// from each other.
//
// A payment is made within an hour of its beginning. Few are not: a person has confirmed them later, or the clock was wrong.
// They have an index of their own (payments_aside), so that the others need none by the time at which they were made.
var ledgerParts = [...]struct {
	name, query string
	unpaid      bool
}{
	{name: "p", query: `SELECT created, row, ` + linePayment + ` FROM payments INDEXED BY payments_created
		WHERE created >= max(?1 - 3600000, ?3) AND created < ?2 + 3600000 AND (created > ?3 OR row > ?4)
		AND status = 'SUCCESS' AND completed >= ?1 AND completed < ?2 AND completed >= created - 3600000 AND completed < created + 3600000 ORDER BY created, row LIMIT ?5`},
	{name: "l", query: `SELECT completed, row, ` + linePayment + ` FROM payments INDEXED BY payments_aside
		WHERE completed >= max(?1, ?3) AND completed < ?2 AND (completed > ?3 OR row > ?4) AND ` + isAside + ` ORDER BY completed, row LIMIT ?5`},
	{name: "c", query: `SELECT time, receipt, time, time, '', '', 'SUCCESS', receipt, amount, reference, '', number, '', '', '', '' FROM money INDEXED BY money_time
		WHERE time >= max(?1, ?3) AND time < ?2 AND (time > ?3 OR receipt > ?4) AND ` + ofNobody + ` ORDER BY time, receipt LIMIT ?5`},
	{name: "u", unpaid: true, query: `SELECT created, row, ` + linePayment + ` FROM payments INDEXED BY payments_created
		WHERE created >= max(?1, ?3) AND created < ?2 AND (created > ?3 OR row > ?4) AND status <> 'SUCCESS' ORDER BY created, row LIMIT ?5`},
}

const (
	linePayment = "CASE status WHEN 'SUCCESS' THEN completed ELSE created END, created, id, session, status, receipt, amount, reference, shortcode, number, environment, phone, doubt, decided"
	isAside     = "status = 'SUCCESS' AND (completed < created - 3600000 OR completed >= created + 3600000)" // as the index says it
	ofNobody    = "NOT EXISTS (SELECT 1 FROM payments WHERE payments.id = money.payment AND payments.status = 'SUCCESS')"
)

// Ledger returns lines of the books, at most limit of them, and where the next ones begin, "" behind the last. Each call
// reads by itself: however many there are, memory holds one page, and no reader keeps SQLite from moving its log.
func (t *Table) Ledger(ctx context.Context, f LedgerFilter, after string, limit int) (lines []Line, next string, err error) {
	defer func() { t.Met(err) }()
	part, at, key, err := parsePlace(after)
	if err != nil {
		return nil, "", fmt.Errorf("correlate: ledger: %w", err)
	}
	from, to := int64(math.MinInt64/4), int64(math.MaxInt64/4)
	if !f.From.IsZero() {
		from = f.From.UnixMilli()
	}
	if !f.To.IsZero() {
		to = f.To.UnixMilli()
	}
	for ; part < len(ledgerParts); part, at, key = part+1, math.MinInt64/4, nil {
		p := ledgerParts[part]
		if p.unpaid != f.Unpaid {
			continue
		}
		if key == nil {
			key = any(int64(math.MinInt64))
			if p.name == "c" {
				key = ""
			}
		}
		rows, err := t.read.QueryContext(ctx, p.query, from, to, at, key, limit-len(lines))
		if err != nil {
			return nil, "", fmt.Errorf("correlate: ledger: %w", err)
		}
		lines, next, err = scanLines(rows, lines, p.name)
		if err != nil {
			return nil, "", fmt.Errorf("correlate: ledger: %w", err)
		}
		if len(lines) == limit {
			return lines, next, nil
		}
	}
	return lines, "", nil
}

// scanLines appends what rows has, and says where its last line stands.
func scanLines(rows *sql.Rows, lines []Line, part string) (_ []Line, place string, err error) {
	defer rows.Close()
	for rows.Next() {
		var l Line
		var at, when, began int64
		var key string
		if err := rows.Scan(&at, &key, &when, &began, &l.PaymentID, &l.Session, (*string)(&l.Status), &l.Receipt, (*int64)(&l.Amount), &l.AccountReference,
			&l.Shortcode, &l.Number, &l.Environment, &l.Phone, &l.Doubt, &l.DecidedBy); err != nil {
			return nil, "", err
		}
		l.At, l.Began = instant(when), instant(began)
		lines, place = append(lines, l), part+"."+strconv.FormatInt(at, 10)+"."+key
	}
	return lines, place, rows.Err()
}

// parsePlace reads where a page ended: a part, a time, and a row or a receipt.
func parsePlace(after string) (part int, at int64, key any, err error) {
	if after == "" {
		return 0, math.MinInt64 / 4, nil, nil
	}
	bad := errors.New("after is what the page before gave as next")
	words := strings.SplitN(after, ".", 3)
	if len(words) != 3 {
		return 0, 0, nil, bad
	}
	for part < len(ledgerParts) && ledgerParts[part].name != words[0] {
		part++
	}
	at, err = strconv.ParseInt(words[1], 10, 64)
	if err != nil || part == len(ledgerParts) {
		return 0, 0, nil, bad
	}
	if words[0] == "c" {
		return part, at, words[2], nil
	}
	row, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return 0, 0, nil, bad
	}
	return part, at, row, nil
}

// LedgerOf returns the lines that have one of some receipts, whenever they are of and whatever their status.
func (t *Table) LedgerOf(ctx context.Context, receipts []string) (lines []Line, err error) {
	defer func() { t.Met(err) }()
	if len(receipts) == 0 {
		return nil, nil
	}
	in, args := "(?"+strings.Repeat(", ?", len(receipts)-1)+")", make([]any, len(receipts))
	for i, r := range receipts {
		args[i] = strings.ToUpper(strings.TrimSpace(r))
	}
	for _, query := range []string{
		"SELECT created, row, " + linePayment + " FROM payments WHERE receipt IN " + in + " AND receipt <> '' ORDER BY row",
		"SELECT time, receipt, time, time, '', '', 'SUCCESS', receipt, amount, reference, '', number, '', '', '', '' FROM money WHERE receipt IN " + in + " AND " + ofNobody,
	} {
		rows, err := t.read.QueryContext(ctx, query, args...)
		if err == nil {
			lines, _, err = scanLines(rows, lines, "")
		}
		if err != nil {
			return nil, fmt.Errorf("correlate: ledger: %w", err)
		}
	}
	return lines, nil
}

// LedgerDays says between which times there are lines: the first, and behind the last. Both are zero if there is none.
func (t *Table) LedgerDays(ctx context.Context) (first, last time.Time, err error) {
	// Of those that are not aside, none was made much before or after it began.
	var low, high sql.NullInt64
	err = t.read.QueryRowContext(ctx, `SELECT min(low), max(high) FROM (
		SELECT (SELECT min(created) - 3600000 FROM payments) AS low, (SELECT max(created) + 3600000 FROM payments) AS high
		UNION ALL SELECT (SELECT min(completed) FROM payments INDEXED BY payments_aside WHERE `+isAside+`), (SELECT max(completed) + 1 FROM payments INDEXED BY payments_aside WHERE `+isAside+`)
		UNION ALL SELECT (SELECT min(time) FROM money), (SELECT max(time) + 1 FROM money))`).Scan(&low, &high)
	if err != nil {
		t.Met(err)
		return first, last, fmt.Errorf("correlate: ledger: %w", err)
	}
	if !low.Valid || !high.Valid {
		return first, last, nil
	}
	return time.UnixMilli(low.Int64).UTC(), time.UnixMilli(high.Int64).UTC(), nil
}
