package sandbox_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

func TestAnApprovedPaymentIsCalledBackOnceAsDarajaWritesIt(t *testing.T) {
	with, without := 0, 0
	for range 12 {
		inBubble(t, sandbox.Config{}, func(b *bench) {
			id := b.push()
			if st := b.state(); len(st.Prompts) != 0 || len(st.Pending) != 1 {
				b.t.Errorf("the prompt is on the phone before its time: %+v", st)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			st := b.state()
			if len(st.Prompts) != 1 {
				b.t.Fatal("no prompt on the phone after a second")
			}
			p := st.Prompts[0]
			if p.Amount != 1234 || p.Business != sandbox.DefaultBusiness || p.AccountReference != "ORDER-7" || p.Phone != phone || p.ID != id.merchant {
				b.t.Errorf("the prompt says %+v", p)
			}
			time.Sleep(7 * time.Second)
			answered := time.Now()
			r := b.control("/phone/answer", map[string]string{"outcome": "approve", "pin": "1234", "phone": "0708374149"})
			if r.status != 200 || strings.Contains(r.body, "1234\"") {
				b.t.Errorf("answer: %d %s", r.status, r.body)
			}
			all := b.callbacks(time.Hour)
			if len(all) != 1 {
				b.t.Fatalf("%d callbacks, want one", len(all))
			}
			c := all[0]
			if c.at.Sub(answered) != 2*time.Second {
				b.t.Errorf("the callback came %v after the answer, want 2 s", c.at.Sub(answered))
			}
			if c.path != "/c/0123abcd" || c.header.Get("Content-Type") != "application/json;charset=UTF-8" || c.header.Get("BusinessShortCode") != "174379" {
				b.t.Errorf("posted to %s with %v", c.path, c.header)
			}
			// UA1: 2000 counts as 2026 does, 26 years on; January; the first.
			form := regexp.MustCompile(`^\{"Body":\{"stkCallback":\{"MerchantRequestID":"` + id.merchant + `","CheckoutRequestID":"` + id.checkout +
				`","ResultCode":0,"ResultDesc":"The service request is processed successfully\.","CallbackMetadata":\{"Item":\[\{"Name":"Amount","Value":1234\.00\},` +
				`\{"Name":"MpesaReceiptNumber","Value":"UA1[1-9A-Z]{7}"\},(\{"Name":"Balance"\},)?\{"Name":"TransactionDate","Value":20000101030008\},\{"Name":"PhoneNumber","Value":254708374149\}\]\}\}\}\}$`)
			switch parts := form.FindStringSubmatch(c.body); {
			case parts == nil:
				b.t.Errorf("the body is not as Daraja writes it: %s", c.body)
			case parts[1] == "":
				without++
			default:
				with++
			}
			if got := c.parsed; got.ResultCode != "0" || got.Amount != 123400 || !got.Completed.Equal(answered.Truncate(time.Second)) || got.Receipt != b.state().History[0].Receipt {
				b.t.Errorf("read back as %+v", got)
			}
		})
	}
	if with == 0 || without == 0 {
		t.Errorf("%d bodies with a balance and %d without; Daraja sends both", with, without)
	}
}

func TestEveryOutcomeHasItsCode(t *testing.T) {
	for _, test := range []struct {
		outcome, code string
		after         time.Duration // of the answer
		means         daraja.Outcome
	}{
		{"cancel", "1032", 0, daraja.OutcomeCancelled},
		{"wrong_pin", "2001", 0, daraja.OutcomeWrongPIN},
		{"insufficient", "1", 0, daraja.OutcomeInsufficientFunds},
		{"expired", "1019", 0, daraja.OutcomeExpired},
		{"limit", "17", 0, daraja.OutcomeLimit},
		{"locked", "8006", 0, daraja.OutcomeBlocked},
		{"odd", "BW-JMS-100039", 0, daraja.OutcomeUnknown},
		{"ignore", "1037", time.Minute, daraja.OutcomeUnreachable},
		{"off", "1037", 30 * time.Second, daraja.OutcomeUnreachable},
	} {
		config := fast()
		check := func(b *bench, id ids, answered time.Time) {
			b.t.Helper()
			all := b.callbacks(time.Hour)
			if len(all) != 1 {
				b.t.Fatalf("%s: %d callbacks, want one", test.outcome, len(all))
			}
			c := all[0]
			if c.parsed.ResultCode != test.code || daraja.OutcomeOf(c.parsed.ResultCode) != test.means || c.parsed.MerchantRequestID != id.merchant {
				b.t.Errorf("%s: %s", test.outcome, c.body)
			}
			if took := c.at.Sub(answered); took != test.after {
				b.t.Errorf("%s: called back after %v, want %v", test.outcome, took, test.after)
			}
			if strings.Contains(c.body, "CallbackMetadata") {
				b.t.Errorf("%s: a failure has metadata: %s", test.outcome, c.body)
			}
			if r := b.query(id.checkout); r.status != 200 || r.member("ResultCode") != `"`+test.code+`"` {
				b.t.Errorf("%s: a query is answered %d %s", test.outcome, r.status, r.body)
			}
		}
		inBubble(t, config, func(b *bench) { // by hand
			id := b.push()
			synctest.Wait()
			b.answer(test.outcome)
			check(b, id, time.Now())
		})
		inBubble(t, config, func(b *bench) { // by itself
			b.behave(`{"auto":"` + test.outcome + `"}`)
			id := b.push()
			began := time.Now()
			synctest.Wait()
			if test.outcome == "off" && len(b.state().Prompts) != 0 {
				b.t.Error("a phone that is off shows a prompt")
			}
			check(b, id, began)
		})
	}
}

func TestAPromptThatNobodyAnswersLapses(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		b.push()
		if all := b.callbacks(62 * time.Second); len(all) != 0 {
			b.t.Fatal("called back before the time was up")
		}
		all := b.callbacks(2 * time.Second)
		if len(all) != 1 || all[0].parsed.ResultCode != "1037" || all[0].parsed.ResultDesc != "No response from user." {
			b.t.Fatalf("after the time was up: %+v", all)
		}
	})
}

