package sidecar_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

func TestOutsideDevTheAppNeedsItsKey(t *testing.T) {
	s := open(t, false, outside)
	for _, route := range []string{"POST /sessions", "POST /payments", "GET /payments", "GET /payments/x", "POST /payments/search", "GET /callbacks", "GET /events", "GET /status"} {
		method, path, _ := strings.Cut(route, " ")
		body := ""
		if method == "POST" {
			body = "{}"
		}
		for _, authorization := range []string{"", "Bearer", "Bearer wrong", "Basic " + s.key, s.key, "Bearer " + s.key[:63], "Bearer " + s.key + "0"} {
			a := s.do(method, path, body, "Authorization", authorization)
			s.want(a, 401, "not-authorised")
			if strings.Contains(string(a.body), s.key) || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s answered %v %s", route, a.header, a.body)
			}
		}
	}
	s.want(s.do("GET", "/payments", "", "Authorization", "bearer "+s.key), 200, "")
	s.socket("/events").wantClose(4401)
	s.socket("/events", "Authorization", "Bearer "+s.key).close()
	info, err := os.Stat(filepath.Join(s.dir, "api.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v, %v", info.Mode(), err)
	}
}

func TestOutsideDevASessionMustBeOpened(t *testing.T) {
	s := open(t, false, outside)
	s.want(s.pay("customer-7"), 404, "no-such-session")
	s.want(s.do("GET", "/sessions/customer-7", ""), 404, "no-such-session")
	s.want(s.do("GET", "/sessions/customer-7/events", ""), 404, "no-such-session")
	s.want(s.do("GET", "/sessions/customer-7/websocket", ""), 404, "no-such-session")
	s.socket("/sessions/customer-7/websocket").wantClose(4404)
	if a := s.do("POST", "/sessions/customer-7/webhook", paid(1, 100)); a.status != 404 {
		t.Errorf("the webhook route answered %d outside dev", a.status)
	}
	if a := s.do("GET", "/phone", ""); a.status != 404 {
		t.Errorf("/phone answered %d outside dev", a.status)
	}
}

func TestASessionIdIsOfURLSafeCharacters(t *testing.T) {
	s := open(t, false)
	s.want(s.pay("Az09._~-"+strings.Repeat("x", 120)), 200, "")
	for _, id := range []string{"a%2Fb", "a%20b", "a%00b", strings.Repeat("x", 129), "%C3%A4", "a:b"} {
		s.want(s.do("GET", "/sessions/"+id, ""), 400, "bad-session")
		s.socket("/sessions/" + id + "/websocket").wantClose(4400)
		s.want(s.do("POST", "/sessions/"+id+"/webhook", "{}"), 400, "bad-session")
	}
}

func TestPagesOfOtherOriginsAreNotLentTheBrowser(t *testing.T) {
	s := open(t, false, outside, func(c *sidecar.Config) { c.Origins = []string{"https://shop.example:443"} })
	path := "/sessions/" + s.opened(`"open"`)
	own := strings.TrimPrefix(s.base, "http://")
	for _, origin := range []string{
		"https://evil.example", "null", "http://shop.example", "https://shop.example.evil.example", "http://localhost:3000", "https://shop.example:444",
		"ftp://" + own, "http://evil.example@" + own, "file://",
	} {
		a := s.do("POST", path+"/initiate", request(phone, 1, ""), "Origin", origin)
		s.want(a, 403, "forbidden-origin")
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s may read the answer", origin)
		}
		if a := s.do("OPTIONS", path+"/initiate", "", "Origin", origin, "Access-Control-Request-Method", "POST"); a.status != 403 {
			t.Errorf("the preflight of %s answered %d", origin, a.status)
		}
		s.socket(path+"/websocket", "Origin", origin).wantClose(4403)
	}
	a := s.do("OPTIONS", path+"/initiate", "", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,idempotency-key")
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Idempotency-Key") || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("the preflight answered %d %v", a.status, a.header)
	}
	a = s.do("POST", path+"/initiate", `{"phoneNumber":"`+phone+`","amount":1}`, "Origin", "https://shop.example")
	s.want(a, 200, "")
	if a.header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(a.header.Get("Vary"), "Origin") {
		t.Errorf("the answer has %v", a.header)
	}
	s.socket(path+"/websocket", "Origin", "https://shop.example").next(push.PaymentUpdate, push.Pending)
	s.want(s.do("GET", path, "", "Origin", s.base), 200, "")
	if a := s.do("GET", "/payments", "", "Origin", "https://shop.example", "Authorization", "Bearer "+s.key); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a page may read the app's routes")
	}
}

