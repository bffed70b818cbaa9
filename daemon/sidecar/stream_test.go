package sidecar_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

func TestWithACursorOnlyLaterEventsCome(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	begun := page.next(push.STKInitiated, push.Pending).ID
	s.hook("a", cancelled(1))
	failed := page.next(push.PaymentCompleted, push.Failed).ID
	s.hook("a", paid(1, 100))
	page.next(push.PaymentCompleted, push.Success)

	back := s.socket("/sessions/a/websocket?after=" + begun.String())
	back.next(push.PaymentCompleted, push.Failed)
	if m := back.next(push.PaymentCompleted, push.Success); m.Gap || m.Replay {
		t.Errorf("resumed with %+v", m)
	}
	s.socket("/sessions/a/websocket?after="+failed.String()).next(push.PaymentCompleted, push.Success)
}

func TestACursorThatCannotBeGoneOnFromIsToldOfTheGap(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	here := page.next(push.STKInitiated, push.Pending).ID
	for name, after := range map[string]string{
		"another epoch": push.Cursor{Epoch: here.Epoch - 1, Seq: 1}.String(),
		"ahead of us":   push.Cursor{Epoch: here.Epoch, Seq: here.Seq + 1000}.String(),
		"nonsense":      "nonsense",
	} {
		m := s.socket("/sessions/a/websocket?after="+after).next(push.PaymentUpdate, push.Pending)
		if !m.Gap || m.ID != here {
			t.Errorf("%s is greeted with %+v", name, m)
		}
		if m := s.socket("/events?after="+after).next(push.STKInitiated, push.Pending); !m.Gap {
			t.Errorf("%s on /events is greeted with %+v", name, m)
		}
	}
	// A database from before the payment has nothing to greet with: the reader is told at the first occasion.
	page = s.socket("/sessions/b/websocket?after=" + push.Cursor{Epoch: here.Epoch - 1, Seq: 1}.String())
	s.want(s.do("POST", "/sessions/b/initiate", request(otherPhone, 100, "")), 200, "")
	if m := page.next(push.STKInitiated, push.Pending); !m.Gap {
		t.Errorf("the first event after a gap is %+v", m)
	}
}

func TestACursorBehindWhatWasPrunedIsToldOfTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		page := s.socket("/sessions/a/websocket")
		s.pay("a")
		begun := page.next(push.STKInitiated, push.Pending).ID
		s.hook("a", paid(1, 100))
		_ = s.stop()
		time.Sleep(8 * 24 * time.Hour)
		s = open(t, true, func(c *sidecar.Config) { c.Dir = s.dir })
		for i := range 3 { // pruning is done now and then, by those who write
			s.do("POST", fmt.Sprintf("/sessions/b%d/initiate", i), request(fmt.Sprintf("25470000000%d", i), 1, ""))
			time.Sleep(2 * time.Hour)
		}
		back := s.socket("/sessions/a/websocket?after=" + begun.String())
		if m := back.next(push.PaymentUpdate, push.Success); !m.Gap {
			t.Errorf("greeted with %+v", m)
		}
		back.close()
	})
}

func TestTheTillHearsEverySessionFromNowOn(t *testing.T) {
	s := open(t, false)
	s.pay("before")
	till := s.socket("/events")
	for i := range 3 {
		s.do("POST", fmt.Sprintf("/sessions/s%d/initiate", i), request(fmt.Sprintf("25470000000%d", i), i+1, ""))
		if m := till.next(push.STKInitiated, push.Pending); m.Session != fmt.Sprint("s", i) {
			t.Errorf("the till hears %+v", m)
		}
	}
	var status struct{ Head push.Cursor }
	s.do("GET", "/status", "").into(t, &status)
	s.hook("before", paid(1, 100))
	later := s.socket("/events?after=" + status.Head.String())
	later.next(push.PaymentCompleted, push.Success)
	till.next(push.PaymentCompleted, push.Success)
}

func TestASlowReaderHoldsUpNobody(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.Listener = narrowListener{l}
	})
	slow, err := s.dial(t.Context()) // it shakes hands, and never reads again
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_ = slow.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(slow, "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if line, err := bufio.NewReaderSize(slow, 16).ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("the handshake: %q, %v", line, err)
	}
	fast := s.socket("/events")
	for i := 1; i <= 200; i++ { // many times what the sockets' buffers hold
		session := fmt.Sprint("s", i)
		s.want(s.do("POST", "/payments", fmt.Sprintf(`{"MerchantRequestID":"fake-%d","CheckoutRequestID":"ws_CO_%d","session":%q,"amount":5}`, i, i, session)), 201, "")
		s.hook(session, cancelled(i))
		fast.next(push.STKInitiated, push.Pending)
		fast.next(push.PaymentCompleted, push.Failed)
	}
}

