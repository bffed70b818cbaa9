package journaltest

import (
	"slices"
	"time"

	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// canaries has runs of canaries between callbacks, acknowledges them as they come, and reads them again at every time.
func canaries(s *suite) {
	limits := journal.Limits{MaxBytes: 400}
	s.reopen(limits)
	var want []wire.Checksum
	check := func() {
		s.Helper()
		for after := range len(want) {
			entries := s.all("duka", uint64(after))
			var sums []wire.Checksum
			for i, e := range entries {
				if e.Seq != uint64(after+i+1) {
					s.Fatalf("behind %d, entry %d has the number %d", after, i, e.Seq)
				}
				sums = append(sums, e.Sum())
			}
			if !slices.Equal(sums, want[after:]) {
				s.Fatalf("behind %d the entries are not what they were: %+v", after, entries)
			}
			one, err := s.j.Entry(s.ctx, "duka", uint64(after+1))
			if err != nil || one.Sum() != want[after] {
				s.Fatalf("entry %d is %+v, %v", after+1, one, err)
			}
		}
	}
	began := time.Date(2026, 10, 2, 9, 30, 0, 0, time.UTC)
	run := uint64(0)
	for i, kind := range []wire.Kind{1, 5, 5, 5, 1, 5, 1, 1, 5, 5} {
		e := Entry(i + 1)
		if kind == wire.KindCanary {
			e = wire.Entry{Kind: kind, Received: began.Add(time.Duration(i) * time.Minute), Body: []byte("of no account")}
		}
		seq, err := s.j.Append(s.ctx, "duka", e)
		if err != nil || seq != uint64(i+1) {
			s.Fatalf("entry %d got the number %d, %v", i+1, seq, err)
		}
		if kind != wire.KindCanary {
			run = 0
		} else if run == 0 {
			run = seq
		}
		if e.Seq = seq; run != 0 {
			e = wire.CanaryOf(seq, run, began.Add(time.Duration(run-1)*time.Minute))
		}
		want = append(want, e.Sum())
		check()
		if i%3 == 2 {
			s.reopen(limits)
			check()
		}
		if err := s.j.Ack(s.ctx, "duka", s.state("duka").Epoch, seq); err != nil {
			s.Fatal(err)
		}
	}
	for range 2 {
		state := s.state("duka")
		if want := (wire.State{Epoch: state.Epoch, Oldest: 1, Head: 10, Acked: 10, Canaries: 6, Heard: 6}); state != want {
			s.Errorf("the state is %+v, want %+v", state, want)
		}
		s.reopen(limits)
		check()
	}

	// Nobody acknowledges any more: neither is there room for another callback in the end, nor is a canary refused for that.
	for i := range 3 {
		if _, err := s.j.Append(s.ctx, "duka", Entry(20+i)); err != nil {
			break
		}
	}
	if _, err := s.j.Append(s.ctx, "duka", Entry(30)); err == nil {
		s.Error("callbacks are taken past what the endpoint may hold")
	}
	before := s.state("duka")
	if before.Canaries != 6 || before.Heard != 6 {
		s.Errorf("callbacks are counted as canaries: %+v", before)
	}
	if _, err := s.j.Append(s.ctx, "duka", wire.Entry{Kind: wire.KindCanary, Received: began.Add(time.Hour)}); err != nil {
		s.Errorf("a canary finds no room: %v", err)
	}
	if now := s.state("duka"); now.Head != before.Head+1 || now.Canaries != 7 || now.Heard != 6 {
		s.Errorf("with a canary that is not acknowledged the state is %+v", now)
	}
}
