package journal_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
	"github.com/hodihq/hodi/tunnel/wire"
)

func open(t testing.TB, dir string, limits journal.Limits, logger *slog.Logger) *journal.SQLite {
	t.Helper()
	j, err := journal.OpenSQLite(t.Context(), filepath.Join(dir, "edge.db"), limits, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestSQLite(t *testing.T) {
	journaltest.Run(t, func(t testing.TB, dir string, limits journal.Limits) journal.Journal {
		return open(t, dir, limits, nil)
	})
}

func TestAFileOfAnyNameIsOpenedForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "duka la 100%?mode=memory #1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir, journal.Limits{}, nil)
	if _, err := j.Append(t.Context(), "duka", journaltest.Entry(1)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"edge.db", "edge.db-wal"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

// TestNothingIsLeftOpen: SQLite removes the write-ahead log when the last connection is closed, wholly.
func TestNothingIsLeftOpen(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		j := open(t, dir, journal.Limits{}, nil)
		for i := range 3 {
			if _, err := j.Append(t.Context(), "duka", journaltest.Entry(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := j.Next(t.Context(), "duka", 0, 1); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 1 {
			t.Errorf("after closing, the folder holds %v, %v; want edge.db alone", files, err)
		}
	}
}

// TestWhatWasAcknowledgedIsThereAfterAKill lets a child process append, kills it in the middle, several times, and
// compares what the child was told is stored with what is stored.
func TestWhatWasAcknowledgedIsThereAfterAKill(t *testing.T) {
	if dir := os.Getenv("JOURNAL_CHILD"); dir != "" {
		appendForEver(t, dir)
	}
	dir := t.TempDir()

	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestWhatWasAcknowledgedIsThereAfterAKill$")
		child.Env = append(os.Environ(), "JOURNAL_CHILD="+dir, "JOURNAL_ROUND="+strconv.Itoa(round))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := make(map[uint64]string)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			seq, body, ok := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(seq, 10, 64)
			if !ok || err != nil {
				t.Errorf("the child says %q", lines.Text())
				break
			}
			said[n] = body
			if len(said) == 200+97*round {
				child.Process.Kill() // and read on what it had said before
			}
		}
		child.Wait()
		j := open(t, dir, journal.Limits{}, nil)
		for seq, body := range said {
			e, err := j.Entry(t.Context(), "duka", seq)
			if err != nil || string(e.Body) != body {
				t.Errorf("round %d: entry %d was acknowledged as %q and is %q, %v", round, seq, body, e.Body, err)
			}
		}
		if len(said) < 200 {
			t.Fatalf("round %d: the child acknowledged only %d entries", round, len(said))
		}
		state, err := j.State(t.Context(), "duka")
		if err != nil {
			t.Fatal(err)
		}
		for after := uint64(0); after < state.Head; {
			entries, err := j.Next(t.Context(), "duka", after, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if after++; e.Seq != after {
					t.Fatalf("round %d: entry %d where %d should be", round, e.Seq, after)
				}
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}

}

func appendForEver(t *testing.T, dir string) {
	j := open(t, dir, journal.Limits{}, nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for caller := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				e := journaltest.Entry(i)
				e.Body = fmt.Appendf(nil, "round %s caller %d entry %d", os.Getenv("JOURNAL_ROUND"), caller, i)
				seq, err := j.Append(context.Background(), "duka", e)
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Printf("%d %s\n", seq, e.Body)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	os.Exit(1)
}

func TestAFullDiskGivesErrorsAndRecoversByItself(t *testing.T) {
	var log bytes.Buffer
	j := open(t, t.TempDir(), journal.Limits{}, slog.New(slog.NewTextHandler(&log, nil)))
	large := func() wire.Entry { e := journaltest.Entry(1); e.Body = make([]byte, 200<<10); return e }
	if _, err := j.Append(t.Context(), "duka", large()); err != nil {
		t.Fatal(err)
	}
	if err := j.FillDisk(20); err != nil {
		t.Fatal(err)
	}
	// Large entries and small ones, together: the large ones fail, and take no small one along.
	var wg sync.WaitGroup
	var stored atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			_, err := j.Append(t.Context(), "duka", large())
			if err == nil || errors.Is(err, journal.ErrFull) {
				t.Errorf("a large entry on a full disk: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := j.Append(t.Context(), "kiosk", journaltest.Entry(i)); err != nil {
				t.Errorf("a small entry that fits: %v", err)
			}
			stored.Add(1)
		})
	}
	wg.Wait()
	if err := j.FillDisk(0); err != nil {
		t.Fatal(err)
	}
	if seq, err := j.Append(t.Context(), "duka", large()); err != nil || seq != 2 {
		t.Errorf("with room again the next entry has number %d, %v; want 2", seq, err)
	}
	if state, err := j.State(t.Context(), "kiosk"); err != nil || state.Head != uint64(stored.Load()) {
		t.Errorf("the small ones: %+v, %v; want %d", state, err, stored.Load())
	}
	j.Close()
	if text := log.String(); strings.Count(text, "cannot store") != 1 {
		t.Errorf("the log says\n%s", text)
	}
}

// Another process may hold the file for a while, as tools for copies and operators do. The writer waits for it, once for
// all who wait: were it once for each, those who are told "not known" here would be.
func TestAFileThatAnotherProcessHoldsKeepsNobodyWaitingForTheOthers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Limits{}, nil)
	if _, err := j.State(t.Context(), "duka"); err != nil {
		t.Fatal(err)
	}
	if err := j.Patience(200 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if seq, err := j.Append(ctx, "duka", journaltest.Entry(i)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while another process holds the file, append gives %d, %v", seq, err)
			}
		})
	}
	wg.Wait()
	if _, err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if seq, err := j.Append(t.Context(), "duka", journaltest.Entry(1)); seq != 1 || err != nil {
		t.Errorf("afterwards, append gives %d, %v", seq, err)
	}
}

