package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
	"github.com/hodihq/hodi/sync/push"
)

func TestDevCarriesAPaymentFromThePhoneToASubscriber(t *testing.T) {
	d := startDev(t, t.TempDir(), nil, quick...)
	data := d.initiate(t, "order-1", 100)
	if data["status"] != "PENDING" {
		t.Fatalf("initiate answered %v", data)
	}
	for m, err := range client.New(d.Sidecar).Session("order-1").Events(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if m.Data.Status == push.Pending {
			d.answer(t, "approve")
		}
		if m.Type == push.PaymentCompleted {
			if m.Data.Status != push.Success || m.Data.MpesaReceiptNumber == "" || m.Callback == "" || !m.Data.AmountChecked {
				t.Errorf("completed with %+v", m)
			}
			break
		}
	}
}

func TestACallbackPostedByHandFreesThePhone(t *testing.T) {
	d := startDev(t, t.TempDir(), nil, quick...)
	for i, code := range []int{1032, 0, 0} {
		data := d.initiate(t, "order-1", 100)
		if data["status"] != "PENDING" || data["attempt"] != float64(i+1) {
			t.Fatalf("initiate answered %v", data)
		}
		if status, answer := call(t, "POST", d.Callback, stkCallback(data, code, "by hand", today+"AB12CD"+string(rune('1'+i)), 100)); status != 200 {
			t.Fatalf("the edge answered %d %v", status, answer)
		}
		eventually(t, "the result", func() bool {
			data, _ := d.session(t, "order-1")["data"].(map[string]any)
			return data["resultCode"] == float64(code)
		})
	}
}

func TestDevStartedAgainShowsThePaymentsItHad(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, dir, nil, quick...)
	before := d.initiate(t, "order-1", 100)
	d.answer(t, "approve")
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "order-1")["data"].(map[string]any)
		return data["status"] == "SUCCESS"
	})
	if took := d.stop(t); took > patience/4 {
		t.Errorf("Ctrl-C took %v", took)
	}

	d = startDev(t, dir, nil, quick...)
	_, list := call(t, "GET", d.Sidecar+"/payments", nil)
	payments, _ := list["payments"].([]any)
	if len(payments) != 1 {
		t.Fatalf("the payments are %v, want one", list)
	}
	if p := payments[0].(map[string]any); p["paymentId"] != before["paymentId"] || p["status"] != "SUCCESS" {
		t.Errorf("the payment is %v, want the one of before, paid", p)
	}
}

func TestDevWithoutDataLeavesNothingBehind(t *testing.T) {
	temporary := t.TempDir()
	cmd := exec.Command("hodi", "dev", "--json", "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary, "TMP="+temporary)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var h house
	if err := json.NewDecoder(stdout).Decode(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.Data, "edge")); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(temporary, "hodi-dev-*")); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func TestTwoDevsOnOneFolderDoNotFight(t *testing.T) {
	dir := t.TempDir()
	startDev(t, dir, nil, quick...)
	out, err := exec.Command("hodi", "dev", "--json", "--data", dir, "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another") {
		t.Errorf("the second ended with %v and said %q", err, out)
	}
}

