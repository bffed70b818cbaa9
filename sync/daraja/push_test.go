package daraja_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestPushIsWhatDarajaExpects(t *testing.T) {
	var body map[string]string
	var header http.Header
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oauth/v1/generate":
			if key, secret, _ := r.BasicAuth(); key != till.ConsumerKey || secret != till.ConsumerSecret || r.Method != "GET" || r.URL.RawQuery != "grant_type=client_credentials" {
				t.Errorf("the token is asked for with %s %s as %s", r.Method, r.URL, key)
			}
			_, _ = w.Write(payload(t, "api_oauth_token_number_expiry_official"))
		case "/mpesa/stkpush/v1/processrequest":
			header = r.Header
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != "POST" {
				t.Errorf("the push is %s, %v", r.Method, err)
			}
			_, _ = w.Write(payload(t, "api_stkpush_ack_official"))
		default:
			t.Errorf("it asked for %s", r.URL)
		}
	})
	before := time.Now().Truncate(time.Second)
	got, err := c.Push(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if want := (daraja.Ack{MerchantRequestID: "2654-4b64-97ff-b827b542881d3130", CheckoutRequestID: "ws_CO_1007202409152617708374149",
		Description: "Success. Request accepted for processing", CustomerMessage: "Success. Request accepted for processing"}); got != want {
		t.Errorf("the ack is %+v, want %+v", got, want)
	}
	at, err := time.ParseInLocation("20060102150405", body["Timestamp"], daraja.Nairobi)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("the timestamp is %s, which is not now in Nairobi", body["Timestamp"])
	}
	want := map[string]string{
		"BusinessShortCode": "174379", "Password": base64.StdEncoding.EncodeToString([]byte("174379passkey-0003" + body["Timestamp"])), "Timestamp": body["Timestamp"],
		"TransactionType": "CustomerPayBillOnline", "Amount": "71", "PartyA": "254708374149", "PartyB": "174379", "PhoneNumber": "254708374149",
		"CallBackURL": "https://hooks.example.co.ke/c/abc/def", "AccountReference": "ORDER123", "TransactionDesc": "Order 123",
	}
	if fmt.Sprint(body) != fmt.Sprint(want) {
		t.Errorf("the push is\n%v, want\n%v", body, want)
	}
	if header.Get("Authorization") != "Bearer "+token1 || header.Get("Content-Type") != "application/json" {
		t.Errorf("its header is %v", header)
	}
}

func TestPushOfATillIsMadeByItsStoreAndPaidToTheTill(t *testing.T) {
	var body map[string]string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_ = json.NewDecoder(r.Body).Decode(&body)
		}
		answering(200, ack)(w, r)
	})
	c.Shortcode.Kind, c.Shortcode.Number, c.Shortcode.Store = daraja.KindTill, "5432100", "400200"
	if _, err := c.Push(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	password, _ := base64.StdEncoding.DecodeString(body["Password"])
	if body["TransactionType"] != "CustomerBuyGoodsOnline" || body["PartyB"] != "5432100" || body["BusinessShortCode"] != "400200" || !strings.HasPrefix(string(password), "400200passkey") {
		t.Errorf("the push is %v", body)
	}
}

func TestDescriptionIsMadeToFit(t *testing.T) {
	var body map[string]string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_ = json.NewDecoder(r.Body).Decode(&body)
		}
		answering(200, ack)(w, r)
	})
	for description, want := range map[string]string{"": "Payment", "Tea & chapati": "Tea chapati", "#12@shop": "12 shop", "Malipo ya kodi ya nyumba": "Malipo ya kod", "é": "Payment", "thirteen long x": "thirteen long"} {
		r := order
		r.Description = description
		if _, err := c.Push(t.Context(), r); err != nil || body["TransactionDesc"] != want {
			t.Errorf("%q is sent as %q (%v), want %q", description, body["TransactionDesc"], err, want)
		}
	}
}

func TestPushThatDarajaWouldNotTakeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	c := connect(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	for name, change := range map[string]func(*daraja.PushRequest, *daraja.Client){
		"phone":                func(r *daraja.PushRequest, _ *daraja.Client) { r.Phone = "0708374" },
		"amount: 0":            func(r *daraja.PushRequest, _ *daraja.Client) { r.Amount = 0 },
		"amount: 250001":       func(r *daraja.PushRequest, _ *daraja.Client) { r.Amount = 250_001 },
		"it is empty":          func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = " " },
		"it has 13 characters": func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "INVOICE-00013" },
		"'#' in it":            func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "INV#13" },
		"'&' in it":            func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "A&B" },
		"'@' in it":            func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "me@home" },
		`'\n' in it`:           func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "a\nb" },
		`'é' in it`:            func(r *daraja.PushRequest, _ *daraja.Client) { r.AccountReference = "café" },
		"not an absolute":      func(r *daraja.PushRequest, _ *daraja.Client) { r.CallbackURL = "/c/abc" },
		"no user, query":       func(r *daraja.PushRequest, _ *daraja.Client) { r.CallbackURL = "https://example.co.ke/c?key=abc" },
		"without spaces":       func(r *daraja.PushRequest, _ *daraja.Client) { r.CallbackURL = "https://example.co.ke/c/a b" },
		"https only": func(r *daraja.PushRequest, c *daraja.Client) {
			r.CallbackURL = "http://example.co.ke/c/a"
			c.Shortcode.Environment = "production"
		},
		`no environment "prod"`: func(r *daraja.PushRequest, c *daraja.Client) { c.BaseURL = ""; c.Shortcode.Environment = "prod" },
		"phone: not a Kenyan mobile number; write it as 07XXXXXXXX, 01XXXXXXXX or 2547XXXXXXXX; amount: -1": func(r *daraja.PushRequest, _ *daraja.Client) { r.Phone = ""; r.Amount = -1 },
	} {
		r := order
		own := &daraja.Client{BaseURL: c.BaseURL, Shortcode: c.Shortcode}
		change(&r, own)
		_, err := own.Push(t.Context(), r)
		outcome, _, desc := daraja.RefusalOutcome(err)
		if err == nil || !strings.Contains(err.Error(), name) || !daraja.Refused(err) || daraja.NotSent(err) || outcome != daraja.OutcomeRejected || !strings.Contains(desc, name) {
			t.Errorf("want it refused for %q, got %v (%s, %q)", name, err, outcome, desc)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("the error has several lines: %q", err)
		}
	}
}

func TestAckIsReadLoosely(t *testing.T) {
	for _, body := range []string{
		ack,
		`{"merchantRequestID":"29115-34620561-1","checkoutRequestId":"ws_CO_191220191020363925","ResponseCode":0}`,
		`{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925","ResponseCode":"00000000"}`,
		`{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925"}`,
		`{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925","ResponseCode":0.0}`,
		"\ufeff" + ack + "\n\x00",
	} {
		for _, status := range []int{200, 201} {
			if got, err := connect(t, answering(status, body)).Push(t.Context(), order); err != nil || got.MerchantRequestID != "29115-34620561-1" || got.CheckoutRequestID != asked {
				t.Errorf("%d %s: %+v, %v", status, body, got, err)
			}
		}
	}
}

func TestPushThatNeverLeftIsNotSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	_ = listener.Close()
	c := &daraja.Client{BaseURL: nobody, Shortcode: till}
	wantNotSent(t, "nobody listens where the token is given out", c)

	withToken := httptest.NewServer(answering(200, ack))
	defer withToken.Close()
	tokens := daraja.NewTokens(withToken.URL, till.ConsumerKey, till.ConsumerSecret, nil)
	wantNotSent(t, "nobody listens where pushes are taken", &daraja.Client{BaseURL: nobody, Shortcode: till, Tokens: tokens})

	secure := httptest.NewUnstartedServer(answering(200, ack))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	secure.StartTLS()
	defer secure.Close()
	wantNotSent(t, "its certificate is nobody's", &daraja.Client{BaseURL: secure.URL, Shortcode: till, Tokens: tokens})

	for _, status := range []int{500, 503, 429, 200, 302} {
		page := connect(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>busy")
		})
		wantNotSent(t, fmt.Sprintf("instead of a token there is a page with %d", status), page)
	}
	for _, body := range []string{string(payload(t, "api_error_400_008_02_grant_type")), `{"errorCode":"401.001.01","errorMessage":"Invalid credentials"}`, ""} {
		_, err := connect(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400); _, _ = io.WriteString(w, body) }).Push(t.Context(), order)
		if outcome, _, _ := daraja.RefusalOutcome(err); !daraja.Refused(err) || daraja.NotSent(err) || outcome != daraja.OutcomeRejected {
			t.Errorf("the token is refused for good: %v is %s", err, outcome)
		}
	}

	for _, token := range []string{"two\nlines", "naïve", strings.Repeat("x", 9000)} {
		quoted, _ := json.Marshal(token)
		body := `{"access_token":` + string(quoted) + `,"expires_in":3599}`
		wantNotSent(t, "the token is none", connect(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, body) }))
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = connect(t, answering(200, ack)).Push(gone, order)
	if !daraja.NotSent(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("who asked is gone before anything was: %v", err)
	}
}

