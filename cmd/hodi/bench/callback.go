package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// Callbacks are numbered from 0. Everything about one follows from its number, so that none needs to be kept, and both
// ends of the path know which one they have in hand.

// The ids have the forms of today's. A number is the last group of a MerchantRequestID.
const merchantPrefix = "bed0-4be5-9000-"

func merchantID(n int) string { return fmt.Sprintf(merchantPrefix+"%018d", n) }

func checkoutID(n int) string { return fmt.Sprintf("ws_CO_%017d7000000%02d", n, n%100) }

func phone(n int) string { return fmt.Sprintf("2547000000%02d", n%100) }

func amount(n int) int { return 10 + n%990 }

// A callback of another day than its receipt, or than it is posted on, is not believed without more ado. So receipts begin as
// those of today do, and callbacks are of now: of when the program began, so that one has the same each time it is posted.
var (
	began      = time.Now().In(daraja.Nairobi)
	receiptDay = daraja.ReceiptPrefix(began)
	moment     = began.Format("20060102150405")
)

// shape is one kind of body, as Daraja sends them: the parts between what differs.
type shape struct {
	share int // of a hundred callbacks
	body  func(b []byte, n int) []byte
}

// shapes are those that a shop sees, about as often as it sees them.
var shapes = []shape{
	{44, func(b []byte, n int) []byte { return paid(b, n, true) }},
	{26, func(b []byte, n int) []byte { return paid(b, n, false) }},
	{14, func(b []byte, n int) []byte { return failed(b, n, "1032", "Request cancelled by user") }},
	{7, func(b []byte, n int) []byte { return failed(b, n, "1037", "DS timeout user cannot be reached") }},
	{5, func(b []byte, n int) []byte {
		return failed(b, n, "1", "The balance is insufficient for the transaction.")
	}},
	{2, func(b []byte, n int) []byte { return failed(b, n, "2001", "The initiator information is invalid.") }},
	{2, func(b []byte, n int) []byte { return spread(paid(nil, n, true), b) }},
}

// appendBody appends the body of callback n.
func appendBody(b []byte, n int) []byte {
	at := n * 37 % 100 // the shapes take turns, not one after the other
	for _, s := range shapes {
		if at < s.share {
			return s.body(b, n)
		}
		at -= s.share
	}
	panic("bench: the shares of the shapes are not a hundred")
}

func head(b []byte, n int, code, description string) []byte {
	b = append(b, `{"Body":{"stkCallback":{"MerchantRequestID":"`...)
	b = append(b, merchantID(n)...)
	b = append(b, `","CheckoutRequestID":"`...)
	b = append(b, checkoutID(n)...)
	b = append(b, `","ResultCode":`...)
	b = append(b, code...)
	b = append(b, `,"ResultDesc":"`...)
	b = append(b, description...)
	return append(b, '"')
}

func paid(b []byte, n int, balance bool) []byte {
	b = head(b, n, "0", "The service request is processed successfully.")
	b = append(b, `,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":`...)
	b = strconv.AppendInt(b, int64(amount(n)), 10)
	b = append(b, `.00},{"Name":"MpesaReceiptNumber","Value":"`...)
	b = append(b, receiptDay...)
	b = append(b, strings.ToUpper(strconv.FormatInt(int64(n)+36*36*36*36*36*36, 36))...) // no two payments have one receipt
	b = append(b, `"},`...)
	if balance {
		b = append(b, `{"Name":"Balance"},`...)
	}
	b = append(b, `{"Name":"TransactionDate","Value":`...)
	b = append(b, moment...)
	b = append(b, `},{"Name":"PhoneNumber","Value":`...)
	b = append(b, phone(n)...)
	return append(b, `}]}}}}`...)
}

func failed(b []byte, n int, code, description string) []byte {
	return append(head(b, n, code, description), `}}}`...)
}

// spread writes a body over many lines, as a few of Daraja's are.
func spread(body, b []byte) []byte {
	for _, c := range body {
		b = append(b, c)
		if bytes.IndexByte([]byte("{[,"), c) >= 0 {
			b = append(b, "\n        "...)
		}
	}
	return b
}

// appendRequest appends the POST of callback n to its address, with the headers that Daraja's have.
func appendRequest(b []byte, host, path string, n int) []byte {
	var room [1024]byte
	body := appendBody(room[:0], n)
	b = append(b, "POST "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nUser-Agent: Apache-HttpClient/4.5.5 (Java/1.8.0_181)\r\nAccept-Encoding: gzip,deflate\r\n"+
		"Content-Type: application/json;charset=UTF-8\r\nBusinessShortCode: 174379\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// numberIn finds which callback a message to subscribers tells the end of; -1 if it tells something else.
func numberIn(message []byte) int {
	if !bytes.Contains(message, []byte(`"PAYMENT_COMPLETED"`)) {
		return -1
	}
	_, rest, _ := bytes.Cut(message, []byte(`"merchantRequestId":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return numberOf(string(id))
}

// numberOf is the number in a MerchantRequestID; -1 if it is none of ours.
func numberOf(merchantID string) int {
	digits, ours := strings.CutPrefix(merchantID, merchantPrefix)
	n, err := strconv.Atoi(digits)
	if !ours || err != nil {
		return -1
	}
	return n
}