func TestAnEndpointIsWarnedOfAtHalfOfItsShare(t *testing.T) {
	var log bytes.Buffer
	one := journaltest.Entry(1)
	j := open(t, t.TempDir(), journal.Limits{MaxBytes: 20 * int64(one.Size()-wire.HeaderSize)}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 25 {
		_, err := j.Append(t.Context(), "duka", one)
		if err != nil && !errors.Is(err, journal.ErrFull) {
			t.Fatal(err)
		}
	}
	state, _ := j.State(t.Context(), "duka")
	if state.Head != 20 {
		t.Errorf("%d entries were stored, want 20", state.Head)
	}
	j.Close()
	for _, word := range []string{"more than half", "is full"} {
		if strings.Count(log.String(), word) != 1 {
			t.Errorf("the log says %q %d times:\n%s", word, strings.Count(log.String(), word), log.String())
		}
	}
}

// keeper is a journal in a bubble of time.
type keeper struct {
	*testing.T
	*journal.SQLite
	dir string
}

func inTime(t *testing.T, test func(k keeper)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := open(t, dir, journal.Limits{}, nil)
		test(keeper{t, j, dir})
		j.Close()
	})
}

func (k keeper) append(n int) {
	k.Helper()
	e := journaltest.Entry(n)
	e.Received = time.Now()
	if _, err := k.Append(k.Context(), "duka", e); err != nil {
		k.Fatal(err)
	}
}

func (k keeper) want(oldest, head, acked uint64) wire.State {
	k.Helper()
	got, err := k.State(k.Context(), "duka")
	if want := (wire.State{Epoch: got.Epoch, Oldest: oldest, Head: head, Acked: acked}); err != nil || got != want {
		k.Errorf("the state is %+v, %v; want %+v", got, err, want)
	}
	return got
}

const day = 24 * time.Hour

