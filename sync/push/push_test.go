package push

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMessageKeepsTheFieldsThatPagesRead(t *testing.T) {
	at := time.Date(2026, 10, 2, 18, 5, 6, 7e6, time.FixedZone("EAT", 3*3600))
	m := Message{
		Type: PaymentCompleted, ID: Cursor{0x19a2b3c4d5e, 7}, Time: Time{at}, Session: "shop-1", Final: true,
		Data: Data{
			Status: Success, MerchantRequestID: "29115-34620561-1", CheckoutRequestID: "ws_CO_1", Timestamp: Time{at},
			ResultCode: "0", ResultDesc: "ok", MpesaReceiptNumber: "NLJ7RT61SV", CompletedAt: Time{at}, Amount: 10050,
		},
	}
	got, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"PAYMENT_COMPLETED","id":"019a2b3c4d5e-0000000000000007","time":"2026-10-02T15:05:06.007Z",` +
		`"session":"shop-1","final":true,"replay":false,"data":{"status":"SUCCESS","merchantRequestId":"29115-34620561-1",` +
		`"checkoutRequestId":"ws_CO_1","timestamp":"2026-10-02T15:05:06.007Z","resultCode":0,"resultDesc":"ok",` +
		`"mpesaReceiptNumber":"NLJ7RT61SV","completedAt":"2026-10-02T15:05:06.007Z","amount":100.5,"amountChecked":false}}`
	if string(got) != want {
		t.Errorf("message is\n%s\nwant\n%s", got, want)
	}
	var back Message
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != want {
		t.Errorf("read and written again it is\n%s", again)
	}
}

func TestFactsThatAreNotKnownAreAbsent(t *testing.T) {
	got, _ := json.Marshal(Data{Status: Pending})
	if want := `{"status":"PENDING","amountChecked":false}`; string(got) != want {
		t.Errorf("data is %s, want %s", got, want)
	}
}

func TestResultCodeIsANumberOnlyIfItLosesNothing(t *testing.T) {
	for code, want := range map[ResultCode]string{"0": "0", "1032": "1032", "BW-JMS-100039": `"BW-JMS-100039"`, "007": `"007"`, "1.5": `"1.5"`, "-1": `"-1"`} {
		got, err := json.Marshal(code)
		if err != nil || string(got) != want {
			t.Errorf("code %q is written %s (%v), want %s", code, got, err, want)
		}
		var back ResultCode
		if err := json.Unmarshal(got, &back); err != nil || back != code {
			t.Errorf("%s is read as %q (%v)", got, back, err)
		}
	}
}

func TestMoneyIsExact(t *testing.T) {
	for in, want := range map[string]string{`1`: "1", `"100"`: "100", `71.00`: "71", `84.5`: "84.5", `0.05`: "0.05", `" 12.30 "`: "12.3", `-2.50`: "-2.5", `250000`: "250000"} {
		var m Money
		if err := json.Unmarshal([]byte(in), &m); err != nil || m.String() != want {
			t.Errorf("%s is read as %s (%v), want %s", in, m, err, want)
		}
	}
	for _, in := range []string{`""`, `"1e3"`, `1e3`, `1.005`, `"12,000"`, `null`, `"+1"`, `"--1"`, `"1-1"`, `99999999999999999999`, `"."`, `true`} {
		var m Money
		if err := json.Unmarshal([]byte(in), &m); err == nil && in != `null` {
			t.Errorf("%s is read as %s, want an error", in, m)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("019a2b3c4d5e-0000000000000007")
	f.Add("+19a2b3c4d5e-0000000000000007")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCursor(s); err == nil && c.String() != s {
			t.Errorf("%q is read as %s", s, c)
		}
	})
}

func FuzzMoney(f *testing.F) {
	f.Add("71.00")
	f.Add("-0.5")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMoney(s)
		if err != nil {
			return
		}
		if back, err := ParseMoney(m.String()); err != nil || back != m {
			t.Errorf("%q is read as %s, which is read as %s (%v)", s, m, back, err)
		}
	})
}
