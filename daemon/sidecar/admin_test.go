package sidecar_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/console"
)

// operate asks as the operator does, through the socket.
func (s *shop) operate(method, path string, body, into any) error {
	s.t.Helper()
	if s.admin != nil {
		return s.operateOverPipe(method, path, body, into)
	}
	return console.Ask(s.t.Context(), s.dir, "ann", method, path, body, into)
}

func (s *shop) operateOverPipe(method, path string, body, into any) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.admin.Dial(ctx) }}
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://daemon"+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// audit is what was done, one line an entry: who, act, subject, detail.
func (s *shop) audit() (lines []string) {
	s.t.Helper()
	var list struct {
		Audit []struct{ Who, Act, Subject, Detail string }
	}
	if err := s.operate("GET", "/audit", nil, &list); err != nil {
		s.t.Fatal(err)
	}
	for _, a := range list.Audit {
		lines = append(lines, strings.Join([]string{a.Who, a.Act, a.Subject, a.Detail}, ", "))
	}
	return lines
}

func TestTheOperatorsSocketIsForItsOwnerAlone(t *testing.T) {
	s := open(t, false, outside)
	if got := s.audit(); len(got) != 0 {
		t.Errorf("the audit of a new sidecar is %q", got)
	}
	info, err := os.Lstat(filepath.Join(s.dir, "admin.sock"))
	if err != nil || info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	for _, route := range []string{
		"GET /audit", "POST /payments/1/confirm", "POST /payments/1/deny", "POST /forget",
		"GET /keys", "POST /keys", "DELETE /keys/key-1", "GET /tills", "POST /tills", "DELETE /tills/1",
	} {
		method, path, _ := strings.Cut(route, " ")
		a := s.do(method, path, "{}", "Authorization", "Bearer "+s.key)
		if method == "GET" {
			a = s.do(method, path, "", "Authorization", "Bearer "+s.key)
		}
		if a.status != 405 && !strings.Contains(string(a.body), "there is nothing at this address") {
			t.Errorf("to the app %s answers %d %s", route, a.status, a.body)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "admin.sock")); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhoWasTurnedAwayIsWrittenDown(t *testing.T) {
	s := open(t, false, outside)
	session := s.opened("100")
	path := "/sessions/" + session
	s.want(s.do("GET", path, "", "Origin", "https://evil.example"), 403, "forbidden-origin")
	s.socket(path+"/websocket", "Origin", "https://evil.example").wantClose(4403)
	s.want(s.do("GET", "/till", "", "Host", "evil.example"), 421, "unknown-host")
	s.want(s.do("GET", "/payments", "", "Authorization", "Bearer 0123"), 401, "not-authorised")
	s.want(s.do("GET", "/payments", ""), 401, "not-authorised") // who brings no key tried none
	want := []string{
		`127.0.0.1, refused: forbidden-origin, GET /sessions/{session}, from a page of "https://evil.example"`,
		`127.0.0.1, refused: forbidden-origin, GET /sessions/{session}/websocket, from a page of "https://evil.example"`,
		`127.0.0.1, refused: unknown-host, GET /till, it called this sidecar "evil.example"`,
		`127.0.0.1, refused: not-authorised, GET /payments, with a key that is not the app's`,
	}
	if got := s.audit(); !slices.Equal(got, want) {
		t.Errorf("the audit is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	for range 30 { // of what goes on, the first twenty in an hour
		s.want(s.do("GET", path, "", "Origin", "https://evil.example"), 403, "forbidden-origin")
	}
	if got := len(s.audit()); got >= len(want)+30 {
		t.Errorf("%d lines, of which 30 are of one page", got)
	}
}
