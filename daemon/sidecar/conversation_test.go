package sidecar_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// What a page written only from the public write-up does, and what its own server got wrong.

func TestThePageOfTheWriteUpHearsThatItIsPaid(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/customer-7/websocket")
	answer := s.do("POST", "/sessions/customer-7/initiate", `{"phoneNumber":"254708374149","amount":100,"accountReference":"ORDER123"}`, "Content-Type", "application/json")
	s.want(answer, 200, "")
	first := answer.data(t)
	if first.Status != push.Pending || first.MerchantRequestID != "fake-1" || first.CheckoutRequestID != "ws_CO_1" || first.Timestamp.IsZero() {
		t.Errorf("initiate answered %s", answer.body)
	}

	m := page.next(push.STKInitiated, push.Pending)
	if m.Final || m.Replay || m.Session != "customer-7" || m.Data.MerchantRequestID != "fake-1" {
		t.Errorf("STK_INITIATED is %+v", m)
	}
	s.hook("customer-7", paid(1, 100))
	m = page.next(push.PaymentCompleted, push.Success)
	if !m.Final || m.Replay || m.Data.MpesaReceiptNumber != receiptDay+"7XK4101" || m.Data.ResultCode != "0" || m.Data.CompletedAt.IsZero() || m.Data.Reason == "" {
		t.Errorf("PAYMENT_COMPLETED is %+v", m)
	}
	if m.Data.PhoneNumber != "254708***149" {
		t.Errorf("the number is shown as %q", m.Data.PhoneNumber)
	}
	page.close()
}

func TestThePageHearsWhyItFailed(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	page.next(push.STKInitiated, push.Pending)
	s.hook("a", cancelled(1))
	m := page.next(push.PaymentCompleted, push.Failed)
	if m.Data.Reason == "" || m.Data.ReasonSw == "" || m.Data.Outcome != "cancelled" || m.Data.ResultCode != "1032" {
		t.Errorf("PAYMENT_COMPLETED is %+v", m)
	}
}

func TestASecondTabDoesNotSilenceTheFirst(t *testing.T) {
	s := open(t, false)
	one, two := s.socket("/sessions/a/websocket"), s.socket("/sessions/a/websocket")
	s.pay("a")
	one.next(push.STKInitiated, push.Pending)
	two.next(push.STKInitiated, push.Pending)
	three := s.socket("/sessions/a/websocket") // comes later: is told where it stands
	three.next(push.PaymentUpdate, push.Pending)
	s.hook("a", paid(1, 100))
	for _, tab := range []*socket{one, two, three} {
		tab.next(push.PaymentCompleted, push.Success)
	}
}

func TestARepeatedCallbackIsPushedOnce(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	page.next(push.STKInitiated, push.Pending)
	s.hook("a", paid(1, 100))
	s.hook("a", paid(1, 100))
	page.next(push.PaymentCompleted, push.Success)
	s.do("POST", "/sessions/a/initiate", request(otherPhone, 5, "")) // in dev a customer may pay again
	page.next(push.STKInitiated, push.Pending)                       // and nothing came between
}

func TestALateCancellationDoesNotUnsayMoney(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	page.next(push.STKInitiated, push.Pending)
	s.hook("a", paid(1, 100))
	page.next(push.PaymentCompleted, push.Success)
	s.hook("a", cancelled(1))
	var state push.Message
	s.do("GET", "/sessions/a", "").into(t, &state)
	if state.Data.Status != push.Success || state.Data.MpesaReceiptNumber == "" {
		t.Errorf("the state is %+v", state.Data)
	}
}

func TestAFailureMayBecomeASuccess(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	page.next(push.STKInitiated, push.Pending)
	s.hook("a", cancelled(1))
	page.next(push.PaymentCompleted, push.Failed)
	s.hook("a", paid(1, 100))
	page.next(push.PaymentCompleted, push.Success)
}

func TestACallbackBeforeItsRequestIsKeptAndMatched(t *testing.T) {
	s := open(t, false)
	s.hook("a", paid(1, 100))
	s.want(s.pay("a"), 200, "")
	page := s.socket("/sessions/a/websocket")
	page.next(push.PaymentUpdate, push.Success)
}

func TestACallbackBeforeTheAckIsKeptAndMatched(t *testing.T) {
	s := open(t, false)
	s.daraja.answer = func(n int) (int, string, error) {
		s.hook("a", paid(n, 100)) // while initiate still waits for its ack
		return 0, "", nil
	}
	page := s.socket("/sessions/a/websocket")
	s.want(s.pay("a"), 200, "")
	for {
		m, b, err := page.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == push.PaymentCompleted {
			if m.Data.Status != push.Success {
				t.Errorf("got %s", b)
			}
			return
		}
	}
}

