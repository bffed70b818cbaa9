// Package journaltest is what an implementation of journal.Journal must pass.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Run puts an implementation through the suite. open opens the journal that lives in dir, which was closed before if
// it had been open; the test ends without closing it, so open must see to that.
func Run(t *testing.T, open func(t testing.TB, dir string, limits journal.Limits) journal.Journal) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"a new endpoint has a history without entries", newEndpoint},
		{"entries come back as they were stored", contents},
		{"endpoints do not see each other", endpoints},
		{"concurrent appends are numbered without a gap, in the order of each caller", concurrent},
		{"everything is there after reopening", reopen},
		{"next gives what fits, and at least one", nextFits},
		{"a waiting next is woken by an append to its endpoint", nextWakes},
		{"next ends with its context", nextContext},
		{"next ends when the journal closes", nextClose},
		{"an append whose context has ended is stored or not, and harms nobody", appendContext},
		{"an entry over the limit is refused, and leaves no gap", tooLarge},
		{"acks go forwards only, and only in their epoch", acks},
		{"renew takes a greater epoch over the same entries", renew},
		{"an endpoint over its share is refused alone, until it is acknowledged", full},
		{"canaries are numbered like callbacks, and come back the same, and take no room", canaries},
		{"nothing works after close", closed},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			s := &suite{T: t, ctx: ctx, dir: t.TempDir(), open: open}
			s.reopen(journal.Limits{})
			test.run(s)
		})
	}
}

type suite struct {
	*testing.T
	ctx  context.Context
	dir  string
	open func(testing.TB, string, journal.Limits) journal.Journal
	j    journal.Journal
}

func (s *suite) reopen(limits journal.Limits) {
	s.Helper()
	if s.j != nil {
		if err := s.j.Close(); err != nil {
			s.Fatalf("close: %v", err)
		}
	}
	s.j = s.open(s.T, s.dir, limits)
}

