package daraja_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hodihq/hodi/sync/daraja"
)

var till = daraja.Shortcode{
	Name: "main", Environment: daraja.EnvironmentSandbox, Kind: daraja.KindPaybill, Number: "174379",
	Credentials: daraja.Credentials{ConsumerKey: "consumer-key-0001", ConsumerSecret: "consumer-secret-0002", Passkey: "passkey-0003"},
}

var order = daraja.PushRequest{Phone: "0708 374 149", Amount: 71, AccountReference: "ORDER123", Description: "Order 123", CallbackURL: "https://hooks.example.co.ke/c/abc/def"}

const (
	ack    = `{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925","ResponseCode":"0","ResponseDescription":"Success. Request accepted for processing","CustomerMessage":"Success"}`
	asked  = "ws_CO_191220191020363925"
	token1 = "c9SQxWWhmdVRlyh0zh8gZDTkubVF"
)

// answering is a Daraja that gives out tokens and answers everything else in one way.
func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth/v1/generate" {
			_, _ = io.WriteString(w, `{"access_token":"`+token1+`","expires_in":"3599"}`)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func connect(t *testing.T, h http.HandlerFunc) *daraja.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &daraja.Client{BaseURL: server.URL, Shortcode: till}
}

func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was asked, with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for _, hc := range []*http.Client{nil, {}} {
		for _, status := range []int{301, 302, 307, 308} {
			all := connect(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
			all.HTTP = hc
			if _, err := all.Push(t.Context(), order); err == nil {
				t.Error("a redirect is taken for an answer")
			}
			push := connect(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					answering(200, "")(w, r)
					return
				}
				http.Redirect(w, r, elsewhere.URL, status)
			})
			push.HTTP = hc
			if _, err := push.Push(t.Context(), order); err == nil || daraja.Refused(err) {
				t.Errorf("a redirected push: %v; want it ambiguous", err)
			}
		}
	}
}

func TestCredentialsArePrintedByNothing(t *testing.T) {
	c := daraja.Client{Shortcode: till, Tokens: daraja.NewTokens("https://daraja.example", till.ConsumerKey, till.ConsumerSecret, nil)}
	encoded, _ := json.Marshal(till)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "shortcode", till, "credentials", till.Credentials, "pointer", &till, "tokens", c.Tokens, "client", &c)
	}
	all := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all += fmt.Sprintf(strings.Repeat(verb+" ", 5), till, &till, till.Credentials, c.Tokens, &c)
	}
	for _, secret := range []string{till.ConsumerKey, till.ConsumerSecret, till.Passkey, fmt.Sprintf("%x", till.Passkey)} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is printed: %s", secret, all)
		}
	}
	if !strings.Contains(all, "main (sandbox paybill 174379)") {
		t.Errorf("the shortcode is not named: %s", all)
	}
}
