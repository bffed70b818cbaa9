//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/sync/push"
)

// A quayside is an edge and a sidecar whose settings change while they run, and that have no terminal.
type quayside struct {
	*testing.T
	dir, url, key string
	edge, sidecar *daemon
}

func (q *quayside) start(args ...string) *daemon {
	q.Helper()
	cmd := exec.Command("hodi", append([]string{"--log-format", "json"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return startCommand(q.T, q.dir, cmd)
}

func (q *quayside) write(name, text string) {
	q.Helper()
	if err := os.WriteFile(filepath.Join(q.dir, name), []byte(text), 0o600); err != nil {
		q.Fatal(err)
	}
}

// app asks the sidecar as the app does.
func (q *quayside) app(method, path, body string, headers ...string) (status int, answer map[string]any) {
	q.Helper()
	request, err := http.NewRequestWithContext(q.Context(), method, q.url+path, strings.NewReader(body))
	if err != nil {
		q.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+q.key)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		q.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		q.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, answer
}

// want asks as the app does and holds the answer to a status.
func (q *quayside) want(status int, method, path, body string, headers ...string) map[string]any {
	q.Helper()
	got, answer := q.app(method, path, body, headers...)
	if got != status {
		q.Fatalf("%s %s answered %d %v, want %d", method, path, got, answer, status)
	}
	return answer
}

// outcomes is what came of the last reload of both.
func (q *quayside) outcomes() (sidecar, edge reload.Outcome) {
	q.Helper()
	_, status := q.app("GET", "/status", "")
	text, _ := json.Marshal(status["settings"])
	if err := json.Unmarshal(text, &sidecar); err != nil {
		q.Fatal(err)
	}
	var listed struct{ Settings reload.Outcome }
	if err := askAdmin(q.Context(), filepath.Join(q.dir, "edge"), http.MethodGet, "/endpoints", nil, &listed); err != nil {
		q.Fatal(err)
	}
	return sidecar, listed.Settings
}

// hangup writes the settings, and has both daemons read them.
func (q *quayside) hangup(settings string) (sidecar, edge reload.Outcome) {
	q.Helper()
	q.write("hodi.toml", settings)
	for _, d := range []*daemon{q.sidecar, q.edge} {
		reloads := func() int {
			text := d.log.String()
			return strings.Count(text, "the settings were read again") + strings.Count(text, "the settings are not good")
		}
		before := reloads()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			q.Fatal(err)
		}
		eventually(q.T, "the settings to be read", func() bool { return reloads() > before })
	}
	return q.outcomes()
}

// status is what hodi status says, and whether all is well.
func (q *quayside) status() (text string, all map[string]any) {
	q.Helper()
	for _, flags := range [][]string{nil, {"--json"}} {
		cmd := exec.Command("hodi", append([]string{"status", "--data", "sidecar", "--listen", strings.TrimPrefix(q.url, "http://"), "--edge-data", "edge"}, flags...)...)
		cmd.Dir = q.dir
		out, _ := cmd.Output() // it ends with 1 where something is not well
		if flags == nil {
			text = string(out)
		} else if err := json.Unmarshal(out, &all); err != nil {
			q.Fatalf("hodi status --json printed %q: %v", out, err)
		}
	}
	return strings.Join(strings.Fields(text), " "), all
}

// A berth is a link, as the edge tells one from another.
type berth struct {
	Generation uint64
	Since      time.Time
}

func (q *quayside) link() (l berth) {
	q.Helper()
	eventually(q.T, "the link", func() bool {
		var links struct{ Links []berth }
		if err := askAdmin(q.Context(), filepath.Join(q.dir, "edge"), http.MethodGet, "/links", nil, &links); err != nil {
			q.Fatal(err)
		}
		if len(links.Links) == 1 {
			l = links.Links[0]
		}
		return len(links.Links) == 1
	})
	return l
}

func TestSettingsAreTakenOnHangupAndNobodyIsCutOff(t *testing.T) {
	q := &quayside{T: t, dir: t.TempDir(), url: "http://" + loopback.Address(t)}
	for name, text := range map[string]string{"ck": "keyOfDuka", "cs": "secretOfDuka", "pk": "passOfDuka"} {
		q.write(name, text)
	}
	duka := "\n[shortcode.duka]\nenvironment = \"sandbox\"\nnumber = \"174379\"\nconsumer-key-file = \"ck\"\nconsumer-secret-file = \"cs\"\npasskey-file = \"pk\"\n"
	kiosk := strings.NewReplacer("duka", "kiosk", "174379", "600000").Replace(duka)
	nobody := loopback.Address(t) // where Daraja would be: a push fails at once
	settings := func(edge, sidecar, codes string) string {
		return "[edge]\n" + edge + "\n[sidecar]\ndaraja-url = \"http://" + nobody + "\"\n" + sidecar + "\n" + codes
	}
	q.write("hodi.toml", settings(`source = "enforce"`, "prompts-per-session = 1", duka))
	q.edge = q.start("edge", "--data", "edge", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t))
	q.edge.says("callbacks")
	address := joinShop(t, q.dir, "edge", "duka", "sidecar")
	q.sidecar = q.start("sidecar", "--data", "sidecar", "--listen", strings.TrimPrefix(q.url, "http://"), "--edge", q.edge.says("sidecars"))
	q.url = q.sidecar.says("url")
	key, err := os.ReadFile(filepath.Join(q.dir, "sidecar", "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	q.key = strings.TrimSpace(string(key))
	before := q.link()

	// A page waits for its payment.
	session := fmt.Sprint(q.want(201, "POST", "/sessions", `{"amount":100,"accountReference":"A"}`)["id"])
	socket, _, err := websocket.Dial(t.Context(), strings.Replace(q.url, "http", "ws", 1)+"/sessions/"+session+"/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	q.want(201, "POST", "/payments", fmt.Sprintf(`{"MerchantRequestID":"m-1","CheckoutRequestID":"ws_CO_1","ResponseCode":"0","session":%q,"amount":100,"phoneNumber":%q,"accountReference":"A"}`, session, testPhone))
	read := func() (m push.Message) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, b, err := socket.Read(ctx)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := read(); m.Data.Status != push.Pending {
		t.Fatalf("the page was told %+v", m)
	}
	paid := stkCallback(map[string]any{"merchantRequestId": "m-1", "checkoutRequestId": "ws_CO_1"}, 0, "paid", today+"7XK4101", 100)
	post := func() {
		t.Helper()
		response, err := http.Post(address, "application/json", strings.NewReader(paid))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != 200 {
			t.Fatalf("the edge answered %d", response.StatusCode)
		}
	}
	// Whoever is not Safaricom is not believed; this machine is not.
	post()
	eventually(t, "the callback to be suspect", func() bool {
		list, _ := q.want(200, "GET", "/callbacks?state=suspect", "")["callbacks"].([]any)
		return len(list) == 1
	})
	page := []string{"Origin", "https://shop.example"}
	q.want(403, "GET", "/sessions/"+session, "", page...)
	q.want(400, "POST", "/sessions", `{"amount":1,"accountReference":"B","shortcode":"kiosk"}`)
	second := fmt.Sprint(q.want(201, "POST", "/sessions", `{"amount":100,"accountReference":"C"}`)["id"])
	ask := func() int {
		status, _ := q.app("POST", "/sessions/"+second+"/initiate", `{"phoneNumber":"254700000001","shortcode":"duka"}`)
		return status
	}
	if first, next := ask(), ask(); first != 200 || next != 429 {
		t.Fatalf("prompts were answered %d and %d", first, next)
	}

	good := settings("source = \"enforce\"\nsource-ranges = [\"127.0.0.1\"]\nhold = 1", "prompts-per-session = 5\nmetered = true\norigins = [\"https://shop.example\"]\nlog-level = \"debug\"", duka+kiosk)
	inSidecar, inEdge := q.hangup(good)
	if inSidecar.Error != "" || !slices.Equal(inSidecar.Later, []string{"metered"}) || inEdge.Error != "" || inEdge.Later != nil {
		t.Fatalf("it came to %+v and %+v", inSidecar, inEdge)
	}
	q.want(200, "GET", "/sessions/"+session, "", page...)
	q.want(201, "POST", "/sessions", `{"amount":1,"accountReference":"B","shortcode":"duka"}`)
	q.want(201, "POST", "/sessions", `{"amount":1,"accountReference":"B","shortcode":"kiosk"}`)
	if status := ask(); status != 200 {
		t.Errorf("a prompt was answered %d", status)
	}
	if text, _ := q.status(); !strings.Contains(text, "settings take effect at the next start: metered") || strings.Contains(text, "not good") {
		t.Errorf("hodi status says %s", text)
	}

	// One key that is not known, and nothing of all that is different is taken.
	inSidecar, inEdge = q.hangup(settings("source = \"off\"\nhodl = 2", "prompts-per-session = 1", duka))
	for _, o := range []reload.Outcome{inSidecar, inEdge} {
		if !strings.Contains(o.Error, `line 3, column 1: there is no setting "edge.hodl": did you mean hold?`) {
			t.Errorf("it came to %+v", o)
		}
	}
	q.want(200, "GET", "/sessions/"+session, "", page...)
	q.want(201, "POST", "/sessions", `{"amount":1,"accountReference":"B","shortcode":"kiosk"}`)
	text, all := q.status()
	problems := fmt.Sprint(all["problems"])
	for _, of := range []string{"sidecar", "edge"} {
		if words := "the settings that the " + of + " was told to read"; !strings.Contains(text, words) || !strings.Contains(problems, words) {
			t.Errorf("hodi status does not say %q: %s\n%s", words, text, problems)
		}
	}
	if all["healthy"] != false || !strings.Contains(problems, "line 3, column 1") {
		t.Errorf("hodi status --json says %v", all)
	}
	for _, d := range []*daemon{q.sidecar, q.edge} {
		if !strings.Contains(d.log.String(), "line 3, column 1") {
			t.Error("the log does not say where it is wrong")
		}
	}

	// The callback that is believed by now comes over the link of before to the socket of before.
	q.hangup(good)
	if text, all := q.status(); strings.Contains(text, "was told to read") {
		t.Errorf("hodi status says of settings that are good again: %v", all["problems"])
	}
	post()
	m := read()
	for m.Data.Status == push.Pending { // that a message came which may be false
		m = read()
	}
	if m.Type != push.PaymentCompleted || m.Data.Status != push.Success {
		t.Errorf("the page was told %+v", m)
	}
	if after := q.link(); after.Generation != before.Generation || !after.Since.Equal(before.Since) {
		t.Errorf("the link is %+v, and was %+v", after, before)
	}
	if strings.Contains(q.sidecar.log.String(), "OfDuka") {
		t.Error("a secret is in the log")
	}
}
