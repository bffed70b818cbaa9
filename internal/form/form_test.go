package form_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/form"

	_ "modernc.org/sqlite"
)

func open(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(60000)&_pragma=cache_size(16)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func closeAll(t *testing.T, conn *sql.Conn) {
	t.Helper()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, conn *sql.Conn, query string) (n int) {
	t.Helper()
	if err := conn.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Two owners, as they are in the file of an edge.
func shop(steps int) *form.Tables {
	return &form.Tables{Of: "the shop", Place: 0, Steps: []string{
		"CREATE TABLE shop (a INTEGER); INSERT INTO shop VALUES (1)", "ALTER TABLE shop ADD COLUMN b INTEGER NOT NULL DEFAULT 7", "CREATE INDEX shop_b ON shop (b)",
	}[:steps]}
}

func till(steps int) *form.Tables {
	return &form.Tables{Of: "the till", Place: 1, Steps: []string{"CREATE TABLE till (a INTEGER)", "ALTER TABLE till ADD COLUMN b INTEGER"}[:steps]}
}

func TestEveryOwnerTakesTheStepsThatItsTablesLackAndNoOther(t *testing.T) {
	conn := open(t, filepath.Join(t.TempDir(), "a.db"))
	for _, at := range []struct{ shop, till, version int }{{1, 1, 1<<16 | 1}, {1, 1, 1<<16 | 1}, {2, 1, 1<<16 | 2}, {3, 2, 2<<16 | 3}} {
		if err := form.Up(t.Context(), conn, "a.db", nil, shop(at.shop), till(at.till)); err != nil {
			t.Fatal(err)
		}
		if got := number(t, conn, "PRAGMA user_version"); got != at.version {
			t.Errorf("after %d steps of the one and %d of the other, user_version is %#x, want %#x", at.shop, at.till, got, at.version)
		}
	}
	if got := number(t, conn, "SELECT sum(a * 10 + b) FROM shop"); got != 17 {
		t.Errorf("the row became %d", got)
	}
}

func TestTablesOfANewerProgramAreRefusedAndNothingIsChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	conn := open(t, path)
	if err := form.Up(t.Context(), conn, path, nil, shop(2), till(2)); err != nil {
		t.Fatal(err)
	}
	const want = "in edge.db the till has form 2, and this hodi knows form 1 at most"
	refused := func(how string, err error) {
		t.Helper()
		if !errors.Is(err, form.ErrNewer) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Install the newer hodi again") || !strings.Contains(err.Error(), "restore --replace") {
			t.Errorf("%s: %v; want one that says %q, and what to do", how, err, want)
		}
	}
	refused("Up", form.Up(t.Context(), conn, path, nil, shop(3), till(1))) // what the shop lacks does not come either
	if got := number(t, conn, "PRAGMA user_version"); got != 2<<16|2 {
		t.Errorf("user_version became %#x", got)
	}
	if got := number(t, conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'shop_b'"); got != 0 {
		t.Error("a step was taken")
	}
	if _, err := conn.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	closeAll(t, conn)
	refused("Check", form.Check(path, shop(3), till(1)))
	if err := form.Check(path, shop(2), till(2)); err != nil {
		t.Errorf("the program that made it is refused: %v", err)
	}

	// Damage behind the first page does not hide it: an old program must not begin to mend what it does not know.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(b); i++ {
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("Check of a damaged file", form.Check(path, shop(3), till(1)))
	for name, content := range map[string]string{"nothing": "", "something": strings.Repeat("not a database ", 20)} {
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := form.Check(other, shop(3)); err != nil {
			t.Errorf("a file with %s in it is refused: %v", name, err)
		}
	}
}

