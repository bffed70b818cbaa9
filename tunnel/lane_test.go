package tunnel_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// narrow makes the way from the edge to all sidecars one link of so many bits a second, with a queue before it that
// holds half a second of packets and loses those that come when it is full.
func (w *world) narrow(rate int) {
	const queue = 500 * time.Millisecond
	var mu sync.Mutex
	var free time.Time // when the link has sent all that it took
	fromEdge := func(p simnet.Packet) bool { return p.From.String() == edgeAddr.String() }
	w.dropping(func(p simnet.Packet) bool {
		if !fromEdge(p) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > queue {
			return true
		}
		const headers = 28 // IP and UDP
		free = free.Add(time.Duration(len(p.Data)+headers) * 8 * time.Second / time.Duration(rate))
		return false
	})
	w.delay = func(p simnet.Packet) time.Duration {
		if !fromEdge(p) {
			return w.latency
		}
		mu.Lock()
		defer mu.Unlock()
		return w.latency + time.Until(free)
	}
}

// A callback of Daraja's takes about 1,000 bytes with its headers.
var usual = string(make([]byte, 950))

// TestALiveCallbackOvertakesFiftyThousand is also the measurement: the time is that of the bubble, the same on every
// machine. Without the lane a callback waits until all before it have come: seven minutes.
func TestALiveCallbackOvertakesFiftyThousand(t *testing.T) {
	inWorld(t, func(w *world) {
		const waiting, rate, every, times = 50_000, 1_000_000, 730 * time.Millisecond, 30
		w.narrow(rate)
		w.history.add("duka", waiting, usual)
		e, s := w.edge(), newSink()
		var mu sync.Mutex
		posted, took, old := map[uint64]time.Time{}, []time.Duration(nil), 0
		s.hook(func(entries []wire.Entry) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				if at, ok := posted[e.Seq]; ok {
					took = append(took, time.Since(at))
				} else {
					old++
				}
			}
			return nil
		})
		c := w.sidecar("duka", s)
		w.soon(5*time.Second, "a link", func() bool { return c.Status().Connected })
		began := time.Now()
		for i := range uint64(times) {
			time.Sleep(every)
			mu.Lock()
			posted[waiting+1+i] = time.Now()
			mu.Unlock()
			w.history.add("duka", 1, usual)
		}
		w.soon(10*time.Second, "the live ones", func() bool { mu.Lock(); defer mu.Unlock(); return len(took) == times })
		slices.Sort(took)
		carried := float64(old*1000*8) / time.Since(began).Seconds() / rate
		t.Logf("a live callback while %d of %d wait, at %d bit/s: p50 %v, p90 %v, worst %v; the backlog uses %.0f %% of the link, and takes %v",
			waiting-old, waiting, rate, took[times/2].Round(time.Millisecond), took[times*9/10].Round(time.Millisecond), took[times-1].Round(time.Millisecond),
			100*carried, (time.Since(began) * waiting / time.Duration(old)).Round(time.Second))
		if worst := took[times-1]; worst > 2*time.Second { // one that has to be sent again
			t.Errorf("a live callback took %v", worst)
		}
		if carried < 0.8 {
			t.Errorf("the backlog uses only %.0f %% of the link", 100*carried)
		}
		c.stop()
		e.stop()
	})
}

// A till is a sidecar made by hand, on a wire without any buffer: what it has not read the edge has not sent.
type till struct {
	*testing.T
	history *history
	conn    net.Conn
	frames  *wire.Reader
	bury    func()
}

// atTheTill serves one that comes back to a backlog.
func atTheTill(t *testing.T, backlog int, more string, f func(*till), change ...func(*history)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.add("duka", backlog, more)
		for _, c := range change {
			c(h)
			backlog-- // each makes one entry fresh
		}
		s := &tunnel.Server{History: h, Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
			return tunnel.Endpoint{Name: "duka"}, nil
		}}
		edge, conn := tunnel.NewHalfDead()
		served := make(chan struct{})
		go func() { s.ServeConn(t.Context(), edge); close(served) }()
		defer func() { // also when f fails
			edge.Bury()
			conn.Close()
			<-served
		}()
		conn.Write(wire.Append(nil, hello(1, wire.Cursor{})))
		p := &till{t, h, conn, wire.NewReader(&onlyWhatIsAsked{Reader: conn}), edge.Bury}
		if w, ok := p.read().(*wire.Welcome); !ok || w.Head != uint64(backlog) {
			t.Fatalf("welcome %v", w)
		}
		f(p)
	})
}

// onlyWhatIsAsked keeps a wire.Reader, which reads ahead, from taking more than a frame's header or the rest of it.
type onlyWhatIsAsked struct {
	io.Reader
	header []byte
	rest   int // of the frame whose header that is
}

func (o *onlyWhatIsAsked) Read(b []byte) (int, error) {
	if o.rest > 0 {
		n, err := o.Reader.Read(b[:min(len(b), o.rest)])
		o.rest -= n
		return n, err
	}
	n, err := o.Reader.Read(b[:min(len(b), wire.HeaderSize-len(o.header))])
	if o.header = append(o.header, b[:n]...); len(o.header) == wire.HeaderSize {
		o.rest = int(o.header[1])<<16 | int(o.header[2])<<8 | int(o.header[3])
		o.header = o.header[:0]
	}
	return n, err
}

func (p *till) read() wire.Frame {
	p.Helper()
	f, err := p.frames.Read()
	if err != nil {
		p.Fatal(err)
	}
	return f
}

