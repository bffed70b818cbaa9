package room_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hodihq/hodi/daemon/room"
)

func TestAFolderLiesWhereThereIsSomeRoom(t *testing.T) {
	there, err := room.Of(t.TempDir())
	if err != nil || there.Free <= 0 || there.Size < there.Free {
		t.Errorf("%+v, %v", there, err)
	}
	if there, err := room.Of(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Errorf("of no folder: %+v", there)
	}
}

func TestRoomIsLowByWhatADaemonNeedsAndByTheSizeOfASmallDisk(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	for _, c := range []struct {
		free, size int64
		low        bool
	}{
		{200 * gb, 250 * gb, false},
		{1 * gb, 250 * gb, false},
		{400 * mb, 250 * gb, true},
		{400 * mb, 2 * gb, false},
		{100 * mb, 2 * gb, true},
		{0, 2 * gb, true},
		{0, 0, false}, // nobody knows
	} {
		if got := (room.Room{Free: c.free, Size: c.size}).Low(); got != c.low {
			t.Errorf("%d of %d: %v", c.free, c.size, got)
		}
	}
}

func TestADatabaseHasItsLogToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	if n := room.Used(path); n != 0 {
		t.Errorf("of none: %d", n)
	}
	os.WriteFile(path, make([]byte, 4096), 0o600)
	os.WriteFile(path+"-wal", make([]byte, 100), 0o600)
	if n := room.Used(path); n != 4196 {
		t.Errorf("%d", n)
	}
}
