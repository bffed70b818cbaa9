package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/hodihq/hodi/internal/authority"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

var tillCode = regexp.MustCompile(`(?m)^code +(\S+)$`)

var joinCode = regexp.MustCompile(`(?m)^[0-9A-Z]{5}(-[0-9A-Z]{1,5}){5,}$`)

// TestEveryCommandOfTheOperatorsPage types what docs/operate.md has between ```sh and ```, in its order, each line of which has
// to succeed; puts what it has between ```toml and ``` into the settings, which then have to be good; and demands that each
// command that is named in the text is typed somewhere. A word behind the language says on which machine.
//
// All of it happens on one machine with an edge and a sidecar whose shop has seen payments, unless the chapter is in elsewhere.
func TestEveryCommandOfTheOperatorsPage(t *testing.T) {
	p := readPage(t, operators)
	var first, settled *village
	once := func(v **village, begin func(*testing.T) *village) func() *village {
		return func() *village {
			if *v == nil {
				*v = begin(t)
			}
			return *v
		}
	}
	usual, before := once(&settled, settledShop), once(&first, firstShop)
	elsewhere := map[string]func() *village{
		"Install": before, "First shop in two commands": before, "Settings": before,
		"Move to another machine": func() *village { return settledShop(t) }, // for the old one ends
		"Being told":              func() *village { return settledShop(t) }, // for its edge would be told of a mail server that is elsewhere
		"The edge's certificate, sources and endpoints": func() *village { return settledShop(t) }, // for its sidecar is put out
	}
	ran := make(map[string]bool)
	for _, c := range p.chapters {
		if len(c.blocks) == 0 {
			continue
		}
		v := usual
		if elsewhere[c.title] != nil {
			v = elsewhere[c.title]
		}
		village := v()
		t.Run(c.title, func(t *testing.T) {
			village.T = t
			defer func() { village.T = village.owner }()
			for _, b := range c.blocks {
				village.machine(b.where).follows(b)
			}
			if after := afterwards[c.title]; after != nil {
				after(village)
			}
		})
		for _, m := range village.machines {
			for _, path := range m.ran() {
				ran[path] = true
			}
		}
	}
	if t.Failed() {
		return
	}
	app := newApp(nil, nil)
	for _, q := range p.quotes {
		for _, words := range mentions(q.text) {
			if path := strings.Join(sortLine(app, words).path, " "); path != "" && !ran[path] {
				t.Errorf("%s:%d: hodi %s is named here, and no ```sh block of the page has it: no test has run it", operators, q.line, path)
			}
		}
	}
	t.Logf("typed: %s", strings.Join(slices.Sorted(maps.Keys(ran)), ", "))
}

// afterwards is what has to be true when a chapter was followed.
var afterwards = map[string]func(*village){
	"First shop in two commands": (*village).safaricomIsHeard,
	"Restore":                    func(v *village) { v.machine("shop").linked() },
	"Move to another machine":    func(v *village) { v.machine("new").linked() },
}

// ran are the commands of hodi that were typed on the machine.
func (m *machine) ran() (paths []string) {
	b, err := os.ReadFile(filepath.Join(m.root, "ran"))
	if err != nil && !os.IsNotExist(err) {
		m.Fatal(err)
	}
	app := newApp(nil, nil)
	for line := range strings.Lines(string(b)) {
		paths = append(paths, strings.Join(sortLine(app, strings.Fields(line)).path, " "))
	}
	return paths
}

// follows does what a block of the page says.
func (m *machine) follows(b block) {
	m.Helper()
	switch b.language {
	case "sh":
		if s := m.units["hodi-sidecar"]; s != nil && s.runs() {
			m.linked() // nobody types in the moment in which a daemon begins
		}
		eventually(m.T, "another second than that of the last backup", func() bool {
			made, err := filepath.Glob(filepath.Join(m.root, "*", "*"+time.Now().UTC().Format("20060102T150405Z")+"*"))
			return err == nil && len(made) == 0
		})
		if strings.Contains(b.text, "hodi status") || strings.Contains(b.text, "hodi doctor") {
			m.looks(b)
			return
		}
		if code := tillCode.FindStringSubmatch(m.types(b)); code != nil {
			m.letIn(code[1])
		}
		if strings.Contains(b.text, "hodi join") && os.Geteuid() != 0 { // which does it for root
			m.types(block{line: b.line, text: "systemctl enable --now hodi-sidecar"})
		}
	case "cron":
		for line := range strings.Lines(b.text) {
			if fields := strings.SplitN(strings.TrimSpace(line), " ", 6); len(fields) == 6 {
				m.follows(block{line: b.line, language: "sh", text: fields[5]})
			}
		}
	case "toml":
		m.sets(b)
	case "text", "nginx": // to look at; nothing of ours reads it
	case "json":
		if !json.Valid([]byte(b.text)) {
			m.Errorf("%s:%d: this is no JSON", operators, b.line)
		}
	default:
		m.Errorf("%s:%d: this test does not know what to do with %q: say ```sh, ```toml, ```cron, ```json or ```text", operators, b.line, b.language)
	}
}