func TestAStepThatFailsLeavesEveryOwnersTablesAsTheyWere(t *testing.T) {
	conn := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := form.Up(t.Context(), conn, "a.db", nil, shop(1), till(1)); err != nil {
		t.Fatal(err)
	}
	bad := till(2)
	bad.Steps[1] = "ALTER TABLE till ADD COLUMN b INTEGER; INSERT INTO nowhere VALUES (1)"
	err := form.Up(t.Context(), conn, "a.db", nil, shop(3), bad)
	if err == nil || !strings.Contains(err.Error(), "the till: from form 1 to 2") {
		t.Fatalf("Up returned %v", err)
	}
	if got := number(t, conn, "PRAGMA user_version"); got != 1<<16|1 {
		t.Errorf("user_version became %#x", got)
	}
	if got := number(t, conn, "SELECT count(*) FROM pragma_table_info('shop')"); got != 1 {
		t.Errorf("the shop has %d columns, want the one that it had", got)
	}
	if err := form.Up(t.Context(), conn, "a.db", nil, shop(3), till(2)); err != nil {
		t.Errorf("the connection is of no use after that: %v", err)
	}
}

func TestWhatIsOlderThanFormsIsTakenInAndANewFileBegun(t *testing.T) {
	tables := func(early, fresh *int) *form.Tables {
		return &form.Tables{
			Of: "the shop", Steps: []string{"CREATE TABLE IF NOT EXISTS shop (a INTEGER)"},
			Early: func(context.Context, *sql.Conn) error { *early++; return nil },
			New:   func(context.Context, *sql.Conn) error { *fresh++; return nil },
		}
	}
	conn := open(t, filepath.Join(t.TempDir(), "a.db"))
	if _, err := conn.ExecContext(t.Context(), "CREATE TABLE shop (a INTEGER); INSERT INTO shop VALUES (5)"); err != nil {
		t.Fatal(err)
	}
	var early, fresh int
	for range 2 {
		if err := form.Up(t.Context(), conn, "a.db", nil, tables(&early, &fresh)); err != nil {
			t.Fatal(err)
		}
	}
	if early != 1 || fresh != 1 || number(t, conn, "SELECT a FROM shop") != 5 {
		t.Errorf("Early was asked %d times and New %d, want once each", early, fresh)
	}
}

func TestTwoProcessesAtOneFileTakeEveryStepOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := form.Up(t.Context(), open(t, path), path, nil, shop(1)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		conn := open(t, path)
		all.Go(func() {
			if err := form.Up(t.Context(), conn, path, nil, shop(3)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// The steps of a large file take long enough to be met by a power cut. What SQLite has written by then, some of it into the log,
// is as if it had never been.
func TestAProgramKilledWithinAStepLeavesTheOldForm(t *testing.T) {
	const path = "FORM_TEST_PATH"
	ctx := t.Context()
	endless := shop(2)
	endless.Steps = append(endless.Steps, "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) INSERT INTO shop (a, b) SELECT i, randomblob(1000) FROM n")
	if path := os.Getenv(path); path != "" {
		t.Fatal("a step without end ended: ", form.Up(ctx, open(t, path), path, nil, endless))
	}
	file := filepath.Join(t.TempDir(), "a.db")
	conn := open(t, file)
	if err := form.Up(ctx, conn, file, nil, shop(2)); err != nil {
		t.Fatal(err)
	}
	closeAll(t, conn)
	child := exec.Command(os.Args[0], "-test.run=^TestAProgramKilledWithinAStepLeavesTheOldForm$")
	child.Env = append(os.Environ(), path+"="+file)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(file + "-wal"); err == nil && info.Size() > 256<<10 {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the other process ended by itself: %v", err)
		default:
		}
		if time.Since(began) > 2*time.Minute {
			child.Process.Kill()
			t.Fatal("after two minutes the step has written nothing")
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended

	conn = open(t, file)
	if got := number(t, conn, "PRAGMA user_version"); got != 2 {
		t.Errorf("the form is %d, want 2", got)
	}
	if got := number(t, conn, "SELECT count(*) FROM shop"); got != 1 {
		t.Errorf("there are %d rows, want the one that was there", got)
	}
	if err := form.Up(ctx, conn, file, nil, shop(3)); err != nil {
		t.Fatal(err)
	}
	if got := number(t, conn, "SELECT sum(a * 10 + b) FROM shop"); got != 17 {
		t.Errorf("the row became %d", got)
	}
}
