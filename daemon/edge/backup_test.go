package edge_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
)

// Whoever adds a file to the folder has to say here that it may be lost, or else back it up.
func TestEverythingInTheFolderIsInTheBackupOrMadeAnew(t *testing.T) {
	w := start(t, edge.Config{})
	w.wantPost(w.callback, "{}", 200)
	var b bytes.Buffer
	if _, err := edge.Backup(t.Context(), w.dir, "asha", "", &b); err != nil {
		t.Fatal(err)
	}
	kept := []string{"edge.db-wal", "edge.db-shm", "lock", "admin.sock", "endpoints.json"}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, h.Name)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(kept, e.Name()) {
			t.Errorf("%s would be lost", e.Name())
		}
	}
}
