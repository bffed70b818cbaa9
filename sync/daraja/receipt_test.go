package daraja_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestTheLettersOfAReceiptSayItsDate(t *testing.T) {
	for _, c := range []struct {
		receipt, at string
		dated       bool
	}{
		{"RKK1AAAAAA", "2023-11-20T08:04:52Z", true},
		{"rkk1aaaaaa", "2023-11-20T08:04:52Z", true},
		{"RKK1AAAAAA", "2023-11-21T20:59:59Z", true}, // the 21st in Nairobi
		{"RKK1AAAAAA", "2023-11-21T21:00:00Z", false},
		{"RKK1AAAAAA", "2023-11-18T21:00:00Z", true}, // the 19th
		{"RKK1AAAAAA", "2023-11-18T20:59:59Z", false},
		{"UA11AAAAAA", "2025-12-31T12:00:00Z", true},
		{"TLV1AAAAAA", "2026-01-01T12:00:00Z", true},
		{"LA11AAAAAA", "2017-01-01T12:00:00Z", true},
		{"ZLV1AAAAAA", "2031-12-31T12:00:00Z", true},
		{"AA11AAAAAA", "2032-01-01T12:00:00Z", true},
		{"RKK1AAAAAA", "2024-11-20T08:04:52Z", false},
		{"RK", "2023-11-20T08:04:52Z", false},
		{"", "2023-11-20T08:04:52Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := daraja.ReceiptDated(c.receipt, at); got != c.dated {
			t.Errorf("%q fits %s: %v, want %v", c.receipt, c.at, got, c.dated)
		}
	}
}

// Every receipt that M-Pesa was seen to send keeps to it, and what was masked or made by hand is not among the payloads.
func TestRealReceiptsSayTheirDates(t *testing.T) {
	for _, file := range files(t, "stk_success*") {
		c, err := daraja.ParseCallback(payload(t, file))
		if err != nil {
			t.Fatal(err)
		}
		if c.Receipt != "" && !daraja.ReceiptDated(c.Receipt, c.Completed) {
			t.Errorf("%s: receipt %s of %s", file, c.Receipt, c.Completed)
		}
	}
}

func TestNoticesOfMoneyThatCameByAnyWayAreRead(t *testing.T) {
	for _, file := range files(t, "c2b_*") {
		n, err := daraja.ParseNotice(payload(t, file))
		isOne := strings.HasPrefix(file, "c2b_confirmation") || strings.HasPrefix(file, "c2b_validation") && !strings.Contains(file, "reply")
		switch {
		case isOne && (err != nil || n.Receipt == "" || n.Amount <= 0 || n.Number == "" || n.Time.IsZero()):
			t.Errorf("%s is read as %+v, %v", file, n, err)
		case !isOne && err == nil:
			t.Errorf("%s is read as money: %+v", file, n)
		}
	}
	n, err := daraja.ParseNotice([]byte(`{"TransID":"RKL51ZDR4F","TransTime":"20231121121325","TransAmount":"5.00","BusinessShortCode":600966,"BillRefNumber":"INV-1","OrgAccountBalance":"25.00"}`))
	if want := (daraja.Notice{Receipt: "RKL51ZDR4F", Amount: 500, Time: time.Date(2023, 11, 21, 12, 13, 25, 0, daraja.Nairobi), Number: "600966", Reference: "INV-1", Moved: true}); err != nil || n != want {
		t.Errorf("it is read as %+v, %v, want %+v", n, err, want)
	}
	for _, bad := range []string{``, `[]`, `null`, `{}`, `{"TransID":"A"}`, `{"TransAmount":"5"}`, `{"TransID":"A","TransAmount":"many"}`, `{"TransID":"A","TransID":"B","TransAmount":"5"}`, strings.Repeat("[", 100_000)} {
		if n, err := daraja.ParseNotice([]byte(bad)); err == nil {
			t.Errorf("%.40q is read as %+v", bad, n)
		}
	}
}
