package daraja_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestOnlyADefiniteRefusalCountsAsRefused(t *testing.T) {
	const html = "<html><head><title>503</title></head><body>Request unsuccessful. Incapsula incident ID: 77-1</body></html>"
	soap := `{"Envelope":{"Body":{"Fault":{"faultcode":"soapenv:Server","faultstring":"Internal error"}}}}`
	type verdict struct {
		refused  bool
		outcome  daraja.Outcome
		code     string
		envelope string
		retry    time.Duration
	}
	rejected := func(code string) verdict { return verdict{true, daraja.OutcomeRejected, code, "daraja", 0} }
	perhaps := func(code, envelope string) verdict { return verdict{false, daraja.OutcomeUnknown, code, envelope, 0} }
	coded := func(code, message string) string {
		return `{"requestId":"19072-295731-2","errorCode":"` + code + `","errorMessage":"` + message + `"}`
	}
	read := func(name string) string { return string(payload(t, name)) }
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   verdict
	}{
		{"callback address", 400, read("api_error_400_002_02_invalid_callback_url"), rejected("400.002.02")},
		{"shortcode", 400, read("api_error_400_002_02_invalid_shortcode"), rejected("400.002.02")},
		{"mpesa in the address", 400, read("api_error_400_003_02_url_has_word_mpesa"), rejected("400.003.02")},
		{"duplicate id, of another API", 500, read("api_error_500_002_1001_duplicate_originator"), perhaps("500.002.1001", "daraja")},
		{"no such product", 401, read("api_error_401_003_01_no_apiproduct"), rejected("401.003.01")},
		{"dead token, twice", 401, read("api_error_401_002_01_invalid_token"), rejected("401.002.01")},
		{"spike arrest", 429, read("api_error_429_spike_arrest_fault"), verdict{true, daraja.OutcomeBusy, "policies.ratelimit.SpikeArrestViolation", "fault", 12 * time.Second}},
		{"spike arrest as a 500", 500, read("api_error_429_spike_arrest_fault"), verdict{true, daraja.OutcomeBusy, "policies.ratelimit.SpikeArrestViolation", "fault", 12 * time.Second}},
		{"spike arrest in daraja's form", 500, coded("500.003.02", "Error Occurred: Spike Arrest Violation"), verdict{true, daraja.OutcomeBusy, "500.003.02", "daraja", 12 * time.Second}},
		{"quota", 500, coded("500.003.03", "Error Occurred: Quota Violation"), verdict{true, daraja.OutcomeBusy, "500.003.03", "daraja", 10 * time.Minute}},
		{"system busy", 500, coded("500.003.02", "System is busy. Please try again in few minutes."), verdict{false, daraja.OutcomeUnknown, "500.003.02", "daraja", 12 * time.Second}},
		{"subscriber locked", 500, read("api_error_500_001_1001_unable_to_lock"), verdict{true, daraja.OutcomeBusy, "500.001.1001", "daraja", 0}},
		{"subscriber locked, with status 200", 200, read("api_error_500_001_1001_unable_to_lock"), verdict{true, daraja.OutcomeBusy, "500.001.1001", "daraja", 0}},
		{"wrong credentials", 500, coded("500.001.1001", "Wrong credentials"), rejected("500.001.1001")},
		{"no such merchant", 500, coded("500.001.1001", "[MpesaCB - ]Merchant does not exist"), rejected("500.001.1001")},
		{"a 500 that means anything", 500, coded("500.001.1001", ""), perhaps("500.001.1001", "daraja")},
		{"a 500 without words", 500, coded("500.003.1001", "Internal Server Error"), perhaps("500.003.1001", "daraja")},
		{"a 400 that travels as 200", 200, coded("400.002.02", "Bad Request - Invalid Amount"), rejected("400.002.02")},
		{"a 500 that travels as 200", 200, coded("500.003.1001", "Internal Server Error"), perhaps("500.003.1001", "daraja")},
		{"a refusal behind a byte order mark", 400, "\ufeff" + coded("400.002.02", "Bad Request - Invalid Amount"), rejected("400.002.02")},
		{"a timeout behind the gateway", 408, coded("408.001", "Request Timeout"), perhaps("408.001", "daraja")},
		{"a timeout that travels as 200", 200, coded("408.001", "Request Timeout"), perhaps("408.001", "daraja")},
		{"a timeout at the gateway", 504, `{"fault":{"faultstring":"Gateway Timeout","detail":{"errorcode":"messaging.adaptors.http.flow.GatewayTimeout"}}}`, perhaps("messaging.adaptors.http.flow.GatewayTimeout", "fault")},
		{"a refusal that travels as 500", 500, coded("400.002.02", "Bad Request - Invalid Amount"), perhaps("400.002.02", "daraja")},
		{"two answers", 200, ack + ack, perhaps("", "other")},
		{"two response codes", 200, strings.Replace(ack, `"ResponseCode":"0"`, `"ResponseCode":"0","responseCode":"1"`, 1), perhaps("", "other")},
		{"an id that is no id", 200, strings.Replace(ack, "29115-34620561-1", strings.Repeat("1", 5000), 1), perhaps("0", "other")},
		{"soap with 500", 500, soap, perhaps("soapenv:Server", "soap")},
		{"soap with 400", 400, soap, verdict{true, daraja.OutcomeRejected, "soapenv:Server", "soap", 0}},
		{"soap with 200", 200, soap, perhaps("soapenv:Server", "soap")},
		{"a page with 503", 503, html, perhaps("", "other")},
		{"a page with 403", 403, html, perhaps("", "other")},
		{"a page with 200", 200, html, perhaps("", "other")},
		{"nothing with 200", 200, "", perhaps("", "other")},
		{"nothing with 502", 502, "", perhaps("", "other")},
		{"an array", 200, `[1]`, perhaps("", "other")},
		{"half an answer", 200, ack[:60], perhaps("", "other")},
		{"too long an answer", 200, strings.Repeat(" ", 1<<20) + ack, perhaps("", "other")},
		{"other JSON with 400", 400, `{"error":"bad"}`, perhaps("", "other")},
		{"a redirect", 302, "", perhaps("", "other")},
		{"no ids", 200, `{"ResponseCode":"0","ResponseDescription":"Success"}`, perhaps("0", "other")},
		{"one id", 200, `{"MerchantRequestID":"1-2-3","ResponseCode":"0"}`, perhaps("0", "other")},
		{"an ack of another API", 200, read("api_c2b_registerurl_ack_official"), perhaps("0", "other")},
		{"an ack of another API", 200, read("api_pull_register_ack_official"), perhaps("", "other")},
		{"an ack of another API", 200, read("api_ratiba_ack_official"), perhaps("", "other")},
		{"an ack of another API", 200, read("api_b2b_express_ack_official"), perhaps("", "other")},
		{"a token", 200, read("api_oauth_token_string_expiry"), perhaps("", "other")},
		{"response code 1", 200, `{"MerchantRequestID":"1-2-3","CheckoutRequestID":"ws_CO_1","ResponseCode":"1","ResponseDescription":"Rejected"}`, rejected("1")},
		{"response code 1, a number", 200, `{"ResponseCode":1,"ResponseDescription":"Rejected"}`, rejected("1")},
	} {
		c := connect(t, answering(test.status, test.body))
		_, err := c.Push(t.Context(), order)
		e, ok := errors.AsType[*daraja.Error](err)
		if !ok {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		outcome, code, _ := daraja.RefusalOutcome(fmt.Errorf("wrapped: %w", err))
		retry, _ := daraja.RetryAfter(err)
		if got := (verdict{daraja.Refused(err), outcome, code, e.Envelope, retry}); got != test.want || e.Code != code || e.Status != test.status || daraja.NotSent(err) {
			t.Errorf("%s: %+v, want %+v (%v)", test.name, got, test.want, err)
		}
	}
}