// looks has a person look until all is well: what has just been started may need a moment.
func (m *machine) looks(b block) {
	m.Helper()
	for began := time.Now(); ; {
		out, err := m.tries(b)
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			m.Fatalf("%s:%d: on the machine %s, this still says after %v that something is wrong (%v):\n%s\n%s", operators, b.line, m.name, patience, err, b.text, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// letIn is what somebody does at a till with the code for it.
func (m *machine) letIn(code string) {
	m.Helper()
	base := "http://" + m.at("8787")
	request, err := http.NewRequestWithContext(m.Context(), http.MethodPost, base+"/till/device", strings.NewReader(fmt.Sprintf(`{"code":%q}`, code)))
	if err != nil {
		m.Fatal(err)
	}
	request.Header.Set("Origin", base)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode >= 300 {
		m.Errorf("the code of a till is answered %d", response.StatusCode)
	}
}

// sets writes a block into the settings of the daemon that it is for, over what they say of the same, and has them checked.
func (m *machine) sets(b block) {
	m.Helper()
	var more map[string]any
	if err := toml.Unmarshal([]byte(m.here(b)), &more); err != nil {
		m.Fatalf("%s:%d: %v", operators, b.line, err)
	}
	part := "sidecar"
	if more["edge"] != nil {
		part = "edge"
	} else if more["sidecar"] == nil && more["shortcode"] == nil {
		m.Fatalf("%s:%d: say in the block whether this is [edge], [sidecar] or [shortcode.NAME]", operators, b.line)
	}
	name := filepath.Join(m.root, "etc/hodi", part+".toml")
	var settings map[string]any
	if before, err := os.ReadFile(name); err == nil {
		if err := toml.Unmarshal(before, &settings); err != nil {
			m.Fatal(err)
		}
	}
	text, err := toml.Marshal(merge(settings, more))
	if err != nil {
		m.Fatal(err)
	}
	m.write("etc/hodi/"+part+".toml", string(text))
	m.types(block{line: b.line, text: fmt.Sprintf("hodi --config /etc/hodi/%s.toml %[1]s config check", part)})
}

func merge(a, b map[string]any) map[string]any {
	if a == nil {
		a = make(map[string]any)
	}
	for key, value := range b {
		if table, ok := value.(map[string]any); ok {
			before, _ := a[key].(map[string]any)
			value = merge(before, table)
		}
		a[key] = value
	}
	return a
}

// newVillageWithSafaricom is a village in which a pretend Safaricom answers, and its secrets are those of every shop.
func newVillageWithSafaricom(t *testing.T) (*village, *dev) {
	t.Helper()
	v := newVillage(t)
	box := startDaemon(t, v.dir, "sandbox", "--listen", "127.0.0.1:0", "--ack-delay", "20ms", "--prompt-delay", "20ms", "--callback-delay", "50ms", "--prompt-timeout", "10m")
	d := &dev{}
	d.Sandbox = box.says("url")
	v.settings = []string{"HODI_SIDECAR_DARAJA_URL=" + d.Sandbox, "HODI_SIDECAR_QUERIES_PER_MINUTE=600", "HODI_SIDECAR_UNKNOWN_AFTER=10m", "HODI_SIDECAR_CANARY=1s"}
	return v, d
}

// secrets puts those that the shop has of Safaricom where the settings look for them.
func (m *machine) secrets() {
	m.Helper()
	for name, text := range map[string]string{"consumer-key": sandbox.DefaultConsumerKey, "consumer-secret": sandbox.DefaultConsumerSecret, "passkey": sandbox.DefaultPasskey} {
		m.write("etc/hodi/credentials/"+name, text+"\n")
	}
}

const shopSettings = `
[shortcode.main]
environment = "sandbox"
number = "174379"
consumer-key-file = "consumer-key"
consumer-secret-file = "consumer-secret"
passkey-file = "passkey"
`

// firstShop is a village before there is a Hodi in it.
func firstShop(t *testing.T) *village {
	t.Helper()
	v, _ := newVillageWithSafaricom(t)
	_, edge, _ := net.SplitHostPort(v.machine("edge").at("443"))
	port, err := strconv.Atoi(edge)
	if err != nil {
		t.Fatal(err)
	}
	v.authority = authority.Start(t, 1, port)
	v.machine("edge").write("root/authority.pem", string(authority.PEM(v.authority.Server)))
	v.settings = append(v.settings, "HODI_EDGE_DOMAIN="+publicName,
		"HODI_EDGE_ACME_DIRECTORY="+v.authority.Directory, "HODI_EDGE_ACME_CA_FILE="+filepath.Join(v.dir, "edge/root/authority.pem"))
	return v
}

// safaricomIsHeard posts a callback as Safaricom does, to the address that the operator was told, whose certificate has to be
// good; and has the shop's sidecar get it.
func (v *village) safaricomIsHeard() {
	v.Helper()
	shop := v.machine("shop")
	shop.linked()
	address := callbackAddress.FindString(v.printed)
	if address == "" {
		v.Fatalf("no address of callbacks was printed:\n%s", v.printed)
	}
	safaricom := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(v.authority.Root), ServerName: publicName}}}
	defer safaricom.CloseIdleConnections()
	eventually(v.T, "a callback to be taken at "+address, func() bool {
		response, err := safaricom.Post(address, "application/json", strings.NewReader(stkCallback(map[string]any{"merchantRequestId": "m-1", "checkoutRequestId": "ws_CO_1"}, 0, "ok", today+"AB00001", 100)))
		if err != nil {
			return false // until there is a certificate
		}
		response.Body.Close()
		return response.StatusCode == 200
	})
	eventually(v.T, "the callback to come to the shop", func() bool {
		return strings.Contains(shop.types(block{text: "hodi callbacks"}), "unmatched")
	})
}