func TestAPromptThatWasLeftCanStillBeAnswered(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		b.push()
		synctest.Wait()
		b.answer("ignore")
		time.Sleep(30 * time.Second)
		if st := b.state(); len(st.Prompts) != 1 || !st.Prompts[0].Ignored {
			b.t.Fatalf("the prompt is gone: %+v", st)
		}
		b.answer("approve")
		if all := b.callbacks(time.Hour); len(all) != 1 || all[0].parsed.ResultCode != "0" {
			b.t.Fatalf("%+v", all)
		}
	})
}

func TestZerosAreAWrongPIN(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		b.push()
		synctest.Wait()
		b.control("/phone/answer", map[string]string{"outcome": "approve", "pin": "0000"})
		if all := b.callbacks(time.Second); len(all) != 1 || all[0].parsed.ResultCode != "2001" {
			b.t.Fatalf("%+v", all)
		}
	})
}

func TestTooMuchTextCannotBePrompted(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		b.push("TransactionDesc", strings.Repeat("x", 180))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(b.state().Prompts) != 0 {
			b.t.Error("the prompt is on the phone")
		}
		if all := b.callbacks(5 * time.Second); len(all) != 1 || all[0].parsed.ResultCode != "1025" {
			b.t.Fatalf("%+v", all)
		}
	})
}

func TestACallbackCanComeTwiceLateOrNever(t *testing.T) {
	for _, test := range []struct {
		behaviour string
		at        []time.Duration // of the answer
		query     string          // its answer once the prompt was answered
	}{
		{`{"callback":"normal"}`, []time.Duration{2 * time.Second}, `"ResultCode":"0"`},
		{`{"callback":"twice"}`, []time.Duration{2 * time.Second, 3 * time.Second}, `"ResultCode":"0"`},
		{`{"callback":"late"}`, []time.Duration{40 * time.Second}, `"ResultCode":"0"`},
		{`{"callback":"late","late":"2m"}`, []time.Duration{2 * time.Minute}, `"ResultCode":"0"`},
		{`{"callback":"never"}`, nil, `"ResultCode":"0"`},
		{`{"callback":"never_silent"}`, nil, `"errorCode":"500.001.1001"`},
	} {
		inBubble(t, sandbox.Config{QueryPerMinute: -1}, func(b *bench) {
			b.behave(test.behaviour)
			id := b.push()
			time.Sleep(5 * time.Second)
			b.answer("approve")
			answered := time.Now()
			for range 5 {
				if r := b.query(id.checkout); !strings.Contains(r.body, test.query) {
					b.t.Errorf("%s: a query is answered %s", test.behaviour, r.body)
				}
			}
			all := b.callbacks(time.Hour)
			var at []time.Duration
			for _, c := range all {
				at = append(at, c.at.Sub(answered))
				if c.body != all[0].body {
					b.t.Errorf("%s: the second is not the first: %s", test.behaviour, c.body)
				}
			}
			if len(at) != len(test.at) {
				b.t.Fatalf("%s: callbacks %v after the answer, want %v", test.behaviour, at, test.at)
			}
			for i := range at {
				if at[i] != test.at[i] {
					b.t.Errorf("%s: callbacks %v after the answer, want %v", test.behaviour, at, test.at)
				}
			}
			if r := b.query(id.checkout); !strings.Contains(r.body, test.query) {
				b.t.Errorf("%s: an hour later a query is answered %s", test.behaviour, r.body)
			}
		})
	}
}

