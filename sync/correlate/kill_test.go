package correlate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

const victim = "HODI_TEST_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		if err := applyForever(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// An endless journal: payment i fails with entry 3i+1, with 3i+2 it says so again, and with 3i+3 it is made. The disk is
// a restored one, so the payments need nobody to begin them.
func endless(t *correlate.Table, seq uint64) wire.Entry {
	id := fmt.Sprintf("%032x", (seq-1)/3)
	p := correlate.Payment{ID: id}
	body := failure(p, "1032")
	if seq%3 == 0 {
		body = ofDate("20231120110452", success(p, "100.00", "RKK"+id[25:])) // in every process the same
	}
	return wire.Entry{Seq: seq, Received: time.UnixMilli(1_700_000_000_000), Kind: wire.KindNotice, Ref: t.Ref(id), Body: []byte(body)}
}

const endlessEpoch = 1_700_000_000_000

// applyForever is the process that is killed. It says what it has published, and what it would acknowledge.
func applyForever(path string) error {
	ctx := context.Background()
	t, err := correlate.Open(ctx, correlate.Config{Path: path, Key: key, CacheSize: 16, Publish: func(events []correlate.Event) {
		fmt.Println("published", events[len(events)-1].Seq)
	}})
	if err != nil {
		return err
	}
	if err := t.Welcome(ctx, wire.Welcome{Epoch: endlessEpoch, Oldest: 1}); err != nil {
		return err
	}
	c, err := t.Cursor(ctx)
	if err != nil {
		return err
	}
	for seq := c.Seq; ; {
		batch := make([]wire.Entry, 1+rand.IntN(5))
		for i := range batch {
			seq++
			batch[i] = endless(t, seq)
		}
		if err := t.Apply(ctx, behind(endlessEpoch, batch), batch); err != nil {
			return err
		}
		fmt.Println("applied", seq)
	}
}

func TestKilledAtAnyPointItHasAppliedEverythingUpToItsCursorAndNothingElse(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := context.Background()
	for round := range 12 {
		s.Close()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), victim+"="+s.cfg.Path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var applied, published uint64
		lines := bufio.NewScanner(out)
		for range 5 + rand.IntN(40) {
			if !lines.Scan() {
				break
			}
			fmt.Sscanf(lines.Text(), "applied %d", &applied)
			fmt.Sscanf(lines.Text(), "published %d", &published)
		}
		child.Process.Kill() // SIGKILL
		rest, _ := io.ReadAll(out)
		for line := range strings.Lines(lines.Text() + "\n" + string(rest)) {
			fmt.Sscanf(line, "applied %d\n", &applied)
			fmt.Sscanf(line, "published %d\n", &published)
		}
		child.Wait()
		if applied == 0 {
			t.Fatal("the process applied nothing")
		}

		s.start()
		c, err := s.Cursor(ctx)
		if err != nil || c.Epoch != endlessEpoch || c.Seq < applied {
			t.Fatalf("round %d: the cursor is %v (%v), and %d was as good as acknowledged", round, c, err, applied)
		}
		if want := endless(s.Table, c.Seq); c.Sum != want.Sum() {
			t.Errorf("round %d: the cursor's checksum is not that of entry %d", round, c.Seq)
		}
		if s.Head() < published {
			t.Errorf("round %d: event %d was published and %d is the newest", round, published, s.Head())
		}
		// Every third entry changes nothing, so the events say how many were applied.
		if want := c.Seq/3*2 + c.Seq%3 - c.Seq%3/2; s.Head() != want {
			t.Errorf("round %d: %d events for %d entries, want %d", round, s.Head(), c.Seq, want)
		}
		events, err := s.Events(ctx, "", 0, 1<<20)
		if err != nil || uint64(len(events)) != s.Head() {
			t.Errorf("round %d: %d events are stored, the newest is %d (%v)", round, len(events), s.Head(), err)
		}
		var callbacks uint64
		counts, _ := s.Counts(ctx)
		for _, n := range counts {
			callbacks += uint64(n)
		}
		list, _, err := s.Callbacks(ctx, correlate.CallbackFilter{Limit: 1 << 20})
		if err != nil || uint64(len(list)) != c.Seq || callbacks != c.Seq {
			t.Errorf("round %d: %d callbacks are stored and %d counted, want %d (%v)", round, len(list), callbacks, c.Seq, err)
		}
		for seq := uint64(3); seq <= c.Seq+3; seq += 3 {
			p, err := s.Payment(ctx, fmt.Sprintf("%032x", seq/3-1))
			switch {
			case seq <= c.Seq && (err != nil || p.Status != push.Success || p.Receipt == ""):
				t.Errorf("round %d: payment %d is %s, %v, want SUCCESS", round, seq/3-1, p.Status, err)
			case seq == c.Seq+3 && !errors.Is(err, correlate.ErrNotFound):
				t.Errorf("round %d: payment %d is %s, %v, and its callbacks are beyond the cursor", round, seq/3-1, p.Status, err)
			case seq > c.Seq && seq < c.Seq+3 && (err != nil || p.Status != push.Failed):
				t.Errorf("round %d: payment %d is %s, %v, want FAILED", round, seq/3-1, p.Status, err)
			}
		}
	}
}

// A kill does not show whether a commit waited for the disk: only a power cut would.
func TestEveryCommitWaitsForTheDisk(t *testing.T) {
	s := open(t)
	if level, err := s.Synchronous(); err != nil || level != 2 {
		t.Errorf("PRAGMA synchronous is %d (%v), want 2, FULL", level, err)
	}
}
