package edge_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
)

// Safaricom has been told the addresses, once and for years: whatever becomes of the way in which sidecars are known, they stay.
func TestAnEdgeWhoseSidecarsHadTokensKeepsItsAddresses(t *testing.T) {
	const live, retired = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "edge.db"))
	if err == nil {
		_, err = db.ExecContext(t.Context(), `
			CREATE TABLE edge_endpoint (name TEXT PRIMARY KEY, token BLOB NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;
			CREATE TABLE edge_key (key TEXT PRIMARY KEY, endpoint TEXT NOT NULL REFERENCES edge_endpoint (name), name TEXT NOT NULL,
				kind TEXT NOT NULL CHECK (kind IN ('notice', 'validation', 'lookup', 'bill')), created INTEGER NOT NULL, retired INTEGER, UNIQUE (endpoint, name)) STRICT;
			INSERT INTO edge_endpoint VALUES ('kiosk', x'00', 1750000000000), ('duka', x'01', 1750000000000);
			INSERT INTO edge_key VALUES
				('`+live+`', 'kiosk', 'key-1', 'notice', 1750000000000, NULL), ('`+retired+`', 'kiosk', 'key-2', 'notice', 1750000000000, 1750000000001),
				('00000000000000000000000000000001', 'duka', 'key-1', 'notice', 1750000000000, NULL);`)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w := start(t, edge.Config{Dir: dir})
	w.wantPost("http://"+w.http+"/c/"+live+"/1", "{}", 200)
	w.wantPost("http://"+w.http+"/c/"+retired, "{}", 404)
	shop, s, _ := w.link(identityOf(t, w.mustJoin("kiosk")))
	w.eventually("its shop, which has joined, to have a link", func() bool { return shop.Status().Connected })
	if got := <-s.got; got != "1 {}" {
		t.Errorf("received %q", got)
	}

	// And once is enough.
	w.stop()
	again := start(t, edge.Config{Dir: dir})
	again.wantPost("http://"+again.http+"/c/"+live, "{}", 200)
	for _, e := range again.Endpoints() {
		if e.Name == "kiosk" && (e.Joined.IsZero() || len(e.Keys) != 2) {
			t.Errorf("over a restart it became %+v", e)
		}
	}
}
