package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// The shapes of callbacks are those that Daraja was seen to send. Whose they are is in their ids; which posting of a body
// this is, is in a header, so that one body can be posted twice to the byte.

const serialHeader = "X-Chaos-Serial"

// A step is one callback of a payment, to be posted.
type step struct {
	says  code
	must  fate
	body  []byte
	forge bool // the code in its address is made wrong
	bare  bool // its address names no payment
}

// A script is what Daraja says about one payment, in this order, as far as two posters keep to an order.
type script struct {
	payment uint32
	amount  int
	steps   []step
	address string // with the payment's ref, where it has one
	base    string // without
	begun   bool
	// early is set where the app tells the sidecar of its push only after the first callback.
	early bool
}

// merchant and checkout are Daraja's ids of a payment.
func merchant(payment uint32) string { return fmt.Sprintf("29115-%d-1", payment) }
func checkout(payment uint32) string { return fmt.Sprintf("ws_CO_02102026181723%d", payment) }

// write writes a script for a payment: mostly one of the plain courses, and now and then an odd one.
func write(rng *rand.Rand, payment uint32, amount int) *script {
	s := &script{payment: payment, amount: amount}
	add := func(c code, must fate, body []byte) { s.steps = append(s.steps, step{says: c, must: must, body: body}) }
	success := func() { add(paid, counted, successBody(rng, payment, amount)) }
	failure := func() {
		c := code(1 + rng.IntN(int(strange)-1))
		add(c, counted, failureBody(rng, payment, c))
	}
	again := func() { s.steps = append(s.steps, s.steps[len(s.steps)-1]) }

	switch n := rng.IntN(1000); {
	case n < 200: // paid
		success()
	case n < 500: // paid, and said again and again
		success()
		again()
		again()
	case n < 550: // not paid
		failure()
	case n < 650: // not paid, and said again
		failure()
		again()
		again()
	case n < 780: // two reasons, as was seen in production: wrong PIN, then expired, then expired again
		failure()
		failure()
		again()
	case n < 880: // not paid, and then paid after all
		failure()
		success()
		again()
	case n < 930: // a late failure must not take back the money
		success()
		failure()
		again()
	case n < 950: // a code that nobody knows
		add(strange, counted, failureBody(rng, payment, strange))
		again()
	case n < 970:
		add(strange, counted, failureBody(rng, payment, strange))
		success()
	case n < 975: // another amount than was asked for
		add(paid, disbelieved, successBody(rng, payment, amount+1))
	case n < 980: // forged, and then the truth
		add(paid, disbelieved, successBody(rng, payment, amount))
		s.steps[0].forge = true
		failure()
	case n < 986: // what is no callback at all
		for range 2 {
			add(strange, unreadable, strangeBody(rng))
		}
	case n < 988: // M-Pesa tells of money that came by another way, twice, as it does
		for range 2 {
			add(strange, noticed, noticeBody(payment, amount))
		}
	case n < 990: // of a payment that is not known here
		add(paid, unclaimed, successBody(rng, none-payment, amount))
		s.steps[0].bare = true
	case n < 991: // very long
		body := successBody(rng, payment, amount)
		add(paid, counted, bytes.Replace(body, []byte(`{`), []byte(`{"Padding":"`+strings.Repeat("x", 100<<10)+`",`), 1))
	default: // the callback is faster than the app
		s.early = true
		if rng.IntN(2) == 0 {
			success()
		} else {
			failure()
		}
		again()
	}
	if s.early {
		for i := range s.steps {
			s.steps[i].bare = true
		}
	}
	return s
}

func successBody(rng *rand.Rand, payment uint32, amount int) []byte {
	result, balance, phone, decimals := "0", "", "254708374149", ".00"
	switch rng.IntN(6) {
	case 0:
		result = `"0"`
	case 1:
		balance = `{"Name":"Balance"},`
	case 2:
		phone = `"254708***149"`
	case 3:
		decimals = ""
	}
	return fmt.Appendf(nil, `{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":%s,`+
		`"ResultDesc":"The service request is processed successfully.","CallbackMetadata":{"Item":[{"Name":"Amount","Value":%d%s},`+
		`{"Name":"MpesaReceiptNumber","Value":%q},%s{"Name":"TransactionDate","Value":%s},{"Name":"PhoneNumber","Value":%s}]}}}}`,
		merchant(payment), checkout(payment), result, amount, decimals, receiptOf(payment), balance, today.Format("20060102150405"), phone)
}

func failureBody(rng *rand.Rand, payment uint32, c code) []byte {
	result := codes[c].text
	if c == strange || rng.IntN(4) == 0 {
		result = `"` + result + `"`
	}
	return fmt.Appendf(nil, `{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":%s,"ResultDesc":"%s"}}}`,
		merchant(payment), checkout(payment), result, []string{"Request cancelled by user.", "DS timeout user cannot be reached", "The initiator information is invalid."}[rng.IntN(3)])
}

func strangeBody(rng *rand.Rand) []byte {
	return [][]byte{
		nil,
		[]byte("{}"),
		[]byte("not JSON at all"),
		{0xff, 0xfe, 0, 1, 2},
		[]byte(`{"Body":{"stkCallback":{"ResultCode":0}}}`),
		[]byte(`<xml/>`),
	}[rng.IntN(6)]
}

func noticeBody(payment uint32, amount int) []byte {
	return fmt.Appendf(nil, `{"TransactionType":"Pay Bill","TransID":%q,"TransTime":%q,"TransAmount":"%d","BusinessShortCode":"600638"}`,
		receiptOf(payment), today.Format("20060102150405"), amount)
}
