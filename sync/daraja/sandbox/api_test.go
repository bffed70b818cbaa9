package sandbox_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

func (r reply) refusal() string {
	var e struct{ RequestID, ErrorCode, ErrorMessage string }
	if json.Unmarshal([]byte(r.body), &e) != nil || e.RequestID == "" {
		return "no envelope: " + r.body
	}
	return fmt.Sprintf("%d %s %s", r.status, e.ErrorCode, e.ErrorMessage)
}

func TestAPushIsRefusedInTheWordsOfTheRealThing(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		for _, test := range []struct {
			because string
			changes []any
			want    string
		}{
			{"the shortcode is missing", []any{"BusinessShortCode", ""}, "400 400.002.02 Bad Request - Invalid BusinessShortCode"},
			{"the shortcode is no number", []any{"BusinessShortCode", "17437x"}, "400 400.002.02 Bad Request - Invalid BusinessShortCode"},
			{"nobody has the shortcode", []any{"BusinessShortCode", 600000}, "500 500.001.1001 Merchant does not exist"},
			{"the timestamp is no date", []any{"Timestamp", "20261302103000"}, "400 400.002.02 Bad Request - Invalid Timestamp"},
			{"the timestamp is not that of the password", []any{"Timestamp", "20261002103001"}, "500 500.001.1001 Wrong credentials"},
			{"the password is missing", []any{"Password", nil}, "400 400.002.02 Bad Request - Invalid Password"},
			{"the password is wrong", []any{"Password", "cGFzcw=="}, "500 500.001.1001 Wrong credentials"},
			{"the transaction type is unknown", []any{"TransactionType", "CustomerPayBill"}, "400 400.002.02 Bad Request - Invalid TransactionType"},
			{"the amount is nothing", []any{"Amount", 0}, "400 400.002.02 Bad Request - Invalid Amount"},
			{"the amount has cents", []any{"Amount", "10.50"}, "400 400.002.02 Bad Request - Invalid Amount"},
			{"the amount has a sign", []any{"Amount", "+10"}, "400 400.002.02 Bad Request - Invalid Amount"},
			{"the amount is above the limit", []any{"Amount", 250001}, "400 400.002.02 Bad Request - Invalid Amount"},
			{"the payer is no phone", []any{"PartyA", "0708374149"}, "400 400.002.02 Bad Request - Invalid PartyA"},
			{"the payee is no shortcode", []any{"PartyB", "shop"}, "400 400.002.02 Bad Request - Invalid PartyB"},
			{"the phone has a plus", []any{"PhoneNumber", "+254708374149"}, "400 400.002.02 Bad Request - Invalid PhoneNumber"},
			{"the address is none", []any{"CallBackURL", "shop.test/c"}, "400 400.002.02 Bad Request - Invalid CallBackURL"},
			{"the address has a space", []any{"CallBackURL", "https://shop.test/c d"}, "400 400.002.02 Bad Request - Invalid CallBackURL"},
			{"the address has a forbidden word", []any{"CallBackURL", "https://shop.test/Mpesa/1"}, "400 400.003.02 Bad Request - Invalid CallBackURL - URL has the word MPESA"},
			{"the host has a forbidden word", []any{"CallBackURL", "https://mysql.test/c"}, "400 400.003.02 Bad Request - Invalid CallBackURL - URL has the word SQL"},
			{"the reference is missing", []any{"AccountReference", " "}, "400 400.002.02 Bad Request - Invalid AccountReference"},
		} {
			r, err := b.tryPush(test.changes...)
			if err != nil {
				b.t.Fatal(err)
			}
			if got := r.refusal(); got != test.want {
				b.t.Errorf("when %s: %s; want %s", test.because, got, test.want)
			}
		}
		for _, word := range []string{"m-pesa", "safaricom", "exe", "exec", "cmd", "sql", "query"} {
			r, err := b.tryPush("CallBackURL", "https://shop.test/"+word+"/1")
			if err != nil || r.status != 400 || !strings.Contains(r.body, "400.003.02") {
				b.t.Errorf("an address with %q: %d %s", word, r.status, r.body)
			}
		}
		if st := b.state(); len(st.Prompts)+len(st.Pending)+len(st.History) != 0 {
			b.t.Error("a refused push reached the phone")
		}
	})
}

