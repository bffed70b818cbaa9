package main

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestASidecarWhoseTableCannotCommitIsNotReadyAsALink holds the database of a sidecar as a disk that is stuck does: its link
// is up, and answers Pings, and nothing gets through.
func TestASidecarWhoseTableCannotCommitIsNotReadyAsALink(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.sidecar.end()
	p.canary = "1s"
	p.startSidecar()
	ready := func(url string) (int, string) {
		t.Helper()
		code, answer := call(t, "GET", url, nil)
		detail, _ := answer["detail"].(string)
		return code, detail
	}
	edge := "http://" + strings.TrimPrefix(p.callbacks, "http://")
	wantLink := func(when string, code int) {
		t.Helper()
		eventually(t, when, func() bool {
			atSidecar, _ := ready(p.url + "/readyz?link")
			atEdge, _ := ready(edge + "/readyz?link")
			return atSidecar == code && atEdge == code
		})
	}
	wantLink("the link to be ready at both ends", 200)
	p.register(0, 1)
	p.post(0, 1)
	p.wantPaid(0, 1)

	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(p.dir, "sidecar", "sidecar.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link to be up, and known not to deliver", func() bool {
		code, detail := ready(p.url + "/readyz?link")
		return code == 503 && strings.HasPrefix(detail, "the edge is connected, and nothing has come through to our disk for ")
	})
	eventually(t, "the edge to know it", func() bool { code, _ := ready(edge + "/readyz?link"); return code == 503 })
	if code, _ := ready(edge + "/readyz"); code != 200 {
		t.Errorf("/readyz of the edge answers %d for what is wrong at a shop", code)
	}
	if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	wantLink("the link to be ready again at both ends", 200)

	// Of all the canaries nothing is left to be seen.
	p.wantApplied(1)
	eventually(t, "the screen to say so", func() bool {
		out, ok := status(t, p.dir, "--listen", strings.TrimPrefix(p.url, "http://"), "--data", "sidecar", "--edge-data", "edge")
		return ok && strings.Contains(out, "1 stored, 0 to be delivered") && strings.Contains(out, "delivers")
	})
}
