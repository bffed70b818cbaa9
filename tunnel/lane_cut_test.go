package tunnel_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A ledger is a sink that keeps the effect of every entry, and no place but the one that it is given.
type ledger struct {
	*sink
	t        *testing.T
	effects  map[uint64]string // body by number
	arrivals []wire.Entry      // as they came, also again
	applied  func()            // called when something was
}

func (l *ledger) Apply(ctx context.Context, c wire.Cursor, entries []wire.Entry) error {
	for _, e := range entries {
		l.arrivals = append(l.arrivals, e)
		if was, ok := l.effects[e.Seq]; ok && was != string(e.Body) {
			l.t.Errorf("entry %d came as another", e.Seq)
		}
		l.effects[e.Seq] = string(e.Body)
	}
	if was := l.cursor(); c.Seq < was.Seq {
		l.t.Errorf("the cursor goes back from %d to %d", was.Seq, c.Seq)
	}
	for seq := range c.Seq {
		if _, ok := l.effects[seq+1]; !ok {
			l.t.Errorf("the cursor is at %d and entry %d was never applied: it would not come again", c.Seq, seq+1)
		}
	}
	err := l.sink.Apply(ctx, c, entries)
	l.applied()
	return err
}

// A laneful is a conversation over which the backlog (1 to 5) is overtaken: 6 and 7 are posted when 1 is applied, 8 when
// 3 is, and 9 when all are. The backlog's entries are so large that the window holds one.
// The first link breaks when the sidecar has read down bytes, or the edge up; laneful says how many it was, and what came
// over it.
func laneful(t *testing.T, down, up int) (read, heard int, first []wire.Entry) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.add("duka", 5, string(make([]byte, 40<<10)))
		l := &ledger{sink: newSink(), t: t, effects: map[uint64]string{}}
		posted := map[int]bool{}
		post := func(when bool, id, n int) {
			if when && !posted[id] {
				posted[id] = true
				h.add("duka", n, "")
				time.Sleep(time.Millisecond) // the edge sees it before it sees the Ack
			}
		}
		has := func(seqs ...uint64) bool {
			return !slices.ContainsFunc(seqs, func(s uint64) bool { return l.effects[s] == "" })
		}
		ended := make(chan struct{})
		l.applied = func() {
			post(has(1), 1, 2)
			post(has(1, 3, 6, 7), 2, 1)
			post(has(1, 2, 3, 4, 5, 6, 7, 8), 3, 1)
			if has(9) && l.cursor().Seq == 9 {
				select {
				case <-ended:
				default:
					close(ended)
				}
			}
		}
		s := &tunnel.Server{History: h, Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
			return tunnel.Endpoint{Name: "duka"}, nil
		}}
		c := &tunnel.Client{Sink: l}
		for n := 0; ; n++ {
			edge, sidecar := tunnel.NewWire(1<<30, 1<<30)
			if n == 0 {
				edge, sidecar = tunnel.NewWire(down, up)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan struct{})
			go func() { s.ServeWire(ctx, edge); close(served) }()
			linked := make(chan struct{})
			go func() { tunnel.LinkWire(ctx, c, sidecar); close(linked) }()
			select {
			case <-ended:
				synctest.Wait() // the last Ack
			case <-linked:
			}
			cancel()
			<-served
			<-linked
			if n == 0 {
				first = slices.Clone(l.arrivals)
				read, heard = down-tunnel.Left(sidecar), up-tunnel.Left(edge)
			}
			select {
			case <-ended:
			default:
				continue
			}
			break
		}
		if state := h.look("duka").state; len(l.effects) != 9 || state.Acked > l.cursor().Seq {
			t.Errorf("%d effects, cursor at %d, %d acknowledged", len(l.effects), l.cursor().Seq, state.Acked)
		}
	})
	return read, heard, first
}

func TestALinkThatBreaksAnywhereAmidALaneLosesAndSkipsNothing(t *testing.T) {
	const never = 1 << 30
	down, up, came := laneful(t, never, never)
	var order []uint64
	ends := down // of frames; first that of Welcome
	for _, e := range came {
		order = append(order, e.Seq)
		ends -= e.Size()
	}
	if want := []uint64{1, 6, 7, 2, 3, 8, 4, 5, 9}; !slices.Equal(order, want) {
		t.Fatalf("unbroken, entries come as %v, want %v", order, want)
	}
	// Every byte of what is short; of long entries the ends, and a place between.
	var cuts []int
	for at := range ends {
		cuts = append(cuts, at)
	}
	for _, e := range came {
		for at := range e.Size() {
			if e.Size() <= 1<<10 || at < 32 || at == e.Size()/2 || at >= e.Size()-2 {
				cuts = append(cuts, ends+at)
			}
		}
		ends += e.Size()
	}
	for _, at := range append(cuts, ends) {
		t.Run(fmt.Sprint("down ", at), func(t *testing.T) { laneful(t, at, never) })
	}
	for at := range up + 1 {
		t.Run(fmt.Sprint("up ", at), func(t *testing.T) { laneful(t, never, at) })
	}
}