func TestACallbackCanComeBeforeTheReply(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		b.behave(`{"callback":"before_ack","auto":"approve"}`)
		b.authorised()
		id := b.push()
		all := b.callbacks(0)
		if len(all) != 1 || all[0].parsed.MerchantRequestID != id.merchant {
			b.t.Fatalf("no callback when the reply came: %+v", all)
		}
		if all = b.callbacks(time.Hour); len(all) != 1 {
			b.t.Errorf("%d callbacks", len(all))
		}
	})
	inBubble(t, sandbox.Config{}, func(b *bench) {
		b.behave(`{"callback":"before_ack"}`)
		b.authorised()
		before := time.Now()
		b.push()
		if took := time.Since(before); took != 25*time.Second {
			b.t.Errorf("with nobody at the phone the reply was held back %v, want 25 s", took)
		}
	})
}

func TestNothingThatTheShopAnswersBringsASecondCallback(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"refused":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"lost":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"delivered": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("thanks")) },
	}
	for want, shop := range answers {
		inBubble(t, fast(), func(b *bench) {
			b.shop = shop
			b.behave(`{"auto":"approve"}`)
			b.push()
			if all := b.callbacks(time.Hour); len(all) != 1 {
				b.t.Errorf("%s: %d callbacks", want, len(all))
			}
			if got := b.state().History[0].Callbacks; len(got) != 1 || got[0].State != want {
				b.t.Errorf("%s: the phone says %+v", want, got)
			}
		})
	}
	inBubble(t, fast(), func(b *bench) {
		b.behave(`{"auto":"approve"}`)
		b.push("CallBackURL", "http://nowhere.test/c/1")
		b.callbacks(time.Hour)
		got := b.state().History[0].Callbacks
		if len(got) != 1 || got[0].State != "lost" || strings.Contains(got[0].Error, "nowhere") {
			b.t.Errorf("a shop that is away: %+v", got)
		}
	})
}

func TestABehaviourIsOfTheRequestsThatComeAfterIt(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		b.push()
		b.behave(`{"callback":"never"}`)
		synctest.Wait()
		b.answer("approve")
		if all := b.callbacks(time.Second); len(all) != 1 {
			b.t.Fatal("the request that was there before was changed")
		}
		b.behave(`{"callback":"twice","auto":"approve","once":true}`)
		b.push()
		if all := b.callbacks(5 * time.Second); len(all) != 3 {
			b.t.Fatalf("%d callbacks, want the one before and two", len(all))
		}
		b.push()
		synctest.Wait()
		b.answer("cancel") // nothing answers by itself any more
		if all := b.callbacks(5 * time.Second); len(all) != 4 {
			b.t.Fatalf("%d callbacks, want one more", len(all))
		}
	})
}

func TestAPhoneCanBehaveUnlikeTheOthers(t *testing.T) {
	other := []any{"PhoneNumber", "254700000001", "PartyA", "254700000001"}
	inBubble(t, fast(), func(b *bench) {
		b.behave(`{"phone":"0708374149","auto":"cancel"}`)
		b.push()
		b.push(other...)
		if all := b.callbacks(time.Second); len(all) != 1 || all[0].parsed.ResultCode != "1032" {
			b.t.Fatalf("%+v", all)
		}
		b.behave(`{"auto":"wrong_pin"}`) // without a phone: every phone
		b.push()
		if all := b.callbacks(time.Second); len(all) != 2 || all[1].parsed.ResultCode != "2001" {
			b.t.Fatalf("%+v", all)
		}
	})
}

func TestAnAnswerWaitsForAPromptThatIsOnItsWay(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		if r := b.control("/phone/answer", map[string]string{"outcome": "approve"}); r.status != 409 || r.member("type") != `"no-prompt"` {
			b.t.Errorf("with nothing to answer: %d %s", r.status, r.body)
		}
		b.push()
		b.answer("approve") // 300 ms after the push: the prompt is not there yet
		if all := b.callbacks(5 * time.Second); len(all) != 1 || all[0].parsed.ResultCode != "0" {
			b.t.Fatalf("%+v", all)
		}
		go func() {
			time.Sleep(3 * time.Second)
			b.push()
		}()
		if r := b.call("POST", "/phone/answer", nil, `{"outcome":"cancel","wait":"10s"}`); r.status != 200 {
			b.t.Errorf("with a wait: %d %s", r.status, r.body)
		}
		if r := b.call("POST", "/phone/answer", nil, `{"outcome":"cancel","wait":2}`); r.status != 409 {
			b.t.Errorf("with a wait in vain: %d %s", r.status, r.body)
		}
	})
}

