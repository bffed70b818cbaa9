package correlate_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A stock is a table with a past, on a disk that syncs, and payments whose callbacks are still to come.
type stock struct {
	*shop
	file *sql.DB
}

// stocked makes a table with so many payments that were paid in the hours before. They are written as rows, because living
// through five million takes hours.
func stocked(b *testing.B, past int, change ...func(*correlate.Config)) stock {
	b.Helper()
	s := open(b, append(change, func(c *correlate.Config) { c.Publish = func([]correlate.Event) {} })...)
	s.Table.Close()
	file, err := sql.Open("sqlite", s.cfg.Path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	file.SetMaxOpenConns(1)
	k := stock{s, file}
	k.do("PRAGMA cache_size = -1000000")
	k.do("PRAGMA synchronous = off")
	for _, index := range k.strings("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql <> ''") {
		defer k.do(k.strings("SELECT sql FROM sqlite_schema WHERE name = ?", index)[0]) // sorting is faster than inserting
		k.do("DROP INDEX " + index)
	}
	began := time.Now().Add(-time.Hour).UnixMilli()
	k.payments(past, 1, began, "SUCCESS")
	k.do(`INSERT INTO events (seq, prev, session, at, message) SELECT row, 0, session, created, randomblob(700) FROM payments`)
	k.do(`UPDATE payments SET event = row`)
	k.do(`INSERT INTO callbacks (epoch, seq, state, error, payment, session, merchant, received, kind, ref, remote, sum, header, body)
		SELECT ?, row, 'applied', '', id, session, '', created, 1, id, '196.201.212.69', randomblob(8), randomblob(80), randomblob(550) FROM payments`, int64(s.journal))
	k.do(`INSERT INTO cursors (epoch, seq, sum) VALUES (?, ?, randomblob(8))`, int64(s.journal), past)
	s.seq = uint64(past)
	return k
}

func (k stock) do(query string, args ...any) {
	k.Helper()
	if _, err := k.file.Exec(query, args...); err != nil {
		k.Fatalf("%s: %v", query, err)
	}
}

func (k stock) strings(query string, args ...any) (list []string) {
	k.Helper()
	rows, err := k.file.Query(query, args...)
	if err != nil {
		k.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			k.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// payments writes n of them, from a row on.
func (k stock) payments(n, row int, began int64, status string) {
	k.Helper()
	paid, receipt, silent, asked := "0", "''", "made + 90000", "made + 30000"
	if status == "SUCCESS" {
		paid, receipt, silent, asked = "1", "upper(substr(id, 1, 10))", "0", "0"
	}
	k.do(fmt.Sprintf(`
		WITH RECURSIVE n(row) AS (SELECT %[1]d UNION ALL SELECT row + 1 FROM n WHERE row < %[1]d + %[2]d - 1),
			m AS MATERIALIZED (SELECT row, lower(hex(randomblob(16))) AS id, %[3]d + row / 10 AS made FROM n)
		INSERT INTO payments (row, id, session, attempt, phone, amount, reference, shortcode, number, environment, idempotency, ref, created,
			merchant, checkout, status, outcome, code, description, receipt, completed, checked, callback, notices, answered, answer_at, silent_at, ask_at, asked_at, event)
		SELECT row, id, id, 1, '2547000' || printf('%%05d', row %% 100000), 10000, 'TABLE 7', 'main', '174379', 'sandbox', '', 1, made,
			'mr-' || id, 'ws_CO_' || id, '%[4]s', '', '', '', %[5]s, 0, %[6]s, '', '', '', 0, %[7]s, %[8]s, 0, 0 FROM m`,
		row, n, began, status, receipt, paid, silent, asked))
	k.do(`INSERT INTO sessions (id, amount, reference, shortcode, created, opened, attempts, present) SELECT id, 0, '', '', created, 0, 1, id FROM payments WHERE row >= ?`, row)
}

// coming makes n payments, and the callback of each. Warm: they are in the cache, as those that began a moment ago are.
func (k stock) coming(n int, warm bool) []wire.Entry {
	k.Helper()
	row, _ := strconv.Atoi(k.strings("SELECT coalesce(max(row), 0) FROM payments")[0])
	k.payments(n, row+1, time.Now().UnixMilli(), "PENDING")
	var entries []wire.Entry
	for i, id := range k.strings("SELECT id FROM payments WHERE row > ? ORDER BY row", row) {
		k.seq++
		entries = append(entries, wire.Entry{Seq: k.seq, Received: time.Now(), Kind: wire.KindNotice, Ref: k.Ref(id), Remote: "196.201.212.69",
			Header: []byte("Content-Type: application/json;charset=UTF-8\r\nBusinessshortcode: 174379\r\n"),
			Body:   []byte(success(correlate.Payment{ID: id}, "100.00", fmt.Sprintf("R%09X", uint32(i)*2654435761)))})
		if warm {
			if err := k.Warm(id); err != nil {
				k.Fatal(err)
			}
		}
	}
	return entries
}

// BenchmarkApply is what a callback costs the sidecar up to the publication, on a disk that syncs, alone and in batches
// of those that had arrived meanwhile. HODI_PAYMENTS is how many the table has already: 10,000 if it is not set.
func BenchmarkApply(b *testing.B) {
	past := 10_000
	if n, err := strconv.Atoi(os.Getenv("HODI_PAYMENTS")); err == nil {
		past = n
	}
	s := stocked(b, past)
	s.start()
	defer s.Table.Close()
	for _, batch := range []int{1, 8, 64, 512} {
		for _, warm := range []bool{true, false} {
			b.Run(fmt.Sprintf("payments=%d/batch=%d/warm=%v", past, batch, warm), func(b *testing.B) {
				entries := s.coming(b.N, warm)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := processor()
				for i := 0; i < b.N; i += batch {
					some := entries[i:min(i+batch, b.N)]
					if err := s.Apply(context.Background(), behind(s.journal, some), some); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((processor()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// processor is the time that this process has had on a processor: unlike the clock it does not count waiting for a disk.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
