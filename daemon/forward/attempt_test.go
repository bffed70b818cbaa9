package forward_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

const older = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="

// A server is the merchant's app on a real socket.
type server struct {
	*httptest.Server
	hits chan hit
}

func serve(t *testing.T, start func(http.Handler) *httptest.Server, answer http.HandlerFunc) *server {
	s := &server{hits: make(chan hit, 100)}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h := r.Header.Clone()
		h.Set("host", r.Host)
		h.Set("method", r.Method+" "+r.URL.RequestURI())
		s.hits <- hit{time.Now(), r.Header.Get("webhook-id"), string(b), h}
		answer(w, r)
	}))
	t.Cleanup(s.Server.Close)
	return s
}

func (s *server) next(t *testing.T) hit {
	t.Helper()
	select {
	case h := <-s.hits:
		return h
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing came for two minutes")
		return hit{}
	}
}

// until waits for what is in the table.
func (s *shop) until(id string, is func(correlate.Handling) bool) correlate.Handling {
	s.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if at := s.at()[id]; is(at) {
			return at
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s is still %+v", id, s.at()[id])
		}
	}
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func TestACallbackComesAsDarajaSentItAndTheLibraryBelievesIt(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.begins()
	a := serve(t, httptest.NewServer, ok)
	s.config.URL, s.config.Transport = a.URL+"/mpesa?shop=1", nil
	s.config.Secrets = func() []string { return []string{secret, older} }
	const text = "{ \"Body\" : {\"stkCallback\":{\"MerchantRequestID\":\"x\",\r\n \"CheckoutRequestID\":\"y\",\"ResultCode\":1032,\"ResultDesc\":\"\\u0041\"}}}\n\n"
	lines := strings.Join([]string{
		"Content-Type: application/json;charset=UTF-8", "User-Agent: Apache-HttpAsyncClient/4.1", "X-Correlation-Id: abc",
		"Connection: keep-alive, X-Hop", "X-Hop: 1", "Content-Length: 3", "Host: edge.example", "Accept-Encoding: gzip", "Transfer-Encoding: chunked",
		// What a stranger may say, to be taken for us or for somebody else.
		"Webhook-Id: forged", "webhook_signature: v1,forged", "Hodi-State: applied", "hodi_replay: true", "Authorization: Bearer x", "Cookie: admin=1",
		"X-Forwarded-For: 127.0.0.1", "X_Forwarded_Host: shop", "Forwarded: for=127.0.0.1", "X-HTTP-Method-Override: DELETE", "No colon", "B\x00d: 1", "",
	}, "\r\n")
	received := time.Date(2026, 10, 2, 15, 17, 24, 120e6, time.UTC)
	cb, err := s.table.Receive(context.Background(), wire.Entry{Received: received, Header: []byte(lines), Body: []byte(text)}, "")
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	h := a.next(t)
	if h.body != text {
		t.Errorf("the body is %q", h.body)
	}
	want := map[string]string{
		"method": "POST /mpesa?shop=1", "host": strings.TrimPrefix(a.URL, "http://"), "content-type": "application/json;charset=UTF-8",
		"user-agent": "Apache-HttpAsyncClient/4.1", "x-correlation-id": "abc", "webhook-id": cb.ID,
		"hodi-state": "unmatched", "hodi-received": "2026-10-02T15:17:24.120Z", "hodi-attempt": "1",
	}
	for name, value := range want {
		if got := h.header.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	for name := range h.header {
		switch _, wanted := want[strings.ToLower(name)]; {
		case wanted, name == "Webhook-Timestamp", name == "Webhook-Signature", name == "Content-Length":
		default:
			t.Errorf("the app is told %s: %q", name, h.header[name])
		}
	}
	for _, known := range []string{secret, older} {
		verifier, err := standardwebhooks.NewWebhook(known)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify([]byte(h.body), h.header); err != nil {
			t.Errorf("an app that knows one of two secrets does not believe it: %v", err)
		}
		if err := verifier.Verify([]byte(h.body+" "), h.header); err == nil {
			t.Error("another body is believed as well")
		}
	}
	s.until(cb.ID, func(at correlate.Handling) bool {
		return at.State == correlate.AppHandled && at.Status == 200 && at.Attempts == 1
	})
}

func TestARedirectIsNotFollowedAndAStrangersCertificateNotBelieved(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, httptest.NewServer, ok)
	for name, is := range map[string]struct {
		app  *server
		want func(correlate.Handling) bool
	}{
		"redirect": {serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}), func(at correlate.Handling) bool {
			return at.Attempts > 0 && at.Status == 307 && at.State == correlate.AppWaiting
		}},
		"certificate": {serve(t, httptest.NewTLSServer, ok), func(at correlate.Handling) bool {
			return at.Attempts > 0 && at.Status == 0 && strings.Contains(at.Error, "certificate") && at.State == correlate.AppWaiting
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.begins()
			s.config.URL, s.config.Transport = is.app.URL+"/?key=hidden", nil
			id := s.posts("a")
			s.start()
			if at := s.until(id, is.want); strings.Contains(at.Error, "hidden") {
				t.Errorf("the error tells the address: %s", at.Error)
			}
		})
	}
	t.Cleanup(func() {
		if len(elsewhere.hits) > 0 {
			t.Error("a redirect was followed")
		}
	})
}

// An app that answers without end, or with much, costs a connection and no more.
func TestWhatTheAppAnswersIsReadToABoundOnly(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.begins()
	a := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 32<<10)
		for range 10_000 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
		t.Error("all of it was read")
	})
	s.config.URL, s.config.Transport = a.URL, nil
	id := s.posts("a")
	s.start()
	s.until(id, func(at correlate.Handling) bool { return at.State == correlate.AppHandled })
}

func TestWhereCallbacksMayGo(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:3000/mpesa":       "",
		"http://localhost/mpesa?shop=1":     "",
		"http://[::1]:80/":                  "",
		"https://shop.example/mpesa":        "",
		"http://shop.example/mpesa":         "plain http",
		"http://127.0.0.1.shop.example/":    "plain http",
		"http://10.0.0.7/":                  "plain http",
		"https://api.safaricom.co.ke/mpesa": "Safaricom's",
		"https://SANDBOX.Safaricom.co.ke./": "Safaricom's",
		"https://notsafaricom.co.ke/":       "",
		"https://user:secret@shop.example/": "password",
		"https://shop.example/#part":        "fragment",
		"ftp://127.0.0.1/":                  "scheme",
		"127.0.0.1:3000":                    "scheme",
		"http://":                           "scheme",
		"https:///path":                     "scheme",
		"unix:///var/run/app.sock":          "scheme",
	} {
		_, err := forward.Address(text, false)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error tells the password: %v", text, err)
		}
	}
	if _, err := forward.Address("http://10.0.0.7/", true); err != nil {
		t.Error(err)
	}
	if shown := forward.Shown("https://shop.example/mpesa?key=hidden"); shown != "https://shop.example/mpesa" {
		t.Error(shown)
	}
}

func TestASecretThatIsNoneIsRefusedAndNotTold(t *testing.T) {
	s := open(t)
	s.config.Table = s.table
	for _, bad := range []string{"", "whsec_", "whsec_c2hvcnQ=", "whsec_not/base64!", "hunter2"} {
		s.config.Secrets = func() []string { return []string{secret, bad} }
		if _, err := forward.New(s.config); err == nil || bad != "" && bad != "whsec_" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	s.config.Secrets = func() []string { return nil }
	if _, err := forward.New(s.config); err == nil {
		t.Error("without any secret it begins")
	}
}
