package correlate

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// TestLookUpsUseTheirIndexes keeps look-ups from reading five million payments: a partial index is taken only where the
// query says the very term that the index was made with.
func TestLookUpsUseTheirIndexes(t *testing.T) {
	table, err := Open(context.Background(), Config{Path: filepath.Join(t.TempDir(), "hodi.db"), Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for query, index := range map[string]string{
		"SELECT id FROM payments WHERE phone = ? AND phone <> '' AND created > ? AND created < ? AND status IN ('PENDING', 'UNKNOWN') ORDER BY row DESC":                                          "payments_phone",
		"SELECT id FROM payments WHERE session = ? AND status IN ('PENDING', 'UNKNOWN') LIMIT 1":                                                                                                  "payments_session",
		"SELECT id FROM payments WHERE session = ? AND status = 'SUCCESS' ORDER BY attempt DESC LIMIT 1":                                                                                          "payments_session",
		"SELECT id FROM payments WHERE session = ? AND idempotency = ? AND idempotency <> ''":                                                                                                     "payments_idempotency",
		"SELECT id FROM payments WHERE merchant = ? AND merchant <> '' ORDER BY row DESC":                                                                                                         "payments_merchant",
		"SELECT id FROM payments WHERE due_at > 0 AND due_at <= ?1 AND silent_at > 0 AND silent_at <= ?1 ORDER BY due_at LIMIT ?2":                                                                "payments_due",
		"SELECT min(silent_at) AS at FROM payments WHERE due_at > 0 AND due_at <= ?1 AND silent_at > ?1":                                                                                          "payments_due",
		"SELECT min(due_at) FROM payments WHERE due_at > ?1 AND due_at > 0":                                                                                                                       "payments_due",
		"SELECT row FROM payments WHERE due_at > 0 AND due_at <= ?1 AND ask_at > 0 AND ask_at <= ?1 ORDER BY row DESC LIMIT ?2":                                                                   "payments_due",
		"SELECT id FROM payments WHERE true AND status = ? AND status IN ('UNKNOWN', 'FAILED') ORDER BY created DESC, row DESC LIMIT ?":                                                           "payments_unpaid",
		"SELECT id FROM payments INDEXED BY payments_due WHERE true AND status = ? AND due_at > 0 ORDER BY created DESC, row DESC LIMIT ?":                                                        "payments_due",
		"UPDATE payments SET ask_at = ? WHERE checkout <> '' AND shortcode <> '' AND status = 'PENDING' AND due_at > 0":                                                                           "payments_due",
		"UPDATE payments SET ask_at = ? WHERE checkout <> '' AND shortcode <> '' AND status = 'UNKNOWN' AND status IN ('UNKNOWN', 'FAILED')":                                                      "payments_unpaid",
		"SELECT id FROM payments WHERE true AND created >= ? AND created < ? ORDER BY created DESC, row DESC LIMIT ?":                                                                             "payments_created",
		"SELECT id FROM payments WHERE receipt = ? AND receipt <> '' ORDER BY row DESC LIMIT ?":                                                                                                   "payments_receipt",
		"SELECT id FROM payments WHERE checkout = ? AND checkout <> '' ORDER BY row DESC LIMIT ?":                                                                                                 "payments_checkout",
		"SELECT body FROM callbacks WHERE merchant = ? AND state = 'unmatched' ORDER BY place":                                                                                                    "callbacks_parked",
		"SELECT body FROM callbacks WHERE true AND state IN (?, ?) AND state <> 'applied' AND place > coalesce((SELECT number FROM cursors WHERE epoch = ?), 0) << 40 | ? ORDER BY place LIMIT ?": "callbacks_state",
		heldBack:             "callbacks_state",
		ledgerParts[0].query: "payments_created", ledgerParts[1].query: "payments_aside", ledgerParts[2].query: "money_time", ledgerParts[3].query: "payments_created",
		"SELECT min(completed) FROM payments INDEXED BY payments_aside WHERE " + isAside: "payments_aside",
	} {
		args := make([]any, strings.Count(query, "?"))
		rows, err := table.read.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		var plan []string
		for rows.Next() {
			var a, b, c int
			var detail string
			if err := rows.Scan(&a, &b, &c, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		rows.Close()
		if got := strings.Join(plan, "; "); !strings.Contains(got, index) || strings.Contains(got, "TEMP B-TREE FOR ORDER BY") && strings.Contains(query, "?5") {
			t.Errorf("%s\n\tis planned as %s, want %s", query, got, index)
		}
	}
}
