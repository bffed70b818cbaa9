package daraja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A receipt begins with its date, in Nairobi: the year as a letter (A is 2006, and R 2023), the month as one from A to L, the
// day as 1 to 9 and then A to V. Of 2,685 receipts that were looked at 2,682 kept to it, and the others were made by hand.
const (
	receiptYears  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	receiptYear   = 2006 // that of the A
	receiptMonths = "ABCDEFGHIJKL"
	receiptDays   = "123456789ABCDEFGHIJKLMNOPQRSTUV"
)

// ReceiptPrefix is how receipts of a time begin.
func ReceiptPrefix(at time.Time) string {
	year, month, day := at.In(Nairobi).Date()
	letters := len(receiptYears)
	return string([]byte{receiptYears[((year-receiptYear)%letters+letters)%letters], receiptMonths[month-1], receiptDays[day-1]})
}

// ReceiptDated reports whether the letters of a receipt say its date, give or take a day. It tells a crude forgery, and
// proves nothing: whoever knows of the letters can write them.
func ReceiptDated(receipt string, at time.Time) bool {
	for _, days := range []int{0, -1, 1} {
		if strings.HasPrefix(strings.ToUpper(receipt), ReceiptPrefix(at.AddDate(0, 0, days))) {
			return true
		}
	}
	return false
}

// Notice is a C2B notice: what M-Pesa tells a shortcode of money that comes to it by any way. A push that is paid brings
// one too, where the shortcode has C2B addresses registered, and often before its own callback.
type Notice struct {
	Receipt   string    // TransID
	Amount    int64     // cents
	Time      time.Time // TransTime; zero if absent or unreadable
	Number    string    // BusinessShortCode
	Reference string    // BillRefNumber: what the customer typed, or a push's AccountReference
	Moved     bool      // the money has moved. Otherwise M-Pesa asks whether it may, or does not say: OrgAccountBalance is empty
}

// ParseNotice reads a C2B confirmation or validation. Receipt and amount must be there; the rest may be absent.
func ParseNotice(body []byte) (Notice, error) {
	var in struct {
		TransID, TransAmount fact
		TransTime            text
		BusinessShortCode    text
		BillRefNumber        text
		OrgAccountBalance    text
	}
	if err := unmarshal(bare(body), &in); err != nil {
		if errors.Is(err, errContradiction) {
			return Notice{}, errors.New("daraja: notice: the body contradicts itself: TransID or TransAmount is in it twice, and differs")
		}
		return Notice{}, errors.New("daraja: notice: the body is not JSON")
	}
	n := Notice{Receipt: in.TransID.text, Number: short(string(in.BusinessShortCode)), Reference: short(string(in.BillRefNumber)), Moved: in.OrgAccountBalance != ""}
	if !in.TransID.usable() || !in.TransAmount.usable() {
		return Notice{}, errors.New("daraja: notice: no TransID, or no TransAmount")
	}
	var ok bool
	if n.Amount, ok = cents(in.TransAmount.text); !ok {
		return Notice{}, fmt.Errorf("daraja: notice: TransAmount is no amount of shillings")
	}
	n.Time, _ = time.ParseInLocation(timestampForm, string(in.TransTime), Nairobi)
	return n, nil
}