// Entry is an entry that can be told from others by its number.
func Entry(n int) wire.Entry {
	return wire.Entry{
		Received: time.Date(2026, 10, 2, 9, 30, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond),
		Kind:     wire.KindNotice,
		Ref:      fmt.Sprintf("%064x", n),
		Remote:   "196.201.212.69:40412",
		Header:   []byte("Content-Type: application/json;charset=UTF-8\r\n"),
		Body:     fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func (s *suite) append(endpoint string, n int) uint64 {
	s.Helper()
	seq, err := s.j.Append(s.ctx, endpoint, Entry(n))
	if err != nil {
		s.Fatalf("append %d to %s: %v", n, endpoint, err)
	}
	return seq
}

func (s *suite) state(endpoint string) wire.State {
	s.Helper()
	state, err := s.j.State(s.ctx, endpoint)
	if err != nil {
		s.Fatalf("state of %s: %v", endpoint, err)
	}
	return state
}

func (s *suite) wantState(endpoint string, oldest, head, acked uint64) wire.State {
	s.Helper()
	got := s.state(endpoint)
	if want := (wire.State{Epoch: got.Epoch, Oldest: oldest, Head: head, Acked: acked}); got != want || got.Epoch == 0 {
		s.Errorf("the state of %s is %+v, want %+v and an epoch", endpoint, got, want)
	}
	return got
}

// wantEntry checks that an entry is that which Entry makes of n.
func (s *suite) wantEntry(got wire.Entry, seq uint64, n int) {
	s.Helper()
	want := Entry(n)
	want.Seq = seq
	if got.Sum() != want.Sum() {
		s.Errorf("entry is\n%+v, want\n%+v", got, want)
	}
}

// all reads everything behind after that is there.
func (s *suite) all(endpoint string, after uint64) []wire.Entry {
	s.Helper()
	var all []wire.Entry
	for head := s.state(endpoint).Head; after < head; after = all[len(all)-1].Seq {
		entries, err := s.j.Next(s.ctx, endpoint, after, 64<<10)
		if err != nil || len(entries) == 0 {
			s.Fatalf("next of %s behind %d: %d entries, %v", endpoint, after, len(entries), err)
		}
		all = append(all, entries...)
	}
	return all
}

func newEndpoint(s *suite) {
	first := s.wantState("duka", 1, 0, 0)
	if again := s.state("duka"); again != first {
		s.Errorf("asked again, the state is %+v, and was %+v", again, first)
	}
	if _, err := s.j.Entry(s.ctx, "duka", 1); !errors.Is(err, journal.ErrNoEntry) {
		s.Errorf("entry 1 of an empty history: %v, want ErrNoEntry", err)
	}
	if _, err := s.j.Entry(s.ctx, "duka", 0); !errors.Is(err, journal.ErrNoEntry) {
		s.Errorf("entry 0: %v, want ErrNoEntry", err)
	}
	s.reopen(journal.Limits{})
	if again := s.state("duka"); again != first {
		s.Errorf("reopened, the state is %+v, and was %+v", again, first)
	}
}

func contents(s *suite) {
	if seq := s.append("duka", 1); seq != 1 {
		s.Errorf("the first entry has number %d", seq)
	}
	bare := wire.Entry{Seq: 77, Received: time.UnixMilli(5), Kind: wire.KindNotice}
	if seq, err := s.j.Append(s.ctx, "duka", bare); seq != 2 || err != nil {
		s.Errorf("an entry that claims number 77 got %d, %v; want 2", seq, err)
	}
	bare.Seq = 2
	for range 2 {
		entries := s.all("duka", 0)
		if len(entries) != 2 {
			s.Fatalf("%d entries, want 2", len(entries))
		}
		s.wantEntry(entries[0], 1, 1)
		if entries[1].Sum() != bare.Sum() {
			s.Errorf("the bare entry came back as %+v", entries[1])
		}
		one, err := s.j.Entry(s.ctx, "duka", 1)
		if err != nil {
			s.Fatal(err)
		}
		s.wantEntry(one, 1, 1)
		s.reopen(journal.Limits{})
	}
}

func endpoints(s *suite) {
	for i := range 6 {
		s.append([]string{"duka", "kiosk", "%_'\"; --"}[i%3], i)
	}
	for i, name := range []string{"duka", "kiosk", "%_'\"; --"} {
		s.wantState(name, 1, 2, 0)
		entries := s.all(name, 0)
		s.wantEntry(entries[0], 1, i)
		s.wantEntry(entries[1], 2, i+3)
	}
	if err := s.j.Ack(s.ctx, "duka", s.state("duka").Epoch, 2); err != nil {
		s.Fatal(err)
	}
	s.wantState("kiosk", 1, 2, 0)
}

func concurrent(s *suite) {
	const callers, each = 32, 25
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range each {
				e := Entry(caller)
				e.Body = fmt.Appendf(nil, "%d %d", caller, i)
				if _, err := s.j.Append(s.ctx, "duka", e); err != nil {
					s.Errorf("append: %v", err)
				}
			}
		})
	}
	// One reads along.
	read := make([]int, callers)
	for after := uint64(0); after < callers*each; {
		entries, err := s.j.Next(s.ctx, "duka", after, 4<<10)
		if err != nil {
			s.Fatal(err)
		}
		for _, e := range entries {
			if after++; e.Seq != after {
				s.Fatalf("entry %d where %d should be", e.Seq, after)
			}
			var caller, i int
			fmt.Sscan(string(e.Body), &caller, &i)
			if read[caller] != i {
				s.Errorf("entry %d of caller %d stands where his entry %d should", i, caller, read[caller])
			}
			read[caller]++
		}
	}
	wg.Wait()
	s.wantState("duka", 1, callers*each, 0)
}

func reopen(s *suite) {
	for i := range 10 {
		s.append("duka", i+1)
	}
	before := s.state("duka")
	if err := s.j.Ack(s.ctx, "duka", before.Epoch, 4); err != nil {
		s.Fatal(err)
	}
	s.reopen(journal.Limits{})
	if after := s.wantState("duka", 1, 10, 4); after.Epoch != before.Epoch {
		s.Errorf("the epoch is %d after reopening, and was %d", after.Epoch, before.Epoch)
	}
	if seq := s.append("duka", 11); seq != 11 {
		s.Errorf("the next number after reopening is %d", seq)
	}
	for i, e := range s.all("duka", 0) {
		s.wantEntry(e, uint64(i+1), i+1)
	}
	if tail := s.all("duka", 9); len(tail) != 2 {
		s.Errorf("%d entries behind 9, want 2", len(tail))
	}
}

