package edge_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
)

// version is user_version of a database that nobody has open. more is added to it.
func (f *filled) version(more int) (was int) {
	f.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(f.dir, "edge.db")))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("PRAGMA user_version").Scan(&was); err != nil {
		f.Fatal(err)
	}
	if more != 0 {
		if _, err := db.Exec(fmt.Sprintf("PRAGMA user_version = %d", was+more)); err != nil {
			f.Fatal(err)
		}
	}
	return was
}

// Of a newer hodi, which has taken one step more in the journal's tables, or in the edge's own.
const newerJournal, newerEdge = 1, 1 << 16

func (f *filled) wantRefused(whose string) {
	f.Helper()
	before := f.read("edge.db")
	http, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer http.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer udp.Close()
	e, err := edge.Open(f.Context(), edge.Config{Dir: f.dir, HTTP: http, UDP: udp})
	if err == nil {
		e.Close()
		f.Fatal("an edge opens a database that a newer one has changed")
	}
	for _, want := range []string{"a newer hodi has used this database: in edge.db " + whose + " has form ", "Install the newer hodi again", "backup"} {
		if !strings.Contains(err.Error(), want) {
			f.Errorf("it says %q, want it to say %q", err, want)
		}
	}
	if !bytes.Equal(f.read("edge.db"), before) {
		f.Error("the database was changed")
	}
	if others, _ := filepath.Glob(filepath.Join(f.dir, "edge.db.*")); len(others) > 0 {
		f.Errorf("there is %v now", others)
	}
}

func TestAnEdgeRefusesADatabaseThatANewerOneHasChanged(t *testing.T) {
	whole := fill(t, false)
	for whose, step := range map[string]int{"the journal": newerJournal, "the edge": newerEdge} {
		f := whole.copy(t)
		f.version(step)
		f.wantRefused(whose)

		// What the older one cannot even read of it is not for the older one to mend.
		b := f.read("edge.db")
		for i := 100; i < len(b); i++ { // the header is left
			b[i] ^= 0xff
		}
		f.write("edge.db", b)
		f.wantRefused(whose)

		// The newer one goes on where it was.
		g := whole.copy(t)
		g.version(step)
		g.wantRefused(whose)
		g.version(-step)
		g.wantSalvaged(60, false)
	}
}

func TestADatabaseFromBeforeFormsWereCountedComesUp(t *testing.T) {
	f := fill(t, false)
	is := f.version(0)
	f.version(-is)
	f.wantSalvaged(60, false)
	if got := f.version(0); got != is || is == 0 {
		t.Errorf("its form is %#x, want %#x", got, is)
	}
}

func TestABackupFromANewerEdgeIsRefusedBeforeAnythingIsReplaced(t *testing.T) {
	f := fill(t, false)
	now := f.copy(t)
	f.version(newerEdge)
	lines := f.lines()
	var made bytes.Buffer
	if _, err := edge.Backup(t.Context(), f.dir, "asha", "", &made); err != nil {
		t.Fatal(err)
	}
	if got := f.lines(); got != lines {
		t.Errorf("an older hodi that makes a backup has written %d lines into the audit of the newer one", got-lines)
	}
	before := now.read("edge.db")
	_, err := edge.Restore(t.Context(), now.dir, "asha", &made, true)
	if err == nil || !strings.Contains(err.Error(), "a newer hodi has used this database") {
		t.Errorf("restore says %v", err)
	}
	if !bytes.Equal(now.read("edge.db"), before) {
		t.Error("the database was changed")
	}

	// And this is the way back.
	older := now.copy(t)
	made.Reset()
	if _, err := edge.Backup(t.Context(), older.dir, "asha", "", &made); err != nil {
		t.Fatal(err)
	}
	now.version(newerEdge)
	now.wantRefused("the edge")
	if _, err := edge.Restore(t.Context(), now.dir, "asha", &made, true); err != nil {
		t.Fatal(err)
	}
	now.wantSalvaged(60, true)
}

func (f *filled) lines() (n int) {
	f.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(f.dir, "edge.db")))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM audit").Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}
