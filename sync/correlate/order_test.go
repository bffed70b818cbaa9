package correlate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// TestEveryOrderOfOnePaymentsDays lives one payment's life in every order in which its parts can come: the request, the
// ack, the callback, the same callback again, a callback that contradicts it, a query's answer, and a restart. Only the
// request comes before its ack, and the ack, which brings the id to ask with, before the answer. Callbacks may be there
// before the request is.
func TestEveryOrderOfOnePaymentsDays(t *testing.T) {
	const request, ack, callback, duplicate, contradiction, answer, restart = "request", "ack", "callback", "duplicate", "contradiction", "answer", "restart"
	t.Parallel()
	s := open(t, trusting, inMemory(t))
	var lives []*life
	for order := range permutations([]string{request, ack, callback, duplicate, contradiction, answer, restart}) {
		if slices.Index(order, request) > slices.Index(order, ack) || slices.Index(order, ack) > slices.Index(order, answer) {
			continue
		}
		if slices.Index(order, callback) > slices.Index(order, duplicate) {
			continue // they are the same, so this order was there already
		}
		number := len(lives) + 1
		lives = append(lives, &life{shop: s, session: fmt.Sprintf("life-%d", number), phone: fmt.Sprintf("2547000%05d", number), order: slices.Clone(order)})
	}
	if len(lives) != 420 {
		t.Errorf("%d orders are lived, want 420", len(lives))
	}
	live := func(l *life, parts []string) {
		for _, part := range parts {
			switch part {
			case request:
				r := correlate.Request{Session: l.session, Phone: l.phone, Amount: 100_00, AccountReference: "INV-1", Shortcode: "main", Number: "174379", Environment: "sandbox"}
				l.payment = s.begin(r)
			case ack:
				if _, err := s.Accepted(context.Background(), l.payment.ID, l.merchant(), l.checkout()); err != nil {
					t.Fatal(err)
				}
			case callback, duplicate:
				l.arrives(l.body(0))
			case contradiction:
				l.arrives(l.body(1032))
			case answer:
				if _, err := s.Answer(context.Background(), l.payment.ID, daraja.Answer{ResultCode: "1037", ResultDesc: "DS timeout"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// A restart is one of all lives that have theirs at the same point.
	for at := range 7 {
		var together []*life
		for _, l := range lives {
			if slices.Index(l.order, restart) == at {
				together = append(together, l)
			}
		}
		for _, l := range together {
			live(l, l.order[:at])
		}
		s.restart()
		for _, l := range together {
			live(l, l.order[at+1:])
			l.check(strings.Join(l.order, ", "))
		}
		if t.Failed() {
			return
		}
	}
}

// life is one payment and what is said about it.
type life struct {
	*shop
	session, phone string
	order          []string
	payment        correlate.Payment
}

func (l *life) merchant() string { return "mr-" + l.session }
func (l *life) receipt() string  { return strings.ToUpper("R-" + l.session) }
func (l *life) checkout() string { return "ws_CO_" + l.session }

func (l *life) body(code int) string {
	metadata := ""
	if code == 0 {
		metadata = fmt.Sprintf(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":100.00},{"Name":"MpesaReceiptNumber","Value":"%s"}]}`, l.receipt())
	}
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":%d,"ResultDesc":"it said %d"%s}}}`, l.merchant(), l.checkout(), code, code, metadata)
}

func (l *life) arrives(body string) {
	l.Helper()
	l.seq++
	e := wire.Entry{Seq: l.seq, Received: time.Now(), Kind: wire.KindNotice, Body: []byte(body)}
	if err := l.Apply(context.Background(), behind(l.journal, []wire.Entry{e}), []wire.Entry{e}); err != nil {
		l.Fatal(err)
	}
}

// check holds what is left, and what was told on the way, to guarantee 4.
func (l *life) check(order string) {
	l.Helper()
	told := slices.DeleteFunc(slices.Clone(l.published), func(e correlate.Event) bool { return e.Session != l.session })
	p, err := l.Payment(context.Background(), l.payment.ID)
	if err != nil {
		l.Fatal(err)
	}
	if p.Status != push.Success || p.Receipt != l.receipt() || !p.AmountChecked {
		l.Errorf("%s: the payment ends as %s, receipt %q", order, p.Status, p.Receipt)
	}
	var completed []push.Status
	var last push.Status
	for _, e := range told {
		m := e.Message
		if m.Session != l.session || m.Data.PaymentID != l.payment.ID {
			l.Errorf("%s: an event of session %s was told of payment %s", order, m.Session, m.Data.PaymentID)
		}
		if last == push.Success && m.Data.Status != push.Success {
			l.Errorf("%s: %s was told after SUCCESS", order, m.Data.Status)
		}
		if m.Type == push.STKInitiated && m.Data.Status != push.Pending {
			l.Errorf("%s: STK_INITIATED was told of a payment that is %s", order, m.Data.Status)
		}
		if m.Type == push.PaymentCompleted {
			completed = append(completed, m.Data.Status)
		}
		last = m.Data.Status
	}
	if n := len(completed); n == 0 || n > 2 || completed[n-1] != push.Success || n == 2 && completed[0] != push.Failed {
		l.Errorf("%s: completions were told as %v", order, completed)
	}
	stored, err := l.Events(context.Background(), l.session, 0, 100)
	if err != nil {
		l.Fatal(err)
	}
	same := func(a, b correlate.Event) bool { return a.Seq == b.Seq && string(a.Encoded) == string(b.Encoded) }
	if !slices.EqualFunc(stored, told, same) {
		l.Errorf("%s: %d events are stored and %d were told, or others", order, len(stored), len(told))
	}
}

// permutations yields every order of some words.
func permutations(words []string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		var place func(at int) bool
		place = func(at int) bool {
			if at == len(words) {
				return yield(words)
			}
			for i := at; i < len(words); i++ {
				words[at], words[i] = words[i], words[at]
				more := place(at + 1)
				words[at], words[i] = words[i], words[at]
				if !more {
					return false
				}
			}
			return true
		}
		place(0)
	}
}

func TestAPaymentWithoutIdsIsNeverSaidToBeCheckedOn(t *testing.T) {
	s := open(t, trusting)
	p := s.begin(request("s"))
	if _, err := s.Ambiguous(context.Background(), p.ID, "no answer"); err != nil {
		t.Fatal(err)
	}
	if err := s.Asked(context.Background(), p.ID); err != nil {
		t.Fatal(err)
	}
	p, err := s.Payment(context.Background(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if p.Asking() || p.Data().Reason != daraja.SentenceUnknownUnasked().En {
		t.Errorf("it says %q, and nobody can ask", p.Data().Reason)
	}
}