func TestInDevAPageOfAnyPortOnThisMachineMayCall(t *testing.T) {
	s := open(t, false)
	for _, origin := range []string{"http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:3000", "http://app.localhost"} {
		a := s.do("OPTIONS", "/sessions/a/initiate", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("the preflight of %s answered %d %v", origin, a.status, a.header)
		}
		if a := s.do("GET", "/status", "", "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s may not read the status", origin)
		}
		s.socket("/sessions/a/websocket", "Origin", origin).close()
	}
	s.socket("/sessions/a/websocket", "Origin", "https://evil.example").wantClose(4403)
	s.want(s.do("POST", "/sessions/a/webhook", paid(1, 100), "Origin", "https://evil.example"), 403, "forbidden-origin")
}

func TestANameThatWasReboundToLoopbackIsNotAnsweredTo(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) { c.Origins = []string{"https://shop.example"} })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.base, "http://"))
	for _, host := range []string{"evil.example:" + port, "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"} {
		for _, path := range []string{"/", "/till", "/status", "/payments", "/sessions/a", "/sessions/a/events", "/events", "/healthz"} {
			s.want(s.do("GET", path, "", "Host", host), 421, "unknown-host")
		}
		// The page of a rebound name is of the same origin as what it calls.
		s.want(s.do("POST", "/sessions/a/initiate", request(phone, 1, ""), "Host", host, "Origin", "http://"+host), 421, "unknown-host")
		s.want(s.do("POST", "/sessions/a/webhook", "{}", "Host", host, "Origin", "http://"+host), 403, "forbidden-origin")
		s.socket("/sessions/a/websocket", "Host", host, "Origin", "http://"+host).wantClose(4403)
	}
	for _, host := range []string{"localhost:" + port, "127.0.0.1", "127.9.9.9:1", "[::1]:" + port, "LOCALHOST", "shop.example"} {
		s.want(s.do("GET", "/sessions/a", "", "Host", host), 200, "")
	}
	// A callback is never refused for the name it was sent to.
	s.pay("a")
	path := strings.TrimPrefix(s.daraja.callback(1), s.base)
	s.want(s.do("POST", path, paid(1, 100), "Host", "hooks.shop.example"), 200, "")
}

func TestCallbacksComeInByAddressOnly(t *testing.T) {
	s := open(t, false, outside)
	id := s.opened("100")
	s.want(s.do("POST", "/sessions/"+id+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
	good := s.daraja.callback(1)
	s.want(s.do("POST", s.base+"/c/"+strings.Repeat("0", 32), "{}"), 404, "not-found")
	s.want(s.do("GET", good, ""), 405, "method-not-allowed")
	s.want(s.do("POST", good, strings.Repeat("x", 256<<10+1)), 413, "too-large")
	forged := good[:len(good)-1] + "x"
	s.want(s.do("POST", forged, paid(1, 100)), 200, "") // stored, and not believed
	for _, body := range []string{"", "{}", strings.Repeat("x", 256<<10)} {
		s.want(s.do("POST", good, body), 200, "")
	}
	auth := []string{"Authorization", "Bearer " + s.key}
	if d := s.do("GET", "/payments/fake-1", "", auth...).data(t); d.Status != push.Pending {
		t.Errorf("the payment is %s", d.Status)
	}
	var list struct {
		Callbacks []struct{ State, Error string }
	}
	s.do("GET", "/callbacks", "", auth...).into(t, &list)
	if len(list.Callbacks) != 4 || list.Callbacks[0].State != "suspect" || list.Callbacks[1].State != "unparsed" {
		t.Errorf("the callbacks are %+v", list)
	}
	s.want(s.do("POST", good, paid(1, 100)), 200, "")
	if d := s.do("GET", "/payments/fake-1", "", auth...).data(t); d.Status != push.Success {
		t.Errorf("the payment is %s", d.Status)
	}
	off := open(t, false, func(c *sidecar.Config) { c.AcceptCallbacks = false })
	s.want(off.do("POST", "/c/"+strings.Repeat("0", 32), "{}"), 404, "not-found")
}

func TestDevIsOnlyOnLoopback(t *testing.T) {
	_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Dev: true, Listener: publicListener{newPipeListener()}})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("dev on a public address: %v", err)
	}
}