// narrowListener gives its connections small buffers, so that a reader who does not read is soon noticed.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		_ = conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return conn, err
}

func TestAReaderWhoTakesTooLongIsToldThatItWasTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		conn, response, err := websocket.Dial(t.Context(), "ws://localhost/sessions/a/websocket", &websocket.DialOptions{HTTPClient: s.http})
		if err != nil {
			t.Fatal(err, response)
		}
		defer conn.CloseNow()
		s.pay("a") // the message waits in the pipe
		time.Sleep(12 * time.Second)
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatalf("the late message: %v", err)
		}
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != 4408 {
			t.Errorf("then came %v, want the close code 4408", err)
		}
	})
}

func TestADeadReaderIsNoticedWithinThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		conn, _, err := websocket.Dial(t.Context(), "ws://localhost/sessions/a/websocket", &websocket.DialOptions{HTTPClient: s.http})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		readers := func() int {
			var status struct{ Subscribers int }
			s.do("GET", "/status", "").into(t, &status)
			return status.Subscribers
		}
		if n := readers(); n != 1 {
			t.Fatalf("%d readers", n)
		}
		time.Sleep(30 * time.Second) // it reads nothing, so it answers no ping
		if n := readers(); n != 0 {
			t.Errorf("%d readers after 30 s of silence", n)
		}
	})
}

func TestALivingReaderIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		page := s.socket("/sessions/a/websocket")
		time.Sleep(time.Hour)
		s.pay("a")
		page.next(push.STKInitiated, push.Pending)
		page.close()
	})
}

func TestWhenTheSidecarStopsItsReadersAreToldToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		page, till := s.socket("/sessions/a/websocket"), s.socket("/events")
		deaf, _, err := websocket.Dial(t.Context(), "ws://localhost/events", &websocket.DialOptions{HTTPClient: s.http})
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.CloseNow()
		sse := s.stream("/events", "")
		waiting := make(chan answer, 1)
		s.daraja.delay = 20 * time.Second
		go func() {
			a, _ := s.try(context.Background(), "POST", "/sessions/b/initiate", request(phone, 100, ""))
			waiting <- a
		}()
		time.Sleep(time.Second)
		began := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- s.stop() }()
		page.wantClose(websocket.StatusGoingAway)
		till.wantClose(websocket.StatusGoingAway)
		if m, err := sse.read(); err == nil {
			t.Errorf("the event stream goes on with %v", m)
		}
		if err := <-stopped; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took >= time.Second {
			t.Errorf("it took %v", took)
		}
		<-waiting
	})
}

// A stream is an EventSource.
type stream struct {
	lines *bufio.Reader
	id    string
}

func (s *shop) stream(path, lastID string) *stream {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", s.base+path, nil)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	response, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%s answered %d %v", path, response.StatusCode, response.Header)
	}
	return &stream{lines: bufio.NewReader(response.Body)}
}

// read waits for the next event, as a browser reads it.
func (e *stream) read() (m push.Message, err error) {
	data := ""
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return m, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case field == "id":
			e.id = value
		case field == "data":
			data += value
		case line == "\n" && data != "":
			return m, json.Unmarshal([]byte(data), &m)
		}
	}
}

func TestAnEventSourceResumesWhereItWas(t *testing.T) {
	s := open(t, false)
	one := s.stream("/sessions/a/events", "")
	s.pay("a")
	m, err := one.read()
	if err != nil || m.Type != push.STKInitiated || one.id != m.ID.String() {
		t.Fatalf("got %+v with id %q, %v", m, one.id, err)
	}
	s.hook("a", cancelled(1))
	s.hook("a", paid(1, 100))
	two := s.stream("/sessions/a/events?after="+push.Cursor{Epoch: 1, Seq: 1}.String(), one.id) // the header is the newer
	for _, want := range []push.Status{push.Failed, push.Success} {
		if m, err := two.read(); err != nil || m.Type != push.PaymentCompleted || m.Data.Status != want || m.Gap {
			t.Fatalf("got %+v, %v; want %s", m, err, want)
		}
	}
	if m, err := s.stream("/sessions/a/events", "").read(); err != nil || m.Type != push.PaymentUpdate {
		t.Errorf("without an id it begins with %+v, %v", m, err)
	}
	if m, err := s.stream("/events", one.id).read(); err != nil || m.Data.Status != push.Failed {
		t.Errorf("/events resumes with %+v, %v", m, err)
	}
}