func nextFits(s *suite) {
	for i := range 10 {
		s.append("duka", i)
	}
	one := Entry(0)
	size := one.Size()
	for range 2 { // from memory and from disk
		for _, c := range []struct{ maxBytes, want int }{
			{0, 1}, {1, 1}, {size, 1}, {2*size - 1, 1}, {2 * size, 2}, {5*size + size/2, 5}, {1 << 20, 10},
		} {
			entries, err := s.j.Next(s.ctx, "duka", 0, c.maxBytes)
			if err != nil || len(entries) != c.want {
				s.Errorf("next of at most %d bytes gives %d entries of %d, %v; want %d", c.maxBytes, len(entries), size, err, c.want)
			}
		}
		s.reopen(journal.Limits{})
	}
}

func nextWakes(s *suite) {
	s.append("duka", 1)
	const readers = 8
	got := make(chan []wire.Entry)
	for range readers {
		go func() {
			entries, err := s.j.Next(s.ctx, "duka", 1, 1<<20)
			if err != nil {
				s.Errorf("next: %v", err)
			}
			got <- entries
		}()
	}
	s.append("kiosk", 9)
	s.append("duka", 2)
	for range readers {
		if entries := <-got; len(entries) != 1 {
			s.Errorf("woken with %d entries, want 1", len(entries))
		} else {
			s.wantEntry(entries[0], 2, 2)
		}
	}
}

func nextContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error)
	go func() {
		_, err := s.j.Next(ctx, "duka", 0, 1)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		s.Errorf("next gives %v, want context canceled", err)
	}
}

func nextClose(s *suite) {
	done := make(chan error)
	s.state("duka")
	go func() {
		_, err := s.j.Next(s.ctx, "duka", 0, 1)
		done <- err
	}()
	if err := s.j.Close(); err != nil {
		s.Error(err)
	}
	if err := <-done; !errors.Is(err, journal.ErrClosed) {
		s.Errorf("next gives %v, want ErrClosed", err)
	}
	s.j = nil
	s.reopen(journal.Limits{})
}