func wantNotSent(t *testing.T, because string, c *daraja.Client) {
	t.Helper()
	_, err := c.Push(t.Context(), order)
	if outcome, _, _ := daraja.RefusalOutcome(err); !daraja.Refused(err) || !daraja.NotSent(err) || outcome != daraja.OutcomeNotSent {
		t.Errorf("want it not sent because %s; it is %s: %v", because, outcome, err)
	}
}

func TestPushThatLeftAndWasNotAnsweredIsAmbiguous(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"the connection closes after the request": func(net.Conn) {},
		"the connection closes within the answer": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{\"Merch") },
		"the connection closes within a 400": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 400\r\n\r\n{\"errorCode\":\"400.002.02\"}")
		},
		"the answer is not HTTP": func(c net.Conn) { _, _ = io.WriteString(c, "hodi?\r\n\r\n") },
	} {
		var pushes atomic.Int32
		c := connect(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				answering(200, "")(w, r)
				return
			}
			pushes.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			end(conn)
			_ = conn.Close()
		})
		_, err := c.Push(t.Context(), order)
		if err == nil || daraja.Refused(err) || daraja.NotSent(err) {
			t.Errorf("%s: %v; want it ambiguous", name, err)
		}
		if n := pushes.Load(); n != 1 {
			t.Errorf("%s: it was sent %d times", name, n)
		}
	}
}

// A RoundTripper that tells its trace nothing proves nothing about what it has sent.
func TestTransportThatSaysNothingIsNotBelievedToHaveSentNothing(t *testing.T) {
	tokens := daraja.NewTokens(connect(t, answering(200, "")).BaseURL, "key-1", "secret-1", nil)
	c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, Tokens: tokens, HTTP: &http.Client{Transport: silent{}}}
	if _, err := c.Push(t.Context(), order); err == nil || daraja.Refused(err) {
		t.Errorf("%v; want it ambiguous", err)
	}
}

type silent struct{}

func (silent) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("lost on the way")
}

func TestPushWaitsLongForItsAnswerAndThenIsAmbiguous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delay time.Duration
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				_, _ = io.Copy(io.Discard, r.Body)
				select {
				case <-time.After(delay):
				case <-r.Context().Done():
				}
			}
			answering(200, ack)(w, r)
		})
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		delay = 30 * time.Second
		if _, err := c.Push(t.Context(), order); err != nil {
			t.Errorf("an answer after 30 s: %v", err)
		}
		delay = time.Hour
		began := time.Now()
		_, err := c.Push(t.Context(), order)
		if err == nil || daraja.Refused(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer within an hour: %v; want it ambiguous", err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it waited for %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := c.Push(ctx, order); err == nil || daraja.Refused(err) {
			t.Errorf("who asked gave up after the request had left: %v; want it ambiguous", err)
		}
	})
}

func TestPushWhoseAnswerDripsIsGivenUpAndAmbiguous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				answering(200, "")(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(400)
			for i := 0; r.Context().Err() == nil; i++ {
				_, _ = io.WriteString(w, ack[i%len(ack):][:1])
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
				}
			}
		})
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		began := time.Now()
		_, err := c.Push(t.Context(), order)
		if took := time.Since(began); took > time.Minute || daraja.Refused(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v; want it ambiguous, for want of time", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		if _, err := c.Push(ctx, order); daraja.Refused(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("who asked gave up: %v; want it ambiguous, and to say so", err)
		}
	})
}

func TestPushIntoACutNetworkIsNotSentEvenRightAfterOneThatWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, hc := serve(t, answering(200, ack))
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		if _, err := c.Push(t.Context(), order); err != nil {
			t.Fatal(err)
		}
		m.setCut(&net.OpError{Op: "dial", Err: errors.New("network is unreachable")})
		wantNotSent(t, "the network is cut and no connection is kept", c)
		m.setCut(nil)
		if _, err := c.Push(t.Context(), order); err != nil {
			t.Errorf("the network is back: %v", err)
		}
	})
}

func TestForbiddenWordsAreFound(t *testing.T) {
	for address, want := range map[string]string{"https://hooks.example.co.ke/c/0123456789abcdef": "", "https://x.co.ke/MPESA/c": "mpesa", "https://x.co.ke/m-pesa": "m-pesa",
		"https://safaricom.x.co.ke": "safaricom", "https://x.co.ke/executive": "exec", "https://x.co.ke/exe": "exe", "https://mysqlshop.co.ke": "sql", "https://x.co.ke/Query": "query"} {
		if got := daraja.ForbiddenWord(address); got != want {
			t.Errorf("in %s the word %q is found, want %q", address, got, want)
		}
	}
}
