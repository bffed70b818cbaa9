package sidecar_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// version is user_version of a database that nobody has open. more is added to it.
func (h *harmed) version(t *testing.T, more int) (was int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(h.dir, "sidecar.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("PRAGMA user_version").Scan(&was); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf("PRAGMA user_version = %d", was+more)); err != nil {
		t.Fatal(err)
	}
	return was
}

func (h *harmed) wantRefused(t *testing.T) {
	t.Helper()
	before := h.read(t, "sidecar.db")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: h.dir, Dev: true, Listener: l})
	if err == nil {
		s.Close()
		t.Fatal("a sidecar opens a database that a newer one has changed")
	}
	for _, want := range []string{"a newer hodi has used this database: in sidecar.db ", "Install the newer hodi again", "backup"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it says %q, want it to say %q", err, want)
		}
	}
	if !bytes.Equal(h.read(t, "sidecar.db"), before) {
		t.Error("the database was changed")
	}
	if others, _ := filepath.Glob(filepath.Join(h.dir, "sidecar.db.*")); len(others) > 0 {
		t.Errorf("there is %v now", others)
	}
}

func TestASidecarRefusesADatabaseThatANewerOneHasChanged(t *testing.T) {
	h := harm(t, false)
	whole := h.read(t, "sidecar.db")
	h.version(t, 1)
	h.wantRefused(t)

	// To begin anew in place of one that the older program cannot read would hide from the newer one all that it holds.
	b := h.read(t, "sidecar.db")
	for i := 100; i < len(b); i++ { // the header is left
		b[i] ^= 0xff
	}
	h.write(t, "sidecar.db", b)
	h.wantRefused(t)

	h.write(t, "sidecar.db", whole)
	h.version(t, 1)
	h.wantRefused(t)
	h.version(t, -1) // the newer one again
	s, _ := h.start(t)
	if p := s.do("GET", "/payments/"+h.made, "").data(t); p.Status != push.Success {
		t.Errorf("the payment is %+v", p)
	}
}

func TestABackupFromANewerSidecarIsRefusedAndAnOlderOneIsTheWayBack(t *testing.T) {
	h := harm(t, false)
	var older, newer bytes.Buffer
	if _, err := sidecar.Backup(t.Context(), h.dir, "asha", "", &older); err != nil {
		t.Fatal(err)
	}
	h.version(t, 1)
	if _, err := sidecar.Backup(t.Context(), h.dir, "asha", "", &newer); err != nil {
		t.Fatal(err)
	}
	before := h.read(t, "sidecar.db")
	_, err := sidecar.Restore(t.Context(), h.dir, "asha", &newer, true)
	if err == nil || !strings.Contains(err.Error(), "a newer hodi has used this database") {
		t.Errorf("restore says %v", err)
	}
	if !bytes.Equal(h.read(t, "sidecar.db"), before) {
		t.Error("the database was changed")
	}
	if _, err := sidecar.Restore(t.Context(), h.dir, "asha", &older, true); err != nil {
		t.Fatal(err)
	}
	s, _ := h.start(t)
	if p := s.do("GET", "/payments/"+h.made, "").data(t); p.Status != push.Success {
		t.Errorf("the payment is %+v", p)
	}
}