func (p *till) ack(seq uint64) {
	p.Helper()
	if _, err := p.conn.Write(wire.Append(nil, &wire.Ack{Seq: seq})); err != nil {
		p.Fatal(err)
	}
	synctest.Wait()
}

// post appends callbacks, and lets the edge see them.
func (p *till) post(n int, more string) {
	synctest.Wait()
	p.history.add("duka", n, more)
	synctest.Wait()
}

// want reads entries of these numbers.
func (p *till) want(seqs ...uint64) {
	p.Helper()
	for _, seq := range seqs {
		if f, ok := p.read().(*wire.Entry); !ok || f.Seq != seq {
			p.Fatalf("%v of %d came, want entry %d", f.Type(), f.Seq, seq)
		}
	}
}

// more reads all that comes without another word.
func (p *till) more() (seqs []uint64) {
	for {
		p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		f, err := p.frames.Read()
		if err != nil {
			p.conn.SetReadDeadline(time.Time{})
			return seqs
		}
		seqs = append(seqs, f.(*wire.Entry).Seq)
	}
}

func TestLiveEntriesGoFirstAtEveryFrameBoundary(t *testing.T) {
	atTheTill(t, 8, "", func(p *till) {
		p.want(1, 2)
		p.post(2, "") // while entry 3 is being written
		p.want(3, 9, 10, 4, 5)
		p.post(1, "")
		p.want(6, 11, 7, 8)
		p.post(1, "")
		p.want(12)
	})
}

func TestWhoPaidJustBeforeTheLinkCameIsLive(t *testing.T) {
	received := func(seq uint64, ago time.Duration) func(*history) {
		return func(h *history) { h.endpoints["duka"].entries[seq-1].Received = time.Now().Add(-ago) }
	}
	atTheTill(t, 6, "", func(p *till) {
		p.want(5, 6, 1, 2, 3, 4)
	}, received(5, 29*time.Second), received(6, 10*time.Second))
	atTheTill(t, 3, "", func(p *till) { p.want(1, 2, 3) },
		received(1, 20*time.Second), received(2, 10*time.Second), received(3, time.Second))
	atTheTill(t, 8, "", func(p *till) { // what is older and behind a fresh one has come late to the journal
		p.want(8, 1, 2, 3, 4, 5, 6, 7)
	}, received(8, time.Second))
}

func TestAnAckIsTheBacklogsCursorAndThenJumps(t *testing.T) {
	atTheTill(t, 4, "", func(p *till) {
		acked := func() uint64 { return p.history.look("duka").state.Acked }
		p.want(1)
		p.post(2, "")
		p.want(2, 5, 6, 3)
		p.ack(3)
		if acked() != 3 {
			t.Errorf("%d acknowledged, want 3", acked())
		}
		p.want(4)
		p.ack(6)
		if acked() != 6 {
			t.Errorf("%d acknowledged, want 6", acked())
		}
		p.post(1, "")
		p.want(7)
		p.ack(7)
		if acked() != 7 {
			t.Errorf("%d acknowledged, want 7", acked())
		}
	})
}

func TestALiveEntryIsNotAcknowledgedBeforeTheBacklogIsWhole(t *testing.T) {
	atTheTill(t, 4, "", func(p *till) {
		p.want(1)
		p.post(1, "")
		p.want(2, 5)
		p.ack(5) // entries 3 and 4 would never come
		if _, err := p.frames.Read(); err == nil {
			// Entry 3 was being written when the Ack came.
			p.bury()
		}
		if acked := p.history.look("duka").state.Acked; acked != 0 {
			t.Errorf("%d acknowledged", acked)
		}
	})
}

func TestNoMoreThan64KiBOfABacklogAreUnacknowledged(t *testing.T) {
	atTheTill(t, 100, string(make([]byte, 10<<10)), func(p *till) {
		if got := p.more(); len(got) != 6 {
			t.Errorf("%d entries of 10 KiB were sent without an ack", len(got))
		}
		p.ack(2)
		p.want(7, 8)
		p.ack(1) // again
		if got := p.more(); len(got) != 0 {
			t.Errorf("%d more were sent for an ack that said nothing new", len(got))
		}
		p.post(1, "")
		p.want(101)
	})
	atTheTill(t, 5, string(make([]byte, 100<<10)), func(p *till) {
		if got := p.more(); len(got) != 1 {
			t.Errorf("%d entries of 100 KiB were sent without an ack", len(got))
		}
		p.ack(1)
		p.want(2)
	})
}

func TestLiveEntriesWithoutEndFillTheWindowAndDoNotStarveTheBacklog(t *testing.T) {
	atTheTill(t, 100, string(make([]byte, 10<<10)), func(p *till) {
		if got := p.more(); len(got) != 6 {
			t.Fatalf("%v came", got)
		}
		p.post(1000, string(make([]byte, 10<<10)))
		live := p.more()
		if n := len(live); n < 90 || n > 110 || live[0] != 101 || live[n-1] != 100+uint64(n) { // a window is 1 MiB
			t.Fatalf("%d live entries of 10 KiB came without an ack: %v", n, live)
		}
		// An Ack of those six speaks for them alone: the live ones were sent after them. When as many more have filled
		// the window again, six of the backlog go.
		p.ack(6)
		got := p.more()
		if n := len(got) - 6; n < 0 || n > 12 || !slices.Equal(got[n:], []uint64{7, 8, 9, 10, 11, 12}) {
			t.Errorf("after an ack of six entries came %v", got)
		}
		p.ack(7) // which came after all the live ones
		if got := p.more(); len(got) < 90 || got[0] < 200 {
			t.Errorf("after an ack behind the live ones came %v", got)
		}
	})
}