// TestThePartsRunAsProcessesOfTheirOwn goes the way of an operator: an edge, a shop that is
// invited and joins, a shortcode from hodi.toml.
func TestThePartsRunAsProcessesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	start := func(args ...string) *daemon { return startDaemon(t, dir, args...) }
	box := start("sandbox", "--listen", "127.0.0.1:0", "--ack-delay", "20ms", "--prompt-delay", "20ms", "--callback-delay", "50ms", "--prompt-timeout", "10m")
	sandboxURL := box.says("url")
	edge := start("edge", "--data", in("edge"), "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0")
	edge.says("sidecars")
	joinShop(t, dir, in("edge"), "duka", in("sidecar"))
	if info, err := os.Stat(in("sidecar/identity.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the identity's file: %v %v", info, err)
	}
	for name, secret := range map[string]string{"key": sandbox.DefaultConsumerKey, "secret": sandbox.DefaultConsumerSecret, "passkey": sandbox.DefaultPasskey} {
		if err := os.WriteFile(in(name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := `
[sidecar]
dev = true
listen = "127.0.0.1:0"
data = "` + in("sidecar") + `"
daraja-url = "` + sandboxURL + `"

[shortcode.main]
environment = "sandbox"
number = "174379"
consumer-key-file = "key"
consumer-secret-file = "secret"
passkey-file = "passkey"
`
	if err := os.WriteFile(in("hodi.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sidecar := start("sidecar")
	d := &dev{house: house{Sidecar: sidecar.says("url"), Sandbox: sandboxURL}}
	eventually(t, "the link", func() bool {
		status, _ := call(t, "POST", d.Sidecar+"/sessions/s/initiate", map[string]any{"phoneNumber": testPhone, "amount": 10, "accountReference": "A"})
		return status == 200
	})
	d.answer(t, "approve")
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "s")["data"].(map[string]any)
		return data["status"] == "SUCCESS"
	})

	// The words that an operator has for an edge that runs.
	say := func(want string, args ...string) {
		t.Helper()
		out, err := exec.Command("hodi", append([]string{"edge", "--data", in("edge")}, args...)...).CombinedOutput()
		if !strings.Contains(string(out), want) || (err != nil) != strings.HasPrefix(string(out), "hodi: ") {
			t.Errorf("hodi edge %v: %v\n%s\nwant it to say %q", args, err, out, want)
		}
	}
	say("connected", "endpoints")
	say("revoked: its link has ended", "revoke", "duka")
	eventually(t, "the end of the link", func() bool { return strings.Contains(edge.log.String(), "link ended") })
	say("REVOKED", "endpoints")
	say("has no sidecar that could be revoked", "revoke", "duka")
	say("/c/", "key", "add", "duka", "--name", "checkout-2026")
	say("checkout-2026", "key", "list", "duka")
	say(`did you mean duka?`, "key", "list", "dkua")
	say(`did you mean checkout-2026?`, "key", "retire", "duka", "checkout-2025")
	say("is retired", "key", "retire", "duka", "key-1")
	say("retired 2", "key", "list", "duka")
	say(`"name":"checkout-2026","kind":"notice","url":"http`, "key", "list", "--json", "duka")
	say(`"name":"spare"`, "key", "add", "--json", "--name", "spare", "duka")
	say(`{"endpoint":"duka","retired":"spare"}`, "key", "retire", "--json", "duka", "spare")
	say("add another first", "key", "retire", "duka", "checkout-2026")
	say("sidecar revoked", "audit")
	say("\"act\":\"key retired\"", "audit", "--json")
}

// TestWhatWasAnswered200SurvivesTheDeathOfBothEnds posts a callback while the sidecar is dead, so that the edge's journal is
// the only place that has it, and then kills the edge as well.
func TestWhatWasAnswered200SurvivesTheDeathOfBothEnds(t *testing.T) {
	dir := t.TempDir()
	callbacks, sidecars := loopback.Address(t), loopback.Address(t)
	startEdge := func() *daemon {
		d := startDaemon(t, dir, "edge", "--data", "edge", "--listen", callbacks, "--tunnel-listen", sidecars)
		d.says("sidecars")
		return d
	}
	edge := startEdge()
	callback := joinShop(t, dir, "edge", "duka", "sidecar")
	startSidecar := func() (*daemon, *dev) {
		d := startDaemon(t, dir, "sidecar", "--dev", "--data", "sidecar", "--listen", "127.0.0.1:0")
		return d, &dev{house: house{Sidecar: d.says("url")}}
	}
	sidecar, d := startSidecar()
	push := map[string]any{"MerchantRequestID": "m-1", "CheckoutRequestID": "ws_CO_1", "ResponseCode": "0", "session": "s", "amount": 100}
	if status, answer := call(t, "POST", d.Sidecar+"/payments", push); status != 201 {
		t.Fatalf("the push was answered %d %v", status, answer)
	}

	sidecar.kill()
	ids := map[string]any{"merchantRequestId": "m-1", "checkoutRequestId": "ws_CO_1"}
	if status, answer := call(t, "POST", callback, stkCallback(ids, 0, "ok", today+"AB12CD7", 100)); status != 200 {
		t.Fatalf("the edge answered %d %v", status, answer)
	}
	edge.kill()
	startEdge()
	_, d = startSidecar()
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "s")["data"].(map[string]any)
		return data["status"] == "SUCCESS" && data["mpesaReceiptNumber"] == today+"AB12CD7"
	})
}

// TestDevStandsWhenNobodyReadsWhatItPrints closes the pipe that a person would have read the payments from.
func TestDevStandsWhenNobodyReadsWhatItPrints(t *testing.T) {
	cmd := exec.Command("hodi", append([]string{"dev", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0"}, quick...)...)
	d := &dev{cmd: cmd, stderr: new(lockedBuffer)}
	cmd.Stderr = d.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	words := make(map[string]string) // the first of a line, and the second
	for s := bufio.NewScanner(stdout); words["Ctrl-C"] == "" && s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 1 {
			words[f[0]] = f[1]
		}
	}
	d.house = house{Sidecar: strings.TrimSuffix(words["open"], "/"), Sandbox: strings.TrimSuffix(words["sandbox"], "/phone")}
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	d.initiate(t, "order-1", 100)
	d.answer(t, "approve")
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "order-1")["data"].(map[string]any)
		return data["status"] == "SUCCESS"
	})
	d.stop(t)
}

func TestAReferenceSaysNothingToTheTerminal(t *testing.T) {
	var b strings.Builder
	m := push.Message{Data: push.Data{Status: push.Success, Amount: 500, AccountReference: "A\x1b]0;B\a\n C"}}
	if err := tell(&b, m); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\a") || !strings.Contains(got, "A?]0;B?? C") {
		t.Errorf("the terminal is told %q", got)
	}
}
