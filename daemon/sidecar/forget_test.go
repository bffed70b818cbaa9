package sidecar_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// lines is a log that many write to.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const digitsOf = "708374149" // the number, however it is written

func TestACustomerIsForgottenByNumberOrPayment(t *testing.T) {
	s := open(t, false, outside)
	pay := func(n int) string {
		t.Helper()
		session := s.opened("100")
		s.want(s.do("POST", "/sessions/"+session+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
		s.want(s.do("POST", s.daraja.callback(n), paid(n, 100)), 200, "")
		return session
	}
	first := pay(1)
	var done struct{ Payments, Callbacks, Left int }
	if err := s.operate("POST", "/forget", map[string]string{"phoneNumber": "0708 374 149"}, &done); err != nil || done.Payments != 1 || done.Callbacks != 1 || done.Left != 0 {
		t.Errorf("forgot %+v, %v", done, err)
	}
	auth := []string{"Authorization", "Bearer " + s.key}
	for _, path := range []string{"/payments", "/sessions/" + first, "/callbacks?state=applied"} {
		if a := s.do("GET", path, "", auth...); a.status != 200 || strings.Contains(string(a.body), digitsOf) || strings.Contains(string(a.body), "254708***149") {
			t.Errorf("%s answers %s", path, a.body)
		}
	}
	// Who reads the history from the beginning does not learn it either, from memory or from the disk.
	k := s.socket("/sessions/"+first+"/websocket?after="+strings.Repeat("0", 12)+"-"+strings.Repeat("0", 16), auth...)
	if m := k.next(push.PaymentUpdate, push.Success); m.Data.PhoneNumber != "" || m.Data.CheckoutRequestID != "" || m.Data.Amount != 100_00 {
		t.Errorf("the session is told %+v", m)
	}

	second := pay(2)
	var payment struct {
		Data struct{ PaymentID string }
	}
	s.do("GET", "/sessions/"+second, "").into(t, &payment)
	if err := s.operate("POST", "/forget", map[string]string{"payment": payment.Data.PaymentID}, &done); err != nil || done.Payments != 1 {
		t.Errorf("forgot %+v, %v", done, err)
	}
	for body, want := range map[string]string{"07": "neither a payment's id nor", "254700000009": ""} {
		err := s.operate("POST", "/forget", map[string]string{"phoneNumber": body}, &done)
		if want == "" && (err != nil || done.Payments != 0) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %+v, %v", body, done, err)
		}
	}
	s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+phone+`"}`)
	if err := s.operate("POST", "/forget", map[string]string{"phoneNumber": phone}, &done); err == nil || !strings.Contains(err.Error(), "no result yet") || strings.Contains(err.Error(), digitsOf) {
		t.Errorf("with a payment that is open: %v", err)
	}
	if got := s.audit(); strings.Contains(strings.Join(got, "\n"), digitsOf) || !strings.Contains(strings.Join(got, "\n"), "ann, customer forgotten, , 1 payments, 1 callbacks") {
		t.Errorf("the audit is %q", got)
	}
	for _, name := range []string{"sidecar.db", "sidecar.db-wal"} {
		if b, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || strings.Contains(string(b), receiptDay+"7XK4101\"},{\"Name\":\"TransactionDate\"") {
			t.Errorf("%s holds what a callback said, or %v", name, err)
		}
	}
}

func TestNobodyIsInTheLog(t *testing.T) {
	log := new(lines)
	s := open(t, false, outside, func(c *sidecar.Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.daraja.answer = func(n int) (int, string, error) {
		switch n {
		case 2: // an error that repeats what it was asked
			return 400, `{"requestId":"x","errorCode":"400.002.02","errorMessage":"Bad Request - Invalid PhoneNumber ` + phone + ` or CallBackURL ` + s.daraja.callback(2) + `"}`, nil
		case 3:
			return 500, `<html>` + phone + `</html>`, nil
		}
		return 0, "", nil
	}
	var answers strings.Builder
	for n := 1; n <= 3; n++ {
		a := s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+[]string{phone, otherPhone, phone}[n-1]+`"}`)
		answers.Write(a.body)
		if n == 1 {
			s.want(s.do("POST", s.daraja.callback(1)+"x", paid(1, 100)), 200, "") // forged
			s.want(s.do("POST", s.daraja.callback(1), strings.Replace(paid(1, 100), `"Item":[`, `"Item":[{"Name":"FirstName","Value":"WANJIKU"},`, 1)), 200, "")
		}
	}
	a := s.do("POST", "/payments/search", `{"phoneNumber":"`+phone+`x"}`, "Authorization", "Bearer "+s.key)
	answers.Write(a.body)
	if err := s.operate("POST", "/forget", map[string]string{"phoneNumber": phone}, new(struct{})); err != nil && strings.Contains(err.Error(), digitsOf) {
		t.Errorf("the operator is told %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if log.String() == "" {
		t.Fatal("nothing was logged")
	}
	for what, text := range map[string]string{"log": log.String(), "answers": answers.String()} {
		for line := range strings.Lines(text) {
			for _, secret := range []string{digitsOf, otherPhone[3:], "WANJIKU", "ws_CO_2", "/c/", s.key} {
				if strings.Contains(line, secret) {
					t.Errorf("the %s has %q in: %s", what, secret, line)
				}
			}
		}
	}
}

func TestPaymentsAreNotKeptForTooShort(t *testing.T) {
	_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Listener: newPipeListener(), KeepPayments: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "at least") {
		t.Errorf("payments for an hour: %v", err)
	}
}
