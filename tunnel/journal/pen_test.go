package journal_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
)

// hold has another process hold the file, so that whoever writes waits until it lets go.
func hold(t *testing.T, dir string) (letGo func()) {
	t.Helper()
	other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := other.Exec("ROLLBACK"); err != nil {
			t.Error(err)
		}
	}
}

type appended struct {
	seq uint64
	err error
}

func appending(ctx context.Context, j *journal.SQLite, n int) <-chan appended {
	done := make(chan appended, 1)
	go func() {
		seq, err := j.Append(ctx, "duka", journaltest.Entry(n))
		done <- appended{seq, err}
	}()
	return done
}

func waitForWriting(t *testing.T, j *journal.SQLite) {
	t.Helper()
	for !j.Writing() {
		if t.Context().Err() != nil {
			t.Fatal("nobody writes")
		}
		runtime.Gosched()
	}
}

// Whoever comes alone writes by itself. It has no more power over the transaction for that: neither may it be ended by
// the hanging up of its caller, nor may it keep those waiting whose callers do.
func TestWhoHangsUpWhileWritingIsStoredAndStopsNobody(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Limits{}, nil)
	if _, err := j.State(t.Context(), "duka"); err != nil {
		t.Fatal(err)
	}
	letGo := hold(t, dir)
	ctx, hangUp := context.WithCancel(t.Context())
	first := appending(ctx, j, 1)
	waitForWriting(t, j)

	impatient, giveUp := context.WithCancel(t.Context())
	second, third := appending(impatient, j, 2), appending(t.Context(), j, 3)
	giveUp()
	if a := <-second; !errors.Is(a.err, context.Canceled) {
		t.Errorf("who gives up waiting for another's transaction is told %d, %v", a.seq, a.err)
	}
	hangUp()
	letGo()
	if a := <-first; a.seq != 1 || a.err != nil {
		t.Errorf("who hung up while writing has number %d, %v; want 1", a.seq, a.err)
	}
	a := <-third
	if a.err != nil {
		t.Fatalf("who waited is told %v", a.err)
	}
	e, err := j.Entry(t.Context(), "duka", a.seq)
	if want := journaltest.Entry(3); err != nil || string(e.Body) != string(want.Body) {
		t.Errorf("entry %d is %q, %v; want %q", a.seq, e.Body, err, want.Body)
	}
}

func TestCloseWaitsForWhoWrites(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Limits{}, nil)
	if _, err := j.State(t.Context(), "duka"); err != nil {
		t.Fatal(err)
	}
	letGo := hold(t, dir)
	first := appending(t.Context(), j, 1)
	waitForWriting(t, j)
	waiting := appending(t.Context(), j, 2)
	closed := make(chan error, 1)
	go func() { closed <- j.Close() }()
	letGo()
	if a := <-first; a.seq != 1 || a.err != nil {
		t.Errorf("who was writing has number %d, %v; want 1", a.seq, a.err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	second := <-waiting
	if second.err != nil && !errors.Is(second.err, journal.ErrClosed) {
		t.Errorf("who waited is told %v", second.err)
	}
	j = open(t, dir, journal.Limits{}, nil)
	head := uint64(1)
	if second.err == nil {
		head = 2
	}
	if state, err := j.State(t.Context(), "duka"); err != nil || state.Head != head {
		t.Errorf("the head is %d, %v; want %d", state.Head, err, head)
	}
	if a := <-appending(t.Context(), j, 3); a.seq != head+1 || a.err != nil {
		t.Errorf("the next entry has number %d, %v; want %d", a.seq, a.err, head+1)
	}
}
