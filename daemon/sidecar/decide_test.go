package sidecar_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// refused wants an answer on the operator's socket that is a refusal.
func (s *shop) refused(status int, method, path string, body any) {
	s.t.Helper()
	err := s.operate(method, path, body, new(any))
	if refusal := new(console.Refusal); !errors.As(err, &refusal) || refusal.Status != status {
		s.t.Errorf("%s %s is answered %v, want a refusal of %d", method, path, err, status)
	}
}

func TestAPersonDecidesWhatNobodyElseCanTell(t *testing.T) {
	s := open(t, false, outside)
	auth := []string{"Authorization", "Bearer " + s.key}
	id := s.opened("100")
	page := s.socket("/sessions/" + id + "/websocket")
	s.want(s.do("POST", "/sessions/"+id+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
	page.next(push.STKInitiated, push.Pending)

	// The payer, who knows all that his page shows, and the endpoint's key besides.
	bare := s.daraja.callback(1)[:strings.LastIndex(s.daraja.callback(1), "/")]
	s.want(s.do("POST", bare, paid(1, 100)), 200, "")
	if m := page.next(push.PaymentUpdate, push.Pending); m.Data.Doubt != "suspect" || !strings.Contains(m.Data.Reason, "may be false") {
		t.Errorf("the screens say %+v", m.Data)
	}
	var doubtful struct {
		Payments []struct{ PaymentID, Doubt string }
	}
	s.do("GET", "/payments?doubt=true", "", auth...).into(t, &doubtful)
	if len(doubtful.Payments) != 1 || doubtful.Payments[0].Doubt != "suspect" {
		t.Fatalf("in doubt are %+v", doubtful)
	}
	payment := doubtful.Payments[0].PaymentID
	s.want(s.do("GET", "/payments?doubt=maybe", "", auth...), 400, "bad-request")

	// Neither the app nor a page decides.
	body := map[string]string{"reason": "it is on the statement", "receipt": receiptDay + "7XK4101"}
	for _, route := range []string{"/payments/" + payment + "/confirm", "/payments/" + payment + "/deny", "/keys"} {
		s.want(s.do("POST", route, `{"reason":"r"}`, auth...), 404, "not-found")
	}
	s.refused(400, "POST", "/payments/"+payment+"/confirm", map[string]string{"reason": "  "})
	s.refused(400, "POST", "/payments/"+payment+"/deny", body)
	s.refused(404, "POST", "/payments/nobody/confirm", body)
	var now struct {
		push.Data
		DecidedBy string
	}
	if err := s.operate("POST", "/payments/"+payment+"/confirm", body, &now); err != nil {
		t.Fatal(err)
	}
	if now.Status != push.Success || now.MpesaReceiptNumber != receiptDay+"7XK4101" || now.DecidedBy != "ann" || now.Doubt != "" {
		t.Errorf("confirmed it is %+v", now)
	}
	m := page.next(push.PaymentCompleted, push.Success)
	if !strings.Contains(m.Data.Reason, "by hand") || strings.Contains(fmt.Sprint(m), "ann") {
		t.Errorf("the page is told %+v", m)
	}
	s.refused(409, "POST", "/payments/"+payment+"/deny", map[string]string{"reason": "r"})

	second := s.opened("100")
	s.want(s.do("POST", "/sessions/"+second+"/initiate", `{"phoneNumber":"`+otherPhone+`"}`), 200, "")
	d := s.do("GET", "/payments/fake-2", "", auth...).data(t)
	s.refused(409, "POST", "/payments/"+d.PaymentID+"/confirm", body)
	if err := s.operate("POST", "/payments/fake-2/deny", map[string]string{"reason": "not on the statement"}, &now); err != nil {
		t.Fatal(err)
	}
	if now.Status != push.Failed || now.Outcome != "denied" {
		t.Errorf("denied it is %+v", now)
	}
	want := []string{
		"sidecar, callback not believed, " + payment + ", its payment is settled only through the address that was made for it",
		"ann, payment confirmed, " + payment + ", it was PENDING and in doubt (suspect), receipt " + receiptDay + "7XK4101: it is on the statement",
		"ann, payment denied, " + d.PaymentID + ", it was PENDING: not on the statement",
	}
	if got := s.audit(); !slices.Equal(got, want) {
		t.Errorf("the audit is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

type listed struct{ ID, State, Error, Source, PaymentID string }

// callback is the only callback of a state.
func (s *shop) callback(t *testing.T, state string) listed {
	t.Helper()
	var list struct{ Callbacks []listed }
	s.do("GET", "/callbacks?state="+state, "", "Authorization", "Bearer "+s.key).into(t, &list)
	if len(list.Callbacks) != 1 {
		t.Fatalf("%d callbacks are %s, want 1", len(list.Callbacks), state)
	}
	return list.Callbacks[0]
}

func TestAKeyOfRefsEndsWhenItIsRetiredByName(t *testing.T) {
	dir := t.TempDir()
	in := func(c *sidecar.Config) { c.Dir = dir }
	s := open(t, false, outside, in)
	auth := []string{"Authorization", "Bearer " + s.key}
	names := func() (list []string) {
		t.Helper()
		var keys struct {
			Keys []struct {
				Name string
				New  bool
			}
		}
		if err := s.operate("GET", "/keys", nil, &keys); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys.Keys {
			list = append(list, fmt.Sprint(k.Name, k.New))
		}
		return list
	}
	ask := func(phone string) {
		t.Helper()
		s.want(s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
	}
	ask(phone)
	ask(otherPhone)
	s.refused(409, "DELETE", "/keys/key-1", nil)
	s.refused(404, "DELETE", "/keys/key-9", nil)
	for range 2 {
		if err := s.operate("POST", "/keys", struct{}{}, new(any)); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(); !slices.Equal(got, []string{"key-1false", "key-2false", "key-3true"}) {
		t.Errorf("the keys are %v", got)
	}
	// What was made with the first is believed, by the process of then and by one of later.
	s.want(s.do("POST", s.daraja.callback(1), paid(1, 100)), 200, "")
	if d := s.do("GET", "/payments/fake-1", "", auth...).data(t); d.Status != push.Success {
		t.Errorf("the payment is %s", d.Status)
	}
	old := s
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = open(t, false, outside, in)
	if info, err := os.Stat(filepath.Join(dir, "callback.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("callback.key is %v, %v", info, err)
	}
	second := s.base + strings.TrimPrefix(old.daraja.callback(2), old.base)
	s.want(s.do("POST", second, cancelled(2)), 200, "")
	if d := s.do("GET", "/payments/fake-2", "", auth...).data(t); d.Status != push.Failed {
		t.Errorf("the payment is %s", d.Status)
	}
	if err := s.operate("DELETE", "/keys/key-1", nil, new(any)); err != nil {
		t.Fatal(err)
	}
	s.want(s.do("POST", second, paid(2, 100)), 200, "")
	if d := s.do("GET", "/payments/fake-2", "", auth...).data(t); d.Status != push.Failed || d.Doubt != "" {
		t.Errorf("what was made with a retired key made the payment %s, doubt %q", d.Status, d.Doubt)
	}
	s.callback(t, "forged")
	if got := names(); !slices.Equal(got, []string{"key-2false", "key-3true"}) {
		t.Errorf("the keys are %v", got)
	}
	if err := s.operate("POST", "/keys", struct{}{}, new(any)); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = open(t, false, outside, in)
	if got := names(); !slices.Equal(got, []string{"key-2false", "key-3false", "key-4true"}) {
		t.Errorf("the keys are %v", got)
	}
	var acts []string
	for _, line := range s.audit() {
		if strings.Contains(line, "key") {
			acts = append(acts, strings.TrimSuffix(line, ", "))
		}
	}
	want := []string{"ann, callback key added, key-2", "ann, callback key added, key-3", "ann, callback key retired, key-1", "ann, callback key added, key-4"}
	if !slices.Equal(slices.DeleteFunc(acts, func(l string) bool { return strings.HasPrefix(l, "sidecar") }), want) {
		t.Errorf("the audit is %q, want %q", acts, want)
	}
}

func TestAFileThatHoldsSomethingElseThanKeysIsNotReplaced(t *testing.T) {
	good := strings.Repeat("ab", 32)
	for _, text := range []string{"", "\n", "no key\n", good + " key-2 yesterday\n", good + "\n" + good + "\n", good[:62] + "\n", good + " key-2 2026-10-02 and more\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "callback.key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: dir, Listener: newPipeListener()})
		if err == nil || !strings.Contains(err.Error(), "put the right file back") {
			t.Errorf("%q: %v", text, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%q was replaced", text)
		}
	}
}
