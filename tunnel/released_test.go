package tunnel_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// An edge serves shops that nobody goes to, and is updated first; or a shop is, and its edge is not. So what each end of every
// released version says is kept (wire/testdata/released), and said here to today's other end, byte for byte.

// line is a frame of a conversation.
type line struct {
	sidecar bool // says it; else the edge
	bytes   []byte
	frame   wire.Frame // nil: of a type that is not known
}

// recorded calls f for each conversation of each released version, as it was, and as a newer version would hold it: with
// frames of types that are not known yet between the others.
func recorded(t *testing.T, f func(t *testing.T, lines []line)) {
	files, err := filepath.Glob("wire/testdata/released/*/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		lines := readLines(t, file)
		if _, ok := lines[0].frame.(*wire.Hello); !ok {
			continue // it is about certificates, of keys and codes that today's end does not have
		}
		name := filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".hex")
		t.Run(name, func(t *testing.T) { f(t, lines) })
		var newer []line
		for _, l := range lines {
			newer = append(newer, l, line{l.sidecar, []byte{0x5e, 0, 0, 5, 'l', 'a', 't', 'e', 'r'}, nil})
		}
		t.Run(name+", of a newer version", func(t *testing.T) { f(t, newer) })
	}
}

func readLines(t *testing.T, file string) (lines []line) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for s := range strings.Lines(string(text)) {
		s = strings.TrimRight(s, "\n")
		switch {
		case s == "" || s[0] == '#' || strings.HasPrefix(s, "    \""):
		case s[0] == '>' || s[0] == '<':
			lines = append(lines, line{sidecar: s[0] == '>'})
		default:
			digits, _, _ := strings.Cut(s, "#")
			b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			last := &lines[len(lines)-1]
			last.bytes = append(last.bytes, b...)
		}
	}
	for i := range lines {
		f, err := wire.NewReader(bytes.NewReader(lines[i].bytes)).Read()
		if err != nil && err != io.EOF {
			t.Fatalf("%s: %v", file, err)
		}
		lines[i].frame = f
	}
	return lines
}

// uttered are the frames of type F that one of the two says.
func uttered[F wire.Frame](lines []line, sidecar bool) (frames []F) {
	for _, l := range lines {
		if f, ok := l.frame.(F); ok && l.sidecar == sidecar {
			frames = append(frames, f)
		}
	}
	return frames
}

// before is what the sidecar of a conversation has read already: what was said in first.
func before(t *testing.T, lines []line) (entries []wire.Entry) {
	t.Helper()
	if uttered[*wire.Hello](lines, true)[0].Cursor.Seq > 0 {
		entries = append(entries, *uttered[*wire.Entry](readLines(t, "wire/testdata/released/0.1.0/first.hex"), false)[0])
	}
	return entries
}

// A chat is what an end that is made by hand hears, while it says what is recorded.
type chat struct {
	w      *world
	stream io.Writer
	pen    sync.Mutex

	mu    sync.Mutex
	heard []wire.Frame
}

func (c *chat) say(b []byte) {
	c.pen.Lock()
	defer c.pen.Unlock()
	c.stream.Write(b) // what does not get there is missed by whoever waits for the answer
}

// listen reads to the end of the link. Whoever asks whether this end lives is told.
func (c *chat) listen(frames *wire.Reader) {
	for {
		f, err := frames.Read()
		if err != nil {
			return
		}
		if ping, ok := f.(*wire.Ping); ok {
			c.say(wire.Append(nil, &wire.Pong{Nonce: ping.Nonce}))
		}
		c.mu.Lock()
		c.heard = append(c.heard, f)
		c.mu.Unlock()
	}
}

// hears waits until the other end has said a frame of type F which is as it should be.
func hears[F wire.Frame](c *chat, what string, ok func(f F) bool) {
	c.w.t.Helper()
	c.w.soon(time.Minute, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.heard, func(f wire.Frame) bool { got, is := f.(F); return is && ok(got) })
	})
}

func TestTodaysEdgeServesTheSidecarsOfEveryRelease(t *testing.T) {
	recorded(t, func(t *testing.T, lines []line) {
		overBoth(t, func(w *world) {
			welcome := uttered[*wire.Welcome](lines, false)[0]
			held := before(t, lines)
			for _, e := range uttered[*wire.Entry](lines, false) {
				held = append(held, *e)
			}
			slices.SortFunc(held, func(a, b wire.Entry) int { return int(a.Seq) - int(b.Seq) })
			w.history.endpoints["duka"] = &past{state: wire.State{Epoch: welcome.Epoch, Oldest: 1, Head: uint64(len(held))}, entries: held}
			var mu sync.Mutex
			var doubts []uint64
			e := w.edge(func(s *tunnel.Server) {
				s.Doubts = func(_ string, n uint64) {
					mu.Lock()
					defer mu.Unlock()
					doubts = append(doubts, n)
				}
			})

			p := w.peer()
			c := &chat{w: w, stream: p.stream}
			var last uint64
			var listening sync.WaitGroup
			ended := make(chan struct{})
			leave := sync.OnceFunc(func() { close(ended); p.close(); listening.Wait() })
			t.Cleanup(leave)
			for i, l := range lines {
				if ack, ok := l.frame.(*wire.Ack); ok {
					hears(c, "what is acknowledged", func(e *wire.Entry) bool { return e.Seq == ack.Seq })
					last = ack.Seq
				}
				if l.sidecar {
					c.say(l.bytes)
				}
				if i == 0 { // the recorded sidecar said more than is of interest here: that it lives
					listening.Go(func() { c.listen(p.frames) })
					listening.Go(func() {
						tick := time.NewTicker(2 * time.Second)
						defer tick.Stop()
						for {
							select {
							case <-tick.C:
								c.say(wire.Append(nil, &wire.Ping{Nonce: 99}))
							case <-ended:
								return
							}
						}
					})
				}
			}
			hears(c, "a Welcome to the history that it knows", func(got *wire.Welcome) bool { return got.Epoch == welcome.Epoch && got.Oldest == welcome.Oldest })
			for _, want := range uttered[*wire.Entry](lines, false) {
				hears(c, "an entry, as it was", func(got *wire.Entry) bool { return got.Seq == want.Seq && got.Sum() == want.Sum() })
			}
			for _, ping := range uttered[*wire.Ping](lines, true) {
				hears(c, "an answer to its Ping", func(got *wire.Pong) bool { return got.Nonce == ping.Nonce })
			}
			for _, asked := range uttered[*wire.Canary](lines, true) {
				hears(c, "the promise of canaries", func(got *wire.Canary) bool { return got.Every == asked.Every })
			}
			w.soon(time.Minute, "its Acks", func() bool { return w.history.look("duka").state.Acked >= last })
			for _, said := range uttered[*wire.Doubts](lines, true) {
				w.soon(time.Minute, "its Doubts", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(doubts, said.Count) })
			}
			if n := w.log.count("who=edge", "link up"); n != 1 {
				t.Errorf("it took %d links\n%s", n, &w.log)
			}
			leave()
			e.stop()
		})
	})
}

