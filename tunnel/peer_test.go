package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// A peer is a sidecar made by hand: it can say anything.
type peer struct {
	w      *world
	stream interface {
		io.ReadWriter
		SetReadDeadline(t time.Time) error
	}
	frames *wire.Reader
	close  func()
}

// peer connects, over what there is in this world, and says nothing yet.
func (w *world) peer() *peer { return w.peerOf("duka") }

func (w *world) peerOf(endpoint string) *peer {
	w.t.Helper()
	p := &peer{w: w}
	conf := w.ca.client(endpoint)
	conf.ServerName, conf.MinVersion = wire.ServerName, tls.VersionTLS13
	if w.router.noUDP.Load() {
		tcp, err := w.dialTCP(w.t.Context(), (*net.TCPAddr)(edgeAddr))
		if err != nil {
			w.t.Fatalf("peer: %v", err)
		}
		over := tls.Client(tcp, conf)
		if err := over.HandshakeContext(w.t.Context()); err != nil {
			w.t.Fatalf("peer: %v", err)
		}
		ws, _, err := websocket.Dial(w.t.Context(), "http://"+wire.ServerName+"/tunnel", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return over, nil
			}}},
		})
		if err != nil {
			w.t.Fatalf("peer: %v", err)
		}
		p.stream = websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
		p.close = func() { tcp.Close(); ws.CloseNow() }
	} else {
		conf.NextProtos = []string{wire.ALPN}
		socket := w.socket(&net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: int(w.ports.Add(1))})
		tr := &quic.Transport{Conn: quiet{socket}}
		conn, err := tr.Dial(context.Background(), edgeAddr, conf, &quic.Config{InitialPacketSize: 1200, KeepAlivePeriod: time.Second})
		if err != nil {
			w.t.Fatalf("peer: %v", err)
		}
		if p.stream, err = conn.OpenStream(); err != nil {
			w.t.Fatalf("peer: %v", err)
		}
		p.close = func() {
			conn.CloseWithError(0, "")
			tr.Close()
			socket.Close()
		}
	}
	p.frames = wire.NewReader(p.stream)
	p.close = sync.OnceFunc(p.close)
	w.t.Cleanup(p.close)
	return p
}

// quiet spares quic-go the complaint that there are no buffers to enlarge.
type quiet struct{ net.PacketConn }

func (quiet) SetReadBuffer(int) error  { return nil }
func (quiet) SetWriteBuffer(int) error { return nil }

func hello(instance byte, cursor wire.Cursor) *wire.Hello {
	return &wire.Hello{Version: wire.Version, Instance: [16]byte{instance}, Cursor: cursor, Idle: time.Minute}
}

func (p *peer) say(frames ...wire.Frame) {
	p.w.t.Helper()
	var b []byte
	for _, f := range frames {
		b = wire.Append(b, f)
	}
	p.bytes(b)
}

func (p *peer) bytes(b []byte) {
	p.w.t.Helper()
	if _, err := p.stream.Write(b); err != nil {
		p.w.t.Fatalf("peer: %v\n%s", err, &p.w.log)
	}
}

// hear reads a frame of type F.
func hear[F wire.Frame](p *peer) F {
	p.w.t.Helper()
	p.stream.SetReadDeadline(time.Now().Add(10 * time.Second))
	frame, err := p.frames.Read()
	if err != nil {
		p.w.t.Fatalf("peer: %v\n%s", err, &p.w.log)
	}
	f, ok := frame.(F)
	if !ok {
		p.w.t.Fatalf("peer: %v (%T)\n%s", frame.Type(), frame, &p.w.log)
	}
	return f
}

// ended reads to the end of the link and says the code it was closed with.
func (p *peer) ended(within time.Duration) wire.CloseCode {
	p.w.t.Helper()
	p.stream.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, p.stream)
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote {
		return wire.CloseCode(e.ErrorCode)
	}
	if code := websocket.CloseStatus(err); code >= 4000 {
		return wire.CloseCode(code - 4000)
	}
	p.w.t.Fatalf("not closed by the edge within %v: %v\n%s", within, err, &p.w.log)
	return 0
}