type publicListener struct{ *pipeListener }

func (publicListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 8787} }

func TestASecondProcessOnTheSameFolderIsToldSo(t *testing.T) {
	s := open(t, false)
	_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: s.dir, Dev: true, Listener: newPipeListener()})
	if err == nil || !strings.Contains(err.Error(), s.dir) || !strings.Contains(err.Error(), "another hodi") {
		t.Errorf("the second was told: %v", err)
	}
}

func TestABrokenKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "callback.key"), []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: dir, Dev: true, Listener: newPipeListener()})
	if err == nil || !strings.Contains(err.Error(), "callback.key") || strings.Contains(err.Error(), "garbage") {
		t.Errorf("it was told: %v", err)
	}
}

func TestKeysThatOthersCouldReadAreClosedToThemAndSaidToBeKnown(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such bits")
	}
	dir := t.TempDir()
	keys := []string{"callback.key", "api.key", "inbox.key"}
	for start := range 3 {
		log := new(lines)
		s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: dir, Dev: true, Listener: newPipeListener(), Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			path := filepath.Join(dir, key)
			if told := strings.Contains(log.String(), path); told != (start == 1) {
				t.Errorf("start %d: the log tells of %s: %v\n%s", start, key, told, log)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("start %d: %s is %v, %v", start, key, info.Mode(), err)
			}
			if start > 0 {
				continue
			}
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAFolderThatAnybodyMayWriteToIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such bits")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := sidecar.Open(t.Context(), sidecar.Config{Dir: dir, Dev: true, Listener: newPipeListener()}); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("it was told: %v", err)
	}
}

func TestAConfigurationThatCannotWorkIsSaidSoAtOnce(t *testing.T) {
	for name, c := range map[string]sidecar.Config{
		"no listener": {Dir: t.TempDir()},
		"no folder":   {Listener: newPipeListener()},
		"origin":      {Dir: t.TempDir(), Listener: newPipeListener(), Origins: []string{"shop.example"}},
		"any origin":  {Dir: t.TempDir(), Listener: newPipeListener(), Origins: []string{"*"}},
		"public":      {Dir: t.TempDir(), Listener: newPipeListener(), PublicURL: "shop.example"},
		"not joined":  {Dir: t.TempDir(), Listener: newPipeListener(), Edge: "edge.example:443"},
	} {
		if s, err := sidecar.Open(t.Context(), c); err == nil {
			t.Errorf("%s: it opened", name)
			_ = s.Close()
		}
	}
}

