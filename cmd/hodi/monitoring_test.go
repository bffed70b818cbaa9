package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/internal/scrape"
)

const monitoring = "../../docs/monitoring/"

func readMonitoring(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(monitoring + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// promtool runs Prometheus's own tool.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is not there: unpack Debian's package prometheus, as .ci/run does")
		}
		t.Skip("promtool is not there: install Debian's package prometheus")
	}
	cmd := exec.Command("promtool", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

var alertName = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

func TestEachAlertFiresWhenItOughtToAndOnlyThen(t *testing.T) {
	rules, tests, operate := readMonitoring(t, "alerts.yml"), readMonitoring(t, "alerts_test.yml"), readMonitoring(t, "../operate.md")
	found := alertName.FindAllStringSubmatch(rules, -1)
	if len(found) < 12 {
		t.Fatalf("only %d alerts were found", len(found))
	}
	for i, m := range found {
		name := m[1]
		if !strings.Contains(tests, "- name: "+name+"\n") {
			t.Errorf("no test has %s fire", name)
		}
		if !strings.Contains(operate, "\n### "+name+"\n") {
			t.Errorf("docs/operate.md does not say what %s means", name)
		}
		its := rules[strings.Index(rules, m[0]):]
		if i+1 < len(found) {
			its = its[:strings.Index(its, found[i+1][0])]
		}
		for _, needs := range []string{"severity: ", "summary: ", "description: ", "runbook_url: https://github.com/hodihq/hodi/blob/main/docs/operate.md#" + strings.ToLower(name) + "\n"} {
			if !strings.Contains(its, needs) {
				t.Errorf("%s has no %q", name, needs)
			}
		}
	}
	promtool(t, monitoring, "check", "rules", "alerts.yml")
	promtool(t, monitoring, "test", "rules", "alerts_test.yml")
}

// dashboard is what Grafana reads of hodi.json, as far as a mistake in it would show.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Datasource               struct{ Type, UID string }
		Targets                  []struct {
			RefID, Expr string
			Datasource  struct{ Type, UID string }
		}
	}
}

func TestTheDashboardIsWhole(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(readMonitoring(t, "hodi.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 || len(d.Panels) < 20 {
		t.Fatalf("the dashboard is %q %q of schema %d, with %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" {
		t.Error("nobody can say which Prometheus it is to ask")
	}
	ids, cells := map[int]string{}, map[[2]int]string{}
	rules := "groups:\n  - name: dashboard\n    rules:\n"
	variable := regexp.MustCompile(`\$\{?(\w+)\}?`)
	for _, p := range d.Panels {
		if other := ids[p.ID]; p.ID == 0 || other != "" {
			t.Errorf("panels %q and %q have one id, %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q is at %+v, and the grid has 24 columns", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies on %q", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q has %d queries of %q, and says of itself %q", p.Title, len(p.Targets), p.Datasource.UID, p.Description)
		}
		for _, q := range p.Targets {
			if q.RefID == "" || q.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: query %q asks %q", p.Title, q.RefID, q.Datasource.UID)
			}
			expr := variable.ReplaceAllStringFunc(q.Expr, func(v string) string {
				switch name := strings.Trim(v, "${}"); {
				case name == "__rate_interval":
					return "5m"
				case variables[name] == "query":
					return ".*"
				}
				t.Errorf("panel %q: there is no variable %s", p.Title, v)
				return v
			})
			rules += fmt.Sprintf("      - {record: 'panel:%d:%s', expr: %q}\n", p.ID, strings.ToLower(q.RefID), expr)
		}
	}
	path := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, ".", "check", "rules", path)
}

var figureName = regexp.MustCompile(`\b(hodi|process|go)_[a-z_]+[a-z]\b`)

// TestWhatAlertsAndDashboardGoByIsThere reads the pages of real daemons, with everything on that has figures of its own.
func TestWhatAlertsAndDashboardGoByIsThere(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer app.Close()
	atEdge, atSidecar, atOther := loopback.Address(t), loopback.Address(t), loopback.Address(t)
	p := newPairWith(t, []string{"--metrics", atEdge}, []string{"--metrics", atSidecar, "--forward", app.URL, "--daraja-url", app.URL, "--config", oneShortcode(t)})
	p.register(0, 1)
	p.post(0, 1)
	p.wantPaid(0, 1)
	eventually(t, "all to be delivered, with a proof", func() bool {
		n, known := scrape.Of(t, atEdge).Value("hodi_edge_undelivered_callbacks", "endpoint=duka")
		_, canaries := scrape.Of(t, atEdge).Value("hodi_edge_canary_interval_seconds", "endpoint=duka")
		delivering, _ := scrape.Of(t, atSidecar).Value("hodi_sidecar_delivering")
		return known && n == 0 && canaries && delivering == 1
	})

	// An edge with a certificate of its own.
	certificate, key := publicPair(t)
	other := startDaemon(t, t.TempDir(), "edge", "--data", "edge", "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0", "--public-url", "https://hooks.shop.example",
		"--certificate-file", certificate, "--key-file", key, "--metrics", atOther)
	other.says("callbacks")

	here := map[string]bool{}
	for _, at := range []string{atEdge, atSidecar, atOther} {
		page := scrape.Of(t, at)
		page.WantWellNamed()
		page.WantSilentOf("254708374149", "ws_CO_", "m-0", p.address[strings.LastIndex(p.address, "/")+1:])
		for name, family := range page.Families {
			here[name] = true
			if len(family.Metric) > 0 && family.Metric[0].Histogram != nil {
				here[name+"_bucket"] = true
			}
		}
	}
	page := scrape.Of(t, atEdge)
	page.Want(1, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=stored")
	page.Want(1, "hodi_edge_sidecar_connected", "endpoint=duka")
	page = scrape.Of(t, atSidecar)
	page.Want(1, "hodi_sidecar_link_up")
	page.Want(1, "hodi_sidecar_push_seconds")
	page.Want(1, "hodi_sidecar_callbacks", "state=applied")
	page.WantBetween(1, 1e9, "hodi_sidecar_link_bytes_total", "direction=in")
	page.WantBetween(-30, 30, "hodi_sidecar_clock_skew_seconds")

	var missing []string
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "hodi.json"} {
		for _, name := range figureName.FindAllString(readMonitoring(t, file), -1) {
			if !here[name] {
				missing = append(missing, name+" of "+file)
			}
		}
	}
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) > 0 {
		t.Errorf("no daemon shows %s; they show %v", strings.Join(missing, ", "), slices.Sorted(maps.Keys(here)))
	}

	p.edge.end()
	eventually(t, "the sidecar to have lost its link", func() bool {
		up, _ := scrape.Of(t, atSidecar).Value("hodi_sidecar_link_up")
		return up == 0
	})
	scrape.Of(t, atSidecar).WantNone("hodi_sidecar_link_transport", "transport=quic")
}

// oneShortcode is a file of settings with a shortcode, whose secrets are nobody's.
func oneShortcode(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	settings := "[shortcode.duka]\nenvironment = \"sandbox\"\nnumber = \"174379\"\n"
	for _, name := range []string{"consumer-key", "consumer-secret", "passkey"} {
		settings += name + "-file = \"" + name + "\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of this test"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(dir, "hodi.toml")
	if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicPair are the files of a certificate that nobody but a test believes.
func publicPair(t *testing.T) (certificate, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"hooks.shop.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
	for path, b := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: leaf}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