func TestTodaysSidecarIsServedByTheEdgesOfEveryRelease(t *testing.T) {
	recorded(t, func(t *testing.T, lines []line) {
		inWorld(t, func(w *world) {
			hello := uttered[*wire.Hello](lines, true)[0]
			var links sync.WaitGroup
			asked := make(chan struct{}, 10) // of every link: it has said all
			stop := w.forgeBytes(wire.ALPN, func(stream io.ReadWriter) {
				c := &chat{w: w, stream: stream}
				links.Go(func() { c.listen(wire.NewReader(stream)) })
				for _, l := range lines {
					switch f := l.frame.(type) {
					case *wire.Pong: // to a Ping of then: those of today are answered as they come
						if !l.sidecar {
							continue
						}
						hears(c, "an answer to a Ping", func(got *wire.Pong) bool { return got.Nonce == f.Nonce })
					case *wire.Hello:
						hears(c, "a Hello with what it has read", func(got *wire.Hello) bool { return got.Cursor == f.Cursor && got.Version == f.Version })
					case *wire.Ack: // one may speak for several
						hears(c, "an Ack", func(got *wire.Ack) bool { return got.Seq >= f.Seq })
					case *wire.Doubts:
						hears(c, "its Doubts", func(got *wire.Doubts) bool { return got.Count == f.Count })
					}
					if !l.sidecar {
						c.say(l.bytes)
					}
				}
				asked <- struct{}{}
			})
			t.Cleanup(func() { stop(); links.Wait() })
			s := newSink()
			s.set(hello.Cursor)
			sc := w.sidecar("duka", s, func(c *tunnel.Client) {
				c.Instance = hello.Instance
				if canaries := uttered[*wire.Canary](lines, true); len(canaries) > 0 {
					c.Canary = canaries[0].Every
				}
				if doubts := uttered[*wire.Doubts](lines, true); len(doubts) > 0 {
					c.Doubts = func() uint64 { return min(s.cursor().Seq, doubts[len(doubts)-1].Count) }
				}
			})
			select {
			case <-asked:
			case <-time.After(10 * time.Minute):
				t.Fatalf("the edge of then did not come to its end\n%s", &w.log)
			}
			var want []string
			for _, e := range uttered[*wire.Entry](lines, false) {
				want = append(want, string(e.Body))
			}
			w.delivered(time.Minute, s, want)
			if status, welcome := sc.Status(), uttered[*wire.Welcome](lines, false)[0]; !status.Connected || status.Callback != welcome.Callback || status.Epoch != welcome.Epoch {
				t.Errorf("its status is %+v", status)
			}
			if n := w.log.count("who=sidecar", "link lost"); n != 0 {
				t.Errorf("it lost %d links\n%s", n, &w.log)
			}
			sc.stop()
			stop()
			links.Wait()
		})
	})
}

func TestWhoSpeaksAnotherVersionIsToldWhichEndIsTheOlderOne(t *testing.T) {
	for update, version := range map[string]uint16{"update the edge": wire.Version + 1, "update the sidecar": wire.Version - 1} {
		t.Run(update, func(t *testing.T) {
			overBoth(t, func(w *world) {
				e := w.edge()
				for _, hello := range []wire.Frame{&wire.Hello{Version: version}, &wire.Renew{Version: version, Request: []byte("x")}} {
					p := w.peer()
					p.say(hello)
					p.stream.SetReadDeadline(time.Now().Add(time.Minute))
					_, err := io.Copy(io.Discard, p.stream)
					if err == nil || !strings.Contains(err.Error(), update) {
						t.Errorf("the sidecar is told %v, want it to hear %q", err, update)
					}
					p.close()
				}
				w.soon(time.Minute, "that the edge says so", func() bool { return w.log.count("who=edge", update) > 0 })
				e.stop()
			})
		})
	}
	t.Run("before either has said a word", func(t *testing.T) {
		inWorld(t, func(w *world) {
			stop := w.forgeBytes("hodi/3", func(io.ReadWriter) {})
			c := w.sidecar("duka", newSink())
			const want = "update the older of the two"
			w.soon(time.Minute, "that the sidecar says so", func() bool {
				return strings.Contains(c.Status().LastError, want) && w.log.count("who=sidecar", want) > 0
			})
			c.stop()
			stop()
		})
	})
}