func TestAnythingPostedToTheWebhookIsKeptAndMarksNothing(t *testing.T) {
	s := open(t, false)
	s.pay("a")
	for _, body := range []string{"{}", "[]", "null", "hello", `{"Body":{}}`, `{"Body":{"stkCallback":{"ResultCode":1032}}}`, "\xff\xfe", paid(99, 100)} {
		s.hook("a", body)
	}
	var state push.Message
	s.do("GET", "/sessions/a", "").into(t, &state)
	if state.Data.Status != push.Pending {
		t.Errorf("the payment is %s", state.Data.Status)
	}
	var list struct {
		Callbacks []struct{ State, Body, BodyBase64 string }
	}
	s.do("GET", "/callbacks", "").into(t, &list)
	if len(list.Callbacks) != 8 {
		t.Fatalf("%d callbacks are listed, want 8: %+v", len(list.Callbacks), list)
	}
	if c := list.Callbacks[0]; c.State != "unparsed" && c.State != "suspect" || c.Body != "{}" {
		t.Errorf("the first is %+v", c)
	}
	if c := list.Callbacks[6]; c.BodyBase64 == "" {
		t.Errorf("bytes that are no text are not shown as they came: %+v", c)
	}
	if c := list.Callbacks[7]; c.State != "unmatched" {
		t.Errorf("one of a payment nobody knows is %q", c.State)
	}
	var one struct{ Callbacks []struct{ State string } }
	s.do("GET", "/callbacks?state=unmatched", "").into(t, &one)
	if len(one.Callbacks) != 1 {
		t.Errorf("%d are unmatched, want 1", len(one.Callbacks))
	}
}

func TestAfterARestartThePageIsToldWhatItMissed(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	s.pay("a")
	cursor := page.next(push.STKInitiated, push.Pending).ID
	s.hook("a", paid(1, 100))
	if err := s.stop(); err != nil { // the answer is on its way to the page, or lost with the process
		t.Fatal(err)
	}
	again := open(t, false, func(c *sidecar.Config) { c.Dir = s.dir })
	again.socket("/sessions/a/websocket?after="+cursor.String()).next(push.PaymentCompleted, push.Success)
	again.socket("/sessions/a/websocket").next(push.PaymentUpdate, push.Success)
}

func TestAPageThatComesBackAfterTheEndIsToldAgainAsACompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.pay("a")
		s.hook("a", cancelled(1))
		began := time.Now()
		page := s.socket("/sessions/a/websocket")
		if m := page.next(push.PaymentUpdate, push.Failed); m.Replay || !m.Final {
			t.Errorf("the snapshot is %+v", m)
		}
		m := page.next(push.PaymentCompleted, push.Failed)
		if !m.Replay || !m.Final {
			t.Errorf("the replay is %+v", m)
		}
		if waited := time.Since(began); waited != 2*time.Second {
			t.Errorf("it was told again after %v, want 2s", waited)
		}
		s.hook("a", paid(1, 100)) // and it goes on from there
		page.next(push.PaymentCompleted, push.Success)
		page.close()
	})
}

func TestANewAttemptIsNotGreetedByTheOldAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.pay("a")
		s.hook("a", cancelled(1))

		// One click: a new socket, and initiate, whose ack takes longer than the two seconds.
		s.daraja.delay = 5 * time.Second
		page := s.socket("/sessions/a/websocket")
		go s.pay("a")
		page.next(push.PaymentUpdate, push.Failed)
		if m := page.next(push.STKInitiated, push.Pending); m.Data.Attempt != 2 {
			t.Errorf("the attempt is %d", m.Data.Attempt)
		}
		time.Sleep(10 * time.Second)
		s.hook("a", paid(2, 100))
		if m := page.next(push.PaymentCompleted, push.Success); m.Replay {
			t.Error("a live answer is marked as a replay")
		}
		page.close()
	})
}

func TestANewsWithinTheTwoSecondsIsToldOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.pay("a")
		s.hook("a", cancelled(1))
		page := s.socket("/sessions/a/websocket")
		page.next(push.PaymentUpdate, push.Failed)
		time.Sleep(time.Second)
		s.hook("a", paid(1, 100))
		if m := page.next(push.PaymentCompleted, push.Success); m.Replay {
			t.Error("a live answer is marked as a replay")
		}
		time.Sleep(10 * time.Second)
		s.do("POST", "/sessions/a/initiate", request(otherPhone, 5, ""))
		page.next(push.STKInitiated, push.Pending) // nothing was told again in between
		page.close()
	})
}

func TestSilenceBecomesUnknownAndIsNeverForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		page := s.socket("/sessions/a/websocket")
		s.pay("a")
		page.next(push.STKInitiated, push.Pending)
		time.Sleep(85 * time.Second) // the socket's own patience is 20 s
		if m := page.next(push.PaymentUpdate, push.Unknown); m.Final {
			t.Errorf("UNKNOWN is said to be final: %+v", m)
		}
		time.Sleep(time.Hour)
		s.hook("a", paid(1, 100))
		page.next(push.PaymentCompleted, push.Success)
		page.close()
	})
}

func TestMessagesFromThePageAreIgnoredUnlessTheyAreHuge(t *testing.T) {
	s := open(t, false)
	page := s.socket("/sessions/a/websocket")
	for range 3 {
		if err := page.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"hello"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.pay("a")
	page.next(push.STKInitiated, push.Pending)
	if err := page.conn.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 4096))); err != nil {
		t.Fatal(err)
	}
	page.wantClose(websocket.StatusMessageTooBig)
}
