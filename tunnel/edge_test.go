package tunnel_test

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// forge starts an edge made by hand, with the right certificate: serve says what it does on each link, and the link is
// held until the sidecar ends it.
func (w *world) forge(serve func(say func(...wire.Frame), frames *wire.Reader)) (stop func()) {
	w.t.Helper()
	return w.forgeBytes(wire.ALPN, func(stream io.ReadWriter) {
		serve(func(frames ...wire.Frame) {
			var b []byte
			for _, f := range frames {
				b = wire.Append(b, f)
			}
			stream.Write(b)
		}, wire.NewReader(stream))
	})
}

func (w *world) forgeBytes(alpn string, serve func(stream io.ReadWriter)) (stop func()) {
	w.t.Helper()
	socket := w.socket(edgeAddr)
	conf := w.ca.server()
	conf.NextProtos = []string{alpn}
	tr := &quic.Transport{Conn: quiet{socket}, StatelessResetKey: (*quic.StatelessResetKey)(&w.key)}
	listener, err := tr.Listen(conf, &quic.Config{InitialPacketSize: 1200, KeepAlivePeriod: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				stream, err := conn.AcceptStream(conn.Context())
				if err != nil {
					return
				}
				serve(stream)
				<-conn.Context().Done()
			}()
		}
	}()
	stop = sync.OnceFunc(func() {
		listener.Close()
		tr.Close()
		socket.Close()
	})
	w.t.Cleanup(stop)
	return stop
}

func entries(seqs ...uint64) (list []wire.Frame) {
	for _, n := range seqs {
		list = append(list, &wire.Entry{Seq: n, Kind: wire.KindNotice, Body: []byte(callbacks(int(n), int(n), "")[0])})
	}
	return list
}

func TestASidecarTakesNothingOutOfOrder(t *testing.T) {
	welcome := &wire.Welcome{Epoch: 9, Oldest: 3, Head: 100}
	ahead := wire.Cursor{Epoch: 9, Seq: 5}
	for name, c := range map[string]struct {
		cursor wire.Cursor
		frames []wire.Frame
		want   []string
	}{
		"a gap":                               {ahead, entries(6, 7, 9), callbacks(6, 7, "")},
		"a gap at the start":                  {ahead, entries(7), nil},
		"a step back":                         {ahead, entries(6, 7, 6), callbacks(6, 7, "")},
		"the same one twice":                  {ahead, entries(6, 6), callbacks(6, 6, "")},
		"older than the oldest":               {ahead, entries(2), nil},
		"a gap at the start of a new history": {wire.Cursor{Epoch: 8, Seq: 5}, entries(4), nil},
		"an ack":                              {ahead, append(entries(6), &wire.Ack{Seq: 1}), callbacks(6, 6, "")},
		"a second welcome":                    {ahead, append(entries(6), welcome), callbacks(6, 6, "")},
		"older ones first, which is allowed":  {ahead, entries(3, 4, 5, 6, 8), callbacks(3, 6, "")},
		"a gap before the live ones":          {ahead, entries(6, 102), callbacks(6, 6, "")},
		"a gap among the live ones":           {ahead, entries(101, 102, 104), callbacks(101, 102, "")},
		"a live one twice":                    {ahead, entries(101, 6, 101), append(callbacks(101, 101, ""), callbacks(6, 6, "")...)},
		"a gap behind live ones":              {ahead, entries(6, 101, 102, 8), append(callbacks(6, 6, ""), callbacks(101, 102, "")...)},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var links atomic.Int32
				stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
					if links.Add(1) > 1 {
						return
					}
					frames.Read()
					say(welcome)
					say(c.frames...)
				})
				s := newSink()
				s.set(c.cursor)
				sc := w.sidecar("duka", s)
				w.soon(5*time.Second, "the link is dropped", func() bool { return w.log.count("who=sidecar", "link lost") == 1 })
				// What came in order before it may or may not have been applied yet; nothing behind it was.
				if got := s.got(); len(got) > len(c.want) || !slices.Equal(got, c.want[:len(got)]) {
					t.Errorf("applied %q, want no more than %q", got, c.want)
				}
				w.soon(5*time.Second, "it is dialled again", func() bool { return links.Load() > 1 })
				sc.stop()
				stop()
			})
		})
	}
}

func TestAnEdgeThatIsStuckIsNoticedAlthoughItsNetworkAnswers(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			frames.Read()
			say(&wire.Welcome{Epoch: 9, Oldest: 1})
		})
		c := w.sidecar("duka", newSink())
		w.soon(time.Second, "a link", func() bool { return c.Status().Connected })
		took := w.soon(5*time.Second, "the link is given up", func() bool { return !c.Status().Connected })
		t.Logf("noticed after %v", took)
		c.stop()
		stop()
	})
}

func TestAnEdgeThatNeverSaysWelcomeIsGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		var links atomic.Int32
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			links.Add(1)
			frames.Read()
		})
		c := w.sidecar("duka", newSink())
		w.soon(15*time.Second, "another link", func() bool { return links.Load() == 2 })
		began := time.Now()
		c.stop() // while it waits for a Welcome
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %v to stop", took)
		}
		stop()
	})
}

func TestAnEdgeThatIsKilledBeforeItSaysWelcomeCostsNoMoreThanAnyOther(t *testing.T) {
	inWorld(t, func(w *world) {
		asked := make(chan bool, 10)
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			frames.Read()
			asked <- true
		})
		s := newSink()
		c := w.sidecar("duka", s)
		<-asked
		time.Sleep(500 * time.Millisecond)
		w.dropping(everything)
		stop()
		w.dropping(nil)
		time.Sleep(700 * time.Millisecond)
		e := w.edge()
		w.history.add("duka", 1, "")
		t.Logf("delivered %v after the restart", w.delivered(500*time.Millisecond, s, callbacks(1, 1, "")))
		c.stop()
		e.stop()
	})
}

func TestABusyLinkIsNotTakenForADeadOne(t *testing.T) {
	inWorld(t, func(w *world) {
		// The edge answers no Ping, but entries come; so it lives.
		stop := w.forge(func(say func(...wire.Frame), frames *wire.Reader) {
			frames.Read()
			say(&wire.Welcome{Epoch: 9, Oldest: 1})
			for n := range uint64(30) {
				time.Sleep(time.Second)
				say(entries(n + 1)...)
			}
		})
		s := newSink()
		c := w.sidecar("duka", s)
		w.delivered(time.Minute, s, callbacks(1, 30, ""))
		if len(s.welcomed()) != 1 {
			t.Errorf("%d links", len(s.welcomed()))
		}
		c.stop()
		stop()
	})
}
