package correlate_test

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestLogBeginsAnewWhileCallbacksKeepComing gives it no moment in which all of it could be moved into the file.
func TestLogBeginsAnewWhileCallbacksKeepComing(t *testing.T) {
	s := open(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Checkpoint(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	size := func() int64 {
		info, err := os.Stat(s.cfg.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	large := strings.Repeat("not JSON", 25<<10)
	for size() < 8<<20 {
		s.apply(s.entry("", large))
	}
	for before := int64(0); before != size(); { // until a callback was written over what is in the file
		if before = size(); before > 60<<20 {
			t.Fatalf("the log has grown to %d bytes, and SQLite will have to hold up a callback for all of them", before)
		}
		s.apply(s.entry("", large[:20<<10]))
	}
}