func TestEntriesAreKeptSevenDaysBehindTheirAck(t *testing.T) {
	inTime(t, func(k keeper) {
		for i := range 2500 { // more than one step of forgetting
			k.append(i)
		}
		time.Sleep(30 * day)
		state := k.want(1, 2500, 0) // a month without a sidecar costs nothing
		k.Ack(k.Context(), "duka", state.Epoch, 2400)
		time.Sleep(7*day - time.Hour)
		k.want(1, 2500, 2400)
		time.Sleep(4 * time.Hour)
		k.want(2400, 2500, 2400)
		if _, err := k.Entry(k.Context(), "duka", 2400); err != nil {
			t.Errorf("the entry at Acked: %v", err)
		}
		if _, err := k.Entry(k.Context(), "duka", 2399); !errors.Is(err, journal.ErrNoEntry) {
			t.Errorf("an entry that was forgotten: %v, want ErrNoEntry", err)
		}
		entries, err := k.Next(k.Context(), "duka", 10, 1)
		if err != nil || entries[0].Seq != 2400 {
			t.Errorf("a reader at 10 is given %v, %v; want 2400", entries, err)
		}
		k.Ack(k.Context(), "duka", state.Epoch, 2500)
		time.Sleep(8 * day)
		k.want(2500, 2500, 2500) // the newest stays, and with it its number
		k.append(1)
		k.want(2500, 2501, 2500)
	})
}

// Callbacks wait while entries are forgotten, so many large ones are not forgotten in one go.
func TestLargeEntriesAreForgottenInSmallSteps(t *testing.T) {
	inTime(t, func(k keeper) {
		for i := range 60 {
			e := journaltest.Entry(i)
			e.Received, e.Body = time.Now(), make([]byte, 256<<10)
			if _, err := k.Append(k.Context(), "duka", e); err != nil {
				k.Fatal(err)
			}
		}
		k.Ack(k.Context(), "duka", k.want(1, 60, 0).Epoch, 60)
		time.Sleep(7 * day)
		var steps []uint64
		for last := uint64(1); last < 60; { // it begins within two hours: see mark
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			state, err := k.State(k.Context(), "duka")
			if err != nil {
				k.Fatal(err)
			}
			if state.Oldest != last {
				steps = append(steps, state.Oldest-last)
				last = state.Oldest
			}
		}
		if len(steps) < 4 || slices.Max(steps) > 16 {
			k.Errorf("they were forgotten in steps of %v, want 16 at most", steps)
		}
	})
}

func TestEntriesThatNobodyFetchesAreKeptNinetyDays(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := keeper{t, open(t, dir, journal.Limits{}, nil), dir}
		for i := range 10 {
			if i > 0 {
				time.Sleep(10 * day)
			}
			k.append(i)
		}
		time.Sleep(19 * day / 2)
		epoch := k.want(2, 10, 0).Epoch // day 99½: the one of day 0 is gone, that of day 10 has half a day left
		k.Ack(k.Context(), "duka", epoch, 3)
		time.Sleep(30 * day) // the ack's week, and the 90 days of the next three
		k.want(5, 10, 3)
		if e, err := k.Entry(k.Context(), "duka", 3); err != nil || e.Seq != 3 {
			t.Errorf("the entry at Acked, standing alone: %d, %v", e.Seq, err)
		}
		entries, err := k.Next(k.Context(), "duka", 2, 1<<20)
		if err != nil || len(entries) != 6 || entries[0].Seq != 5 {
			t.Errorf("a reader at 2 is given %d entries, %v; want 5 to 10", len(entries), err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		k.SQLite = open(t, dir, journal.Limits{}, nil)
		k.want(5, 10, 3)
		if _, err := k.Entry(k.Context(), "duka", 3); err != nil {
			t.Errorf("the entry at Acked, after reopening: %v", err)
		}
		k.Ack(k.Context(), "duka", epoch, 7)
		time.Sleep(8 * day)
		k.want(7, 10, 7)
		k.Close()
	})
}

