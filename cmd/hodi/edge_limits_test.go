package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnEdgeHoldsAsMuchForAnEndpointAsItIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hodi.toml"), []byte("[edge]\nhold = 1\nkeep-undelivered = 30\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, dir, "edge", "--data", "edge", "--listen", "127.0.0.1:0").says("callbacks")
	var added struct{ Callback string }
	if err := askAdmin(t.Context(), filepath.Join(dir, "edge"), http.MethodPost, "/endpoints/duka/invite", nil, &added); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for {
		status, _ := call(t, "POST", added.Callback, strings.Repeat("x", 100_000))
		if status == 503 {
			break
		}
		if stored++; status != 200 || stored > 20 {
			t.Fatalf("answered %d after %d of 100 kB", status, stored)
		}
	}
	if stored != 10 {
		t.Errorf("%d callbacks of 100 kB were stored in a share of 1 MiB, want 10", stored)
	}
}
