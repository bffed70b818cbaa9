package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// merchantApp is the app of a merchant, which is there or not, and believes nobody without a signature.
type merchantApp struct {
	*httptest.Server
	mu       sync.Mutex
	away     bool
	refused  int
	verifier *standardwebhooks.Webhook // nil: not known yet, and then nobody is believed
	taken    []taken
	wrong    []string
}

type taken struct{ id, merchant, desc, replay string }

func (a *merchantApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away || a.verifier == nil || err != nil {
		a.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err := a.verifier.Verify(body, r.Header); err != nil {
		a.wrong = append(a.wrong, err.Error())
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var cb struct {
		Body struct {
			StkCallback struct{ MerchantRequestID, ResultDesc string }
		}
	}
	if err := json.Unmarshal(body, &cb); err != nil {
		a.wrong = append(a.wrong, err.Error())
	}
	a.taken = append(a.taken, taken{r.Header.Get("webhook-id"), cb.Body.StkCallback.MerchantRequestID, cb.Body.StkCallback.ResultDesc, r.Header.Get("hodi-replay")})
}

func (a *merchantApp) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// learn has the app know the secret that is in a file.
func (a *merchantApp) learn(t *testing.T, path string) {
	t.Helper()
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := standardwebhooks.NewWebhook(strings.TrimSpace(string(secret)))
	if err != nil {
		t.Fatal(err)
	}
	a.set(func() { a.verifier = verifier })
}

// Down for a while, and everything killed in between: each callback reaches the app, those of a payment in their order.
func TestAnAppGetsEachCallbackInOrderThoughItWasDownAndHodiWasKilled(t *testing.T) {
	t.Parallel()
	a := &merchantApp{away: true}
	a.Server = httptest.NewServer(a)
	defer a.Close()
	dir := t.TempDir()
	flags := append([]string{"--forward", a.URL + "/mpesa"}, quick...)
	d := startDev(t, dir, nil, flags...)
	a.learn(t, d.Secret)

	const payments, each = 4, 5
	post := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			for p := range payments {
				data := map[string]any{"merchantRequestId": fmt.Sprintf("app-%d", p), "checkoutRequestId": fmt.Sprintf("ws_CO_app_%d", p)}
				if status, answer := call(t, "POST", d.Callback, stkCallback(data, 1032, fmt.Sprintf("part %d", n), "", 0)); status != 200 {
					t.Fatalf("the edge answered %d %v", status, answer)
				}
			}
		}
	}
	post(0, 3)
	eventually(t, "the app to be asked", func() (asked bool) {
		a.set(func() { asked = a.refused >= payments })
		return asked
	})
	d.kill(t)
	d = startDev(t, dir, &d.house, flags...)
	post(3, each)
	a.set(func() { a.away = false })
	hodi(t, "forward", "resume", "--data", dir+"/sidecar") // whoever waits is tried now
	eventually(t, "each callback to be taken", func() (all bool) {
		a.set(func() {
			ids := map[string]bool{}
			for _, got := range a.taken {
				ids[got.id] = true
			}
			all = len(ids) == payments*each
		})
		return all
	})
	a.set(func() {
		for _, wrong := range a.wrong {
			t.Errorf("the app did not believe it: %s", wrong)
		}
		for p := range payments {
			var order []string
			for _, got := range a.taken {
				if got.merchant == fmt.Sprintf("app-%d", p) && !slices.Contains(order, got.desc) {
					order = append(order, got.desc)
				}
			}
			if want := []string{"part 0", "part 1", "part 2", "part 3", "part 4"}; !slices.Equal(order, want) {
				t.Errorf("of payment %d the app got %v", p, order)
			}
		}
	})
	eventually(t, "all to be written down as handled", func() bool {
		_, answer := call(t, "GET", d.Sidecar+"/callbacks?app=handled", nil)
		return len(answer["callbacks"].([]any)) == payments*each
	})
	var first taken
	a.set(func() { first = a.taken[0] })
	if list := hodi(t, "callbacks", "--data", dir+"/sidecar", "--app", "handled"); !strings.Contains(list, first.id) || !strings.Contains(list, "(200, attempt ") {
		t.Errorf("hodi callbacks prints\n%s", list)
	}
	if state := hodi(t, "forward", "--data", dir+"/sidecar"); !strings.Contains(state, a.URL+"/mpesa") || !strings.Contains(state, "nothing") {
		t.Errorf("hodi forward prints\n%s", state)
	}

	hodi(t, "replay", "--data", dir+"/sidecar", first.id)
	eventually(t, "one to be given again", func() (again bool) {
		a.set(func() {
			again = slices.Contains(a.taken, taken{first.id, first.merchant, first.desc, "true"})
		})
		return again
	})
	if audit := hodi(t, "audit", "--data", dir+"/sidecar"); !strings.Contains(audit, "callbacks replayed") || !strings.Contains(audit, first.id) {
		t.Errorf("hodi audit prints\n%s", audit)
	}
}

// Where real money may be meant nothing is given to the app again before somebody has said that it is meant.
func TestAReplayToALiveAppWantsAWord(t *testing.T) {
	t.Parallel()
	a := &merchantApp{}
	a.Server = httptest.NewServer(a)
	defer a.Close()
	dir := t.TempDir()
	d := startDaemon(t, dir, "sidecar", "--data", "state", "--listen", "127.0.0.1:0", "--accept-callbacks", "--forward", a.URL)
	base := d.says("url")
	a.learn(t, dir+"/state/forward.secret")
	inbox, err := os.ReadFile(dir + "/state/inbox.key")
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]any{"merchantRequestId": "m", "checkoutRequestId": "c"}
	call(t, "POST", base+"/c/"+strings.TrimSpace(string(inbox)), stkCallback(data, 1032, "cancelled", "", 0))
	var first taken
	eventually(t, "the app to have it", func() (has bool) {
		a.set(func() {
			if has = len(a.taken) > 0; has {
				first = a.taken[0]
			}
		})
		return has
	})
	eventually(t, "that to be written down", func() bool {
		return strings.Contains(hodi(t, "callbacks", "--data", dir+"/state"), "handled")
	})
	out, err := exec.Command("hodi", "replay", "--data", dir+"/state", first.id).CombinedOutput() // its standard input is /dev/null
	if err == nil || !strings.Contains(string(out), "Real money may be meant") && !strings.Contains(string(out), "--yes") {
		t.Errorf("without a word: %v\n%s", err, out)
	}
	a.set(func() {
		if len(a.taken) != 1 {
			t.Errorf("the app has had %d", len(a.taken))
		}
	})
	hodi(t, "replay", "--data", dir+"/state", "--yes", "--from", "2020-01-01")
	eventually(t, "one to be given again", func() (again bool) {
		a.set(func() { again = slices.Contains(a.taken, taken{first.id, "m", "cancelled", "true"}) })
		return again
	})
}

// hodi runs a command that goes well, and returns what it prints.
func hodi(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("hodi", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("hodi %v: %v\n%s", args, err, out)
	}
	return string(out)
}
