package push

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAppendedMessageIsWhatJSONMarshalMakesOfIt goes by the type itself, so that a field that is added to it and forgotten
// in Append is found.
func TestAppendedMessageIsWhatJSONMarshalMakesOfIt(t *testing.T) {
	texts := rapid.OneOf(
		rapid.Just(""), rapid.SampledFrom([]string{"paid", "0", "1032", "007", "-1", "BW-JMS-100039", "4294967295", "4294967296", `"<>&\`, "\u2028\u2029", "\xff\xfe", "\x00\x1f\x7f", "Ngũgĩ 🙂"}),
		rapid.String(), rapid.Custom(func(r *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")) }))
	numbers := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(-1000, 1000), rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64}))
	var fill func(r *rapid.T, v reflect.Value)
	fill = func(r *rapid.T, v reflect.Value) {
		switch v.Addr().Interface().(type) {
		case *Time:
			if rapid.Bool().Draw(r, "known") {
				at := time.UnixMilli(rapid.Int64Range(-70_000_000_000_000, 260_000_000_000_000).Draw(r, "time"))
				v.Set(reflect.ValueOf(Time{at.In(time.FixedZone("EAT", 3*3600))}))
			}
			return
		case *Cursor:
			cursor := Cursor{uint64(numbers.Draw(r, "epoch")), uint64(numbers.Draw(r, "seq"))}
			v.Set(reflect.ValueOf(cursor))
			if want := fmt.Sprintf("%012x-%016x", cursor.Epoch, cursor.Seq); cursor.String() != want {
				r.Fatalf("a cursor is written %s, want %s", cursor, want)
			}
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				fill(r, v.Field(i))
			}
		case reflect.String:
			v.SetString(texts.Draw(r, "text"))
		case reflect.Bool:
			v.SetBool(rapid.Bool().Draw(r, "bool"))
		case reflect.Int, reflect.Int64:
			v.SetInt(numbers.Draw(r, "number"))
		default:
			r.Fatalf("a field of kind %s: fill it here, and see that Append writes it", v.Kind())
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		var m Message
		fill(r, reflect.ValueOf(&m).Elem())
		want, err := json.Marshal(m)
		if err != nil {
			r.Fatal(err)
		}
		if got := m.Append([]byte("before ")); string(got) != "before "+string(want) {
			r.Errorf("%+v\nis appended as %s\nwant           %s", m, got, want)
		}
	})
}

func TestMoneyIsWrittenWithAsManyDecimalsAsItNeeds(t *testing.T) {
	for m, want := range map[Money]string{0: "0", 1: "0.01", 10: "0.1", 99: "0.99", 100: "1", 101: "1.01", 110: "1.1", 12345: "123.45", -5: "-0.05", -250: "-2.5",
		math.MaxInt64: "92233720368547758.07", math.MinInt64: "-92233720368547758.08"} {
		if m.String() != want {
			t.Errorf("%d cents are %s, want %s", int64(m), m, want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	at := Time{time.Date(2026, 10, 2, 15, 5, 6, 7e6, time.UTC)}
	m := Message{Type: PaymentCompleted, ID: Cursor{0x19a2b3c4d5e, 7}, Time: at, Session: strings.Repeat("5", 32), Final: true, Callback: Cursor{0x19a2b3c4d5e, 8}.String(),
		Data: Data{Status: Success, PaymentID: strings.Repeat("5", 32), MerchantRequestID: "29115-34620561-1", CheckoutRequestID: "ws_CO_191220191020363925", Timestamp: at,
			ResultCode: "0", ResultDesc: "The service request is processed successfully.", MpesaReceiptNumber: "NLJ7RT61SV", CompletedAt: at, Outcome: "paid",
			Reason: "Paid.", ReasonSw: "Imelipwa.", Amount: 10050, AmountChecked: true, AccountReference: "TABLE 7", PhoneNumber: "254708***149", Shortcode: "174379", Attempt: 1}}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		var scratch []byte
		for b.Loop() {
			scratch = m.Append(scratch[:0])
		}
	})
	b.Run("reflection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