func TestACallIsRefusedBeforeItsBodyIsRead(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		const path = "/mpesa/stkpush/v1/processrequest"
		header := b.authorised()
		changed := func(name, value string) http.Header {
			h := header.Clone()
			h.Set(name, value)
			return h
		}
		for _, test := range []struct {
			because      string
			method, path string
			header       http.Header
			body         string
			want         string
		}{
			{"it is a GET", "GET", path, header, "", "405 405.001 Method Not Allowed"},
			{"the query is a GET", "GET", "/mpesa/stkpushquery/v1/query", header, "", "405 405.001 Method Not Allowed"},
			{"there is no such API", "POST", "/mpesa/stkpush/v2/processrequest", header, "{}", "404 404.001.01 Resource not found"},
			{"it has no token", "POST", path, http.Header{"Content-Type": {"application/json"}}, encode(order()), "404 404.001.03 Invalid Access Token"},
			{"its token is unknown, which is echoed", "POST", path, changed("Authorization", "Bearer abc"), encode(order()), "401 401.002.01 Error Occurred - Invalid Access Token - abc"},
			{"its type is not JSON", "POST", path, changed("Content-Type", "text/plain"), encode(order()), "400 400.002.02 Bad Request - Invalid BusinessShortCode"},
			{"it has no type", "POST", path, changed("Content-Type", ""), encode(order()), "400 400.002.02 Bad Request - Invalid BusinessShortCode"},
			{"it is not JSON", "POST", path, header, "BusinessShortCode=174379", "400 400.002.05 Invalid Request Payload"},
			{"it is too long", "POST", path, header, `{"x":"` + strings.Repeat("x", 70<<10) + `"}`, "400 400.002.05 Invalid Request Payload"},
		} {
			if got := b.call(test.method, test.path, test.header, test.body).refusal(); got != test.want {
				b.t.Errorf("when %s: %s; want %s", test.because, got, test.want)
			}
		}
		for because, h := range map[string]http.Header{
			"the type has a charset, and capitals":  changed("Content-Type", "Application/JSON; charset=utf-8"),
			"the scheme is written small":           changed("Authorization", strings.Replace(header.Get("Authorization"), "Bearer", "bearer", 1)),
			"there are two spaces before the token": changed("Authorization", strings.Replace(header.Get("Authorization"), " ", "  ", 1)),
		} {
			if r := b.call("POST", path, h, encode(order())); r.status != 200 && !strings.Contains(r.body, "Unable to lock subscriber") {
				b.t.Errorf("when %s: %d %s", because, r.status, r.body)
			}
		}
	})
}

func TestATokenIsGivenForKeyAndSecret(t *testing.T) {
	basic := func(key, secret string) http.Header {
		return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"+secret))}}
	}
	right := basic(sandbox.DefaultConsumerKey, sandbox.DefaultConsumerSecret)
	inBubble(t, fast(), func(b *bench) {
		for _, test := range []struct {
			because, method, query string
			header                 http.Header
			want                   string
		}{
			{"it is a POST", "POST", "?grant_type=client_credentials", right, "405 405.001 Method Not Allowed"},
			{"the grant type is missing", "GET", "", right, "400 400.008.02 Invalid grant type passed"},
			{"the grant type is another", "GET", "?grant_type=password", right, "400 400.008.02 Invalid grant type passed"},
			{"there is no key", "GET", "?grant_type=client_credentials", nil, "400 400.008.01 Invalid Authentication passed"},
			{"the secret is wrong", "GET", "?grant_type=client_credentials", basic(sandbox.DefaultConsumerKey, "x"), "400 400.008.01 Invalid Authentication passed"},
		} {
			if got := b.call(test.method, "/oauth/v1/generate"+test.query, test.header, "").refusal(); got != test.want {
				b.t.Errorf("when %s: %s; want %s", test.because, got, test.want)
			}
		}
		r := b.call("GET", "/oauth/v1/generate?grant_type=client_credentials", right, "")
		if r.member("expires_in") != "3599" || len(r.member("access_token")) != 30 {
			b.t.Errorf("not a token as Daraja gives it: %s", r.body)
		}
		first := b.login()
		b.login()
		b.token = first
		b.push()
		time.Sleep(3598 * time.Second)
		if r, _ := b.tryPush(); r.status != 200 {
			b.t.Errorf("a token was refused before its time: %s", r.body)
		}
		b.answer("cancel")
		time.Sleep(time.Second)
		if r, _ := b.tryPush(); r.refusal() != "404 404.001.03 Invalid Access Token" {
			b.t.Errorf("an expired token: %s", r.body)
		}
	})
	exclusive := fast()
	exclusive.OneToken, exclusive.TextExpiry = true, true
	inBubble(t, exclusive, func(b *bench) {
		b.token = b.login()
		if r := b.call("GET", "/oauth/v1/generate?grant_type=client_credentials", right, ""); r.member("expires_in") != `"3599"` {
			b.t.Errorf("the expiry is not a string: %s", r.body)
		}
		if r, _ := b.tryPush(); r.status != 401 {
			b.t.Errorf("a new token did not end the one before: %d %s", r.status, r.body)
		}
	})
}

