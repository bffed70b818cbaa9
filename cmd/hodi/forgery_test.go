package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

// A deployed shop is the house as a merchant runs it, not in dev: an edge, a sidecar and a sandbox in Safaricom's place,
// each a process of its own.
type deployed struct {
	*testing.T
	dir, edge, sidecar, key string
	base, rival             string // addresses of callbacks: the shop's, and another shop's
	log                     *lockedBuffer
	dev                     // for the phone
}

// deploy starts it; more is what its configuration says of the sidecar besides. What happens when nobody does anything is as
// far away as for quick.
func deploy(t *testing.T, more ...string) *deployed {
	s := &deployed{T: t, dir: t.TempDir()}
	box := startDaemon(t, s.dir, "sandbox", "--listen", "127.0.0.1:0", "--ack-delay", "20ms", "--prompt-delay", "20ms", "--callback-delay", "50ms", "--prompt-timeout", "10m")
	s.Sandbox = box.says("url")
	edge := startDaemon(t, s.dir, "edge", "--data", "edge", "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0")
	s.edge = "http://" + edge.says("callbacks")
	edge.says("sidecars")
	s.base, s.rival = joinShop(t, s.dir, "edge", "duka", "sidecar"), joinShop(t, s.dir, "edge", "mpinzani", "other")
	for name, secret := range map[string]string{"key": sandbox.DefaultConsumerKey, "secret": sandbox.DefaultConsumerSecret, "passkey": sandbox.DefaultPasskey} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`
[sidecar]
listen = "127.0.0.1:0"
data = "sidecar"
daraja-url = %q
queries-per-minute = 600
unknown-after = "10m"
%s

[shortcode.main]
environment = "sandbox"
number = "174379"
consumer-key-file = "key"
consumer-secret-file = "secret"
passkey-file = "passkey"
query-above = 5000
`, s.Sandbox, strings.Join(more, "\n"))
	if err := os.WriteFile(filepath.Join(s.dir, "hodi.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, s.dir, "sidecar")
	s.sidecar, s.log = d.says("url"), d.log
	key, err := os.ReadFile(filepath.Join(s.dir, "sidecar", "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.key = strings.TrimSpace(string(key))
	eventually(t, "the link", func() bool { status, _ := s.app("GET", "/readyz?link", nil); return status == 200 })
	return s
}

func (s *deployed) hodi(args ...string) string {
	s.Helper()
	return runHodi(s.T, s.dir, args...)
}

// app asks as the merchant's app does.
func (s *deployed) app(method, path string, body any) (int, map[string]any) {
	s.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.Context(), method, s.sidecar+path, strings.NewReader(string(encoded)))
	if err != nil {
		s.Fatal(err)
	}
	if body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	request.Header.Set("Authorization", "Bearer "+s.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	_ = json.NewDecoder(response.Body).Decode(&answer)
	return response.StatusCode, answer
}

// begin opens a session and asks the customer's phone for money, as the checkout page does. It returns the page's address and
// the payment's data.
func (s *deployed) begin(amount int) (page string, data map[string]any) {
	s.Helper()
	return s.beginOn(testPhone, amount)
}

func (s *deployed) beginOn(phone string, amount int) (page string, data map[string]any) {
	s.Helper()
	status, session := s.app("POST", "/sessions", map[string]any{"amount": amount, "accountReference": "INV-1"})
	if status != 201 {
		s.Fatalf("a session is answered %d %v", status, session)
	}
	page = s.sidecar + "/sessions/" + session["id"].(string)
	if status, data = call(s.T, "POST", page+"/initiate", map[string]any{"phoneNumber": phone}); status != 200 {
		s.Fatalf("initiate is answered %d %v", status, data)
	}
	return page, data
}

func (s *deployed) state(page string) map[string]any {
	s.Helper()
	_, message := call(s.T, "GET", page, nil)
	data, _ := message["data"].(map[string]any)
	return data
}

// TestThePayerCannotForgeHisOwnPayment: he holds the session's id, both of Daraja's ids, the payment's id, amount and phone,
// because his page shows them. He posts what he can make of that wherever something listens; then with the address of the
// endpoint, too, which he cannot know.
func TestThePayerCannotForgeHisOwnPayment(t *testing.T) {
	s := deploy(t)
	s.behave(t, map[string]string{"callback": "never_silent"}) // nobody but the payer says anything
	page, data := s.begin(100)
	session := page[strings.LastIndex(page, "/")+1:]
	payment := data["paymentId"].(string)
	key := s.base[strings.LastIndex(s.base, "/")+1:]
	for _, address := range []string{page, s.sidecar + "/pay/" + session + "/about"} {
		if _, told := call(t, "GET", address, nil); strings.Contains(fmt.Sprint(told), key) || strings.Contains(fmt.Sprint(told), "/c/") {
			t.Errorf("his page is told the address of callbacks: %v", told)
		}
	}
	success := func(amount int, receipt string) string { return stkCallback(data, 0, "ok", receipt, amount) }
	zeros := strings.Repeat("0", 32)
	for _, f := range []struct {
		address, body string
		status        int
	}{
		// What he can do.
		{s.edge + "/c/" + zeros, success(100, today+"AB12CD1"), 404},
		{s.edge + "/c/" + session, success(100, today+"AB12CD1"), 404},
		{s.edge + "/c/" + payment + "/" + payment + zeros, success(100, today+"AB12CD1"), 404},
		{s.edge + "/c/", success(100, today+"AB12CD1"), 404},
		{page + "/webhook", success(100, today+"AB12CD1"), 404},
		{page, success(100, today+"AB12CD1"), 405},
		{s.sidecar + "/c/" + key, success(100, today+"AB12CD1"), 404},
		{s.sidecar + "/c/" + key + "/" + payment, success(100, today+"AB12CD1"), 404},
		// And with the address of the endpoint, or of another shop's.
		{s.base, success(100, today+"AB12CD1"), 200},
		{s.base + "/", success(100, today+"AB12CD1"), 200},
		{s.base + "/" + session, success(100, today+"AB12CD1"), 200},
		{s.base + "/" + payment, success(100, today+"AB12CD1"), 200},
		{s.base + "/" + payment + zeros, success(100, today+"AB12CD1"), 200},
		{s.base + "/" + payment + payment, success(100, today+"AB12CD1"), 200},
		{s.base + "/" + zeros + zeros, success(100, today+"AB12CD1"), 200},
		{s.base, success(1, today+"AB12CD1"), 200},
		{s.rival, success(100, today+"AB12CD1"), 200},
		{s.rival + "/" + payment + zeros, success(100, today+"AB12CD1"), 200},
	} {
		if status, answer := call(t, "POST", f.address, f.body); status != f.status {
			t.Errorf("POST %s is answered %d %v, want %d", strings.ReplaceAll(f.address, key, "KEY"), status, answer, f.status)
		}
	}
	const stored = 8 // at the shop's own address
	eventually(t, "the forgeries to come to the sidecar", func() bool {
		_, list := s.app("GET", "/callbacks?state=forged,suspect,unmatched,unparsed,applied,repeated,overruled", nil)
		return len(list["callbacks"].([]any)) == stored
	})
	_, forged := s.app("GET", "/callbacks?state=forged", nil)
	_, suspect := s.app("GET", "/callbacks?state=suspect", nil)
	if n, m := len(forged["callbacks"].([]any)), len(suspect["callbacks"].([]any)); n != 3 || m != stored-3 {
		t.Errorf("%d callbacks are forged and %d suspect, want 3 and %d", n, m, stored-3)
	}
	if now := s.state(page); now["status"] != "PENDING" || now["doubt"] != "suspect" || now["mpesaReceiptNumber"] != nil {
		t.Errorf("the payment is %v", now)
	}
	if out := s.hodi("payments", "doubtful"); !strings.Contains(out, payment) || !strings.Contains(out, "not believed") {
		t.Errorf("hodi payments doubtful says\n%s", out)
	}
	if out := s.hodi("audit"); !strings.Contains(out, "callback forged") || !strings.Contains(out, "callback not believed") {
		t.Errorf("hodi audit says\n%s", out)
	}

	// A person decides, and says why.
	if out, err := exec.Command("hodi", "payments", "deny", payment).CombinedOutput(); err == nil || !strings.Contains(string(out), "--reason") {
		t.Errorf("without a reason: %v\n%s", err, out)
	}
	if out := s.hodi("payments", "deny", payment, "--reason", "not on the statement"); !strings.Contains(out, "is FAILED") {
		t.Errorf("hodi payments deny says\n%s", out)
	}
	if now := s.state(page); now["status"] != "FAILED" || now["outcome"] != "denied" || now["doubt"] != nil {
		t.Errorf("denied it is %v", now)
	}
	if out := s.hodi("payments", "doubtful"); !strings.Contains(out, "No payment is in doubt") {
		t.Errorf("hodi payments doubtful says\n%s", out)
	}
	if out := s.hodi("payments", "confirm", payment, "--reason", "it was on the other statement", "--receipt", today+"AB12CD9"); !strings.Contains(out, "is SUCCESS") {
		t.Errorf("hodi payments confirm says\n%s", out)
	}
	if out := s.hodi("audit"); !strings.Contains(out, "payment denied") || !strings.Contains(out, "it was on the other statement") {
		t.Errorf("hodi audit says\n%s", out)
	}
}

// TestALargePaymentCountsWhenSafaricomIsAskedToo goes the whole way: the callback comes by its own address and is believed, and
// the sidecar asks all the same.
func TestALargePaymentCountsWhenSafaricomIsAskedToo(t *testing.T) {
	s := deploy(t)
	page, _ := s.begin(5001)
	s.answer(t, "approve")
	eventually(t, "the payment", func() bool { return s.state(page)["status"] == "SUCCESS" })
	now := s.state(page)
	if now["mpesaReceiptNumber"] == nil || now["doubt"] != nil || now["amountChecked"] != true {
		t.Errorf("the payment is %v", now)
	}
	small, _ := s.begin(5000)
	s.answer(t, "approve")
	eventually(t, "the small one", func() bool { return s.state(small)["status"] == "SUCCESS" })
	for _, line := range []string{"Daraja is asked before it counts", "Daraja was asked and told the result"} {
		eventually(t, "the log to say that "+line, func() bool { return strings.Contains(s.log.String(), line) })
		if n := strings.Count(s.log.String(), line); n != 1 {
			t.Errorf("the log says %d times that %q, want it of the large one alone", n, line)
		}
	}
	out := s.hodi("sidecar", "key", "add")
	if !strings.Contains(out, "key-2") {
		t.Errorf("hodi sidecar key add says\n%s", out)
	}
	third, _ := s.begin(10)
	s.answer(t, "approve")
	eventually(t, "the one with the new key", func() bool { return s.state(third)["status"] == "SUCCESS" })
	if out := s.hodi("sidecar", "key", "retire", "key-1"); !strings.Contains(out, "retired") {
		t.Errorf("hodi sidecar key retire says\n%s", out)
	}
	if out := s.hodi("sidecar", "key", "list"); !strings.Contains(out, "key-2") || strings.Contains(out, "key-1") {
		t.Errorf("hodi sidecar key list says\n%s", out)
	}
}