func TestAClockThatJumpsAheadCostsNoCallback(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := keeper{t, open(t, dir, journal.Limits{}, slog.New(slog.NewTextHandler(&log, nil))), dir}
		for i := range 10 {
			e := journaltest.Entry(i)
			e.Received = time.Now().Add(-100 * day) // or the clock was right then, and is wrong now
			if _, err := k.Append(k.Context(), "duka", e); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(23 * time.Hour)
		k.want(1, 10, 0)
		k.Close() // a start with a wrong clock does not count as a day
		if strings.Count(log.String(), "level=ERROR") != 1 || !strings.Contains(log.String(), "is the clock right") {
			t.Errorf("the log says\n%s", &log)
		}
		k.SQLite = open(t, dir, journal.Limits{}, nil)
		time.Sleep(23 * time.Hour)
		k.want(1, 10, 0)
		time.Sleep(2 * time.Hour)
		k.want(10, 10, 0)
		k.Close()
	})
}

// While the file is held, the writer stands where it is about to forget. What readers and Acks do in that moment must fit
// what they find behind it.
func TestWhatIsAboutToBeForgottenIsOutOfReachAlready(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := keeper{t, open(t, dir, journal.Limits{}, slog.New(slog.NewTextHandler(&log, nil))), dir}
		for i := range 10 {
			e := journaltest.Entry(i)
			e.Received = time.Now().Add(-100 * day)
			if _, err := k.Append(k.Context(), "duka", e); err != nil {
				t.Fatal(err)
			}
		}
		epoch := k.want(1, 10, 0).Epoch
		time.Sleep(day) // the last notice, after a minute, stood for as long but for that minute
		if err := k.Patience(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		other.SetMaxOpenConns(1)
		hold := func(do string) {
			if _, err := other.Exec(do); err != nil {
				t.Fatal(err)
			}
		}
		// The writer waits for the file in real time, while which the clock of the bubble stands.
		oldest := func(want uint64) {
			for range 1 << 26 { // more than there is time for while the writer waits
				state, err := k.State(k.Context(), "duka")
				if err != nil {
					t.Fatal(err)
				}
				if state.Oldest == want {
					return
				}
				runtime.Gosched()
			}
			t.Fatalf("the oldest entry never is %d", want)
		}
		hold("BEGIN IMMEDIATE")
		time.Sleep(time.Minute)
		oldest(10)
		if _, err := k.Entry(k.Context(), "duka", 3); !errors.Is(err, journal.ErrNoEntry) {
			t.Errorf("an entry that is being forgotten: %v, want ErrNoEntry", err)
		}
		oldest(1) // the writer has given up for now
		if e, err := k.Entry(k.Context(), "duka", 3); err != nil || e.Seq != 3 {
			t.Errorf("an entry that could not be forgotten: %d, %v", e.Seq, err)
		}

		time.Sleep(time.Minute)
		oldest(10)
		if err := k.Ack(k.Context(), "duka", epoch, 3); err != nil {
			t.Errorf("an Ack of an entry that is being forgotten: %v", err)
		}
		hold("ROLLBACK")
		time.Sleep(time.Hour)
		state := k.want(10, 10, 0)
		if e, err := k.Entry(k.Context(), "duka", state.Acked); state.Acked > 0 && (err != nil || e.Kind == wire.KindLost) {
			t.Errorf("the entry at Acked, %d, is %+v, %v", state.Acked, e, err)
		}
		if strings.Contains(log.String(), "cannot be read") {
			t.Errorf("the log says\n%s", &log)
		}
		k.Close()
	})
}

func TestAClockThatWasAheadDoesNotKeepEntriesForEver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := keeper{t, open(t, dir, journal.Limits{}, nil), dir}
		k.append(1)
		k.append(2)
		k.Ack(k.Context(), "duka", k.want(1, 2, 0).Epoch, 1)
		k.Close()
		other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Exec("INSERT INTO journal_mark (endpoint, at, seq) VALUES (1, ?, 1)", time.Now().Add(365*day).UnixMilli()); err != nil {
			t.Fatal(err)
		}
		other.Close()
		k.SQLite = open(t, dir, journal.Limits{}, nil)
		k.Ack(k.Context(), "duka", k.want(1, 2, 1).Epoch, 2)
		time.Sleep(8 * day)
		k.want(2, 2, 2)
		k.Close()
	})
}

