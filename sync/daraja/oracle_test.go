package daraja

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oracle is ParseCallback by way of encoding/json, as it was before speed mattered. It says in shapes what the scanner
// does in steps, so the two can hardly be wrong in the same way.
func oracle(body []byte) (Callback, error) {
	body = bare(body)
	if len(body) == 0 {
		return Callback{}, errors.New("daraja: callback: the body is empty")
	}
	var notice struct {
		Body        struct{ STKCallback *oracleCallback }
		STKCallback *oracleCallback
	}
	switch err := unmarshal(body, &notice); {
	case errors.Is(err, errContradiction):
		return Callback{}, fmt.Errorf("daraja: callback: %w", err)
	case err != nil:
		return Callback{}, errors.New("daraja: callback: the body is not JSON")
	}
	stk := notice.Body.STKCallback
	if stk == nil {
		stk = notice.STKCallback
	}
	if stk == nil {
		return Callback{}, fmt.Errorf("daraja: callback: not an STK callback but %s", family(body))
	}
	c := Callback{
		MerchantRequestID: stk.MerchantRequestID.text,
		CheckoutRequestID: stk.CheckoutRequestID.text,
		ResultCode:        stk.ResultCode.text,
		ResultDesc:        short(string(stk.ResultDesc)),
	}
	switch {
	case max(len(c.MerchantRequestID), len(c.CheckoutRequestID), len(c.ResultCode)) > maxFact:
		return Callback{}, errors.New("daraja: callback: an id or the ResultCode is too long to be one")
	case c.MerchantRequestID == "" && c.CheckoutRequestID == "":
		return Callback{}, errors.New("daraja: callback: no MerchantRequestID and no CheckoutRequestID")
	case c.MerchantRequestID == "":
		return Callback{}, errors.New("daraja: callback: no MerchantRequestID")
	case c.CheckoutRequestID == "":
		return Callback{}, errors.New("daraja: callback: no CheckoutRequestID")
	case c.ResultCode == "":
		return Callback{}, errors.New("daraja: callback: no ResultCode")
	}
	for _, item := range stk.CallbackMetadata.Item {
		value := string(item.Value)
		if value == "" || len(value) > maxFact {
			continue
		}
		switch strings.ToLower(strings.ToUpper(string(item.Name))) { // so that ſ is an s, as it is to encoding/json
		case "amount":
			c.Amount, c.HasAmount = cents(value)
		case "mpesareceiptnumber":
			c.Receipt = value
		case "transactiondate":
			c.Completed, _ = time.ParseInLocation(timestampForm, value, Nairobi)
		case "phonenumber":
			c.Phone = value
		}
	}
	return c, nil
}

type oracleCallback struct {
	MerchantRequestID fact
	CheckoutRequestID fact
	ResultCode        fact
	ResultDesc        text
	CallbackMetadata  struct{ Item items }
}

type item struct{ Name, Value text }

type items []item

func (l *items) UnmarshalJSON(b []byte) error {
	*l = nil // or an element would be read on top of the one that stood in its place before
	if len(b) > 0 && b[0] == '[' {
		return unmarshal(b, (*[]item)(l))
	}
	*l = make(items, 1)
	return unmarshal(b, &(*l)[0])
}

func FuzzCallbackIsReadAsEncodingJSONWould(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no payloads: %v", err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(body[:len(body)*2/3])
	}
	stk := func(inside string) string {
		return `{"Body":{"stkCallback":{"MerchantRequestID":"m","CheckoutRequestID":"c","ResultCode":0` + inside + `}}}`
	}
	metadata := func(inside string) string { return stk(`,"CallbackMetadata":{"Item":[` + inside + `]}`) }
	for _, body := range []string{
		"", " ", "\x00", "\xef\xbb\xbf", "{}", "[]", "null", "nul", "nulll", "true", "false", "tru", `"x"`, `"x`, "1", "-", "01", "1.", "1.5", ".5", "1e", "1e+", "1E-5", "-0", "--1", "+1",
		"{", "}", "[", "]", "{,}", "[,]", "[1,]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1}}`, `{"a":1} {`, `{ "a" : [ 1 , 2 , { } , [ ] ] , "b" : "" }`, "{\"a\":\v1}",
		`"\u12"`, `"\u12G4"`, `"\x"`, `"\"`, "\"\x01\"", "\"\x7f\"", `"\ud800"`, "\"\xff\"",
		`{"Body":null}`, `{"Body":[]}`, `{"Body":1}`, `{"Body":{"stkCallback":null}}`, `{"Body":{"stkCallback":7}}`, `{"Body":{"stkCallback":[]}}`, `{"Body":{"stkCallback":""},"stkCallback":{}}`,
		`{"Body":{"stkCallback":{"ResultCode":1},"stkCallback":null,"stkCallback":{"ResultCode":2}}}`,
		`{"Body":{"stkCallback":{"ResultCode":1},"stkCallback":{"ResultCode":1}},"stkCallback":{"ResultCode":2}}`,
		`{"stkCallback":{"ResultCode":1,"ResultCode":2}}}`, `{"stkCallback":{"ResultCode":1,"ResultCode":null}}`, `{"stkCallback":{"ResultCode":1,"ResultCode":2},"stkCallback":null}`,
		strings.ReplaceAll(stk(""), "stk", "\u017ft\u212a"), strings.ReplaceAll(stk(""), "stk", `\u017ft\u212a`), strings.ReplaceAll(stk(""), "Body", "B\xffdy"),
		stk(`,"ResultDesc":"a\u00e9\ud83d\ude00\ud83d\n"`), stk(`,"ResultDesc":"` + "\u00a0a\u2003\xc3" + `"`), stk(`,"ResultDesc":"` + strings.Repeat("é", 400) + `"`), stk(`,"ResultDesc":["a"]`),
		metadata(`{"Name":"Amount","Value":5}`), metadata(`{"Value":5,"Name":"amount","Name":"AMOUNT"}`), metadata(`{"Name":"Amount","Value":5},{"Name":"Amount","Value":"x"}`),
		metadata(`null,1,"",[],[{"Name":"Amount","Value":5}],{}`), metadata(`{"Name":"Mpe\u017faReceiptNumber","Value":"X"},{"\u212aName":"Amount"}`),
		stk(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":5},{"Name":"PhoneNumber","Value":1}],"item":[{"Value":6},{"Name":"Amount"}]}`),
		stk(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":5}]},"CallbackMetadata":{"Item":{"Name":"PhoneNumber","Value":1}}`),
		stk(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":5}]},"CallbackMetadata":{"Item":null}`),
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		`{"Body":` + strings.Repeat(`{"a":`, maxDepth-1) + "1" + strings.Repeat("}", maxDepth-1) + `}`, `{"Body":` + strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth) + `}`,
	} {
		f.Add([]byte(body))
	}
	whole := metadata(`{"Name":"Mpesa\u0052eceiptNumber","Value":"\u0041\\"},{"Name":"Amount","Value":-1.5e+3}`)
	for end := range whole {
		f.Add([]byte(whole[:end]))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, wantErr := oracle(body)
		got, err := ParseCallback(slices.Clip(body)) // so that a step over the end cannot land in what was set aside
		if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%q\nis read as %+v, %v\nnot as     %+v, %v", body, got, err, want, wantErr)
		}
	})
}