func TestErrorsKeepSecretsToThemselves(t *testing.T) {
	const phone, checkout = "254708374149", "ws_CO_1007202409152617708374149"
	const key, ref = "638cebfed223590c09177d9ab3cef2fc", "1b6f536910e3551b197af17657e784480a1b2c3d4e5f60718293a4b5c6d7e8f9"
	order := order
	order.CallbackURL = "https://hooks.example.co.ke/c/" + key + "/" + ref
	echo := func(status int, form string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			var body map[string]string
			_ = json.Unmarshal(b, &body)
			all := strings.Join([]string{"said", body["Password"], r.Header.Get("Authorization"), till.Passkey, till.ConsumerKey, till.ConsumerSecret, body["CallBackURL"], path.Base(body["CallBackURL"]), "to", phone, "+" + phone, "0708374149", checkout,
				"Invalid Access Token - AAAAbbbbCCCCdddd1111eeee2222"}, " ")
			if r.Method == "GET" {
				if status != 418 {
					answering(200, "")(w, r)
					return
				}
				all = strings.ReplaceAll(all, till.Passkey, "") // which nobody has told who gives out tokens
			}
			w.WriteHeader(status)
			quoted, _ := json.Marshal(all)
			_, _ = io.WriteString(w, strings.ReplaceAll(strings.ReplaceAll(form, "QUOTED", string(quoted)), "PLAIN", all))
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"daraja": echo(400, `{"requestId":"`+checkout+`","errorCode":"400.002.02","errorMessage":QUOTED}`),
		"token":  echo(418, `{"requestId":"`+checkout+`","errorCode":"401.002.01","errorMessage":QUOTED}`),
		"fault":  echo(500, `{"fault":{"faultstring":QUOTED,"detail":{"errorcode":QUOTED}}}`),
		"soap":   echo(500, `{"Envelope":{"Body":{"Fault":{"faultstring":QUOTED}}}}`),
		"page":   echo(503, `<html><b>PLAIN</b></html>`),
		"answer": echo(200, `{"ResponseCode":"1","ResponseDescription":QUOTED,"ResultDesc":QUOTED}`),
	} {
		c := connect(t, h)
		_, pushed := c.Push(t.Context(), order)
		_, queried := c.Query(t.Context(), checkout)
		for _, err := range []error{pushed, queried} {
			e, ok := errors.AsType[*daraja.Error](err)
			if !ok || !strings.Contains(err.Error(), "said") {
				t.Errorf("%s: the error is %v", name, err)
				continue
			}
			basic := base64.StdEncoding.EncodeToString([]byte(till.ConsumerKey + ":" + till.ConsumerSecret))
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "error", err)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "error", err, "group", slog.GroupValue(slog.Any("error", *e)))
			encoded, _ := json.Marshal(err)
			whole := fmt.Sprintf("%v %+v %#v %s %#v %s %s", err, *e, *e, e.Message+e.Code+e.RequestID, err, &log, encoded)
			for _, secret := range []string{token1, "AAAAbbbb", till.Passkey, till.ConsumerKey, till.ConsumerSecret, basic, key, ref, ref[32:], "cGFzc2tleS0w", base64.StdEncoding.EncodeToString([]byte("174379pass"))[:12]} {
				if strings.Contains(whole, secret) {
					t.Errorf("%s: the error gives away %q: %s", name, secret, whole)
				}
			}
			for _, personal := range []string{phone, "0708374149", checkout} {
				if strings.Contains(whole, personal) {
					t.Errorf("%s: the error gives away %q: %s", name, personal, whole)
				}
			}
			if n := len(err.Error()); n > 1200 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: the error is no line of a log: %d bytes", name, n)
			}
		}
	}
}

