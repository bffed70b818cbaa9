package sandbox_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

func newLines(r io.Reader) func() (string, bool) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return func() (string, bool) {
		ok := s.Scan()
		return s.Text(), ok
	}
}

// inFolder runs a test against a sandbox that keeps its state.
func inFolder(t *testing.T, config sandbox.Config, test func(b *bench, restart func(away time.Duration))) {
	t.Helper()
	config.Dir = t.TempDir()
	inBubble(t, config, func(b *bench) {
		test(b, func(away time.Duration) {
			b.stop()
			time.Sleep(away)
			b.start(config)
			synctest.Wait()
		})
	})
}

func TestARestartForgetsNothing(t *testing.T) {
	inFolder(t, sandbox.Config{QueryPerMinute: -1}, func(b *bench, restart func(time.Duration)) {
		b.behave(`{"phone":"254700000001","auto":"off"}`)
		id := b.push()
		time.Sleep(2 * time.Second)
		restart(10 * time.Second)

		st := b.state()
		if len(st.Prompts) != 1 || st.Prompts[0].ID != id.merchant {
			b.t.Fatalf("the prompt is gone: %+v", st)
		}
		if st.Behaviours["254700000001"].Auto != "off" {
			b.t.Error("the other phone is on again")
		}
		if r := b.query(id.checkout); r.member("ResultCode") != `"4999"` { // with the token from before
			b.t.Errorf("a query about a live prompt: %d %s", r.status, r.body)
		}
		if r, _ := b.tryPush(); !strings.Contains(r.body, "Unable to lock subscriber") {
			b.t.Errorf("the phone is not locked any more: %s", r.body)
		}
		b.answer("approve")
		restart(time.Hour)

		all := b.callbacks(0)
		if len(all) != 1 || all[0].parsed.MerchantRequestID != id.merchant {
			b.t.Fatalf("the callback that was due while the sandbox was away: %+v", all)
		}
		if all = b.callbacks(time.Hour); len(all) != 1 {
			b.t.Errorf("%d callbacks", len(all))
		}
		b.token = ""
		if r := b.query(id.checkout); r.member("ResultCode") != `"0"` {
			b.t.Errorf("a query about what was before: %d %s", r.status, r.body)
		}
		restart(0)
		if all = b.callbacks(time.Hour); len(all) != 1 {
			b.t.Errorf("a restart sent a callback again: %d", len(all))
		}
	})
}

func TestAPromptLapsesWhileTheSandboxIsAway(t *testing.T) {
	inFolder(t, sandbox.Config{}, func(b *bench, restart func(time.Duration)) {
		b.push()
		time.Sleep(2 * time.Second)
		restart(time.Hour)
		if len(b.state().Prompts) != 0 {
			b.t.Error("the prompt is still on the phone")
		}
		if all := b.callbacks(3 * time.Second); len(all) != 1 || all[0].parsed.ResultCode != "1037" {
			b.t.Fatalf("%+v", all)
		}
	})
}

func TestACallbackThatReachedNobodyWhenTheSandboxStoppedGoesOutAfterwards(t *testing.T) {
	config := fast()
	config.Dir = t.TempDir()
	inBubble(t, config, func(b *bench) {
		stuck := config
		dialled := make(chan struct{})
		stuck.HTTP = &http.Client{Transport: dialOnly(func(r *http.Request) error {
			close(dialled)
			<-r.Context().Done()
			return r.Context().Err()
		})}
		b.stop()
		b.start(stuck)
		b.behave(`{"auto":"approve"}`)
		b.push()
		<-dialled
		b.stop()
		b.start(config)
		if all := b.callbacks(time.Minute); len(all) != 1 {
			b.t.Fatalf("%d callbacks, want the one that had reached nobody", len(all))
		}
	})
}

type dialOnly func(*http.Request) error

func (d dialOnly) RoundTrip(r *http.Request) (*http.Response, error) { return nil, d(r) }

// A kill cannot be told from outside, so the test looks at what is on disk in the middle of a callback, and starts there.
func TestACallbackThatWasUnderWayAtAKillIsNotSentAgain(t *testing.T) {
	config := fast()
	config.Dir = t.TempDir()
	copied := t.TempDir()
	var id ids
	inBubble(t, config, func(b *bench) {
		b.shop = func(http.ResponseWriter, *http.Request) {
			db, err := sql.Open("sqlite", filepath.Join(config.Dir, "sandbox.db"))
			if err != nil {
				b.t.Error(err)
			}
			defer db.Close()
			if _, err := db.Exec(`VACUUM INTO ?`, filepath.Join(copied, "sandbox.db")); err != nil {
				b.t.Error(err)
			}
		}
		b.behave(`{"auto":"approve"}`)
		id = b.push()
		b.callbacks(time.Minute)
	})
	config.Dir = copied
	inBubble(t, config, func(b *bench) {
		if all := b.callbacks(time.Hour); len(all) != 0 {
			b.t.Errorf("sent again: %d", len(all))
		}
		got := b.state().History[0]
		if got.ID != id.merchant || len(got.Callbacks) != 1 || got.Callbacks[0].State != "lost" || !strings.Contains(got.Callbacks[0].Error, "stopped") {
			b.t.Errorf("the phone does not say so: %+v", got)
		}
		if r := b.control("/phone/resend", map[string]string{"id": id.merchant}); r.status != 200 {
			b.t.Errorf("by hand: %d %s", r.status, r.body)
		}
		if all := b.callbacks(time.Hour); len(all) != 1 {
			b.t.Errorf("by hand: %d callbacks", len(all))
		}
	})
}

func TestTwoSandboxesDoNotShareAFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := sandbox.Open(t.Context(), sandbox.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Open(t.Context(), sandbox.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second sandbox in one folder: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := sandbox.Open(t.Context(), sandbox.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestAFolderMayHaveAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Duka #1 100%25? ja'a")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	box, err := sandbox.Open(t.Context(), sandbox.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if _, err := os.Stat(filepath.Join(dir, "sandbox.db")); err != nil {
		t.Errorf("its state went elsewhere: %v", err)
	}
}

func TestReceiptsAreUnique(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		b.behave(`{"auto":"approve"}`)
		seen := map[string]bool{}
		for range 40 {
			b.push()
			synctest.Wait()
			receipt := b.state().History[0].Receipt
			if seen[receipt] || len(receipt) != 10 {
				b.t.Fatalf("receipt %q", receipt)
			}
			seen[receipt] = true
		}
	})
}

func TestLogsHoldNobodysSecrets(t *testing.T) {
	var log bytes.Buffer
	config := fast()
	config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	inBubble(t, config, func(b *bench) {
		id := b.push()
		synctest.Wait()
		b.control("/phone/answer", map[string]string{"outcome": "approve", "pin": "8642"})
		b.push("CallBackURL", "http://nowhere.test/c/0123abcd")
		synctest.Wait()
		b.answer("cancel")
		b.callbacks(time.Minute)
		b.stop()
		for what, secret := range map[string]string{
			"a phone number": phone[6:], "a CheckoutRequestID": id.checkout, "a PIN": "8642", "a token": b.token,
			"the passkey": sandbox.DefaultPasskey, "the consumer secret": sandbox.DefaultConsumerSecret, "a callback address": "0123abcd",
		} {
			if strings.Contains(log.String(), secret) {
				b.t.Errorf("%s is in the log:\n%s", what, log.String())
			}
		}
		if !strings.Contains(log.String(), "254708***149") {
			b.t.Errorf("the log says nothing of what happened:\n%s", log.String())
		}
	})
}

// Daraja's words mislead: without a Content-Type it is the shortcode that is invalid. The log says what it was.
func TestLogSaysWhyACallWasRefused(t *testing.T) {
	var log bytes.Buffer
	config := fast()
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	inBubble(t, config, func(b *bench) {
		header := b.authorised()
		for _, test := range []struct {
			change     func(http.Header)
			path, body string
			want       string
		}{
			{func(h http.Header) { h.Del("Content-Type") }, "/mpesa/stkpush/v1/processrequest", "{}", "Content-Type is not application/json"},
			{func(h http.Header) { h.Set("Authorization", "Bearer sometoken") }, "/mpesa/stkpush/v1/processrequest", "{}", "it is no token that this sandbox has given out"},
			{func(h http.Header) {}, "/mpesa/stkpush/v1/processrequest", encode(with(order(), "BusinessShortCode", 600000)), "knows the shortcode 174379 only"},
			{func(h http.Header) {}, "/mpesa/stkpush/v1/processrequest", encode(with(order(), "Timestamp", "20261002103001")), "base64 of shortcode, passkey and Timestamp"},
			{func(h http.Header) {}, "/mpesa/stkpush/v1/processrequest", encode(with(order(), "Amount", "1.5")), "Invalid Amount"},
			{func(h http.Header) {}, "/mpesa/c2b/v1/registerurl", "{}", "STK push and its query"},
		} {
			log.Reset()
			h := header.Clone()
			test.change(h)
			b.call("POST", test.path, h, test.body)
			if got := log.String(); !strings.Contains(got, test.want) || strings.Contains(got, "sometoken") || !strings.Contains(got, test.path) {
				b.t.Errorf("want it said that %s; the log says %q", test.want, got)
			}
		}
		log.Reset()
		b.call("GET", "/oauth/v1/generate?grant_type=client_credentials", http.Header{"Authorization": {"Basic a2V5OnNlY3JldA=="}}, "")
		if got := log.String(); !strings.Contains(got, "not the consumer key and secret of this sandbox") || strings.Contains(got, "a2V5") {
			b.t.Errorf("of wrong credentials the log says %q", got)
		}
	})
}

func TestThePageForbidsWhatItDoesNotUse(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		for path, kind := range map[string]string{
			"/": "text/html", "/phone": "text/html", "/phone/phone.js": "text/javascript", "/phone/drawer.js": "text/javascript",
			"/phone/words.js": "text/javascript", "/phone/phone.css": "text/css", "/phone/icon.svg": "image/svg+xml",
		} {
			r := b.call("GET", path, nil, "")
			if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), kind) || r.body == "" {
				b.t.Errorf("%s: %d %v", path, r.status, r.header)
			}
			policy := r.header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*") || strings.Contains(policy, "unsafe") {
				b.t.Errorf("%s: policy %q", path, policy)
			}
			if kind == "text/html" && (strings.Contains(r.body, "style=") || strings.Contains(r.body, "<style") || strings.Contains(r.body, "onclick")) {
				b.t.Errorf("%s has something inline that its policy forbids", path)
			}
		}
		if r := b.call("GET", "/phone/nothing", nil, ""); r.status != 404 {
			b.t.Errorf("a page that does not exist: %d", r.status)
		}
	})
}
