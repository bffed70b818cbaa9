package systemd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// wan is the address at which the edge is reached: the machine has it, until its uplink is lost.
const wan = "10.9.9.9"

// newer is the version that upgrades are to.
const newer = "9.0.0"

// testLife is the life of the packages in a Debian with systemd, rpm and our packages in its root: /hodi.deb, /newer.deb, /hodi.rpm
// and /newer.rpm. Callbacks are posted through all of it.
func testLife(t *testing.T, root string, thorough bool) {
	m := boot(t, root)
	m.in("dpkg -i /hodi.deb; touch /installed")
	m.ip("addr", "add", wan+"/32", "dev", "lo")

	m.anEdgeStarts()
	address := m.aShopJoins()
	app := m.anAppListens()
	m.aPaymentIsMade(app)

	m.posts = m.load("POST", address)
	m.aReloadTakesGoodSettingsAndRefusesBadOnes()
	m.aRestartAndAnUpgradeRefuseNobody()
	m.whatDiesIsStartedAnew()
	m.twoShopsShareTheMachine()
	m.aLostUplinkIsNoReasonToStartAnew(thorough)
	m.everyCallbackIsThere()
	m.theSandboxHolds()
	m.aRemovalLeavesTheBooks()
	m.anRPMComesAndGoes()
}

func (m *machine) anEdgeStarts() {
	m.write("/etc/hodi/edge.toml", "[edge]\npublic-url = \"http://"+wan+":443\"\nplain-http = true\nsource = \"off\"", "644")
	m.in("systemctl enable --now hodi-edge")
	// The start has returned, so it is ready: no waiting here.
	if got := m.show("hodi-edge", "ActiveState") + " " + m.show("hodi-edge", "StatusText"); !strings.HasPrefix(got, "active Serves.") {
		m.Errorf("an edge that was started is %s", got)
	}
	if status, body := m.call("GET", "http://"+wan+":443/readyz", ""); status != 200 {
		m.Errorf("an edge that was started answers %d %s", status, body)
	}
}

// aShopJoins has the machine's sidecar join its edge, and returns the address of callbacks.
func (m *machine) aShopJoins() string {
	m.write("/etc/hodi/sidecar.toml", `[sidecar]
forward = "http://127.0.0.1:9000/hodi"
daraja-url = "http://127.0.0.1:8789"
[shortcode.main]
environment = "sandbox"
kind = "paybill"
number = "174379"
consumer-key-file = "consumer-key"
consumer-secret-file = "consumer-secret"
passkey-file = "passkey"`, "644")
	for _, name := range []string{"consumer-key", "consumer-secret", "passkey"} {
		m.write("/etc/hodi/credentials/"+name, "hodi-sandbox-"+name, "600")
	}
	m.in("systemctl enable --now hodi-sidecar") // before there is anything for it to do
	if status, body := m.call("GET", "http://127.0.0.1:8787/healthz", ""); status != 503 || !strings.Contains(body, "hodi join") {
		m.Errorf("a sidecar that has not joined answers %d %s", status, body)
	}
	if said := m.show("hodi-sidecar", "ActiveState") + " " + m.show("hodi-sidecar", "StatusText"); !strings.HasPrefix(said, "active This sidecar has not joined") {
		m.Errorf("a sidecar that has not joined is %s", said)
	}
	address := m.join("duka", "")
	m.linked("127.0.0.1:8787") // by itself
	return address
}

// join invites a shop and joins it, as root does, and returns the address of its callbacks.
func (m *machine) join(name, data string) (address string) {
	m.Helper()
	said := m.in("hodi edge invite " + name + " | hodi join " + data)
	for word := range strings.FieldsSeq(said) {
		if strings.HasPrefix(word, "http://"+wan) {
			address = strings.Replace(word, wan, "127.0.0.1", 1) // whoever posts is on this side of the uplink
		}
	}
	if address == "" {
		m.Fatalf("hodi join says %s", said)
	}
	return address
}

// linked waits until callbacks get through to a sidecar.
func (m *machine) linked(at string) {
	m.Helper()
	m.eventually("the link of "+at, func() bool {
		status, _, err := m.ask("GET", "http://"+at+"/readyz?link", "", "")
		return err == nil && status == 200
	})
}

