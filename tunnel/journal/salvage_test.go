package journal_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
)

// finds is a damaged file of one endpoint: its row, if it was found, and entries of some age.
func finds(t *testing.T, row bool, acked int64, age map[uint64]time.Duration) []journal.Find {
	t.Helper()
	var list []journal.Find
	if row {
		list = append(list, journal.Find{ID: 1, Values: []any{nil, "duka", int64(1000), acked}})
	}
	for seq, age := range age {
		e := journaltest.Entry(int(seq))
		e.Seq, e.Received = seq, time.Now().Add(-age).Truncate(time.Millisecond)
		list = append(list, journal.Find{ID: 1<<40 | int64(seq), Values: []any{nil, int64(0), e.AppendBody(nil)}})
	}
	return list
}

// A damaged region may be large. Whatever is found before it was not delivered, unless an Ack or its age says so.
func TestWhatWasNotDeliveredIsSalvagedFromBeforeALargeHole(t *testing.T) {
	const far = 100_010
	for _, c := range []struct {
		name   string
		row    bool
		acked  int64
		age    time.Duration
		oldest uint64
	}{
		{"not acknowledged in a month", true, 1, 30 * day, 2},
		{"remains of what nobody fetched in time", true, 1, 91 * day, far},
		{"acknowledged", true, far - 1, time.Hour, far},
		{"remains, for all that is known", false, 0, 8 * day, far},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "edge.db")
			found := finds(t, c.row, c.acked, map[uint64]time.Duration{2: c.age, far: 0})
			list, _, err := journal.Salvage(t.Context(), path, slices.Values(found), []string{"duka"}, journal.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			j := open(t, filepath.Dir(path), journal.Limits{}, nil)
			state, err := j.State(t.Context(), "duka")
			if err != nil || state.Oldest != c.oldest || state.Head != far {
				t.Errorf("salvaged %+v, to %+v, %v; want it from %d on", list, state, err, c.oldest)
			}
			if want := fmt.Sprintf("[{duka %d %d}]", map[bool]int{true: 2, false: 1}[c.oldest == 2], max(0, int(far-c.oldest)-1)); fmt.Sprint(list) != want {
				t.Errorf("salvaged %v, want %s", list, want)
			}
		})
	}
}
