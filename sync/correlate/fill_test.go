package correlate_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

func TestAFilledTableIsOneThatHasSeenYears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sidecar.db")
	if err := correlate.Fill(t.Context(), path, 1000); err != nil {
		t.Fatal(err)
	}
	table, err := correlate.Open(t.Context(), correlate.Config{Path: path, Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	list, _, err := table.Payments(t.Context(), correlate.Filter{Status: string(push.Success), Limit: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1000 {
		t.Fatalf("the table lists %d payments that were made, not the 1000 that it was filled with", len(list))
	}
	oldest, newest := list[len(list)-1], list[0]
	if age := time.Since(oldest.Created); age < 2*365*24*time.Hour {
		t.Errorf("the oldest payment is of %v ago", age)
	}
	for _, p := range []correlate.Payment{oldest, newest} {
		found, err := table.Payment(t.Context(), p.MerchantRequestID)
		if err != nil || found.ID != p.ID || !found.Status.Ended() || found.Receipt == "" {
			t.Errorf("looked up by its MerchantRequestID, payment %s is %+v (%v)", p.ID, found, err)
		}
		if _, err := table.Session(t.Context(), p.Session); err != nil {
			t.Errorf("the session of payment %s: %v", p.ID, err)
		}
	}
}
