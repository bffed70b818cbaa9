package correlate_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// stocked makes a table with so many payments of the last three years.
func stocked(b *testing.B, past int) stock {
	b.Helper()
	path := filepath.Join(b.TempDir(), "hodi.db")
	if err := correlate.Fill(context.Background(), path, past); err != nil {
		b.Fatal(err)
	}
	s := open(b, func(c *correlate.Config) {
		c.Path, c.CacheSize = path, 100_000
		c.Publish = func([]correlate.Event) {}
	})
	file, err := sql.Open("sqlite", path+"?_pragma=synchronous(off)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	file.SetMaxOpenConns(1)
	return stock{s, file}
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

// coming makes n payments, and the callback of each. Warm: they are in the cache, as those that began a moment ago are.
func (k stock) coming(n int, warm bool) []wire.Entry {
	k.Helper()
	row, _ := strconv.Atoi(k.strings("SELECT coalesce(max(row), 0) FROM payments")[0])
	k.do(`
		WITH RECURSIVE n (row) AS (SELECT ?1 UNION ALL SELECT row + 1 FROM n WHERE row < ?2),
			m AS MATERIALIZED (SELECT row, lower(hex(randomblob(16))) AS id, ?3 + row / 10 AS made FROM n)
		INSERT INTO payments (row, id, session, attempt, phone, amount, reference, shortcode, number, environment, idempotency, ref, created,
			merchant, checkout, status, outcome, code, description, receipt, completed, checked, callback, notices, answered, answer_at, silent_at, ask_at, asked_at, event)
		SELECT row, id, id, 1, '2547000' || printf('%05d', row % 100000), 10000, 'TABLE 7', 'main', '174379', 'sandbox', '', 1, made,
			'mr-' || id, 'ws_CO_' || id, 'PENDING', '', '', '', '', 0, 0, '', '', '', 0, made + 90000, made + 30000, 0, 0 FROM m`,
		row+1, row+n, time.Now().UnixMilli())
	k.do(`INSERT INTO sessions (id, amount, reference, shortcode, created, opened, attempts, present) SELECT id, 0, '', '', created, 0, 1, id FROM payments WHERE row > ?`, row)
	var entries []wire.Entry
	for i, id := range k.strings("SELECT id FROM payments WHERE row > ? ORDER BY row", row) {
		k.seq++
		entries = append(entries, wire.Entry{Seq: k.seq, Received: time.Now(), Kind: wire.KindNotice, Ref: k.Ref(id), Remote: "196.201.212.69",
			Header: []byte("Content-Type: application/json;charset=UTF-8\r\nBusinessshortcode: 174379\r\n"),
			Body:   []byte(success(correlate.Payment{ID: id}, "100.00", fmt.Sprintf("U%09d", row+i)))})
		if warm {
			if err := k.Warm(id); err != nil {
				k.Fatal(err)
			}
		}
	}
	return entries
}

// BenchmarkApply is what a callback costs the sidecar up to the publication, on a disk that syncs, alone and in batches
// of those that had arrived meanwhile; and how long one in a hundred takes. HODI_PAYMENTS is how many the table has already: 10,000 if it is not set.
func BenchmarkApply(b *testing.B) {
	past := 10_000
	if n, err := strconv.Atoi(os.Getenv("HODI_PAYMENTS")); err == nil {
		past = n
	}
	s := stocked(b, past)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Checkpoint(ctx) }()
	defer func() { stop(); <-ended }()
	for _, batch := range []int{1, 8, 64, 512} {
		for _, warm := range []bool{true, false} {
			b.Run(fmt.Sprintf("payments=%d/batch=%d/warm=%v", past, batch, warm), func(b *testing.B) {
				entries := s.coming(b.N, warm)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := processor()
				var took []time.Duration
				for i := 0; i < b.N; i += batch {
					began := time.Now()
					some := entries[i:min(i+batch, b.N)]
					if err := s.Apply(context.Background(), behind(s.journal, some), some); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
				b.ReportMetric(float64((processor()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkCommit is what SQLite itself takes for a commit that changes so many pages: the floor below BenchmarkApply.
func BenchmarkCommit(b *testing.B) {
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "bare.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=wal_autocheckpoint(4000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, pages := range []int{1, 6, 10} {
		b.Run(fmt.Sprintf("pages=%d", pages), func(b *testing.B) {
			var change []*sql.Stmt
			for i := range pages {
				table := fmt.Sprintf("t%d_%d", pages, i)
				if _, err := db.Exec("CREATE TABLE IF NOT EXISTS " + table + " (n INTEGER PRIMARY KEY, v INTEGER); INSERT OR IGNORE INTO " + table + " VALUES (1, 0)"); err != nil {
					b.Fatal(err)
				}
				stmt, err := db.Prepare("UPDATE " + table + " SET v = v + 1 WHERE n = 1")
				if err != nil {
					b.Fatal(err)
				}
				defer stmt.Close()
				change = append(change, stmt)
			}
			b.ResetTimer()
			cpu := processor()
			for range b.N {
				tx, err := db.Begin()
				if err != nil {
					b.Fatal(err)
				}
				for _, stmt := range change {
					if _, err := tx.Stmt(stmt).Exec(); err != nil {
						b.Fatal(err)
					}
				}
				if err := tx.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processor()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
