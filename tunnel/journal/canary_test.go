package journal_test

import (
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
	"github.com/hodihq/hodi/tunnel/wire"
)

// sing appends n canaries, half a minute apart, each of which is acknowledged, and says the number of the last.
func sing(t *testing.T, j *journal.SQLite, n int) (last uint64) {
	t.Helper()
	for range n {
		seq, err := j.Append(t.Context(), "duka", wire.Entry{Kind: wire.KindCanary, Received: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		acknowledge(t, j, seq)
		last = seq
		time.Sleep(30 * time.Second)
	}
	return last
}

func acknowledge(t *testing.T, j *journal.SQLite, seq uint64) {
	t.Helper()
	state, err := j.State(t.Context(), "duka")
	if err == nil {
		err = j.Ack(t.Context(), "duka", state.Epoch, seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func rowsIn(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM journal_entry").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A shop that is shut hears 480 canaries in four hours. They are not kept; but a sidecar that is put back to any
// time of it can still show where it was, and is told of no gap.
func TestANightOfCanariesIsOneRowAndEveryOneOfThemCanBeShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		limits := journal.Limits{KeepAcked: 6 * time.Hour}
		j := open(t, dir, limits, nil)
		if _, err := j.Append(t.Context(), "duka", journaltest.Entry(1)); err != nil {
			t.Fatal(err)
		}
		acknowledge(t, j, 1)
		last := sing(t, j, 480)
		shown, err := j.Entry(t.Context(), "duka", 300)
		if err != nil || shown.Kind != wire.KindCanary {
			t.Fatalf("entry 300 is %+v, %v", shown, err)
		}
		if held, _ := j.Held("duka"); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
		j.Close()
		if n := rowsIn(t, filepath.Join(dir, "edge.db")); n != 2 {
			t.Errorf("a callback and %d canaries are %d rows, want 2", last-1, n)
		}
		j = open(t, dir, limits, nil)
		again, err := j.Entry(t.Context(), "duka", 300)
		if err != nil || again.Sum() != shown.Sum() {
			t.Errorf("opened again, entry 300 is %+v, %v", again, err)
		}
		if n := j.Lost("duka"); n != 0 {
			t.Errorf("%d are said to be lost", n)
		}
		entries, err := j.Next(t.Context(), "duka", 300, 1<<20)
		if err != nil || entries[0].Seq != 301 || len(entries) < 180 {
			t.Errorf("behind 300 come %d entries, %v", len(entries), err)
		}

		// The callback is forgotten in its time, and the canaries in theirs: when all of them are old.
		time.Sleep(4 * time.Hour)
		state, err := j.State(t.Context(), "duka")
		if err != nil || state.Oldest != 2 {
			t.Errorf("eight hours after it began the oldest is %d of %d: %v", state.Oldest, state.Head, err)
		}
		if _, err := j.Append(t.Context(), "duka", journaltest.Entry(2)); err != nil {
			t.Fatal(err)
		}
		acknowledge(t, j, last+1)
		time.Sleep(7 * time.Hour)
		state, err = j.State(t.Context(), "duka")
		if err != nil || state.Oldest != last+1 || state.Head != last+1 || state.Canaries != last-1 {
			t.Errorf("in the end the state is %+v, %v", state, err)
		}
		j.Close()
		if n := rowsIn(t, filepath.Join(dir, "edge.db")); n != 1 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestASalvagedRunOfCanariesHasLostNothing(t *testing.T) {
	age := func(seq uint64) time.Duration { return time.Duration(20-seq) * time.Minute }
	list := finds(t, false, 0, map[uint64]time.Duration{2: age(2), 9: age(9), 12: age(12)})
	list = append(list, journal.Find{ID: 1, Values: []any{nil, "duka", int64(1000), int64(12), int64(9), int64(11), int64(10)}})
	for _, run := range [][2]uint64{{3, 8}, {3, 6}, {10, 11}} { // 6 was taken out when 8 came, and its remains were found
		e := wire.CanaryOf(run[1], run[0], time.Now().Add(-age(run[0])))
		list = append(list, journal.Find{ID: 1<<40 | int64(run[1]), Values: []any{nil, int64(0), e.AppendBody(nil)}})
	}
	dir := t.TempDir()
	done, _, err := journal.Salvage(t.Context(), filepath.Join(dir, "edge.db"), slices.Values(list), nil, journal.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (journal.Salvaged{Endpoint: "duka", Entries: 3}); len(done) != 1 || done[0] != want {
		t.Errorf("salvaged %+v, want %+v", done, want)
	}
	j := open(t, dir, journal.Limits{}, nil)
	entries, err := j.Next(t.Context(), "duka", 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	kinds := ""
	for i, e := range entries {
		if e.Seq != uint64(i+2) {
			t.Errorf("entry %d has the number %d", i, e.Seq)
		}
		kinds += map[wire.Kind]string{wire.KindNotice: "n", wire.KindCanary: "c", wire.KindLost: "l"}[e.Kind]
	}
	if kinds != "nccccccnccn" {
		t.Errorf("the kinds of what was salvaged are %s", kinds)
	}
	if state, err := j.State(t.Context(), "duka"); err != nil || state.Canaries != 9 || state.Heard != 9 || state.Acked != 12 {
		t.Errorf("the state is %+v, %v", state, err)
	}
}
