package sidecar_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// invited is a code for a till.
func (s *shop) invited(name string) string {
	s.t.Helper()
	var code struct{ Code, URL string }
	if err := s.operate("POST", "/tills", map[string]string{"name": name}, &code); err != nil {
		s.t.Fatal(err)
	}
	if code.URL != s.base+"/till" {
		s.t.Errorf("it is to be typed at %s", code.URL)
	}
	return code.Code
}

// enter types a code at a till, and gives what its browser sends from then on.
func (s *shop) enter(code string) (own []string) {
	s.t.Helper()
	a := s.types(code)
	s.want(a, 201, "")
	return []string{"Cookie", s.cookie(a), "Origin", s.base}
}

func (s *shop) types(code string) answer {
	s.t.Helper()
	return s.do("POST", "/till/device", `{"code":"`+code+`"}`, "Origin", s.base)
}

// cookie is what an answer sets, as the browser sends it back.
func (s *shop) cookie(a answer) string {
	s.t.Helper()
	c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 32 {
		s.t.Fatalf("the cookie is %v, %v", a.header, err)
	}
	return c.Name + "=" + c.Value
}

func (s *shop) revoke(till int) {
	s.t.Helper()
	if err := s.operate("DELETE", fmt.Sprintf("/tills/%d", till), nil, new(struct{})); err != nil {
		s.t.Fatal(err)
	}
}

func TestATillReadsAndAsksForPaymentsAndNothingElse(t *testing.T) {
	s := open(t, false, outside)
	s.want(s.do("GET", "/till/device", ""), 401, "not-authorised")
	own := s.enter(s.invited("Front desk"))
	a := s.do("GET", "/till/device", "", own...)
	var device struct{ Name string }
	if a.into(t, &device); a.status != 200 || device.Name != "Front desk" || s.cookie(a) != own[1] {
		t.Errorf("it is let in as %s %v", a.body, a.header)
	}

	events := s.socket("/events", own...)
	a = s.do("POST", "/sessions", `{"amount":100,"accountReference":"INV-1"}`, own...)
	s.want(a, 201, "")
	var session struct{ ID string }
	a.into(t, &session)
	s.want(s.do("POST", "/sessions/"+session.ID+"/initiate", `{"phoneNumber":"`+phone+`"}`, own...), 200, "")
	events.next(push.STKInitiated, push.Pending)
	s.want(s.do("GET", "/payments", "", own...), 200, "")
	s.want(s.do("GET", "/payments/fake-1", "", own...), 200, "")
	s.want(s.do("POST", "/payments/search", `{"phoneNumber":"`+phone+`"}`, own...), 200, "")
	a = s.do("GET", "/till/status", "", own...)
	s.want(a, 200, "")
	if strings.Contains(string(a.body), "/c/") || !strings.Contains(string(a.body), "174379") {
		t.Errorf("a till is told %s", a.body)
	}

	for _, route := range []string{"POST /payments", "GET /callbacks", "GET /status"} {
		method, path, _ := strings.Cut(route, " ")
		body := ""
		if method == "POST" {
			body = "{}"
		}
		s.want(s.do(method, path, body, own...), 401, "not-authorised")
	}
	for _, path := range []string{"/audit", "/tills"} {
		if a := s.do("GET", path, "", own...); a.status != 404 {
			t.Errorf("a till is answered %d at %s", a.status, path)
		}
	}
}

