package journal_test

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/journal/journaltest"
)

// begun is how often SQLite has begun its log anew: the checkpoint number in the header of the file.
func begun(t *testing.T, dir string) uint32 {
	t.Helper()
	header := make([]byte, 32)
	f, err := os.Open(filepath.Join(dir, "edge.db-wal"))
	if err == nil {
		_, err = io.ReadFull(f, header)
		f.Close()
	}
	if err != nil {
		t.Error(err)
	}
	return binary.BigEndian.Uint32(header[12:])
}

// SQLite would move its log into the file in a commit, which some callback waits for. It must not have to, and the log must
// all the same begin anew, although callbacks keep coming.
func TestTheLogBeginsAnewWhileCallbacksKeepComing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Limits{}, nil)
	e := journaltest.Entry(1)
	e.Body = make([]byte, 200<<10)
	first := uint32(0)
	for i := range 100 { // 20 MB
		if _, err := j.Append(t.Context(), "duka", e); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = begun(t, dir)
		}
	}
	var wg sync.WaitGroup
	for caller := range 2 {
		wg.Go(func() {
			for end := time.Now().Add(time.Minute); begun(t, dir) == first; {
				if time.Now().After(end) {
					t.Error("the log was not begun anew within a minute")
					return
				}
				if _, err := j.Append(t.Context(), "duka", journaltest.Entry(caller)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(filepath.Join(dir, "edge.db-wal"))
	if err != nil || info.Size() > 60<<20 {
		t.Errorf("the log is %d bytes long, %v: SQLite itself may have seen to it", info.Size(), err)
	}
}