var callbackAddress = regexp.MustCompile(`https?://127\.0\.0\.1:\d+/c/[0-9a-f]+`)

// settledShop is a machine on which both daemons run, and whose shop has seen payments: one that was paid, and two that are in
// doubt, for somebody posted what M-Pesa does not confirm. Its app takes what is forwarded to it.
func settledShop(t *testing.T) *village {
	t.Helper()
	v, phone := newVillageWithSafaricom(t)
	m := v.machine("shop")
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	v.addresses["3000"] = strings.TrimPrefix(app.URL, "http://")
	m.types(block{text: "apt install ./hodi_0.1.0_amd64.deb"})
	m.write("etc/hodi/sidecar.toml", "[sidecar]\n"+shopSettings)
	m.secrets()
	m.types(block{text: "systemctl enable --now hodi-edge\nhodi edge invite duka | hodi join\nsystemctl start hodi-sidecar"})
	address := callbackAddress.FindString(v.printed)
	m.linked()

	shop := &deployed{T: t, sidecar: "http://" + m.at("8787"), dev: *phone}
	key, err := os.ReadFile(filepath.Join(m.root, "var/lib/hodi/sidecar/default/api.key"))
	if err != nil {
		t.Fatal(err)
	}
	shop.key = strings.TrimSpace(string(key))
	paid, _ := shop.begin(1200)
	shop.answer(t, "approve")
	eventually(t, "the payment", func() bool { return shop.state(paid)["status"] == "SUCCESS" })
	shop.behave(t, map[string]string{"callback": "never_silent"})
	for _, phone := range []string{"254700000022", "254700000023"} {
		page, data := shop.beginOn(phone, 700)
		if status, answer := call(t, "POST", address, stkCallback(data, 0, "ok", today+"AB12CD1", 700)); status != 200 {
			t.Fatalf("the edge answered %d %v", status, answer)
		}
		eventually(t, "the payment to be in doubt", func() bool { return shop.state(page)["doubt"] == "suspect" })
		v.means["PAYMENT"] = append(v.means["PAYMENT"], data["paymentId"].(string))
	}
	at, err := time.Parse(time.RFC3339, shop.state(paid)["completedAt"].(string))
	if err != nil {
		t.Fatal(err)
	}
	v.means["STATEMENT"] = []string{"statement"}
	m.write("root/statement.csv", fmt.Sprintf("Short Code:,174379\r\nReceipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Reason Type,A/C No.\r\n"+
		"%s,%s,Pay Bill,Completed,\"1,200.00\",,Pay Bill Online,INV-1\r\n", shop.state(paid)["mpesaReceiptNumber"], at.In(daraja.Nairobi).Format("02-01-2006 15:04:05")))
	v.machine(byHand).certificate()
	return v
}

// certificate puts one into the home folder, of the sort that somebody was given by an authority.
func (m *machine) certificate() {
	m.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		m.Fatal(err)
	}
	m.write("root/fullchain.pem", string(authority.PEM(server.Certificate())))
	m.write("root/privkey.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

// linked waits until callbacks get through to the machine.
func (m *machine) linked() {
	m.Helper()
	eventually(m.T, "the link of "+m.name, func() bool {
		status, _ := call(m.T, "GET", "http://"+m.at("8787")+"/readyz?link", nil)
		return status == 200
	})
}