func TestPagesAreServedUnderAStrictPolicy(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) { c.PhoneURL = "http://127.0.0.1:8789/phone" })
	for _, path := range []string{"/", "/pay/some-session", "/till"} {
		a := s.do("GET", path, "")
		policy := a.header.Get("Content-Security-Policy")
		if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s answered %d %v", path, a.status, a.header)
		}
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'self'") {
			t.Errorf("the policy of %s is %q", path, policy)
		}
		if strings.Contains(policy, "8789") != (path == "/") {
			t.Errorf("the policy of %s is %q: only the start page shows the phone", path, policy)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s has %v", path, a.header)
		}
		if again := s.do("GET", path, "", "If-None-Match", a.header.Get("ETag")); again.status != 304 || len(again.body) != 0 {
			t.Errorf("%s again answered %d", path, again.status)
		}
	}
	for _, path := range []string{"/client.js", "/react.js"} {
		a := s.do("GET", path, "", "Origin", "https://anywhere.example")
		if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/javascript") || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s answered %d %v", path, a.status, a.header)
		}
	}
	if a := s.do("GET", "/phone", ""); a.status != 302 || a.header.Get("Location") != "http://127.0.0.1:8789/phone" {
		t.Errorf("/phone answered %d %v", a.status, a.header)
	}
	if a := s.do("GET", "/assets/hodi.css", ""); a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/css") {
		t.Errorf("the stylesheet answered %d %v", a.status, a.header)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	s := open(t, false, outside)
	s.want(s.do("GET", "/healthz", ""), 200, "")
	s.want(s.do("GET", "/readyz", ""), 200, "")
}

func TestWhoGivesUpAskingForReadinessIsNoFaultOfTheDatabase(t *testing.T) {
	log := new(lockedBuffer)
	s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Dev: true, Listener: newPipeListener(), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ready(gone); err == nil {
		t.Error("it was ready for one who had gone")
	}
	if text := log.String(); strings.Contains(text, "ERROR") {
		t.Errorf("the log names a fault: %s", text)
	}
}

func TestTooManyReadersOfOneSessionAreSentAway(t *testing.T) {
	s := open(t, true)
	for range 500 {
		s.socket("/sessions/a/websocket")
	}
	s.socket("/sessions/a/websocket").wantClose(4429)
	a := s.do("GET", "/sessions/a/events", "")
	s.want(a, 429, "too-many")
	s.socket("/sessions/b/websocket").close()
}

func TestARequestWhoseBodyNeverComesIsLetGo(t *testing.T) {
	s := open(t, false)
	s.want(s.do("GET", "/sessions/a", "a body"), 400, "bad-request")
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := conn.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 400") {
		t.Errorf("it answered %q, %v", b[:n], err)
	}
}

func TestABodyThatNeverEndsIsLetGoWhoeverWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside)
		for name, head := range map[string]string{
			"to nowhere":               "POST /nowhere HTTP/1.1\r\nHost: localhost\r\n",
			"of a method that is none": "PUT /payments HTTP/1.1\r\nHost: localhost\r\n",
			"without the key":          "POST /payments HTTP/1.1\r\nHost: localhost\r\n",
			"by a rebound name":        "POST /payments HTTP/1.1\r\nHost: evil.example\r\n",
			"of a foreign page":        "POST /sessions/a/initiate HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
			"to a key that is none":    "POST /c/00000000000000000000000000000000 HTTP/1.1\r\nHost: localhost\r\n",
			"that is wanted":           "POST /till/device HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n",
		} {
			for _, body := range []string{"Content-Length: 9000\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"} {
				conn, err := s.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				if _, err := io.WriteString(conn, head+body); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("a body %s, %.14q: after a minute it is still waited for: %v", name, body, err)
				}
			}
		}
	})
}

func TestStrangersHaveSoManyConnectionsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside, func(c *sidecar.Config) { c.Connections = 4 })
		for range 4 { // who say nothing
			conn, err := s.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		began := time.Now()
		s.want(s.do("GET", "/payments", ""), 401, "not-authorised")
		if waited := time.Since(began); waited < 5*time.Second {
			t.Errorf("a fifth was answered after %v, with four there", waited)
		}
	})
}

func TestAWebSocketRouteAskedWithoutOneSaysSo(t *testing.T) {
	s := open(t, false)
	s.want(s.do("GET", "/sessions/a/websocket", ""), http.StatusUpgradeRequired, "upgrade-needed")
	conn, response, err := websocket.Dial(context.Background(), strings.Replace(s.base, "http", "ws", 1)+"/sessions/a/websocket", &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if response.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Error("compression was agreed to")
	}
}