// TestAnAckIsSavedSoon copies the file, as a kill would leave it, a little later.
func TestAnAckIsSavedSoon(t *testing.T) {
	inTime(t, func(k keeper) {
		k.append(1)
		k.append(2)
		epoch := k.want(1, 2, 0).Epoch
		k.Ack(k.Context(), "duka", epoch, 1)
		k.Ack(k.Context(), "duka", epoch, 2)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		dir := t.TempDir()
		for _, name := range []string{"edge.db", "edge.db-wal"} {
			b, err := os.ReadFile(filepath.Join(k.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		copied := keeper{k.T, open(k.T, dir, journal.Limits{}, nil), dir}
		copied.want(1, 2, 2)
		copied.Close()
	})
}

func TestAcksOfManyEndpointsDoNotPutOffEachOther(t *testing.T) {
	inTime(t, func(k keeper) {
		for i := range 20 {
			name := fmt.Sprintf("duka-%d", i)
			k.Append(k.Context(), name, journaltest.Entry(i))
			state, err := k.State(k.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			k.Ack(k.Context(), name, state.Epoch, 1)
			time.Sleep(700 * time.Millisecond)
		}
		synctest.Wait()
		other, err := sql.Open("sqlite", "file:"+filepath.Join(k.dir, "edge.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		var saved int
		if err := other.QueryRow("SELECT count(*) FROM journal_endpoint WHERE acked = 1").Scan(&saved); err != nil || saved < 18 {
			t.Errorf("the acks of %d endpoints of 20 are saved, %v; all but the newest two ought to be", saved, err)
		}
	})
}

// BenchmarkAppend has 64 callers, each with one entry on its way: appends/s is the figure.
func BenchmarkAppend(b *testing.B) {
	for _, endpoints := range []int{1, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			j := open(b, b.TempDir(), journal.Limits{MaxBytes: 1 << 40}, nil)
			names := make([]string, endpoints)
			for i := range names {
				names[i] = fmt.Sprintf("duka-%d", i)
				if _, err := j.State(b.Context(), names[i]); err != nil {
					b.Fatal(err)
				}
			}
			e := journaltest.Entry(1)
			e.Header = bytes.Repeat([]byte("h"), 300)
			e.Body = bytes.Repeat([]byte("b"), 420)
			ctx := context.Background()
			var left, who atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := j.Append(ctx, names[who.Add(1)%int64(endpoints)], e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkAppendAlone has one caller: what a callback waits for when nothing else goes on.
func BenchmarkAppendAlone(b *testing.B) {
	j := open(b, b.TempDir(), journal.Limits{MaxBytes: 1 << 40}, nil)
	e := journaltest.Entry(1)
	e.Header = bytes.Repeat([]byte("h"), 300)
	e.Body = bytes.Repeat([]byte("b"), 420)
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		if _, err := j.Append(context.Background(), "duka", e); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(took[len(took)*999/1000].Microseconds()), "p99.9-us")
}

// BenchmarkRowAlone is what of that is SQLite's and the disk's: one row, one commit.
func BenchmarkRowAlone(b *testing.B) {
	dsn, err := journal.DataSource(filepath.Join(b.TempDir(), "row.db"))
	if err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE row (id INTEGER PRIMARY KEY, total INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER) STRICT"); err != nil {
		b.Fatal(err)
	}
	insert, err := db.Prepare("INSERT INTO row (total, data, crc) VALUES (?, ?, ?)")
	if err != nil {
		b.Fatal(err)
	}
	defer insert.Close()
	data := bytes.Repeat([]byte("d"), 800)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := insert.Exec(1, data, 2); err != nil {
			b.Fatal(err)
		}
	}
}

// A kill does not show whether a commit waited for the disk: only a power cut would.
func TestEveryCommitWaitsForTheDisk(t *testing.T) {
	j := open(t, t.TempDir(), journal.Limits{}, nil)
	defer j.Close()
	if level, err := j.Synchronous(); err != nil || level != 2 {
		t.Errorf("PRAGMA synchronous is %d (%v), want 2, FULL", level, err)
	}
}