func TestAnEventSourceThatWasToldNothingYetCanResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		one := s.stream("/events", "")
		go s.pay("a")
		if m, err := one.read(); err != nil || m.Type != push.STKInitiated {
			t.Fatal(m, err)
		}
		quiet := s.stream("/sessions/b/events", "")
		done := make(chan struct{})
		go func() { _, _ = quiet.read(); close(done) }()
		s.hook("a", paid(1, 100))
		paid, err := one.read()
		time.Sleep(time.Minute) // signs of life carry the place on
		_ = s.stop()
		<-done
		if err != nil || quiet.id != paid.ID.String() {
			t.Errorf("its id is %q, want %s; %v", quiet.id, paid.ID, err)
		}
	})
}

func TestALongPollWaitsForNewsAndNotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.pay("a")
		var state push.Message
		first := s.do("GET", "/sessions/a?wait=25s", "")
		first.into(t, &state)
		if state.Data.Status != push.Pending || first.header.Get("ETag") != `"`+state.ID.String()+`"` {
			t.Fatalf("it answered %v %s", first.header, first.body)
		}
		if a := s.do("GET", "/sessions/a", "", "If-None-Match", first.header.Get("ETag")); a.status != 304 {
			t.Errorf("nothing is new, but it answered %d", a.status)
		}
		began := time.Now()
		s.do("GET", "/sessions/a?wait=25s&after="+state.ID.String(), "").into(t, &state)
		if took := time.Since(began); took != 25*time.Second || state.Data.Status != push.Pending {
			t.Errorf("without news it took %v and answered %s", took, state.Data.Status)
		}
		began = time.Now()
		hooked := make(chan struct{})
		go func() {
			defer close(hooked)
			time.Sleep(3 * time.Second)
			s.hook("a", paid(1, 100))
		}()
		s.do("GET", "/sessions/a?wait=25s&after="+state.ID.String(), "").into(t, &state)
		if took := time.Since(began); took != 3*time.Second || state.Data.Status != push.Success || !state.Final {
			t.Errorf("with news after 3s it took %v and answered %+v", took, state)
		}
		<-hooked
		began = time.Now()
		old := push.Cursor{Epoch: state.ID.Epoch, Seq: state.ID.Seq - 1}
		s.do("GET", "/sessions/a?wait=25s&after="+old.String(), "").into(t, &state)
		if took := time.Since(began); took != 0 || state.Data.Status != push.Success {
			t.Errorf("it was news already, but it took %v and answered %s", took, state.Data.Status)
		}
		s.do("GET", "/sessions/a?wait=25s&after="+push.Cursor{Epoch: 1, Seq: 1}.String(), "").into(t, &state)
		if took := time.Since(began); took != 0 || !state.Gap {
			t.Errorf("a cursor of elsewhere waited %v and was answered %+v", took, state)
		}
		s.want(s.do("GET", "/sessions/a?wait=soon", ""), 400, "bad-request")
	})
}

func TestAllReadersOfAnEventAreSentTheSameBytes(t *testing.T) {
	s := open(t, false)
	one, two := s.socket("/sessions/a/websocket"), s.socket("/events")
	s.pay("a")
	_, a, err1 := one.read()
	_, b, err2 := two.read()
	if err1 != nil || err2 != nil || string(a) != string(b) {
		t.Errorf("%s and %s", a, b)
	}
}

func TestTheReadersOfASidecarWithoutAPhoneSeeNoRoute(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) { c.PhoneURL = "" })
	s.want(s.do("GET", "/phone", ""), 404, "not-found")
}

func TestWhatAClientSaysRightBehindItsHandshakeIsHeard(t *testing.T) {
	s := open(t, false)
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	mask := "\x00\x00\x00\x00"
	talk := "\x81\xfe\x02\x58" + mask + strings.Repeat("x", 600) // nobody listens to it, but it must be read past
	ping := "\x89\x82" + mask + "hi"
	_, err = fmt.Fprintf(conn, "GET /sessions/a/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s%s", talk, ping)
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %v, %v", response, err)
	}
	pong := make([]byte, 4)
	if _, err := io.ReadFull(reader, pong); err != nil || string(pong) != "\x8a\x02hi" {
		t.Errorf("the ping was answered with %q, %v", pong, err)
	}
}
