package correlate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// FilledFor is the time over which the payments of Fill are spread, up to yesterday.
const FilledFor = 3 * 365 * 24 * time.Hour

// Fill puts n payments into the file at path that were asked for and paid in the last three years: to measure how a Table
// bears them. The file is made if there is none, and nobody may have it open. It is not safe from a power cut.
//
// The ids of payments and sessions are spread as drawn ones are, so that the next one drawn falls anywhere between them;
// but they are made in their order, and the indexes at the end, so that five million take a minute or two.
func Fill(ctx context.Context, path string, n int) error {
	if err := fill(ctx, path, n); err != nil {
		return fmt.Errorf("correlate: fill %s: %w", path, err)
	}
	return nil
}

func fill(ctx context.Context, path string, n int) (err error) {
	t, err := open(ctx, Config{Path: path, Key: make([]byte, 32)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if n <= 0 {
		return nil
	}
	var indexes []string
	rows, err := t.conn.QueryContext(ctx, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'payments' AND sql IS NOT NULL")
	if err != nil {
		return err
	}
	defer rows.Close()
	steps := []string{"PRAGMA synchronous = off; PRAGMA cache_size = -200000; PRAGMA temp_store = memory", "BEGIN IMMEDIATE"}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			return err
		}
		steps, indexes = append(steps, "DROP INDEX "+name), append(indexes, sql)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	first := time.Now().Add(-24*time.Hour - FilledFor)
	spread := fmt.Sprintf("printf('%%08x%%024x', i * %d, i)", math.MaxUint32/int64(n))
	numbers := fmt.Sprintf("WITH RECURSIVE n (i, at) AS (SELECT 1, %d UNION ALL SELECT i + 1, at + %d FROM n WHERE i < %d)", first.UnixMilli(), FilledFor.Milliseconds()/int64(n), n)
	steps = append(steps,
		"INSERT INTO sessions (id, amount, reference, shortcode, created, opened, attempts, present) "+numbers+
			" SELECT "+spread+", 10000, 'ORDER' || i, 'main', at, 1, 1, "+spread+" FROM n",
		"INSERT INTO payments (id, session, attempt, phone, amount, reference, shortcode, number, environment, idempotency, ref, created, "+
			"merchant, checkout, status, outcome, code, description, receipt, completed, checked, callback, notices, answered, answer_at, silent_at, ask_at, asked_at, event) "+
			numbers+" SELECT "+spread+", "+spread+", 1, printf('2547000000%02d', i % 100), 10000, 'ORDER' || i, 'main', '174379', 'production', '', 1, at, "+
			"printf('%04x-4b64-97ff-%018d', i * 40503 % 65536, i), printf('ws_CO_%017d7000000%02d', i, i % 100), 'SUCCESS', 'paid', '0', 'The service request is processed successfully.', "+
			"printf('T%09d', i), at + 15000, 1, '', '', '', 0, 0, 0, 0, 0 FROM n",
	)
	for _, step := range append(append(steps, indexes...), "COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)") {
		if _, err := t.conn.ExecContext(ctx, step); err != nil {
			return err
		}
	}
	return nil
}