// closed waits until a port is nobody's, not even systemd's.
func (m *machine) closed(at string) {
	m.Helper()
	m.eventually("nobody to be at "+at, func() bool {
		_, _, err := m.ask("GET", "http://"+at+"/healthz", "", "")
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// anAppListens is the merchant's app, to which the sidecar forwards.
func (m *machine) anAppListens() *atomic.Int64 {
	got := new(atomic.Int64)
	l := m.listen("127.0.0.1:9000")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-signature") != "" {
			got.Add(1)
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	m.Cleanup(func() { server.Close(); serving.Wait() })
	return got
}

// aPaymentIsMade takes all of it: the credentials, which root alone can read, and which the sandbox wants to see; the way to
// Daraja, the edge, the tunnel, and the way to the app.
func (m *machine) aPaymentIsMade(app *atomic.Int64) {
	m.write("/run/systemd/system/daraja.service", "[Service]\nExecStart=/usr/bin/hodi sandbox --listen 127.0.0.1:8789 --ack-delay=20ms --prompt-delay=20ms --callback-delay=50ms --prompt-timeout=10m", "644")
	m.in("systemctl daemon-reload; systemctl start daraja")
	m.eventually("the sandbox", func() bool {
		status, _, err := m.ask("GET", "http://127.0.0.1:8789/phone/state", "", "")
		return err == nil && status == 200
	})
	if out, err := m.try("setpriv --reuid=hodi --clear-groups cat /etc/hodi/credentials/passkey"); err == nil {
		m.Errorf("the daemon's user reads the file itself: %s", out)
	}
	key := strings.TrimSpace(m.in("cat /var/lib/hodi/sidecar/default/api.key"))
	var session struct {
		ID string `json:"id"`
	}
	status, body, err := m.ask("POST", "http://127.0.0.1:8787/sessions", key, `{"amount": 100, "accountReference": "ORDER1"}`)
	if err != nil || status >= 300 || json.Unmarshal(body, &session) != nil || session.ID == "" {
		m.Fatalf("a session is answered %d %s, %v", status, body, err)
	}
	own := "http://127.0.0.1:8787/sessions/" + session.ID
	if status, body := m.call("POST", own+"/initiate", `{"phoneNumber": "254708374149"}`); status != 200 {
		m.Fatalf("a push is answered %d %s", status, body)
	}
	m.eventually("the customer to pay", func() bool {
		status, _, err := m.ask("POST", "http://127.0.0.1:8789/phone/answer", "", `{"outcome": "approve"}`)
		return err == nil && status < 300
	})
	m.eventually("the payment to be paid", func() bool {
		_, body, err := m.ask("GET", own, "", "")
		return err == nil && strings.Contains(string(body), `"SUCCESS"`)
	})
	m.eventually("the app to have the callback", func() bool { return app.Load() == 1 })
}

// By the protocol of notify-reload from systemd 253 on, and by what there was before.
func (m *machine) aReloadTakesGoodSettingsAndRefusesBadOnes() {
	for _, unit := range []string{"hodi-edge", "hodi-sidecar"} {
		process, settings := m.show(unit, "MainPID"), "/etc/hodi/"+strings.TrimPrefix(unit, "hodi-")+".toml"
		says := func(what string, good bool) {
			m.Helper()
			m.eventually(unit+" to say that its settings are "+what, func() bool {
				said := m.show(unit, "StatusText")
				return strings.HasPrefix(said, "Serves.") && strings.Contains(said, "nonsense") != good
			})
		}
		m.in("systemctl reload " + unit + "; cp " + settings + " /tmp/good; echo 'nonsense = 1' >>" + settings)
		if out, err := m.try("systemctl reload " + unit); err == nil {
			m.Errorf("%s: bad settings are reloaded: %s", unit, out)
		}
		says("bad", false)
		m.in("cp /tmp/good " + settings + "; systemctl reload " + unit)
		says("good", true)
		if now := m.show(unit, "MainPID"); now != process {
			m.Errorf("a reload starts %s anew", unit)
		}
	}
}

func (m *machine) aRestartAndAnUpgradeRefuseNobody() {
	m.posts.more(20)
	pages := m.load("GET", "http://127.0.0.1:8787/healthz")
	pages.more(20)
	for range 2 {
		m.in("systemctl restart hodi-edge hodi-sidecar")
		m.posts.more(20)
	}
	process := m.show("hodi-edge", "MainPID")
	m.in("dpkg -i /newer.deb")
	if said := m.in("hodi --version"); m.show("hodi-edge", "MainPID") == process || said != "hodi version "+newer+"\n" {
		m.Errorf("the new version does not run; hodi says %q", said)
	}
	m.posts.more(20)
	pages.more(20)
	pages.end()
	if n := m.posts.refused.Load() + pages.refused.Load(); n > 0 {
		m.Errorf("restarts and an upgrade refuse %d connections", n)
	}
}

func (m *machine) whatDiesIsStartedAnew() {
	m.in("mkdir -p /etc/systemd/system/hodi-edge.service.d; printf '[Service]\\nWatchdogSec=10s\\n' >/etc/systemd/system/hodi-edge.service.d/soon.conf; systemctl daemon-reload; systemctl restart hodi-edge")
	for _, signal := range []string{"KILL", "STOP"} { // it dies, and it says nothing any more
		before := m.show("hodi-edge", "NRestarts")
		m.in("systemctl kill --kill-whom=main --signal=" + signal + " hodi-edge")
		m.eventually("the edge to be started anew after SIG"+signal, func() bool {
			return m.show("hodi-edge", "NRestarts") > before && m.show("hodi-edge", "ActiveState") == "active"
		})
		m.posts.more(20)
	}
	if n := m.posts.refused.Load(); n > 0 {
		m.Errorf("an edge that died refuses %d connections", n)
	}
	m.in("rm /etc/systemd/system/hodi-edge.service.d/soon.conf; systemctl daemon-reload; systemctl restart hodi-edge")
}

// A port of hodi-sidecar@NAME is in its settings, and no socket unit has it.
func (m *machine) twoShopsShareTheMachine() {
	for i, name := range []string{"a", "b"} {
		m.write("/etc/hodi/sidecar-"+name+".toml", fmt.Sprintf("[sidecar]\nlisten = \"127.0.0.1:879%d\"", i), "644")
		m.join("duka-"+name, "--data /var/lib/hodi/sidecar/"+name)
	}
	m.in("systemctl enable --now hodi-sidecar@a hodi-sidecar@b")
	m.linked("127.0.0.1:8790")
	m.linked("127.0.0.1:8791")
	pages := m.load("GET", "http://127.0.0.1:8790/healthz")
	for range 2 {
		pages.more(20)
		m.in("systemctl restart hodi-sidecar@a")
	}
	pages.more(20)
	pages.end()
	if n := pages.refused.Load(); n > 0 {
		m.Errorf("restarts of hodi-sidecar@a refuse %d connections", n)
	}
	m.in("systemctl disable --now hodi-sidecar@b")
	m.closed("127.0.0.1:8791")
}

func (m *machine) aLostUplinkIsNoReasonToStartAnew(thorough bool) {
	units := []string{"hodi-edge", "hodi-sidecar", "hodi-sidecar@a"}
	var before []string
	for _, unit := range units {
		before = append(before, m.show(unit, "InvocationID"))
	}
	m.ip("addr", "del", wan+"/32", "dev", "lo")
	m.eventually("the link to be lost", func() bool {
		status, _, err := m.ask("GET", "http://127.0.0.1:8787/readyz?link", "", "")
		return err == nil && status == 503
	})
	if thorough {
		time.Sleep(75 * time.Second) // the watchdog's patience, twice
	}
	for i, unit := range units {
		if m.show(unit, "InvocationID") != before[i] || !strings.HasPrefix(m.show(unit, "StatusText"), "Serves.") {
			m.Errorf("%s was started anew, or is not well, because there is no uplink: %s", unit, m.show(unit, "StatusText"))
		}
	}
	m.ip("addr", "add", wan+"/32", "dev", "lo")
	m.linked("127.0.0.1:8787")
}

// everyCallbackIsThere ends the posting. One that was cut off may have been stored.
func (m *machine) everyCallbackIsThere() {
	m.posts.end()
	key := strings.TrimSpace(m.in("cat /var/lib/hodi/sidecar/default/api.key"))
	answered, cut := m.posts.answered.Load(), m.posts.cut.Load()
	var have int64
	m.eventually("every callback that was answered", func() bool {
		_, body, err := m.ask("GET", "http://127.0.0.1:8787/status", key, "")
		var status struct {
			Callbacks map[string]int64 `json:"callbacks"`
		}
		if err != nil || json.Unmarshal(body, &status) != nil {
			return false
		}
		have = -1 // the payment's
		for _, n := range status.Callbacks {
			have += n
		}
		return have >= answered
	})
	if have > answered+cut {
		m.Errorf("%d callbacks were answered and %d cut off, and there are %d", answered, cut, have)
	}
	m.Logf("%d callbacks were answered, %d posters cut off", answered, cut)
}

func (m *machine) theSandboxHolds() {
	if written := m.in("find / -xdev -newer /installed -user hodi -not -path '/var/lib/hodi/*' -not -path '/proc/*'"); written != "" {
		m.Errorf("the daemons have written %s", written)
	}
	for _, unit := range []string{"hodi-edge", "hodi-sidecar", "hodi-sidecar@a"} {
		held := m.in("cat /proc/" + m.show(unit, "MainPID") + "/status")
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(held, want) {
				m.Errorf("%s is not held by %q: %s", unit, want, held)
			}
		}
		if strings.Contains(held, "Uid:\t0") {
			m.Errorf("%s is root", unit)
		}
	}
}

func (m *machine) aRemovalLeavesTheBooks() {
	m.in("dpkg -r hodi")
	for _, unit := range []string{"hodi-edge.service", "hodi-edge.socket", "hodi-sidecar.service", "hodi-sidecar.socket", "hodi-sidecar@a.service"} {
		if state, _ := m.try("systemctl is-active " + unit); strings.TrimSpace(state) != "inactive" {
			m.Errorf("the package is gone, and %s is %s", unit, state)
		}
	}
	m.in("dpkg -P hodi; test -s /var/lib/hodi/sidecar/default/sidecar.db; test -s /var/lib/hodi/edge/edge.db")
	m.closed(wan + ":443")
}

// The scripts of an .rpm are those of the .deb, and are told by counts what they are run for.
func (m *machine) anRPMComesAndGoes() {
	m.in("rpm -i --nodeps /hodi.rpm") // Debian's own packages are none that rpm knows
	m.in("systemctl enable --now hodi-sidecar; echo '# ours' >>/etc/hodi/sidecar.toml")
	process := m.show("hodi-sidecar", "MainPID")
	m.in("rpm -U --nodeps /newer.rpm; grep -q ours /etc/hodi/sidecar.toml")
	if now := m.show("hodi-sidecar", "MainPID"); now == process || now == "0" {
		m.Errorf("after an upgrade the process is %s, and was %s", now, process)
	}
	if state := m.show("hodi-sidecar", "ActiveState") + " " + m.show("hodi-sidecar", "UnitFileState"); state != "active enabled" {
		m.Errorf("after an upgrade the sidecar is %s", state)
	}
	if said := m.in("rpm -e hodi"); !strings.Contains(said, "stay in /var/lib/hodi") {
		m.Errorf("removing says %q", said)
	}
	if state, _ := m.try("systemctl is-active hodi-sidecar.service"); strings.TrimSpace(state) != "inactive" {
		m.Errorf("the package is gone, and the sidecar is %s", state)
	}
	m.in("! command -v hodi; test ! -e /usr/lib/systemd/system/hodi-sidecar.service; test -s /var/lib/hodi/sidecar/default/sidecar.db; grep -q ours /etc/hodi/sidecar.toml*")
}

// call asks, and is answered.
func (m *machine) call(method, url, body string) (int, string) {
	m.Helper()
	status, b, err := m.ask(method, url, "", body)
	if err != nil {
		m.Fatal(err)
	}
	return status, string(b)
}

func (m *machine) ask(method, url, key, body string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(m.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := m.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return response.StatusCode, b, err
}

// load asks again and again, each time on a connection of its own, as Safaricom and pages do.
type load struct {
	m                      *machine
	answered, refused, cut atomic.Int64
	end                    func()
}

func (m *machine) load(method, url string) *load {
	l := &load{m: m}
	stop := make(chan struct{})
	var all sync.WaitGroup
	l.end = sync.OnceFunc(func() { close(stop); all.Wait() })
	m.Cleanup(l.end)
	for asker := range 2 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				body := ""
				if method == "POST" {
					body = fmt.Sprintf(`{"callback": "%d of %d"}`, i, asker)
				}
				switch status, answer, err := m.ask(method, url, "", body); {
				case errors.Is(err, syscall.ECONNREFUSED):
					l.refused.Add(1)
				case err != nil, method == "GET" && status == 503: // who comes while a sidecar ends is told to come again
					l.cut.Add(1)
				case status == 200:
					l.answered.Add(1)
				default:
					m.Errorf("%s is answered %d %s", method, status, answer)
				}
			}
		})
	}
	return l
}

// more waits for so many answers.
func (l *load) more(n int64) {
	l.m.Helper()
	from := l.answered.Load()
	l.m.eventually("answers", func() bool { return l.answered.Load() >= from+n })
}
