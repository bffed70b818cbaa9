package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// dialTunnel opens what a sidecar opens over TCP, with a certificate or to join.
func dialTunnel(t testing.TB, address string, who *tls.Config) (io.ReadWriteCloser, error) {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tcp.SetDeadline(time.Now().Add(enoughTime))
	who = who.Clone()
	who.ServerName = wire.ServerName
	if who.NextProtos = []string{"http/1.1"}; len(who.Certificates) == 0 {
		who.NextProtos = []string{wire.ALPNJoin}
	}
	over := tls.Client(tcp, who)
	if err := over.HandshakeContext(t.Context()); err != nil {
		tcp.Close()
		return nil, err
	}
	ws, _, err := websocket.Dial(t.Context(), "http://"+wire.ServerName+wire.Path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return over, nil },
	}}})
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return bluntConn{websocket.NetConn(t.Context(), ws, websocket.MessageBinary), tcp, over.CloseWrite}, nil
}

// bluntConn closes without a word.
type bluntConn struct {
	io.ReadWriter
	tcp  net.Conn
	hush func() error // ends what is said, and goes on listening
}

func (b bluntConn) Close() error { return b.tcp.Close() }

func TestStrangersWhoComeToJoinCostLittleAndLeaveNothing(t *testing.T) {
	const strangers = 300
	w := start(t, edge.Config{})
	client, s, _ := w.link(identityOf(t, w.mustJoin("duka")))
	w.eventually("the link", func() bool { return client.Status().Connected })
	heap := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	before := heap()
	var all []io.Reader
	for range strangers {
		c, err := dialTunnel(t, w.http, &tls.Config{RootCAs: w.private()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
		c.Write([]byte{byte(wire.TypeJoin), 0, 0x0f, 0xff}) // a promise of 4 KiB, and no more
	}
	after := heap()
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / strangers; each > 100<<10 { // both ends of it are here
		t.Errorf("a stranger costs %d bytes", each)
	}
	w.wantPost(w.callback+"/1", "{}", 200)
	if got := <-s.got; got != "1 {}" {
		t.Errorf("meanwhile the shop received %q", got)
	}
	for _, c := range all {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a stranger is not sent away: %v", err)
		}
	}
	if state := client.Status(); !state.Connected {
		t.Errorf("the shop's link: %+v", state)
	}
}

// FuzzFramesOnLiveSockets says anything to an edge on its real port: a stranger who comes to join, and a sidecar that was let
// in and has said Hello. Whatever it is, the edge serves the next.
func FuzzFramesOnLiveSockets(f *testing.F) {
	files, err := filepath.Glob("../../tunnel/wire/testdata/*.hex")
	if err != nil || len(files) == 0 {
		f.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var stream []byte
		for line := range strings.Lines(string(text)) {
			digits, _, _ := strings.Cut(line, "#")
			if b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(digits), " ", "")); err == nil {
				stream = append(stream, b...)
			}
		}
		f.Add(stream, true)
		f.Add(stream, false)
	}
	f.Add([]byte{byte(wire.TypeJoin), 0xff, 0xff, 0xff}, true)
	f.Add([]byte{byte(wire.TypeAck), 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false)
	address, duka := serveFor(f)
	hello := wire.Append(nil, &wire.Hello{Version: wire.Version})
	f.Fuzz(func(t *testing.T, in []byte, stranger bool) {
		who := duka
		if stranger {
			who = &tls.Config{RootCAs: duka.RootCAs}
		} else {
			in = append(hello[:len(hello):len(hello)], in...)
		}
		c, err := dialTunnel(t, address, who)
		if err != nil {
			t.Fatalf("the edge does not serve: %v", err)
		}
		// What was said is read to its end, and answered with the end: closing with an answer unread would take it back.
		if _, err := c.Write(in); err == nil {
			c.(bluntConn).hush()
			io.Copy(io.Discard, c)
		}
		c.Close()
	})
}

// serveFor is an edge for as long as f lasts, and the sidecar of an endpoint of it.
func serveFor(f *testing.F) (address string, duka *tls.Config) {
	f.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	e, err := edge.Open(f.Context(), edge.Config{Dir: f.TempDir(), HTTP: l, UDP: udp})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ran, e.Close()); err != nil {
			f.Error(err)
		}
	})
	key, err := enrol.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := enrol.Request(key)
	if err != nil {
		f.Fatal(err)
	}
	issued, err := e.Admit(f.Context(), "asha", "duka", request)
	if err != nil {
		f.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CA())
	return l.Addr().String(), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}}
}
