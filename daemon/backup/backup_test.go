package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hodihq/hodi/daemon/backup"

	_ "modernc.org/sqlite"
)

var thing = backup.State{Of: "thing", Database: "thing.db", Files: []string{"a.key", "b.key"}, Extra: []string{"token"}}

// folder is the data folder of a thing, with a row "what" in its database.
func folder(t *testing.T, what string) string {
	t.Helper()
	dir := t.TempDir()
	db := database(t, dir)
	if _, err := db.Exec("CREATE TABLE one (what TEXT); CREATE TABLE two (what TEXT); INSERT INTO one VALUES (?)", what); err != nil {
		t.Fatal(err)
	}
	for _, name := range thing.Files {
		write(t, filepath.Join(dir, name), what+" "+name)
	}
	return dir
}

func database(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, thing.Database))+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyOf(t *testing.T, dir string, extra map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := thing.Write(t.Context(), dir, extra, "v0", &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func keep(context.Context, string) error { return nil }

// want checks that a folder holds the state which says what, and nothing half done.
func want(t *testing.T, dir, what string) {
	t.Helper()
	db := database(t, dir)
	defer db.Close()
	var said string
	if err := db.QueryRow("SELECT what FROM one").Scan(&said); err != nil || said != what {
		t.Errorf("the database says %q, %v, want %q", said, err, what)
	}
	for _, name := range thing.Files {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != what+" "+name {
			t.Errorf("%s says %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"restoring", "restored"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWhatWasWrittenComesBackForItsOwnerAlone(t *testing.T) {
	from, to := folder(t, "old"), t.TempDir()
	token := filepath.Join(t.TempDir(), "elsewhere")
	write(t, token, "a token")
	renewed := false
	done, err := thing.Restore(t.Context(), to, bytes.NewReader(copyOf(t, from, map[string]string{"token": token})), func(_ context.Context, path string) error {
		renewed = true
		if _, err := os.Stat(filepath.Join(to, thing.Database)); err == nil {
			t.Error("it was in place before it had its epoch")
		}
		_, err := os.Stat(path)
		return err
	}, false)
	if err != nil || !renewed {
		t.Fatal(renewed, err)
	}
	want(t, to, "old")
	if done.About.Of != "thing" || done.About.Dir != from || done.About.By != "v0" || done.Aside != "" || !slices.Equal(done.Extra, []string{"token"}) {
		t.Errorf("it says %+v", done)
	}
	for _, name := range names(t, to) {
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestACopyOfADatabaseThatIsBeingWrittenIsOfOneInstant(t *testing.T) {
	dir := folder(t, "old")
	stop, ctx := make(chan struct{}), context.Background()
	var writer sync.WaitGroup
	db := database(t, dir)
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Error(err)
				return
			}
			for _, table := range []string{"one", "two"} {
				if _, err := tx.Exec("INSERT INTO "+table+" VALUES (?)", fmt.Sprint(i, strings.Repeat("x", 3000))); err != nil {
					t.Error(err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
		}
	})
	most := 0
	for range 5 {
		to := t.TempDir()
		if _, err := thing.Restore(t.Context(), to, bytes.NewReader(copyOf(t, dir, nil)), keep, false); err != nil {
			t.Fatal(err)
		}
		var one, two int
		if err := database(t, to).QueryRow("SELECT (SELECT count(*) FROM one) - 1, (SELECT count(*) FROM two)").Scan(&one, &two); err != nil || one != two || one < most {
			t.Fatalf("%d and %d rows, %v; %d before", one, two, err, most)
		}
		most = one
	}
	close(stop)
	writer.Wait()
	if most == 0 {
		t.Error("nothing was written meanwhile")
	}
}

func TestABackupThatIsCutOffOrDamagedTouchesNothing(t *testing.T) {
	whole := copyOf(t, folder(t, "old"), nil)
	end := len(bytes.TrimRight(whole, "\x00")) // then the padding of the last file, and of the tar
	dir := folder(t, "present")
	before := names(t, dir)
	try := func(what string, b []byte) {
		_, err := thing.Restore(t.Context(), dir, bytes.NewReader(b), keep, true)
		if err == nil {
			t.Fatalf("%s: it was taken", what)
		}
		if after := names(t, dir); !slices.Equal(after, before) {
			t.Fatalf("%s: %v is now %v", what, before, after)
		}
	}
	for n := 0; n < end; n += 509 {
		try(fmt.Sprintf("the first %d of %d bytes", n, len(whole)), whole[:n])
	}
	// Every byte that means something: the heads and the contents of all files.
	in := bytes.NewReader(whole)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		begin := len(whole) - in.Len()
		for i := int64(0); i < h.Size; i += max(1, h.Size/50) {
			b := bytes.Clone(whole)
			b[int64(begin)+i] ^= 0x10
			try(fmt.Sprintf("byte %d of %s", i, h.Name), b)
		}
		for i := begin - 512; i < begin-512+148; i++ { // up to the head's own sum
			b := bytes.Clone(whole)
			b[i] ^= 0x10
			try(fmt.Sprintf("byte %d of the head of %s", i-begin+512, h.Name), b)
		}
	}
	want(t, dir, "present")
}

func TestWhatIsNoBackupOfThisIsNamed(t *testing.T) {
	dir := folder(t, "old")
	whole := copyOf(t, dir, nil)
	other := thing
	other.Of = "another"
	for text, c := range map[string]struct {
		s backup.State
		b []byte
	}{
		"no backup of hodi":          {thing, []byte(strings.Repeat("something else entirely ", 100))},
		"cut off":                    {thing, nil},
		"hodi thing restore":         {other, whole},
		"of form 7":                  {thing, bytes.Replace(whole, []byte(`"format": 1`), []byte(`"format": 7`), 1)},
		"those that were written":    {thing, bytes.Replace(whole, []byte("old a.key"), []byte("bad a.key"), 1)},
		"not written to its end":     {thing, whole[:len(whole)/2]},
		`"a.key", which does not be`: {backup.State{Of: "thing", Database: "thing.db"}, whole},
		"has no c.key":               {backup.State{Of: "thing", Database: "thing.db", Files: []string{"a.key", "b.key", "c.key"}}, whole},
	} {
		to := t.TempDir()
		if _, err := c.s.Restore(t.Context(), to, bytes.NewReader(c.b), keep, false); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want it to say %q", err, text)
		}
		if left := names(t, to); len(left) > 0 {
			t.Errorf("%q: %v is left", text, left)
		}
	}
	var b bytes.Buffer
	if _, err := thing.Write(t.Context(), t.TempDir(), nil, "", &b); err == nil || !strings.Contains(err.Error(), "there is no thing.db") || b.Len() > 0 {
		t.Errorf("an empty folder: %v, %d bytes", err, b.Len())
	}
}

func TestADamagedDatabaseIsNotCopied(t *testing.T) {
	dir := folder(t, "old")
	db := database(t, dir)
	if _, err := db.Exec("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO two SELECT hex(randomblob(50)) FROM n"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	f, err := os.OpenFile(filepath.Join(dir, thing.Database), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 4096), 5*4096); err != nil {
		t.Fatal(err)
	}
	if _, err := thing.Write(t.Context(), dir, nil, "", io.Discard); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("it was copied: %v", err)
	}
}

func TestAStateThatIsThereIsMovedAsideOnRequestAndNeverLost(t *testing.T) {
	whole := copyOf(t, folder(t, "old"), nil)
	dir := folder(t, "present")
	held := database(t, dir) // so that its WAL is there, as after a kill
	if _, err := held.Exec("INSERT INTO two VALUES ('in the WAL')"); err != nil {
		t.Fatal(err)
	}
	if _, err := thing.Restore(t.Context(), dir, bytes.NewReader(whole), keep, false); !errors.Is(err, backup.ErrOccupied) {
		t.Fatalf("over a state: %v", err)
	}
	want(t, dir, "present")
	done, err := thing.Restore(t.Context(), dir, bytes.NewReader(whole), keep, true)
	if err != nil || done.Aside == "" {
		t.Fatal(done, err)
	}
	want(t, dir, "old")
	want(t, done.Aside, "present")
	var what string
	if err := database(t, done.Aside).QueryRow("SELECT what FROM two").Scan(&what); err != nil || what != "in the WAL" {
		t.Errorf("aside, the WAL is gone: %q, %v", what, err)
	}
}

// A power cut while a restored state is moved into place: some of it is there already, the rest is the old one's.
func TestARestoreThatWasCutShortIsFinishedByTheNextStart(t *testing.T) {
	whole := copyOf(t, folder(t, "old"), nil)
	all := append(slices.Clone(thing.Files), thing.Database) // in the order of moving
	for moved := range len(all) + 1 {
		dir := folder(t, "present")
		to := t.TempDir()
		if _, err := thing.Restore(t.Context(), to, bytes.NewReader(whole), keep, false); err != nil {
			t.Fatal(err)
		}
		pending := filepath.Join(dir, "restored")
		if err := os.Mkdir(pending, 0o700); err != nil {
			t.Fatal(err)
		}
		if moved > 0 { // all of the old is aside by then
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(pending, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range all {
			into := pending
			if i < moved {
				into = dir
			}
			if err := os.Rename(filepath.Join(to, name), filepath.Join(into, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := thing.Finish(dir); err != nil {
			t.Fatal(err)
		}
		want(t, dir, "old")
		if err := thing.Finish(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// Root restores for a daemon without privileges.
func TestWhatRootRestoresBelongsToWhomTheFolderBelongs(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only root, on Linux, can give files away: whose a restored file is, is not tested")
	}
	whole, dir := copyOf(t, folder(t, "old"), nil), folder(t, "present")
	const somebody = 4711
	if err := os.Chown(dir, somebody, somebody); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "lock"), "")
	done, err := thing.Restore(t.Context(), dir, bytes.NewReader(whole), keep, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{thing.Database, "a.key", "b.key", "lock", filepath.Base(done.Aside)} {
		out, err := exec.Command("stat", "-c", "%u", filepath.Join(dir, path)).Output()
		if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(somebody) {
			t.Errorf("%s belongs to %s, %v", path, out, err)
		}
	}
}