// TestAStolenTillAsksForSoManyPaymentsAndNoMore: the limits on phones are not for tills, so a till has its own, over all phones
// and sessions; and what it opens is bounded, too.
func TestAStolenTillAsksForSoManyPaymentsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside, func(c *sidecar.Config) { c.PromptsPerTill, c.PromptsPerTillHour = 3, 5 })
		own, other := s.enter(s.invited("Front desk")), s.enter(s.invited("Garden"))
		phones := 0
		ask := func(who []string) answer {
			t.Helper()
			phones++
			return s.do("POST", "/sessions/"+s.opened("1")+"/initiate", fmt.Sprintf(`{"phoneNumber":"2547000000%02d"}`, phones), who...)
		}
		for range 3 {
			s.want(ask(own), 200, "")
		}
		refused := ask(own)
		s.want(refused, 429, "till-limit")
		if after := refused.header.Get("Retry-After"); after != "60" {
			t.Errorf("it is to come back after %q seconds", after)
		}
		s.want(ask(other), 200, "") // another till goes on
		s.want(ask(nil), 200, "")   // and so do customers
		time.Sleep(time.Minute)
		s.want(ask(own), 200, "")
		s.want(ask(own), 200, "")
		refused = ask(own)
		s.want(refused, 429, "till-limit")
		if after := refused.header.Get("Retry-After"); after != "3540" {
			t.Errorf("after five in an hour it is to come back after %q seconds", after)
		}
		time.Sleep(59 * time.Minute)
		s.want(ask(own), 200, "")

		for range 3 {
			s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, own...), 201, "")
		}
		s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, own...), 429, "till-limit")
		s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, other...), 201, "")
		var said []string
		for _, a := range s.audit() {
			if strings.Contains(a, "till asks too often") {
				said = append(said, a)
			}
		}
		if len(said) != 3 || !strings.Contains(said[0], "Front desk") {
			t.Errorf("the audit says %q", said)
		}
	})
}

func TestACodeIsGoodOnceAndForTenMinutes(t *testing.T) {
	s := open(t, false, outside)
	code := s.invited("")
	if len(code) != 9 || code[4] != '-' {
		t.Errorf("the code is %q", code)
	}
	// People type as they like.
	s.enter(" " + strings.ToLower(strings.ReplaceAll(code, "-", " ")) + " ")
	s.want(s.types(code), 403, "wrong-code")
	s.want(s.types(""), 403, "wrong-code")
	s.want(s.do("POST", "/till/device", `{"code":"`+s.invited("")+`"}`), 403, "forbidden-origin")
}

func TestACodeEndsAndGuessingDoesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside)
		code := s.invited("a")
		for i := range 10 {
			s.want(s.types(fmt.Sprintf("BBBB-BBB%d", i)), 403, "wrong-code")
		}
		a := s.types(code) // the right one, too: else guessing would go on
		s.want(a, 429, "too-many-codes")
		if a.header.Get("Retry-After") == "" {
			t.Error("nobody says when to come back")
		}
		time.Sleep(10 * time.Minute)
		s.want(s.types(code), 403, "wrong-code") // its time is over
		s.enter(s.invited("c"))
	})
}

// A listener to which everybody comes from an address of their own.
type manyAddresses struct {
	net.Listener
	came atomic.Int32
}

func (l *manyAddresses) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := l.came.Add(1)
	return addressed{conn, &net.TCPAddr{IP: net.IPv4(10, 0, byte(n>>8), byte(n)), Port: 40000}}, nil
}

type addressed struct {
	net.Conn
	from net.Addr
}

func (c addressed) RemoteAddr() net.Addr { return c.from }

func TestWhoGuessesFromManyAddressesIsOneOfFiveHundred(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, false, outside, func(c *sidecar.Config) { c.Listener = &manyAddresses{Listener: l} })
	code := s.invited("a")
	for range 500 {
		s.want(s.types("BBBB-BBBB"), 403, "wrong-code")
	}
	s.want(s.types(code), 429, "too-many-codes")
}

