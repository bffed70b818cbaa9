package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

func TestABadRequestIsRefusedAndNothingIsSent(t *testing.T) {
	s := open(t, false)
	for name, c := range map[string]struct{ body, kind string }{
		"nothing":                {`{}`, "bad-phone"},
		"no body":                {``, "bad-request"},
		"no object":              {`[1]`, "bad-request"},
		"no JSON":                {`hello`, "bad-request"},
		"bad phone":              {request("12345", 100, ""), "bad-phone"},
		"phone of elsewhere":     {request("+255712345678", 100, ""), "bad-phone"},
		"phone of a wrong type":  {`{"phoneNumber":{},"amount":100,"accountReference":"A"}`, "bad-request"},
		"no amount":              {`{"phoneNumber":"` + phone + `","accountReference":"A"}`, "bad-amount"},
		"open amount":            {`{"phoneNumber":"` + phone + `","amount":"open","accountReference":"A"}`, "bad-amount"},
		"cents":                  {`{"phoneNumber":"` + phone + `","amount":10.5,"accountReference":"A"}`, "bad-amount"},
		"zero":                   {request(phone, 0, ""), "bad-amount"},
		"negative":               {request(phone, -5, ""), "bad-amount"},
		"too much":               {request(phone, 250001, ""), "bad-amount"},
		"amount that is no sum":  {`{"phoneNumber":"` + phone + `","amount":"much","accountReference":"A"}`, "bad-request"},
		"no reference":           {`{"phoneNumber":"` + phone + `","amount":100}`, "bad-reference"},
		"blank reference":        {`{"phoneNumber":"` + phone + `","amount":100,"accountReference":"  "}`, "bad-reference"},
		"shortcode of elsewhere": {request(phone, 100, `,"shortcode":"other"`), "unknown-shortcode"},
		"body that is too long":  {`{"x":"` + strings.Repeat("x", 20<<10) + `"}`, "too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.do("POST", "/sessions/a/initiate", c.body)
			status := 400
			if c.kind == "too-large" {
				status = 413
			}
			s.want(a, status, c.kind)
			if a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("it is of type %q", a.header.Get("Content-Type"))
			}
			if strings.Contains(string(a.body), "12345") {
				t.Errorf("it repeats the number: %s", a.body)
			}
			if strings.Contains(string(a.body), "Go ") {
				t.Errorf("it speaks of the language that it is written in: %s", a.body)
			}
		})
	}
	s.want(s.do("POST", "/sessions/a/initiate", request(phone, 1, ""), "Idempotency-Key", strings.Repeat("k", 256)), 400, "bad-request")
	if n := s.daraja.count(); n != 0 {
		t.Errorf("%d pushes were sent", n)
	}
	var list struct{ Payments []push.Data }
	s.do("GET", "/payments", "").into(t, &list)
	if len(list.Payments) != 0 {
		t.Errorf("%d payments were made", len(list.Payments))
	}
}

func TestAPhoneNumberAndAnAmountAreReadInAnyForm(t *testing.T) {
	for _, c := range []string{
		`{"phoneNumber":"254708374149","amount":100,"accountReference":"A"}`,
		`{"phoneNumber":"+254 708 374 149","amount":"100","accountReference":"A"}`,
		`{"phoneNumber":"0708-374149","amount":100.00,"accountReference":7}`,
		`{"phoneNumber":254708374149,"amount":" 100 ","accountReference":"A","more":true}`,
	} {
		s := open(t, false)
		s.want(s.do("POST", "/sessions/a/initiate", c), 200, "")
		sent := s.daraja.pushes[0]
		if fmt.Sprint(sent["PhoneNumber"]) != phone || fmt.Sprint(sent["Amount"]) != "100" {
			t.Errorf("%s was sent as %v", c, sent)
		}
	}
}

func TestTheCallbackAddressNamesThePaymentAndSettlesIt(t *testing.T) {
	s := open(t, false)
	id := s.pay("a").data(t).PaymentID
	callback := s.daraja.callback(1)
	if !strings.HasPrefix(callback, s.base+"/c/") || !strings.Contains(callback, "/"+id) {
		t.Fatalf("the callback address is %s", callback)
	}
	a := s.do("POST", callback, paid(1, 100))
	if string(a.body) != `{"ResultCode":0,"ResultDesc":"Accepted"}` || a.status != 200 {
		t.Errorf("it answered %d %s", a.status, a.body)
	}
	if d := s.do("GET", "/payments/"+id, "").data(t); d.Status != push.Success || !d.AmountChecked {
		t.Errorf("the payment is %+v", d)
	}
	if d := s.do("GET", "/payments/fake-1", "").data(t); d.PaymentID != id {
		t.Errorf("its MerchantRequestID finds %+v", d)
	}
	s.want(s.do("GET", "/payments/nobody", ""), 404, "not-found")
}