func TestErrorsKeepTheProxysPasswordToThemselves(t *testing.T) {
	for _, cause := range []string{
		`invalid proxy address "http://shop:s3cret/pw@proxy.example:80x": parse "http://shop:s3cret/pw@proxy.example:80x": invalid port ":80x" after host`,
		`Post "https://shop:s3cret/pw@daraja.example/mpesa": EOF`,
	} {
		hc := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New(cause) }}}
		_, err := (&daraja.Client{BaseURL: "https://daraja.example", Shortcode: till, HTTP: hc}).Push(t.Context(), order)
		if whole := fmt.Sprintf("%v %#v", err, err); strings.Contains(whole, "s3cret") || strings.Contains(whole, "pw@") || !strings.Contains(whole, ".example") || !daraja.NotSent(err) {
			t.Errorf("%s", whole)
		}
	}
}

func TestScrubHidesWhoPaid(t *testing.T) {
	for in, want := range map[string]string{
		"for ws_CO_1007202409152617708374149, again":              "for ws_CO_***, again",
		"ws_CO_DMZ_401294732_11032019121308821":                   "ws_CO_***",
		"phone 254708374149 or +254708374149.":                    "phone 254708***149 or 254708***149.",
		"0708374149":                                              "254708***149",
		"id254708374149x, msisdn_0708374149":                      "id254708***149x, msisdn_254708***149",
		"WS_CO_1007202409152617708374149":                         "ws_CO_***",
		"00254708374149":                                          "254708***149",
		"20231120110452 1254708374149 99999999990708374149":       "20231120110452 1254708374149 99999999990708374149",
		"0708374149 0708374149,254708374149":                      "254708***149 254708***149,254708***149",
		"request 29115-34620561-1 at 20231120110452":              "request 29115-34620561-1 at 20231120110452",
		"96682-198666269-1 and 2654-4b64-97ff-b827b542881d917313": "96682-198666269-1 and 2654-4b64-97ff-b827b542881d917313",
	} {
		if got := daraja.Scrub(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// FuzzAnswer gives any bytes as the answer to a token request, a push and a query. Whatever they are, nothing but a
// definite answer may count as one.
func FuzzAnswer(f *testing.F) {
	for _, name := range files(f, "api_*") {
		f.Add(200, payload(f, name))
		f.Add(400, payload(f, name))
		f.Add(500, payload(f, name))
	}
	f.Add(503, []byte("<html>Request unsuccessful. Incapsula incident ID: 77-1"))
	f.Add(200, []byte(`{"Envelope":{"Body":{"Fault":{"faultcode":1}}}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		hc := &http.Client{Transport: canned{200 + (status&0x7fff)%400, body}}
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		c.Tokens = daraja.NewTokens(c.BaseURL, till.ConsumerKey, till.ConsumerSecret, &http.Client{Transport: canned{200, []byte(`{"access_token":"` + token1 + `"}`)}})
		got, err := c.Push(t.Context(), order)
		if err == nil && (got.MerchantRequestID == "" || got.CheckoutRequestID == "") {
			t.Errorf("an ack without ids: %+v", got)
		}
		if err != nil {
			if daraja.Refused(err) && !bytes.Contains(body, []byte("{")) {
				t.Errorf("%d %q is taken for a refusal", status, body)
			}
			for _, secret := range []string{token1, till.Passkey} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error gives away %q: %v", secret, err)
				}
			}
		}
		if answer, err := c.Query(t.Context(), asked); err == nil && (answer.ResultCode == "" || answer.ResultCode == "4999") {
			t.Errorf("an answer without a result: %+v", answer)
		} else if err != nil && answer != (daraja.Answer{}) {
			t.Errorf("with error %v it still says %+v", err, answer)
		}
		own := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc} // its tokens are made of the bytes too
		_, _ = own.Push(t.Context(), order)
	})
}

type canned struct {
	status int
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.body)), Request: r}, nil
}
