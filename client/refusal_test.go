package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/client"
)

func TestPermanentErrorIsGivenOnceAndEndsTheSequence(t *testing.T) {
	for code, status := range map[websocket.StatusCode]int{4400: 400, 4401: 401, 4403: 403, 4404: 404} {
		bubble(t, func(t *testing.T, s *scripted, n *network) {
			sub := one(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "order-1", id(4))
			k := s.turn()
			k.send(event(5))
			sub.want(5)
			k.close(code, "no-such-session")
			wantError(t, sub.wantEnd(), status, "no-such-session")
			if tries := len(n.tries()); tries != 1 {
				t.Errorf("after %d it tried %d times", code, tries)
			}
		})
	}
	for _, status := range []int{401, 403, 404} {
		bubble(t, func(t *testing.T, s *scripted, n *network) {
			s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"title":"x","detail":"this key may not listen"}`)
				return true
			}
			c := client.New("http://sidecar", client.WithHTTPClient(n.client()), client.WithKey("very-secret-key"))
			wantError(t, all(t, c, "").wantEnd(), status, "this key may not listen")
			wantError(t, one(t, c, "order-1", "").wantEnd(), status, "this key may not listen")
		})
	}
}

func wantError(t *testing.T, err error, status int, reason string) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Status != status || !strings.Contains(e.Reason, reason) || !strings.Contains(err.Error(), reason) {
		t.Errorf("the error is %v, want %d and %q", err, status, reason)
	}
}

func TestWhatCannotBeAskedForIsAnErrorAtOnce(t *testing.T) {
	for _, base := range []string{"", "sidecar:8787", "ftp://sidecar", "http://", "http://%zz", "/events"} {
		for _, err := range client.New(base).Events(t.Context(), "") {
			wantError(t, err, 0, "base address")
		}
	}
	for _, session := range []string{"", ".", ".."} {
		count := 0
		for _, err := range client.New("http://127.0.0.1:1").Session(session).Events(t.Context(), "") {
			wantError(t, err, 0, "no session")
			count++
		}
		if count != 1 {
			t.Errorf("session %q gave %d results, want one error", session, count)
		}
	}
}

func TestMessageThatCannotBeReadIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		k := s.turn()
		k.send(event(5))
		k.text(`{"type":"PAYMENT_UPDATE","id":7}`)
		sub.want(5)
		wantError(t, sub.wantEnd(), 0, "cannot be read")
		close(k.done)
	})
}

func TestMessageThatIsTooLargeIsAnErrorAndNotAskedForForEver(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		k := s.turn()
		large := event(5)
		large.Data.ResultDesc = strings.Repeat("x", 900<<10)
		k.send(large)
		sub.want(5)
		large.ID.Seq, large.Data.ResultDesc = 6, strings.Repeat("x", 2<<20)
		b, _ := json.Marshal(large)
		_ = k.conn.Write(t.Context(), websocket.MessageText, b)
		wantError(t, sub.wantEnd(), 0, "too large")
		close(k.done)
	})
}

func TestSidecarThatHasMovedForGoodIsAnError(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusPermanentRedirect} {
		bubble(t, func(t *testing.T, s *scripted, n *network) {
			s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "https://shop.example"+r.URL.Path, status)
				return true
			}
			c := client.New("http://sidecar", client.WithHTTPClient(n.client()), client.WithKey("very-secret-key"))
			wantError(t, all(t, c, id(4)).wantEnd(), status, "moved to https://shop.example")
			err := one(t, c, "0123456789abcdef", "").wantEnd()
			if wantError(t, err, status, "moved to"); strings.Contains(err.Error(), "0123456789abcdef") {
				t.Errorf("the error names the session: %v", err)
			}
		})
	}
}

func TestLogTellsNeitherSessionNorKey(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		var log bytes.Buffer
		n.sever()
		c := client.New("http://sidecar", client.WithHTTPClient(n.client()), client.WithKey("very-secret-key"), client.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		sub := one(t, c, "0123456789abcdef", id(4))
		time.Sleep(10 * time.Second)
		n.heal()
		k := s.turn()
		k.close(1001, "going")
		k = s.turn()
		sub.wantStopped(k)
		if text := log.String(); !strings.Contains(text, "network is unreachable") || !strings.Contains(text, "going") || strings.Contains(text, "0123456789abcdef") || strings.Contains(text, "very-secret") {
			t.Errorf("the log is %s", text)
		}
	})
}

func TestKeyDoesNotFollowARedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	tried := make(chan struct{}, 100)
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tried <- struct{}{}
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer sidecar.Close()
	sub := all(t, client.New(sidecar.URL, client.WithKey("key")), "")
	<-tried
	<-tried
	<-tried
	sub.stop()
	if err := sub.wantEnd(); err != nil {
		t.Error(err)
	}
}