func TestAPushIsAcceptedWithNumbersAndStrings(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		for _, number := range []any{"x", 1} {
			var changes []any
			if number == 1 {
				changes = []any{"BusinessShortCode", 174379, "Amount", 1234, "PartyA", json.Number(phone), "PartyB", 174379, "PhoneNumber", json.Number(phone), "Timestamp", json.Number("20261002103000")}
			}
			id := b.push(changes...)
			if !regexp.MustCompile(`^[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}[0-9]{4,7}$`).MatchString(id.merchant) {
				b.t.Errorf("MerchantRequestID %s has not the form of 2024", id.merchant)
			}
			// The bubble's clock starts at midnight UTC of 1 January 2000, which is 3 in the morning in Nairobi.
			if !regexp.MustCompile(`^ws_CO_0101200003[0-9]{7}708374149$`).MatchString(id.checkout) {
				b.t.Errorf("CheckoutRequestID %s has not the form of 2022", id.checkout)
			}
			b.answer("cancel")
		}
	})
}

func TestAPhoneHasOnePromptAtATime(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		b.push()
		const locked = "500 500.001.1001 Unable to lock subscriber, a transaction is already in process for the current subscriber"
		if r, _ := b.tryPush(); r.refusal() != locked {
			b.t.Errorf("while the prompt is on its way: %s", r.refusal())
		}
		time.Sleep(5 * time.Second)
		if r, _ := b.tryPush("Amount", 5); r.refusal() != locked {
			b.t.Errorf("while the prompt is live: %s", r.refusal())
		}
		b.push("PhoneNumber", "254700000001", "PartyA", "254700000001")
		b.control("/phone/answer", map[string]string{"outcome": "cancel", "phone": "0708 374 149"})
		b.push()
		time.Sleep(70 * time.Second)
		b.push()
	})
}