func appendContext(s *suite) {
	const callers = 16
	var wg sync.WaitGroup
	known := make([]uint64, callers)
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(s.ctx)
			if i%2 == 1 {
				cancel()
			}
			defer cancel()
			seq, err := s.j.Append(ctx, "duka", Entry(i))
			switch {
			case err == nil:
				known[i] = seq
			case i%2 == 0 || !errors.Is(err, context.Canceled):
				s.Errorf("append %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	s.append("duka", callers) // behind all that was taken
	entries := s.all("duka", 0)
	for i, e := range entries {
		if e.Seq != uint64(i+1) {
			s.Errorf("entry %d where %d should be", e.Seq, i+1)
		}
	}
	for i, seq := range known {
		if seq != 0 {
			s.wantEntry(entries[seq-1], seq, i)
		} else if i%2 == 0 {
			s.Errorf("caller %d, whose context never ended, has no number", i)
		}
	}
}

func tooLarge(s *suite) {
	s.append("duka", 1)
	e := Entry(2)
	e.Body = make([]byte, wire.MaxFrame)
	if seq, err := s.j.Append(s.ctx, "duka", e); err == nil {
		s.Errorf("an entry of %d bytes got number %d", e.Size(), seq)
	}
	e.Body = e.Body[:len(e.Body)-(e.Size()-wire.HeaderSize-wire.MaxFrame)]
	if seq, err := s.j.Append(s.ctx, "duka", e); err != nil || seq != 2 {
		s.Errorf("an entry as long as a frame may be: %d, %v", seq, err)
	}
	s.reopen(journal.Limits{})
	s.wantState("duka", 1, 2, 0)
}

func acks(s *suite) {
	for i := range 5 {
		s.append("duka", i+1)
	}
	epoch := s.state("duka").Epoch
	ack := func(epoch wire.Epoch, seq uint64, want error, acked uint64) {
		s.Helper()
		if err := s.j.Ack(s.ctx, "duka", epoch, seq); !errors.Is(err, want) {
			s.Errorf("ack of %d in epoch %d gives %v, want %v", seq, epoch, err, want)
		}
		s.wantState("duka", 1, 5, acked)
	}
	ack(epoch, 3, nil, 3)
	ack(epoch, 2, nil, 3)
	ack(epoch, 0, nil, 3)
	ack(epoch, 6, journal.ErrNoEntry, 3)
	ack(epoch-1, 4, journal.ErrEpoch, 3)
	ack(epoch+1, 4, journal.ErrEpoch, 3)
	ack(epoch, 5, nil, 5)
	s.reopen(journal.Limits{})
	ack(epoch, 4, nil, 5)
	if entry, err := s.j.Entry(s.ctx, "duka", 5); err != nil {
		s.Error(err)
	} else {
		s.wantEntry(entry, 5, 5)
	}
}

func renew(s *suite) {
	for i := range 3 {
		s.append("duka", i+1)
	}
	s.append("kiosk", 1)
	kiosk := s.state("kiosk")
	last := s.state("duka")
	for range 3 { // in the same millisecond, too
		state, err := s.j.Renew(s.ctx, "duka", 0)
		if err != nil || state.Epoch <= last.Epoch || state.Head != 3 || state.Oldest != 1 {
			s.Fatalf("renewed from %+v to %+v, %v", last, state, err)
		}
		if err := s.j.Ack(s.ctx, "duka", last.Epoch, 1); !errors.Is(err, journal.ErrEpoch) {
			s.Errorf("an ack of the old epoch gives %v, want ErrEpoch", err)
		}
		last = state
	}
	// A reader that saw what this history has forgotten, from a time when a clock was ahead.
	for _, ahead := range []wire.Epoch{last.Epoch + 1<<40, last.Epoch + 1, wire.MaxEpoch - 2} {
		state, err := s.j.Renew(s.ctx, "duka", ahead)
		if err != nil || state.Epoch <= ahead || state.Epoch <= last.Epoch {
			s.Fatalf("renewed beyond %d, from epoch %d to %d, %v", ahead, last.Epoch, state.Epoch, err)
		}
		last = state
	}
	for _, none := range []wire.Epoch{wire.MaxEpoch, 1<<63 - 1, 1 << 63, 1<<64 - 1} { // no epochs
		state, err := s.j.Renew(s.ctx, "kiosk", none)
		if err != nil || state.Epoch <= kiosk.Epoch || state.Epoch >= wire.MaxEpoch {
			s.Fatalf("renewed beyond %d, from epoch %d to %d, %v", none, kiosk.Epoch, state.Epoch, err)
		}
		kiosk = state
	}
	s.reopen(journal.Limits{})
	if again := s.state("duka"); again != last {
		s.Errorf("reopened, the state is %+v, and was %+v", again, last)
	}
	for i, e := range s.all("duka", 0) {
		s.wantEntry(e, uint64(i+1), i+1)
	}
	if again := s.state("kiosk"); again != kiosk {
		s.Errorf("the neighbour's state is %+v, and was %+v", again, kiosk)
	}
}

func full(s *suite) {
	s.reopen(journal.Limits{MaxBytes: 4 << 10})
	var n int
	for n = 1; ; n++ {
		if _, err := s.j.Append(s.ctx, "duka", Entry(n)); errors.Is(err, journal.ErrFull) {
			break
		} else if err != nil || n > 100 {
			s.Fatalf("append %d: %v, want ErrFull sooner or later", n, err)
		}
	}
	s.append("kiosk", 1)
	s.reopen(journal.Limits{MaxBytes: 4 << 10})
	if _, err := s.j.Append(s.ctx, "duka", Entry(n)); !errors.Is(err, journal.ErrFull) {
		s.Fatalf("reopened, append gives %v, want ErrFull", err)
	}
	head := s.state("duka").Head
	if head != uint64(n-1) {
		s.Errorf("head is %d after %d entries were stored", head, n-1)
	}
	if err := s.j.Ack(s.ctx, "duka", s.state("duka").Epoch, head-2); err != nil {
		s.Fatal(err)
	}
	if seq := s.append("duka", n); seq != head+1 {
		s.Errorf("the first entry with room again has number %d, want %d", seq, head+1)
	}
}

func closed(s *suite) {
	s.append("duka", 1)
	if err := s.j.Close(); err != nil {
		s.Fatal(err)
	}
	_, err := s.j.Append(s.ctx, "duka", Entry(2))
	if !errors.Is(err, journal.ErrClosed) {
		s.Errorf("append gives %v, want ErrClosed", err)
	}
	if _, err := s.j.Next(s.ctx, "duka", 0, 1); !errors.Is(err, journal.ErrClosed) {
		s.Errorf("next gives %v, want ErrClosed", err)
	}
	s.j = nil
	s.reopen(journal.Limits{})
	s.wantState("duka", 1, 1, 0)
}
