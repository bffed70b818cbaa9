package sidecar_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
)

// An ownApp is the merchant's, behind no socket.
type ownApp struct {
	mu   sync.Mutex
	code int
	got  []*http.Request
	text []string
}

func (a *ownApp) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got, a.text = append(a.got, r), append(a.text, string(body))
	return &http.Response{StatusCode: a.code, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: r}, nil
}

func (a *ownApp) forwarding(c *sidecar.Config) {
	c.Forward, c.ForwardHTTP = "http://127.0.0.1:3000/mpesa?key=hidden", a
}

// last is the newest request, and whether a verifier of a secret believes it.
func (a *ownApp) believes(t *testing.T, secret string) bool {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	n := len(a.got) - 1
	return n >= 0 && v.Verify([]byte(a.text[n]), a.got[n].Header) == nil
}

type callbackList struct {
	Callbacks []struct {
		ID               string
		Received, Stored time.Time
		App              *struct {
			State            string
			Handled          time.Time
			Attempts, Status int
		}
	}
}

func TestThreeFactsAreShownOfACallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &ownApp{code: 500}
		s := open(t, true, a.forwarding)
		s.hook("order-1", cancelled(1))
		time.Sleep(time.Hour)
		var list callbackList
		s.do("GET", "/callbacks?app=waiting", "").into(t, &list)
		if len(list.Callbacks) != 1 {
			t.Fatalf("%d wait for the app", len(list.Callbacks))
		}
		c := list.Callbacks[0]
		if c.Received.IsZero() || c.Stored.IsZero() || c.App == nil || c.App.Status != 500 || c.App.Attempts < 2 || !c.App.Handled.IsZero() {
			t.Errorf("while the app fails: %+v %+v", c, c.App)
		}
		var status struct {
			Forward struct {
				URL           string
				Waiting, Dead int
				Live          bool
				Oldest        time.Time
			}
		}
		s.do("GET", "/status", "").into(t, &status)
		if f := status.Forward; f.URL != "http://127.0.0.1:3000/mpesa" || f.Waiting != 1 || f.Dead != 0 || f.Oldest.IsZero() || f.Live {
			t.Errorf("the status says %+v", f)
		}
		a.mu.Lock()
		a.code = 200
		a.mu.Unlock()
		time.Sleep(time.Hour)
		list = callbackList{}
		s.do("GET", "/callbacks?state=any", "").into(t, &list)
		if c := list.Callbacks[0]; c.App == nil || c.App.State != "handled" || c.App.Handled.Before(c.Stored) || c.App.Status != 200 {
			t.Errorf("when it was handled: %+v %+v", c, c.App)
		}
		s.want(s.do("GET", "/callbacks?app=eaten", ""), 400, "bad-request")
	})
}

func TestASecretIsChangedWithAnOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &ownApp{code: 200}
		s := open(t, true, a.forwarding)
		path := filepath.Join(s.dir, sidecar.ForwardSecret)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		before := strings.TrimSpace(string(text))
		const after = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="
		changed := time.Now()
		for _, is := range []struct {
			file      string
			old, next bool
		}{
			{before, true, false},
			{after + "\n" + before, true, true},
			{"nonsense", true, true}, // a mistake takes nothing away
			{after, false, true},
		} {
			if err := os.WriteFile(path, []byte(is.file+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			changed = changed.Add(time.Minute) // the disk's own clock is not that of the bubble
			if err := os.Chtimes(path, changed, changed); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			s.hook("order-1", cancelled(1))
			time.Sleep(time.Minute)
			if old, next := a.believes(t, before), a.believes(t, after); old != is.old || next != is.next {
				t.Errorf("signed for the old secret %t, want %t; for the new one %t, want %t", old, is.old, next, is.next)
			}
		}
	})
}

func TestAnOperatorsReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &ownApp{code: 200}
		s := open(t, true, a.forwarding, outside, func(c *sidecar.Config) {
			c.Shortcodes = append(c.Shortcodes, daraja.Shortcode{Name: "real", Environment: "production", Kind: "paybill", Number: "600000", Credentials: daraja.Credentials{ConsumerKey: "k", ConsumerSecret: "s", Passkey: "p"}})
		})
		a2 := s.do("POST", "/payments", `{"session":"","amount":100,"accountReference":"A"}`, "Authorization", "Bearer "+s.key)
		var reserved struct{ CallbackURL string }
		a2.into(t, &reserved)
		at := reserved.CallbackURL[strings.Index(reserved.CallbackURL, "/c/"):]
		if got := s.do("POST", at, cancelled(1)); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		time.Sleep(time.Minute)
		var list callbackList
		s.do("GET", "/callbacks?app=handled", "", "Authorization", "Bearer "+s.key).into(t, &list)
		if len(list.Callbacks) != 1 {
			t.Fatalf("%d were handled", len(list.Callbacks))
		}
		id := list.Callbacks[0].ID

		var said struct {
			Live      bool
			Callbacks int
			Detail    string
		}
		day := time.Now().Truncate(24 * time.Hour)
		for _, wrong := range []map[string]any{
			{}, {"ids": []string{"x"}}, {"ids": []string{id}, "dead": true}, {"from": day}, {"from": day.Add(time.Hour), "to": day},
		} {
			said.Detail = ""
			if err := s.operate("POST", "/replay", wrong, &said); err != nil || said.Detail == "" {
				t.Errorf("%v: %+v, %v", wrong, said, err)
			}
		}
		for n, right := range []map[string]any{
			{"ids": []string{id}, "only": true}, {"ids": []string{id}}, {"from": day, "to": day.Add(24 * time.Hour)},
		} {
			said.Callbacks = 0
			if err := s.operate("POST", "/replay", right, &said); err != nil || said.Callbacks != 1 || !said.Live {
				t.Errorf("%v: %+v, %v", right, said, err)
			}
			time.Sleep(time.Minute)
			a.mu.Lock()
			if len(a.got) != 1+n {
				t.Errorf("after %v the app has had %d", right, len(a.got))
			}
			if last := a.got[len(a.got)-1]; n > 0 && (last.Header.Get("hodi-replay") != "true" || last.Header.Get("webhook-id") != id) {
				t.Errorf("it came as %v", last.Header)
			}
			a.mu.Unlock()
		}
		if n := len(strings.Split(strings.Join(s.audit(), "\n"), "callbacks replayed")) - 1; n != 2 {
			t.Errorf("the audit has %d replays: %v", n, s.audit())
		}
		// The app's key does not do: it is the operator's.
		s.want(s.do("POST", "/replay", `{"dead":true}`, "Authorization", "Bearer "+s.key), 404, "not-found")
	})
}

func TestForwardingToThisVerySidecarIsRefused(t *testing.T) {
	l := newPipeListener()
	config := sidecar.Config{Dir: t.TempDir(), Listener: l, Dev: true, Forward: "http://" + l.Addr().String() + "/c/x"}
	if _, err := sidecar.Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "this sidecar itself") {
		t.Errorf("%v", err)
	}
}