func TestHostileFramesEndTheLinkAndNothingElse(t *testing.T) {
	header := func(kind wire.Type, n int) []byte { return []byte{byte(kind), byte(n >> 16), byte(n >> 8), byte(n)} }
	for name, c := range map[string]struct {
		bytes []byte
		code  wire.CloseCode
	}{
		"an ack of what was never sent": {wire.Append(nil, &wire.Ack{Seq: 11}), wire.CloseProtocol},
		"the greatest ack there is":     {wire.Append(nil, &wire.Ack{Seq: 1<<64 - 1}), wire.CloseProtocol},
		"a second hello":                {wire.Append(nil, hello(1, wire.Cursor{})), wire.CloseProtocol},
		"a welcome":                     {wire.Append(nil, &wire.Welcome{}), wire.CloseProtocol},
		"an entry":                      {wire.Append(nil, &wire.Entry{Seq: 1}), wire.CloseProtocol},
		"a frame over the limit":        {header(wire.TypeEntry, wire.MaxFrame+1), wire.CloseProtocol},
		"an ack that is too long":       {append(header(wire.TypeAck, 9), make([]byte, 9)...), wire.CloseProtocol},
		"an ack that is too short":      {append(header(wire.TypeAck, 3), 0, 0, 0), wire.CloseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				e, s := w.edge(), newSink()
				w.history.add("duka", 10, "")
				w.history.add("kiosk", 10, "")
				other := w.sidecar("kiosk", s)
				p := w.peer()
				p.say(hello(1, wire.Cursor{}))
				hear[*wire.Welcome](p)
				p.bytes(c.bytes)
				if code := p.ended(5 * time.Second); code != c.code {
					t.Errorf("closed with %q, want %q", code, c.code)
				}
				p.close()
				w.delivered(5*time.Second, s, callbacks(1, 10, ""))
				if acked := w.history.look("duka").state.Acked; acked != 0 {
					t.Errorf("%d acknowledged", acked)
				}
				other.stop()
				e.stop()
			})
		})
	}
}

func TestFramesOfUnknownTypesAreSkipped(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		p := w.peer()
		p.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](p)
		p.bytes(append([]byte{0x7f, 0, 0, 3, 1, 2, 3}, wire.Append(nil, &wire.Ping{Nonce: 7})...))
		if pong := hear[*wire.Pong](p); pong.Nonce != 7 {
			t.Errorf("pong of %d", pong.Nonce)
		}
		p.close()
		e.stop()
	})
}

func TestNobodyIsLetInWithoutAProperHello(t *testing.T) {
	for name, c := range map[string]struct {
		say  []byte
		code wire.CloseCode
		late bool // only its deadline ends it
	}{
		"another version":            {wire.Append(nil, &wire.Hello{Version: wire.Version + 1}), wire.CloseVersion, false},
		"an ack first":               {wire.Append(nil, &wire.Ack{}), wire.CloseProtocol, false},
		"a ping first":               {wire.Append(nil, &wire.Ping{}), wire.CloseProtocol, false},
		"a hello over its limit":     {[]byte{byte(wire.TypeHello), 0, 0x10, 1}, wire.CloseProtocol, false},
		"half a hello, then nothing": {wire.Append(nil, hello(1, wire.Cursor{}))[:20], wire.CloseProtocol, true},
		"unknown frames without end": {append([]byte{0x7f, 0, 0x40, 0}, make([]byte, 16384)...), wire.CloseProtocol, false},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(w *world) {
				e := w.edge()
				p := w.peer()
				p.bytes(c.say)
				within := time.Second
				if c.late {
					within = 8 * time.Second
				}
				if code := p.ended(within); code != c.code {
					t.Errorf("closed with %q, want %q", code, c.code)
				}
				if links := e.Links(); len(links) != 0 {
					t.Errorf("links: %v", links)
				}
				p.close()
				e.stop()
			})
		})
	}
	t.Run("a connection that says nothing", func(t *testing.T) {
		overBoth(t, func(w *world) {
			e := w.edge()
			p := w.peer() // a stream that nothing was written on does not exist for the edge
			if code := p.ended(8 * time.Second); code != wire.CloseProtocol {
				t.Errorf("closed with %q", code)
			}
			p.close()
			e.stop()
		})
	})
}

func TestOneWhoNeverAcknowledgesGetsAWindowFullAndNoMore(t *testing.T) {
	inWorld(t, func(w *world) {
		e := w.edge()
		p := w.peer()
		p.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](p)
		for range 100 {
			w.history.add("duka", 1, string(make([]byte, 100<<10)))
		}
		var got uint64
		for {
			p.stream.SetReadDeadline(time.Now().Add(30 * time.Second))
			f, err := p.frames.Read()
			if err != nil {
				break
			}
			got = f.(*wire.Entry).Seq
		}
		if got < 10 || got > 12 { // a window is 1 MiB
			t.Errorf("%d entries of 100 KiB were sent without an ack", got)
		}
		p.say(&wire.Ack{Seq: 3})
		p.stream.SetReadDeadline(time.Time{})
		if e := hear[*wire.Entry](p); e.Seq != got+1 {
			t.Errorf("after an ack came entry %d, want %d", e.Seq, got+1)
		}
		p.close()
		e.stop()
	})
}

func TestOneWhoStopsReadingLosesItsLinkAlthoughItsNetworkAnswers(t *testing.T) {
	overBoth(t, func(w *world) {
		e := w.edge()
		p := w.peer()
		p.say(hello(1, wire.Cursor{}))
		hear[*wire.Welcome](p)
		for range 10 { // less than the window of the link, more than a stream takes that nobody reads
			w.history.add("duka", 1, string(make([]byte, 100<<10)))
		}
		time.Sleep(5 * time.Second)
		if len(e.Links()) != 1 {
			t.Fatalf("after 5 s there are %d links", len(e.Links()))
		}
		w.soon(20*time.Second, "the end of the link", func() bool { return len(e.Links()) == 0 })
		p.close()
		e.stop()
	})
}
