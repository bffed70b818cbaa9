package daraja_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestQueryAnswersByWhatTheyMean(t *testing.T) {
	read := func(name string) string { return string(payload(t, name)) }
	for _, test := range []struct {
		name     string
		status   int
		body     string
		asked    string
		want     daraja.Answer
		inFlight bool
	}{
		{"paid", 200, read("api_stkpushquery_success_string_codes"), "ws_CO_13012021093521236557", daraja.Answer{ResultCode: "0", ResultDesc: "The service request is processed successfully.", MerchantRequestID: "22205-34066-1"}, false},
		{"cancelled", 200, read("api_stkpushquery_1032_capital_c_2026"), "ws_CO_021020261805069708374149", daraja.Answer{ResultCode: "1032", ResultDesc: "Request Cancelled by user.", MerchantRequestID: "5dbd-4f93-a478-41cdaf2b9acd86874"}, false},
		{"a number", 200, `{"ResultCode":1037,"ResultDesc":"DS timeout"}`, asked, daraja.Answer{ResultCode: "1037", ResultDesc: "DS timeout"}, false},
		{"in flight", 200, read("api_stkpushquery_4999_still_processing_2026"), "ws_CO_021020261810465708374149", daraja.Answer{}, true},
		{"being processed", 500, read("api_stkpushquery_error_being_processed_2018"), asked, daraja.Answer{}, true},
		{"being processed, with status 200", 200, read("api_stkpushquery_error_being_processed_2018"), asked, daraja.Answer{}, true},
		{"does not exist, at random", 500, read("api_stkpushquery_error_does_not_exist_2026"), asked, daraja.Answer{}, true},
		{"nothing said", 500, `{"requestId":"1","errorCode":"500.001.1001","errorMessage":""}`, asked, daraja.Answer{}, true},
		{"too early", 400, read("api_stkpushquery_error_invalid_checkout_id_2026"), asked, daraja.Answer{}, true},
		{"wrong passkey", 500, `{"requestId":"1","errorCode":"500.001.1001","errorMessage":"Wrong credentials"}`, asked, daraja.Answer{}, false},
		{"wrong shortcode", 400, read("api_error_400_002_02_invalid_shortcode"), asked, daraja.Answer{}, false},
		{"spike arrest", 429, read("api_error_429_spike_arrest_fault"), asked, daraja.Answer{}, false},
		{"a page", 200, "<html>", asked, daraja.Answer{}, false},
		{"no result code", 200, ack, asked, daraja.Answer{}, false},
		{"a success of a request that was not accepted", 200, `{"ResponseCode":"1","CheckoutRequestID":"` + asked + `","ResultCode":"0"}`, asked, daraja.Answer{}, false},
		{"two results", 200, `{"ResponseCode":"0","CheckoutRequestID":"` + asked + `","ResultCode":"1032","resultCode":"0"}`, asked, daraja.Answer{}, false},
		{"a result that is no code", 200, `{"CheckoutRequestID":"` + asked + `","ResultCode":false}`, asked, daraja.Answer{}, false},
		{"a result of 5 kB", 200, `{"CheckoutRequestID":"` + asked + `","ResultCode":"` + strings.Repeat("1", 5000) + `"}`, asked, daraja.Answer{}, false},
		{"a server error with a result code", 500, `{"ResultCode":"1032"}`, asked, daraja.Answer{}, false},
		{"about another payment", 200, read("api_stkpushquery_success_string_codes"), asked, daraja.Answer{}, false},
	} {
		got, err := connect(t, answering(test.status, test.body)).Query(t.Context(), test.asked)
		if got != test.want || daraja.InFlight(err) != test.inFlight || (err == nil) != (test.want != daraja.Answer{}) {
			t.Errorf("%s: %+v, in flight %v, %v; want %+v", test.name, got, daraja.InFlight(err), err, test.want)
		}
		if wait, ok := daraja.RetryAfter(err); ok != (test.status == 429) || ok && wait != 12*time.Second {
			t.Errorf("%s: it wants to be left alone for %s (%v)", test.name, wait, ok)
		}
	}
}

func TestQueryAsksWithThePasswordAndNothingMore(t *testing.T) {
	var body map[string]string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_ = json.NewDecoder(r.Body).Decode(&body)
			if r.URL.Path != "/mpesa/stkpushquery/v1/query" {
				t.Errorf("it asks %s", r.URL)
			}
		}
		answering(200, `{"CheckoutRequestID":"`+asked+`","ResultCode":"0"}`)(w, r)
	})
	if _, err := c.Query(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	password := base64.StdEncoding.EncodeToString([]byte("174379passkey-0003" + body["Timestamp"]))
	if len(body) != 4 || body["BusinessShortCode"] != "174379" || body["CheckoutRequestID"] != asked || body["Password"] != password {
		t.Errorf("the query is %v", body)
	}
	if _, err := c.Query(t.Context(), ""); err == nil {
		t.Error("it asked about nothing")
	}
}

func TestRetryAfterHeaderIsBelievedWithinReason(t *testing.T) {
	for header, want := range map[string]time.Duration{"30": 30 * time.Second, "0": time.Second, "999999999": time.Hour, "soon": 12 * time.Second, "Thu, 01 Jan 1970 00:00:00 GMT": time.Second} {
		c := connect(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				w.Header().Set("Retry-After", header)
			}
			answering(429, `{"fault":{"faultstring":"slow down","detail":{"errorcode":"x"}}}`)(w, r)
		})
		_, err := c.Query(t.Context(), asked)
		if got, ok := daraja.RetryAfter(err); !ok || got != want {
			t.Errorf("Retry-After %q is read as %s (%v), want %s", header, got, ok, want)
		}
	}
	if _, ok := daraja.RetryAfter(errors.New("other")); ok || daraja.Refused(errors.New("other")) || daraja.InFlight(nil) {
		t.Error("an error of somebody else says nothing")
	}
}
