package journal_test

import (
	"path/filepath"
	"testing"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestARestoredFileHasItsEntriesUnderGreaterEpochs(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Limits{}, nil)
	was := map[string]wire.State{}
	for _, endpoint := range []string{"duka", "kiosk"} {
		for i := range 3 {
			if _, err := j.Append(t.Context(), endpoint, journaltest.Entry(i)); err != nil {
				t.Fatal(err)
			}
		}
		// An epoch that lies ahead of the clock, as after a clock that was wrong.
		state, err := j.Renew(t.Context(), endpoint, 1<<46)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Ack(t.Context(), endpoint, state.Epoch, 2); err != nil {
			t.Fatal(err)
		}
		state.Acked = 2
		was[endpoint] = state
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := journal.RenewAll(t.Context(), filepath.Join(dir, "edge.db")); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, journal.Limits{}, nil)
	for endpoint, before := range was {
		now, err := j.State(t.Context(), endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if now.Epoch <= before.Epoch {
			t.Errorf("%s: epoch %d, after %d", endpoint, now.Epoch, before.Epoch)
		}
		now.Epoch = before.Epoch
		if now != before {
			t.Errorf("%s: %+v, want %+v", endpoint, now, before)
		}
		if seq, err := j.Append(t.Context(), endpoint, journaltest.Entry(4)); err != nil || seq != 4 {
			t.Errorf("%s: the next is %d, %v", endpoint, seq, err)
		}
	}
}
