package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hodihq/hodi/tunnel/wire"
)

// rowsAtOnce is how many entries one statement stores. What a statement costs besides its rows is more than a row.
const rowsAtOnce = 32

// rows are entries on their way into the file.
type rows struct {
	ids, totals []int64
	ends        []int // of each in data
	data        []byte
	args        []any
}

func (r *rows) clear() {
	r.ids, r.totals, r.ends, r.data = r.ids[:0], r.totals[:0], r.ends[:0], r.data[:0]
	if cap(r.data) > batchBytes/4 {
		r.data = nil
	}
}

func (r *rows) add(id, total int64, e *wire.Entry) {
	r.data = e.AppendBody(r.data)
	r.ids, r.totals, r.ends = append(r.ids, id), append(r.totals, total), append(r.ends, len(r.data))
}

// insertRows writes the rows that were added.
func (w *writer) insertRows() error {
	r := &w.rows
	for from, begin := 0, 0; from < len(r.ids); {
		n := min(len(r.ids)-from, rowsAtOnce)
		stmt, err := w.insertOf(n)
		if err != nil {
			return err
		}
		r.args = r.args[:0]
		for i := from; i < from+n; i++ {
			data := r.data[begin:r.ends[i]]
			r.args = append(r.args, r.ids[i], r.totals[i], data, crcOf(data))
			begin = r.ends[i]
		}
		if _, err := stmt.ExecContext(background, r.args...); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// insertOf is the statement for n rows.
func (w *writer) insertOf(n int) (stmt *sql.Stmt, err error) {
	if w.insert[n] == nil {
		text := `INSERT INTO journal_entry (id, total, data, crc) VALUES (?, ?, ?, ?)` + strings.Repeat(`, (?, ?, ?, ?)`, n-1)
		w.insert[n], err = w.conn.PrepareContext(background, text)
	}
	return w.insert[n], err
}

// fitsOneStatement reports whether one statement can do all that is asked. It is then a transaction by itself, without
// a beginning and an end that cost as much as it does.
func (w *writer) fitsOneStatement(batch []*request) bool {
	if len(batch) > rowsAtOnce {
		return false
	}
	for _, r := range batch {
		if r.what != appendEntry || r.entry.Kind == wire.KindCanary || w.s.known(r.endpoint) == nil {
			return false
		}
	}
	return true
}

// atOnce does what is one statement.
func (w *writer) atOnce(statement func() error) error {
	err := statement()
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_BUSY {
		return fmt.Errorf("%w: %w", errBegin, err)
	}
	return err
}