func TestControlsSayWhatIsWrong(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		for _, test := range []struct {
			method, path, body, origin string
			status                     int
			kind, detail               string
		}{
			{"POST", "/phone/answer", `{}`, "", 400, "bad-answer", "outcome is missing"},
			{"POST", "/phone/answer", `{"outcome":"pay"}`, "", 400, "bad-answer", `"pay" is not one of approve`},
			{"POST", "/phone/answer", `{"outcome":"approve","pin":"12a4"}`, "", 400, "bad-answer", "four digits"},
			{"POST", "/phone/answer", `{"outcome":"cancel","pin":"1234"}`, "", 400, "bad-answer", "only with the outcome approve"},
			{"POST", "/phone/answer", `{"outcome":"approve","phone":"12"}`, "", 400, "bad-phone", "254708374149"},
			{"POST", "/phone/answer", `approve`, "", 400, "bad-json", "not the JSON object"},
			{"POST", "/phone/answer", `{"outcom":"approve"}`, "", 400, "bad-json", "outcom"},
			{"POST", "/phone/behaviour", `{"callback":"maybe"}`, "", 400, "bad-behaviour", "before_ack"},
			{"POST", "/phone/behaviour", `{"ack":"maybe"}`, "", 400, "bad-behaviour", "html"},
			{"POST", "/phone/behaviour", `{"auto":"maybe"}`, "", 400, "bad-behaviour", "wrong_pin"},
			{"POST", "/phone/behaviour", `{"late":"soon"}`, "", 400, "bad-json", "40s"},
			{"POST", "/phone/resend", `{"id":"1"}`, "", 404, "no-such-request", "/phone/state"},
			{"GET", "/phone/answer", ``, "", 405, "method-not-allowed", "POST"},
			{"POST", "/phone/behaviour", `{"auto":"approve"}`, "https://elsewhere.example", 403, "foreign-origin", "loopback"},
			{"GET", "/phone/state", ``, "null", 403, "foreign-origin", "loopback"},
		} {
			header := http.Header{}
			if test.origin != "" {
				header.Set("Origin", test.origin)
			}
			r := b.call(test.method, test.path, header, test.body)
			var p struct {
				Type, Detail string
				Status       int
			}
			if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" {
				b.t.Errorf("%s %s: not a problem: %s", test.path, test.body, r.body)
			}
			if r.status != test.status || p.Status != test.status || p.Type != test.kind || !strings.Contains(p.Detail, test.detail) {
				b.t.Errorf("%s %s: %d %s", test.path, test.body, r.status, r.body)
			}
		}
		if b.state().Behaviour.Auto != "" {
			b.t.Error("a refused change was made")
		}
		for _, origin := range []string{"http://127.0.0.1:8787", "http://localhost:5173", "http://[::1]:80", "http://sandbox.test"} {
			r := b.call("OPTIONS", "/phone/answer", http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}}, "")
			if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != origin || r.header.Get("Access-Control-Allow-Headers") != "Content-Type" {
				b.t.Errorf("a preflight from %s: %d %v", origin, r.status, r.header)
			}
		}
	})
}

func TestAStreamTellsWhenSomethingChanges(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		req, err := http.NewRequestWithContext(b.t.Context(), "GET", "http://sandbox.test/phone/events", nil)
		if err != nil {
			b.t.Fatal(err)
		}
		resp, err := b.client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		defer resp.Body.Close()
		told := make(chan sandbox.State, 20)
		go func() {
			defer close(told)
			events := newLines(resp.Body)
			for line, ok := events(); ok; line, ok = events() {
				var st sandbox.State
				if data, found := strings.CutPrefix(line, "data: "); found && json.Unmarshal([]byte(data), &st) == nil {
					told <- st
				}
			}
		}()
		if st := <-told; len(st.Prompts) != 0 {
			b.t.Error("a prompt from nowhere")
		}
		b.push()
		for st := range told {
			if len(st.Prompts) == 1 {
				break
			}
		}
		b.answer("approve")
		for st := range told {
			if len(st.History) == 1 && len(st.History[0].Callbacks) == 1 && st.History[0].Callbacks[0].State == "delivered" {
				break
			}
		}
		b.stop() // within its time, with the stream open
		for range told {
		}
	})
}

func TestACallbackCanBeSentAgainByHand(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		b.behave(`{"auto":"approve","callback":"never"}`)
		id := b.push()
		if all := b.callbacks(time.Minute); len(all) != 0 {
			b.t.Fatal("a callback by itself")
		}
		if r := b.control("/phone/resend", map[string]string{"id": id.merchant}); r.status != 200 {
			b.t.Fatalf("%d %s", r.status, r.body)
		}
		if all := b.callbacks(time.Minute); len(all) != 1 || all[0].parsed.MerchantRequestID != id.merchant {
			b.t.Fatalf("%+v", all)
		}
	})
}
