package edge_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

const ref = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestACallbackIsStoredAsItCameAndAnsweredAccepted(t *testing.T) {
	w := start(t, edge.Config{})
	bodies := []string{`{"Body":{"stkCallback":{}}}`, "hodi?", "", "\x00\xff", strings.Repeat("x", 256<<10)}
	for _, body := range bodies {
		response, text := w.post(w.callback+"/"+ref, body)
		if response.StatusCode != 200 || text != `{"ResultCode":0,"ResultDesc":"Accepted"}` || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("a body of %d bytes is answered %d %s %s", len(body), response.StatusCode, response.Header.Get("Content-Type"), text)
		}
	}
	w.wantPost(w.callback, "no ref", 200)
	w.wantPost(w.callback+"/", "no ref, a slash", 200)
	w.wantPost(w.callback+"/any%20ref/at//all", "a strange ref", 200)
	w.raw("POST " + path(w.callback) + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nchunk\r\n0\r\n\r\n")

	entries := w.stored("duka")
	want := append(bodies, "no ref", "no ref, a slash", "a strange ref", "chunk")
	if len(entries) != len(want) {
		t.Fatalf("%d entries are stored, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.Seq != uint64(i+1) || string(e.Body) != want[i] || e.Kind != wire.KindNotice || !strings.HasPrefix(e.Remote, "127.0.0.1:") {
			t.Errorf("entry %d is %d from %s, kind %d, with %d bytes; want %d", i+1, e.Seq, e.Remote, e.Kind, len(e.Body), len(want[i]))
		}
	}
	for i, want := range map[int]string{0: ref, 5: "", 6: "", 7: "any%20ref/at//all"} {
		if entries[i].Ref != want {
			t.Errorf("entry %d has the ref %q, want %q", i+1, entries[i].Ref, want)
		}
	}
	for _, line := range []string{"Host: " + w.http + "\r\n", "Businessshortcode: 174379\r\n", "Content-Type: application/json;charset=UTF-8\r\n"} {
		if !strings.Contains(string(entries[0].Header), line) {
			t.Errorf("the header lacks %q:\n%s", line, entries[0].Header)
		}
	}
}

// An entry has to fit into a frame whatever ingress takes, even where it is stored in more bytes than were sent.
func TestTheLargestCallbacksThereCanBeAreStored(t *testing.T) {
	w := start(t, edge.Config{})
	body := strings.Repeat("x", 256<<10)
	for name, c := range map[string]struct{ ref, header string }{
		"a ref that would be longer if it were escaped": {strings.Repeat(`"`, 60<<10), ""},
		"a ref that is not ASCII":                       {strings.Repeat("é", 30<<10), ""},
		"header lines that grow when they are written":  {"", strings.Repeat("a:\n", 20<<10)},
		"both": {strings.Repeat("<", 30<<10), strings.Repeat("a:\n", 10<<10)},
	} {
		answer := w.raw("POST " + path(w.callback) + "/" + c.ref + " HTTP/1.1\r\nHost: x\r\n" + c.header +
			"Content-Length: 262144\r\nConnection: close\r\n\r\n" + body)
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("%s: answered %.200s", name, answer)
		}
	}
	for _, e := range w.stored("duka") {
		if len(e.Body) != len(body) || e.Ref != "" && strings.Contains(e.Ref, "%") {
			t.Errorf("entry %d has a body of %d bytes and the ref %.20q, want it as it was sent", e.Seq, len(e.Body), e.Ref)
		}
	}
}

