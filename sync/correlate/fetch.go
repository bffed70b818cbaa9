package correlate

import (
	"context"
	"database/sql"

	"github.com/hodihq/hodi/tunnel/wire"
)

// together is how many payments, or sessions, one query reads. To SQLite asking is dearer than answering.
const together = 32

// fetch reads the payments that the refs of many callbacks name, and their sessions, as far as they are not in memory:
// those of a batch that took longer to come than the caches remember. One by one they would be two thirds of what it costs.
func (x *tx) fetch(entries []wire.Entry) error {
	var ids, sessions missing
	for _, e := range entries {
		if id, _, ours := splitRef(e.Ref); ours && x.payments[id] == nil && !x.t.payments.Contains(id) {
			ids.add(id)
		}
	}
	err := ids.each(x.do.somePayments, func(rows *sql.Rows) error {
		p, err := scanPayment(rows)
		if err != nil {
			return err
		}
		x.keep(p)
		if x.sessions[p.Session] == nil && !x.t.sessions.Contains(p.Session) {
			sessions.add(p.Session)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return sessions.each(x.do.someSessions, func(rows *sql.Rows) error {
		s, err := scanSession(rows)
		if err == nil {
			x.keepSession(s)
		}
		return err
	})
}

// missing is what is to be read, without what was named twice in a row.
type missing struct{ ids []any }

func (m *missing) add(id string) {
	if n := len(m.ids); n == 0 || m.ids[n-1] != id {
		m.ids = append(m.ids, id)
	}
}

// each reads what is missing, so many at a time. One or two are found as well when they are needed.
func (m *missing) each(stmt *sql.Stmt, keep func(*sql.Rows) error) error {
	for ; len(m.ids) > 2; m.ids = m.ids[min(together, len(m.ids)):] {
		args := make([]any, together)
		for i := range args {
			args[i] = m.ids[min(i, len(m.ids)-1)] // the last one again, where there are fewer
		}
		if err := read(stmt, args, keep); err != nil {
			return err
		}
	}
	return nil
}

func read(stmt *sql.Stmt, args []any, keep func(*sql.Rows) error) error {
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := keep(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