func TestWhatDarajaAnswersDecidesWhatInitiateAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		code    int
		body    string
		err     error
		status  int
		state   push.Status
		outcome string
	}{
		"refused":            {400, `{"requestId":"r","errorCode":"400.002.02","errorMessage":"Bad Request - Invalid Amount"}`, nil, 200, push.Failed, "rejected"},
		"busy phone":         {500, `{"requestId":"r","errorCode":"500.001.1001","errorMessage":"Unable to lock subscriber, a transaction is already in process for the current subscriber"}`, nil, 200, push.Failed, "busy"},
		"no way to Daraja":   {0, "", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}, 200, push.Failed, "not_sent"},
		"internal error":     {503, `<html>Incapsula</html>`, nil, 202, push.Unknown, "unknown"},
		"connection cut":     {0, "", errors.New("unexpected EOF"), 202, push.Unknown, "unknown"},
		"200 that is HTML":   {200, `<html>ok</html>`, nil, 202, push.Unknown, "unknown"},
		"200 without ids":    {200, `{"ResponseCode":"0"}`, nil, 202, push.Unknown, "unknown"},
		"200 that says no":   {200, `{"ResponseCode":"1","ResponseDescription":"no"}`, nil, 200, push.Failed, "rejected"},
		"queued as expected": {200, ack(1), nil, 200, push.Pending, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, false)
			s.daraja.answer = func(int) (int, string, error) { return c.code, c.body, c.err }
			page := s.socket("/sessions/a/websocket")
			a := s.pay("a")
			d := a.data(t)
			if a.status != c.status || d.Status != c.state || d.Outcome != c.outcome || (d.Status != push.Pending && d.Reason == "") {
				t.Errorf("answered %d %s, want %d %s %s", a.status, a.body, c.status, c.state, c.outcome)
			}
			switch c.state {
			case push.Failed:
				page.next(push.PaymentCompleted, push.Failed)
			case push.Unknown:
				page.next(push.PaymentUpdate, push.Unknown)
				if strings.Contains(d.Reason, "checking") {
					t.Errorf("nobody can ask about it, but it says %q", d.Reason)
				}
			case push.Pending:
				page.next(push.STKInitiated, push.Pending)
			}
			if n := s.daraja.count(); n != 1 {
				t.Errorf("%d pushes were sent, want 1", n)
			}
		})
	}
}

func TestAnAmbiguousPushIsStillSettledByItsCallback(t *testing.T) {
	s := open(t, false)
	s.daraja.answer = func(int) (int, string, error) { return 0, "", errors.New("connection reset") }
	s.want(s.pay("a"), 202, "")
	s.want(s.pay("a"), 200, "") // its prompt may be live: nothing is sent, and the payment is answered as it stands
	if n := s.daraja.count(); n != 1 {
		t.Errorf("%d pushes were sent, want 1", n)
	}
	s.want(s.do("POST", s.daraja.callback(1), paid(1, 100)), 200, "")
	s.socket("/sessions/a/websocket").next(push.PaymentUpdate, push.Success)
}

func TestThePushGoesOnWhenTheBrowserHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.daraja.delay = 3 * time.Second
		page := s.socket("/sessions/a/websocket")
		ctx, hangUp := context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		if _, err := s.try(ctx, "POST", "/sessions/a/initiate", request(phone, 100, "")); err == nil {
			t.Fatal("the browser did not hang up")
		}
		page.next(push.STKInitiated, push.Pending)
		page.close()
	})
}

func TestOnePhoneHasOnePromptAndNobodyLearnsOfAnothersSale(t *testing.T) {
	s := open(t, false)
	first := s.do("POST", "/sessions/a/initiate", `{"phoneNumber":"`+phone+`","amount":777,"accountReference":"SECRET-1"}`).data(t)
	same := s.do("POST", "/sessions/a/initiate", `{"phoneNumber":"`+phone+`","amount":777,"accountReference":"SECRET-1"}`)
	s.want(same, 200, "")
	if same.data(t).PaymentID != first.PaymentID {
		t.Error("pressing twice made two payments")
	}
	for _, session := range []string{"a", "b"} {
		a := s.do("POST", "/sessions/"+session+"/initiate", request(phone, 5, ""))
		s.want(a, 409, "prompt-live")
		if a.header.Get("Retry-After") == "" {
			t.Error("it does not say when to try again")
		}
		for _, secret := range []string{"777", "SECRET", phone, first.PaymentID, "fake-1"} {
			if strings.Contains(string(a.body), secret) {
				t.Errorf("it tells of the other sale: %s", a.body)
			}
		}
	}
	s.want(s.do("POST", "/sessions/b/initiate", request(otherPhone, 5, "")), 200, "")
	if n := s.daraja.count(); n != 2 {
		t.Errorf("%d pushes were sent, want 2", n)
	}
}

func TestAfterUnknownChargingAgainMustBeMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.daraja.answer = func(n int) (int, string, error) {
			if n == 1 {
				return 503, "down", nil
			}
			return 0, "", nil
		}
		s.want(s.pay("a"), 202, "")
		time.Sleep(100 * time.Second)
		s.want(s.pay("a"), 409, "again-needed")
		s.want(s.do("POST", "/sessions/a/initiate", request(phone, 100, `,"again":true`)), 200, "")
	})
}

func TestAnIdempotencyKeyIsOnePayment(t *testing.T) {
	s := open(t, false)
	one := s.pay("a", "Idempotency-Key", "k1").data(t)
	s.hook("a", cancelled(1))
	two := s.pay("a", "Idempotency-Key", "k1")
	s.want(two, 200, "")
	if d := two.data(t); d.PaymentID != one.PaymentID || d.Status != push.Failed {
		t.Errorf("the repeated request answered %+v", d)
	}
	s.want(s.do("POST", "/sessions/a/initiate", request(phone, 99, ""), "Idempotency-Key", "k1"), 422, "key-reused")
	if n := s.daraja.count(); n != 1 {
		t.Errorf("%d pushes were sent, want 1", n)
	}
}

func TestWithoutACallbackAddressNothingIsSent(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) { c.AcceptCallbacks = false })
	a := s.pay("a")
	s.want(a, 503, "no-callback-address")
	if s.daraja.count() != 0 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d pushes were sent; %v", s.daraja.count(), a.header)
	}
	s.want(s.do("POST", "/payments", `{"amount":5}`), 503, "no-callback-address")
	var list struct{ Payments []push.Data }
	s.do("GET", "/payments", "").into(t, &list)
	if len(list.Payments) != 0 {
		t.Errorf("%d payments were made", len(list.Payments))
	}
}