func TestWhatIsNotACallbackIsRefused(t *testing.T) {
	w := start(t, edge.Config{})
	at := path(w.callback)
	long := strings.Repeat("x", 256<<10+1)
	for _, c := range []struct {
		name, request string
		status        int
		header        string
	}{
		{"an unknown key", "POST /c/0123456789abcdef0123456789abcdef HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404, ""},
		{"a key in capitals", "POST " + strings.ToUpper(at) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404, ""},
		{"part of a key", "POST " + at[:len(at)-1] + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404, ""},
		{"no key", "POST /c/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404, ""},
		{"nothing", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""},
		{"GET", "GET " + at + " HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: POST"},
		{"HEAD", "HEAD " + at + "/" + ref + " HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: POST"},
		{"PUT", "PUT " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405, "Allow: POST"},
		{"a body that announces too much", "POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n", 413, ""},
		{"a body of too much", "POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n" + long, 413, ""},
		{"a body of too much, in chunks", "POST " + at + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40001\r\n" + long + "\r\n0\r\n\r\n", 413, ""},
		{"headers of too much", "POST " + at + " HTTP/1.1\r\nHost: x\r\nX: " + long[:64<<10] + "\r\nContent-Length: 2\r\n\r\n{}", 431, ""},
		{"not HTTP", "hodi?\r\n\r\n", 400, ""},
		{"a health check that posts", "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "Allow: GET, HEAD"},
	} {
		answer := w.raw(c.request)
		if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || !strings.Contains(answer, c.header) || !strings.Contains(answer, "Connection: close") {
			t.Errorf("%s is answered\n%s\nwant %d, %q, and the end of the connection", c.name, answer, c.status, c.header)
		}
	}
	if answer := w.raw("POST " + at + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + long[:63<<10] + "\r\nContent-Length: 2\r\n\r\n{}"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("headers that just fit are answered %s", answer)
	}
	for _, at := range []string{"/healthz", "/readyz"} {
		if response, text := w.do(http.MethodGet, "http://"+w.http+at, nil); response.StatusCode != 200 {
			t.Errorf("%s answers %d %s", at, response.StatusCode, text)
		}
	}
	if n := len(w.stored("duka")); n != 1 {
		t.Errorf("%d entries are stored, want the one that just fits", n)
	}
}

func TestADiskThatCannotStoreIsNeverA200AndRecovers(t *testing.T) {
	w := start(t, edge.Config{Limits: journal.Limits{MaxBytes: 2000}})
	for range 20 {
		w.post(w.callback, strings.Repeat("x", 300))
	}
	response, _ := w.post(w.callback, strings.Repeat("x", 300))
	if response.StatusCode != 503 || response.Header.Get("Retry-After") != "60" {
		t.Errorf("an endpoint over its share answers %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	other, err := w.SetEndpoint(t.Context(), "kiosk")
	if err != nil {
		t.Fatal(err)
	}
	w.wantPost(other.CallbackURL, "{}", 200)
	w.stop()
	if n := strings.Count(w.log.String(), "callback not stored"); n < 1 || n > 8 { // and not one for each, which are 15 or so
		t.Errorf("the log tells of it in %d lines", n)
	}

	w = start(t, edge.Config{})
	var full atomic.Bool
	w.Store(func(ctx context.Context, endpoint string, e wire.Entry) (uint64, error) {
		if full.Load() {
			return 0, errDisk
		}
		return 1, nil
	})
	w.wantPost(w.callback, "{}", 200)
	full.Store(true)
	response, text := w.post(w.callback, "{}")
	if response.StatusCode != 503 || response.Header.Get("Retry-After") != "5" || strings.Contains(text, errDisk.Error()) {
		t.Errorf("a full disk answers %d, Retry-After %q, %s", response.StatusCode, response.Header.Get("Retry-After"), text)
	}
	full.Store(false)
	w.wantPost(w.callback, "{}", 200)
}

func TestAPosterThatHangsUpIsStoredAllTheSame(t *testing.T) {
	w := start(t, edge.Config{})
	reached, gone, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	w.Store(func(ctx context.Context, endpoint string, e wire.Entry) (uint64, error) {
		close(reached)
		<-gone
		_, bounded := ctx.Deadline()
		if err := ctx.Err(); err != nil || !bounded {
			ended <- fmt.Errorf("the append's context: %v, with a deadline: %t", err, bounded)
		} else {
			ended <- nil
		}
		return 1, nil
	})
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path(w.callback))
	<-reached
	c.(*net.TCPConn).SetLinger(0) // a reset, not even a goodbye
	c.Close()
	// That the server knows it shows in a second request: it has been through the same loop.
	w.do(http.MethodGet, "http://"+w.http+"/healthz", nil)
	close(gone)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// inTime runs an edge in a bubble of time, over wires in memory.
func inTime(t *testing.T, test func(w *world, http *pipes)) { inTimeWith(t, edge.Config{}, test) }

func inTimeWith(t *testing.T, c edge.Config, test func(w *world, http *pipes)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		network := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
		udp := network.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}, simnet.NodeBiDiLinkSettings{})
		if err := network.Start(); err != nil {
			t.Fatal(err)
		}
		defer network.Close()
		http, admin := newPipes(), newPipes()
		c.Dir, c.HTTP, c.UDP, c.Admin = dir, http, udp, admin
		w := start(t, c)
		synctest.Wait()
		test(w, http)
		w.stop()
	})
}

func TestNobodyHoldsAConnectionForEver(t *testing.T) {
	inTime(t, func(w *world, http *pipes) {
		at := path(w.callback)
		for _, c := range []struct {
			name   string
			say    []string // with a pause of 3 s behind each
			want   string
			within time.Duration
		}{
			{"a poster who says nothing", nil, "", 11 * time.Second},
			{"a header that stops coming", []string{"POST " + at + " HTTP/1.1\r\nHost: x\r\n"}, "", 11 * time.Second},
			{"a header that drips", strings.SplitAfter("POST "+at+" HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n", "\n"), "", 11 * time.Second},
			{"a body that never comes", []string{"POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"}, "HTTP/1.1 408 ", 12 * time.Second},
			{"a body that stops coming", []string{"POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"}, "HTTP/1.1 408 ", 12 * time.Second},
			{"a body that drips", []string{"POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "1", "2", "3", "4", "5"}, "HTTP/1.1 408 ", 12 * time.Second},
			{"a body for nobody that never comes", []string{"POST /c/none HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"}, "HTTP/1.1 404 ", 4 * time.Second},
			{"a connection that is kept alive for nothing", []string{"POST " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"}, "HTTP/1.1 200 ", 76 * time.Second},
		} {
			conn := http.dial()
			begin := time.Now()
			go func() {
				for _, part := range c.say {
					if _, err := io.WriteString(conn, part); err != nil {
						return
					}
					time.Sleep(3 * time.Second)
				}
			}()
			answer, _ := io.ReadAll(conn)
			if took := time.Since(begin); took > c.within {
				w.Errorf("%s holds its connection for %v", c.name, took)
			}
			if !strings.HasPrefix(string(answer), c.want) || c.want == "" && strings.Contains(string(answer), " 200 ") {
				w.Errorf("%s is answered %q, want %q", c.name, answer, c.want)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestAnEdgeThatStopsFinishesWhatIsInFlight(t *testing.T) {
	inTime(t, func(w *world, http *pipes) {
		w.Store(func(ctx context.Context, endpoint string, e wire.Entry) (uint64, error) {
			time.Sleep(2 * time.Second)
			return 1, ctx.Err()
		})
		conn := http.dial()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path(w.callback))
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			time.Sleep(time.Second)
			w.stop()
		}()
		answer, _ := io.ReadAll(conn)
		<-stopped
		if !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
			w.Errorf("what was in flight is answered %q", answer)
		}
	})
}

func TestAnIdleEdgeStopsWithinASecond(t *testing.T) {
	inTime(t, func(w *world, http *pipes) {
		silent := http.dial() // connected, and says nothing
		kept := http.dial()
		fmt.Fprintf(kept, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path(w.callback))
		kept.Read(make([]byte, 1<<10))
		time.Sleep(time.Second)
		begin := time.Now()
		w.stop()
		if took := time.Since(begin); took >= time.Second {
			w.Errorf("it took %v", took)
		}
		silent.Close()
		kept.Close()
	})
}