func TestATillThatIsRevokedIsClosedAtOnce(t *testing.T) {
	s := open(t, false, outside)
	first, second := s.enter(s.invited("one")), s.enter(s.invited("two"))
	one, two := s.socket("/events", first...), s.socket("/events", second...)
	ended := make(chan error, 1)
	go func() { // server-sent events end, too
		_, err := s.try(t.Context(), "GET", "/events", "", "Cookie", first[1])
		ended <- err
	}()
	for s.tills()[0].Open < 2 {
	}
	s.revoke(1)
	one.wantClose(4401)
	if err := <-ended; err != nil {
		t.Errorf("the events ended with %v", err)
	}
	s.socket("/events", first...).wantClose(4401)
	s.want(s.do("GET", "/payments", "", first...), 401, "not-authorised")
	s.want(s.do("GET", "/payments", "", second...), 200, "")
	s.do("POST", "/sessions", `{"amount":100,"accountReference":"INV-1"}`, second...)
	for s.tills()[0].Open > 0 { // the other end hears of the end before it is the end
	}
	if list := s.tills(); len(list) != 2 || list[0].State != "revoked" || list[0].Open != 0 || list[1].State != "in" || list[1].Open != 1 || list[1].Name != "two" {
		t.Errorf("the tills are %+v", list)
	}
	two.close()
	if err := s.operate("DELETE", "/tills/7", nil, new(struct{})); err == nil || !strings.Contains(err.Error(), "there is no till 7") {
		t.Errorf("a till that never was: %v", err)
	}
	want := []string{"ann, till invited, one, ", "ann, till let in, till 1, one, ", "ann, till invited, two, ", "ann, till let in, till 2, two, ", "ann, till revoked, till 1, one, "}
	if got := s.audit(); len(got) < 5 || strings.Join(got[:5], "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit is %q", got)
	}
}

func (s *shop) tills() []struct {
	Name, State string
	Open        int
} {
	s.t.Helper()
	var list struct {
		Tills []struct {
			Name, State string
			Open        int
		}
	}
	if err := s.operate("GET", "/tills", nil, &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Tills
}

func TestATillsCookieCountsOnItsOwnPageOnly(t *testing.T) {
	s := open(t, false, outside, func(c *sidecar.Config) { c.Origins = []string{"https://shop.example"} })
	cookie := s.enter(s.invited("till"))[1]
	for _, headers := range [][]string{
		{"Origin", "https://shop.example"},  // may call, but is not the till
		{"Origin", "http://127.0.0.1:3000"}, // of the same site: the browser sends the cookie along
		{"Origin", "http://localhost:8787"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Origin", s.base, "Sec-Fetch-Site", "cross-site"},
	} {
		own := append([]string{"Cookie", cookie}, headers...)
		s.want(s.do("GET", "/payments", "", own...), 403, "forbidden-origin")
		s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, own...), 403, "forbidden-origin")
		s.socket("/events", own...).wantClose(4403)
	}
	// Without a word of who asks, something can be read (the address bar) and nothing changed.
	s.want(s.do("GET", "/payments", "", "Cookie", cookie), 200, "")
	s.want(s.do("GET", "/payments", "", "Cookie", cookie, "Sec-Fetch-Site", "none"), 200, "")
	s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, "Cookie", cookie), 403, "forbidden-origin")
	s.want(s.do("POST", "/sessions", `{"amount":1,"accountReference":"A"}`, "Cookie", cookie, "Sec-Fetch-Site", "same-origin"), 201, "")
	for _, other := range []string{"hodi-till=" + strings.Repeat("0", 32), "hodi-till=", "__Host-" + cookie, "till=1"} {
		s.want(s.do("GET", "/payments", "", "Cookie", other), 401, "not-authorised")
	}
}

func TestTheAppsKeyIsTakenFromAHeaderOnly(t *testing.T) {
	s := open(t, false, outside)
	for _, query := range []string{"key", "api_key", "apikey", "token", "access_token", "authorization"} {
		for _, value := range []string{s.key, "Bearer%20" + s.key} {
			for _, path := range []string{"/payments", "/status"} { // for tills, too, and for the app alone
				s.want(s.do("GET", path+"?"+query+"="+value, ""), 401, "not-authorised")
			}
			s.socket("/events?" + query + "=" + value).wantClose(4401)
		}
	}
	s.want(s.do("GET", "/payments", "", "Cookie", "key="+s.key), 401, "not-authorised")
	s.want(s.do("POST", "/payments/search", `{"receipt":"X","key":"`+s.key+`"}`), 401, "not-authorised")
}