func TestOfManyPushesAtOnceEachPhoneGetsOne(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		header := b.authorised()
		var mu sync.Mutex
		accepted, ids := map[string]int{}, map[string]bool{}
		var all sync.WaitGroup
		for i := range 40 {
			number := fmt.Sprintf("25470000000%d", i%4)
			all.Go(func() {
				r, err := b.try("POST", "/mpesa/stkpush/v1/processrequest", header, encode(with(order(), "PartyA", number, "PhoneNumber", number)))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					b.t.Error(err)
				case r.status == 200:
					accepted[number]++
					ids[r.member("MerchantRequestID")] = true
				case !strings.Contains(r.body, "Unable to lock subscriber"):
					b.t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
		all.Wait()
		for number, n := range accepted {
			if n != 1 {
				b.t.Errorf("%s has %d prompts", number, n)
			}
		}
		if len(accepted) != 4 || len(ids) != 4 {
			b.t.Errorf("%d phones were asked, by %d ids; want 4", len(accepted), len(ids))
		}
	})
}

func TestWhileAPromptIsLiveAQuerySaysNothingFinal(t *testing.T) {
	config := sandbox.Config{QueryPerMinute: -1}
	inBubble(t, config, func(b *bench) {
		id := b.push()
		if got := b.query(id.checkout).refusal(); got != "500 500.001.1001 The transaction is being processed" {
			b.t.Errorf("asked before the prompt is shown: %s", got)
		}
		time.Sleep(2 * time.Second)
		for i := 1; i <= 8; i++ {
			r := b.query(id.checkout)
			switch {
			case i%4 == 0:
				if r.refusal() != "500 500.001.1001 " {
					b.t.Errorf("query %d: %s", i, r.refusal())
				}
			case r.member("ResultCode") != `"4999"` || r.member("ResponseDescription") != `"The service request has been accepted successsfully"`:
				b.t.Errorf("query %d: %s", i, r.body)
			}
		}
		if got := b.query("ws_CO_010120000000000000708374149").refusal(); got != "500 500.001.1001 The transaction does not Exist" {
			b.t.Errorf("an unknown id: %s", got)
		}
		if got := b.query("12345").refusal(); got != "400 400.002.02 Bad Request - Invalid CheckoutRequestID" {
			b.t.Errorf("something that is no id: %s", got)
		}
		b.answer("approve")
		r := b.query(id.checkout)
		want := fmt.Sprintf(`{"ResponseCode":"0","ResponseDescription":"The service request has been accepted successsfully","MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":"0","ResultDesc":"The service request is processed successfully."}`, id.merchant, id.checkout)
		if r.body != want {
			b.t.Errorf("after the answer: %s; want %s", r.body, want)
		}
	})
}

func TestQueriesAreLetThroughOneByOne(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		id := b.push()
		time.Sleep(2 * time.Second)
		if r := b.query(id.checkout); r.status != 200 {
			b.t.Fatalf("the first query: %d %s", r.status, r.body)
		}
		const arrest = `{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{messagesPerPeriod=5, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}","detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}`
		if r := b.query(id.checkout); r.status != 429 || r.body != arrest {
			b.t.Errorf("the second query, at once: %d %s", r.status, r.body)
		}
		time.Sleep(11900 * time.Millisecond)
		if r := b.query(id.checkout); r.status != 429 {
			b.t.Errorf("a query within 12 s of the last: %d", r.status)
		}
		time.Sleep(100 * time.Millisecond)
		if r := b.query(id.checkout); r.status != 200 {
			b.t.Errorf("a query 12 s after the last: %d %s", r.status, r.body)
		}
		time.Sleep(time.Hour)
		b.token = b.login()
		b.query(id.checkout)
		if r := b.query(id.checkout); r.status != 429 {
			b.t.Errorf("an hour's silence saved up a burst: %d", r.status)
		}
	})
}

func TestAReplyCanBeLostSlowWrongOrAPage(t *testing.T) {
	for _, test := range []struct {
		behaviour string
		status    int
		body      string
		took      time.Duration
		prompts   int
	}{
		{`{"ack":"lost"}`, 0, "", 300 * time.Millisecond, 1},
		{`{"ack":"slow"}`, 200, `"ResponseCode":"0"`, 15 * time.Second, 1},
		{`{"ack":"slow","slow":3.5}`, 200, `"ResponseCode":"0"`, 3500 * time.Millisecond, 1},
		{`{"ack":"error"}`, 500, `"errorCode":"500.003.1001"`, 300 * time.Millisecond, 1},
		{`{"ack":"html"}`, 503, "Incapsula incident", 300 * time.Millisecond, 0},
	} {
		inBubble(t, sandbox.Config{}, func(b *bench) {
			b.authorised()
			b.behave(test.behaviour)
			before := time.Now()
			r, err := b.tryPush()
			if (err != nil) != (test.status == 0) || r.status != test.status || !strings.Contains(r.body, test.body) {
				b.t.Errorf("%s: %v, %d %s", test.behaviour, err, r.status, r.body)
			}
			if took := time.Since(before); took != test.took {
				b.t.Errorf("%s: after %v, want %v", test.behaviour, took, test.took)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := len(b.state().Prompts); got != test.prompts {
				b.t.Errorf("%s: %d prompts on the phone, want %d", test.behaviour, got, test.prompts)
			}
		})
	}
}
