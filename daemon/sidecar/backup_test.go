package sidecar_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/hodihq/hodi/daemon/sidecar"
)

// Whoever adds a file to the folder has to say here that it may be lost, or else back it up.
func TestEverythingInTheFolderIsInTheBackupOrMadeAnew(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) { c.Forward = "http://127.0.0.1:9/" })
	var b bytes.Buffer
	if _, err := sidecar.Backup(t.Context(), s.dir, "root", "", &b); err != nil {
		t.Fatal(err)
	}
	kept := []string{"sidecar.db-wal", "sidecar.db-shm", "lock", "admin.sock", "admin.d"}
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
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(kept, e.Name()) {
			t.Errorf("%s would be lost", e.Name())
		}
	}
}