func TestASessionThatTheAppOpenedIsOneCheckoutOnItsTerms(t *testing.T) {
	s := open(t, false, outside)
	opened := s.do("POST", "/sessions", `{"amount":150,"accountReference":"INV-9"}`, "Authorization", "Bearer "+s.key)
	s.want(opened, 201, "")
	var session struct{ ID, URL, WebSocket, Events, Initiate string }
	opened.into(t, &session)
	if len(session.ID) != 32 || session.URL != s.base+"/pay/"+session.ID || !strings.HasPrefix(session.WebSocket, "ws://") || opened.header.Get("Location") != s.base+"/sessions/"+session.ID {
		t.Errorf("it answered %s", opened.body)
	}
	path := "/sessions/" + session.ID
	var state struct {
		ID       push.Cursor
		Session  string
		Checkout struct {
			Amount           int
			AccountReference string
		}
	}
	s.do("GET", path, "").into(t, &state)
	if state.Checkout.Amount != 150 || state.Checkout.AccountReference != "INV-9" || state.Session != session.ID {
		t.Errorf("the page sees %+v", state)
	}

	s.want(s.do("POST", path+"/initiate", request(phone, 100, "")), 400, "other-amount")
	s.want(s.do("POST", path+"/initiate", `{"phoneNumber":"`+phone+`","accountReference":"OTHER"}`), 400, "other-reference")
	s.want(s.do("POST", path+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
	if sent := s.daraja.pushes[0]; fmt.Sprint(sent["Amount"]) != "150" || sent["AccountReference"] != "INV-9" {
		t.Errorf("sent %v", sent)
	}
	s.want(s.do("POST", s.daraja.callback(1), paid(1, 150)), 200, "")
	again := s.do("POST", path+"/initiate", `{"phoneNumber":"`+phone+`"}`)
	s.want(again, 200, "")
	if again.data(t).Status != push.Success || s.daraja.count() != 1 {
		t.Errorf("a paid checkout was asked for again: %s", again.body)
	}

	for body, kind := range map[string]string{
		`{"accountReference":"A"}`:                              "bad-request",
		`{"amount":5}`:                                          "bad-reference",
		`{"amount":0.5,"accountReference":"A"}`:                 "bad-amount",
		`{"amount":5,"accountReference":"A","shortcode":"nix"}`: "unknown-shortcode",
	} {
		s.want(s.do("POST", "/sessions", body, "Authorization", "Bearer "+s.key), 400, kind)
	}
	free := s.do("POST", "/sessions", `{"amount":"open","accountReference":"TIP"}`, "Authorization", "Bearer "+s.key)
	free.into(t, &session)
	s.want(s.do("POST", "/sessions/"+session.ID+"/initiate", `{"phoneNumber":"`+phone+`","amount":20}`), 200, "")
}

func TestWithSeveralShortcodesOneMustBeNamed(t *testing.T) {
	s := open(t, false, func(c *sidecar.Config) {
		c.Shortcodes = append(c.Shortcodes, daraja.Shortcode{Name: "till", Environment: "production", Kind: "till", Number: "600000"})
		c.DarajaURL = "http://daraja.test"
	})
	s.want(s.pay("a"), 400, "unknown-shortcode")
	a := s.do("POST", "/sessions/a/initiate", request(phone, 100, `,"shortcode":"till"`))
	s.want(a, 200, "")
	if a.data(t).Shortcode != "600000" {
		t.Errorf("it answered %s", a.body)
	}

	// Messages call it by its number, so that will do too.
	s.want(s.do("POST", "/sessions/b/initiate", request(otherPhone, 100, `,"shortcode":"600000"`)), 200, "")
	var list struct{ Payments []push.Data }
	for shortcode, want := range map[string]int{"till": 2, "600000": 2, "duka": 0, "174379": 0, "gone": 0} {
		s.do("GET", "/payments?shortcode="+shortcode, "").into(t, &list)
		if len(list.Payments) != want {
			t.Errorf("of shortcode %s there are %d payments, want %d", shortcode, len(list.Payments), want)
		}
	}
}

func TestThePushOfTheAppItselfIsFollowedToo(t *testing.T) {
	s := open(t, false, outside)
	auth := []string{"Authorization", "Bearer " + s.key}
	a := s.do("POST", "/payments", `{"MerchantRequestID":"fake-1","CheckoutRequestID":"ws_CO_1","ResponseCode":"0","ResponseDescription":"Success","CustomerMessage":"ok","amount":100,"phoneNumber":"`+phone+`","accountReference":"A"}`, auth...)
	s.want(a, 201, "")
	var registered struct {
		push.Data
		Session, CallbackURL string
	}
	a.into(t, &registered)
	if registered.Session == "" || registered.CallbackURL != "" || registered.Status != push.Pending {
		t.Errorf("it answered %s", a.body)
	}
	inbox := s.callbackBase(auth)
	s.want(s.do("POST", inbox, paid(1, 100)), 200, "")
	if d := s.do("GET", "/payments/fake-1", "", auth...).data(t); d.Status != push.Success {
		t.Errorf("the payment is %+v", d)
	}

	// Reserved first: then its callback has an address of its own.
	a = s.do("POST", "/payments", `{"amount":7,"phoneNumber":"`+phone+`"}`, auth...)
	s.want(a, 201, "")
	a.into(t, &registered)
	if !strings.HasPrefix(registered.CallbackURL, inbox+"/") {
		t.Fatalf("it answered %s", a.body)
	}
	s.want(s.do("POST", "/payments", `{"paymentId":"`+registered.PaymentID+`","MerchantRequestID":"fake-2","CheckoutRequestID":"ws_CO_2"}`, auth...), 201, "")
	s.want(s.do("POST", registered.CallbackURL, paid(2, 7)), 200, "")
	if d := s.do("GET", "/payments/fake-2", "", auth...).data(t); d.Status != push.Success || d.PaymentID != registered.PaymentID {
		t.Errorf("the payment is %+v", d)
	}

	for body, kind := range map[string]string{
		`{"MerchantRequestID":"x"}`: "bad-request",
		`{"paymentId":"x"}`:         "bad-request",
		`{"amount":"open"}`:         "bad-amount",
		`{"phoneNumber":"1"}`:       "bad-phone",
		`{"session":"../x"}`:        "bad-session",
		`{"amount":-5}`:             "bad-amount",
		`{"requestId":"1-1","errorCode":"404.001.03","errorMessage":"Invalid Access Token"}`: "refused-push",
		`{"MerchantRequestID":"fake-9","CheckoutRequestID":"ws_CO_9","ResponseCode":"1"}`:    "refused-push",
		`{"MerchantRequestID":"a","CheckoutRequestID":"` + strings.Repeat("x", 200) + `"}`:   "bad-request",
	} {
		s.want(s.do("POST", "/payments", body, auth...), 400, kind)
	}
}

func (s *shop) callbackBase(auth []string) string {
	s.t.Helper()
	var status struct{ Callback string }
	s.do("GET", "/status", "", auth...).into(s.t, &status)
	return status.Callback
}

func TestPaymentsAreListedAndFound(t *testing.T) {
	s := open(t, false)
	today := func() string { return time.Now().In(daraja.Nairobi).Format(time.DateOnly) }
	first := today()
	for i := 1; i <= 3; i++ {
		s.want(s.do("POST", fmt.Sprintf("/sessions/s%d/initiate", i), request(fmt.Sprintf("25470000000%d", i), i, "")), 200, "")
	}
	s.hook("s1", paid(1, 1))
	s.hook("s2", cancelled(2))
	var list struct {
		Payments []struct {
			push.Data
			Session string
		}
		Next string
		Head push.Cursor
	}
	s.do("GET", "/payments?limit=2", "").into(t, &list)
	if len(list.Payments) != 2 || list.Next == "" || list.Payments[0].Session != "s3" || list.Head.IsZero() {
		t.Fatalf("the first page is %+v", list)
	}
	next := list.Next
	list.Next = ""
	s.do("GET", "/payments?limit=2&after="+next, "").into(t, &list)
	if len(list.Payments) != 1 || list.Next != "" || list.Payments[0].Session != "s1" {
		t.Errorf("the second page is %+v", list)
	}
	for query, want := range map[string]int{
		"status=SUCCESS": 1, "status=FAILED": 1, "status=PENDING": 1, "status=UNKNOWN": 0, "session=s2": 1,
		"from=" + first + "&to=" + first: 3, "to=2020-01-01": 0, "from=2100-01-01T00:00:00Z": 0,
		"from=today&to=today": 3, "from=yesterday": 3, "to=yesterday": 0,
	} {
		s.do("GET", "/payments?"+query, "").into(t, &list)
		if len(list.Payments) != want && today() == first { // else it has become tomorrow
			t.Errorf("%s finds %d, want %d", query, len(list.Payments), want)
		}
	}
	for _, query := range []string{"status=PAID", "limit=0", "limit=x", "limit=100000", "from=tomorrow", "after=nonsense"} {
		s.want(s.do("GET", "/payments?"+query, ""), 400, "bad-request")
	}
	for body, want := range map[string]int{
		`{"receipt":"` + receiptDay + `7XK4101"}`: 1, `{"receipt":"` + strings.ToLower(receiptDay) + `7xk4101 "}`: 1, `{"checkoutRequestId":"ws_CO_2"}`: 1,
		`{"phoneNumber":"0700 000 003"}`: 1, `{"receipt":"NOPE"}`: 0,
	} {
		s.do("POST", "/payments/search", body).into(t, &list)
		if len(list.Payments) != want {
			t.Errorf("%s finds %d, want %d", body, len(list.Payments), want)
		}
	}
	s.want(s.do("POST", "/payments/search", `{}`), 400, "bad-request")
	if a := s.do("DELETE", "/payments", ""); a.status != http.StatusMethodNotAllowed || a.kind() != "method-not-allowed" || a.header.Get("Allow") == "" {
		t.Errorf("DELETE answered %d %s", a.status, a.body)
	}
	s.want(s.do("GET", "/nowhere", ""), 404, "not-found")
}

func TestTheCheckoutPageLearnsWhatIsToBePaid(t *testing.T) {
	s := open(t, false, outside, func(c *sidecar.Config) { c.Businesses = map[string]string{"duka": "Duka la Hodi"} })
	var about struct {
		Session, Business                 string
		Amount                            *int
		AccountReference, Shortcode, Kind string
		Dev                               bool
	}
	id := s.opened("150")
	s.do("GET", "/pay/"+id+"/about", "").into(t, &about)
	if about.Session != id || about.Business != "Duka la Hodi" || about.Amount == nil || *about.Amount != 150 || about.AccountReference != "INV-1" || about.Shortcode != "174379" || about.Kind != "paybill" || about.Dev {
		t.Errorf("it learns %+v", about)
	}
	about.Amount = nil
	s.do("GET", "/pay/"+s.opened(`"open"`)+"/about", "").into(t, &about)
	if about.Amount != nil {
		t.Errorf("it learns %+v", about)
	}
	s.want(s.do("GET", "/pay/nobody/about", ""), 404, "no-such-session")
}
