package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/internal/loopback"
)

// What nobody may ever read in what the doctor prints. The first two are what our sandbox takes.
const (
	markedKey      = "hodi-sandbox-consumer-key"
	markedSecret   = "hodi-sandbox-consumer-secret"
	markedPasskey  = "PASSKEYMARKPASSKEYMARK"
	markedPassword = "PROXYMARKPROXYMARK"
)

// ill is a pair and a shop's settings, and looks through all that the doctor says for what it must not say.
type ill struct {
	*pair
	env []string
}

// newIll starts an edge and a sidecar that has joined it, and writes the settings of a shop beside a sandbox.
func newIll(t *testing.T) *ill {
	t.Helper()
	p := &ill{pair: newPair(t)}
	sandbox := startDaemon(t, p.dir, "sandbox", "--listen", loopback.Address(t))
	p.write("consumer-key", markedKey)
	p.write("consumer-secret", markedSecret)
	p.write("passkey", markedPasskey)
	p.write("hodi.toml", `
[sidecar]
data = "sidecar"
listen = "`+strings.TrimPrefix(p.url, "http://")+`"
edge = "`+p.sidecars+`"
edge-websocket = "`+p.callbacks+`"
daraja-url = "`+sandbox.says("url")+`"

[shortcode.main]
environment = "sandbox"
number = "174379"
consumer-key-file = "consumer-key"
consumer-secret-file = "consumer-secret"
passkey-file = "passkey"
`)
	return p
}

func (p *ill) write(name, text string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

// diagnosed is what the doctor said, by the name of the check.
type diagnosed map[string]doctor.Finding

// doctor asks twice, for people and for programs, which must agree about who is well.
func (p *ill) doctor(args ...string) (found diagnosed, well bool) {
	p.Helper()
	run := func(args ...string) (string, bool) {
		cmd := exec.Command("hodi", append([]string{"doctor"}, args...)...)
		cmd.Dir, cmd.Env = p.dir, slices.Concat(os.Environ(), []string{"HTTPS_PROXY=", "https_proxy=", "ALL_PROXY=", "all_proxy="}, p.env)
		var text strings.Builder
		cmd.Stdout, cmd.Stderr = &text, &text
		err := cmd.Run()
		p.hides(text.String())
		return text.String(), err == nil
	}
	text, well := run(args...)
	for line := range strings.Lines(text) {
		command := strings.HasPrefix(line, "        ") && !strings.HasPrefix(line, "          ")
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !command && !strings.Contains(line, p.dir) {
			p.Errorf("a line of %d columns: %s", n, line)
		}
	}
	said, wellToo := run(append(args, "--json")...)
	var d diagnosis
	if err := json.Unmarshal([]byte(said), &d); err != nil {
		p.Fatalf("%v\n%s", err, said)
	}
	if well != wellToo || well != d.Healthy {
		p.Errorf("for people it is %v, for programs %v and %v\n%s\n%s", well, wellToo, d.Healthy, text, said)
	}
	found = diagnosed{}
	for _, f := range append(d.Sidecar, d.Edge...) {
		found[f.Check] = f
		if (f.Verdict == doctor.Warn || f.Verdict == doctor.Fail) && f.Do == "" {
			p.Errorf("nothing is said to be done about %+v", f)
		}
		if !strings.Contains(text, f.Check) {
			p.Errorf("people are not told of %s:\n%s", f.Check, text)
		}
	}
	return found, well
}

// hides looks for secrets: those of the settings, and those in the data folder.
func (p *ill) hides(text string) {
	p.Helper()
	secrets := []string{markedKey, markedSecret, markedPasskey, markedPassword}
	for _, name := range []string{"sidecar/api.key", "sidecar/callback.key", "edge/reset.key"} {
		if b, err := os.ReadFile(filepath.Join(p.dir, name)); err == nil {
			secrets = append(secrets, strings.Fields(string(b))...)
		}
	}
	for _, name := range []string{"edge/ca.key", "chain.key"} {
		if b, err := os.ReadFile(filepath.Join(p.dir, name)); err == nil {
			secrets = append(secrets, strings.Fields(string(b))[3:5]...)
		}
	}
	var identity struct{ Key string }
	if b, err := os.ReadFile(filepath.Join(p.dir, "sidecar", "identity.json")); err == nil && json.Unmarshal(b, &identity) == nil {
		secrets = append(secrets, strings.Fields(identity.Key)[3:5]...)
	}
	for _, s := range secrets {
		if len(s) > 8 && strings.Contains(text, s) {
			p.Errorf("the doctor prints the secret %s:\n%s", s, text)
		}
	}
}

// want checks verdicts, written as "DNS ok", "link warn"; and words that a finding has to have.
func (d diagnosed) want(t testing.TB, verdicts ...string) {
	t.Helper()
	for _, v := range verdicts {
		name, verdict, _ := strings.Cut(v, ": ")
		verdict, words, _ := strings.Cut(verdict, " ")
		f, there := d[name]
		if !there || string(f.Verdict) != verdict || !strings.Contains(f.Found+" "+f.Do+" "+strings.Join(f.Commands, " "), words) {
			t.Errorf("want %q, there is %+v", v, f)
		}
	}
}

func TestTheDoctorFindsNothingWrongAndTakesNoLink(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	eventually(t, "the link", func() bool { return len(p.generations()) == 1 })
	before := p.generations()
	found, well := p.doctor()
	if !well {
		t.Errorf("not well: %+v", found)
	}
	found.want(t, "settings: ok hodi.toml", "sidecar: ok its link is up, over QUIC", "identity: ok duka", "DNS: ok", "TCP: ok "+p.callbacks, "TLS: ok lets this sidecar in",
		"QUIC: ok lets this sidecar in", "link: ok over QUIC", "proxy: ok none", "permissions: ok", "database: ok", "Daraja main: ok takes the consumer key")
	for _, name := range []string{"clock", "UDP buffers", "disk"} { // which may be poor where this test runs
		if f := found[name]; f.Verdict == doctor.Fail || f.Verdict == "" {
			t.Errorf("%+v", f)
		}
	}
	if found["disk"].Figures["commitMedianMs"] <= 0 || found["UDP buffers"].Figures["receiveBytes"] <= 0 || found["QUIC"].Figures["handshakeMs"] <= 0 {
		t.Errorf("there are no figures: %+v", found)
	}
	if after := p.generations(); len(after) != 1 || after[0] != before[0] {
		t.Errorf("the link was of generation %v, and is of %v", before, after)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "sidecar", ".hodi-doctor-*")); len(left) > 0 {
		t.Errorf("it leaves %v behind", left)
	}
	for _, complaint := range []string{"not let in", "displaced", "certificate renewed"} {
		if strings.Contains(p.edge.log.String(), complaint) {
			t.Errorf("the edge says %q:\n%s", complaint, p.edge.log)
		}
	}
}

// generations are those of the edge's links.
func (p *ill) generations() (all []float64) {
	p.Helper()
	var links struct {
		Links []struct{ Generation float64 }
	}
	if err := console.Ask(p.Context(), filepath.Join(p.dir, "edge"), "test", http.MethodGet, "/links", nil, &links); err != nil {
		p.Fatal(err)
	}
	for _, l := range links.Links {
		all = append(all, l.Generation)
	}
	return all
}

func TestTheDoctorNamesTheWayThatTheLinkTakesWhereUDPIsBlocked(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	// The edge's TCP port, of which nobody has the UDP namesake.
	found, well := p.doctor("sidecar", "--edge", p.callbacks)
	if !well {
		t.Errorf("a link over WebSocket is a failure: %+v", found)
	}
	found.want(t, "TCP: ok", "TLS: ok", "QUIC: warn refuses UDP", "link: warn over a WebSocket", "link: warn out to be opened")
	// And of which somebody has it who never answers.
	hole, err := net.ListenPacket("udp", p.callbacks)
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	found, well = p.doctor("sidecar", "--edge", p.callbacks)
	if !well {
		t.Errorf("a link over WebSocket is a failure: %+v", found)
	}
	found.want(t, "QUIC: warn probably blocked", "link: warn over a WebSocket")
	// Nothing takes WebSockets at the edge's UDP port.
	found, well = p.doctor("sidecar", "--edge-websocket", p.sidecars)
	if !well {
		t.Errorf("a link over QUIC is a failure: %+v", found)
	}
	found.want(t, "TCP: warn", "TLS: skip", "QUIC: ok", "link: ok no other way")
}

func TestTheDoctorSaysWhatKeepsASidecarFromItsEdge(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	other := startDaemon(t, p.dir, "edge", "--data", "other", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t))
	found, well := p.doctor("sidecar", "--edge", other.says("sidecars"), "--edge-websocket", other.says("callbacks"))
	if well {
		t.Error("another edge is taken for ours")
	}
	found.want(t, "TCP: ok", "TLS: fail not the edge that this sidecar has joined", "QUIC: fail hodi join --replace", "link: fail")

	p.hodi("edge", "revoke", "--data", "edge", "duka")
	if found, well = p.doctor(); well {
		t.Error("a revoked sidecar is well")
	}
	found.want(t, "TLS: fail this sidecar was revoked", "QUIC: fail this sidecar was revoked", "QUIC: fail hodi edge invite", "link: fail")

	p.edge.end()
	if found, well = p.doctor(); well {
		t.Error("all is well without an edge")
	}
	found.want(t, "TCP: fail On the edge's machine run hodi doctor", "TLS: skip", "QUIC: fail refuses", "link: fail callbacks wait there")

	p.sidecar.end()
	found, _ = p.doctor()
	found.want(t, "sidecar: warn does not run")
	holder, err := net.Listen("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	found, _ = p.doctor()
	found.want(t, "sidecar: fail another program has its port")

	found, well = p.doctor("sidecar", "--data", "nowhere")
	if well {
		t.Error("a sidecar that has not joined is well")
	}
	found.want(t, "identity: fail hodi join", "QUIC: skip joined", "disk: skip", "Daraja main: ok")
}

func TestTheDoctorSaysWhatIsWrongWithFilesAndCredentials(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	p.sidecar.end()
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(filepath.Join(p.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(verdicts ...string) {
		t.Helper()
		found, well := p.doctor()
		if well {
			t.Errorf("all is well, but for %q", verdicts)
		}
		found.want(t, verdicts...)
	}
	chmod("sidecar", 0o777)
	wants("permissions: fail chmod o-w sidecar", "link: ok")
	chmod("sidecar", 0o700)
	chmod("sidecar/api.key", 0o644)
	wants("permissions: fail chmod 600 sidecar/api.key")
	chmod("sidecar/api.key", 0o600)
	chmod("sidecar/identity.json", 0o640)
	wants("identity: fail chmod 600", "QUIC: skip")
	chmod("sidecar/identity.json", 0o600)
	chmod("passkey", 0o644)
	wants("settings: fail passkey-file", "permissions: fail chmod 600 passkey", "Daraja main: fail passkey-file", "link: ok")
	chmod("passkey", 0o600)
	p.write("consumer-secret", "WRONGSECRETMARK")
	wants("Daraja main: fail does not take the consumer key and secret", "link: ok")
	if found, _ := p.doctor(); strings.Contains(found["Daraja main"].Found, "WRONGSECRETMARK") {
		t.Errorf("it prints the secret: %+v", found["Daraja main"])
	}
	p.write("consumer-secret", markedSecret)
	closed := loopback.Address(t)
	found, well := p.doctor("sidecar", "--daraja-url", "http://"+closed)
	if well {
		t.Error("all is well without Daraja")
	}
	found.want(t, "Daraja main: fail cannot be asked")

	p.env = []string{"HTTPS_PROXY=http://shop:" + markedPassword + "@127.0.0.1:1"}
	found, _ = p.doctor()
	found.want(t, "proxy: ok HTTPS_PROXY is set")
	p.env = []string{"HTTPS_PROXY=http://shop:" + markedPassword + "@[::1"}
	found, _ = p.doctor()
	found.want(t, "proxy: ok")
	p.env = nil

	if err := os.WriteFile(filepath.Join(p.dir, "sidecar", "sidecar.db"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	wants("database: fail damaged")
	p.write("hodi.toml", "[sidecar]\ndata = \"sidecar\"\nmetred = true\n")
	wants("settings: fail did you mean metered")
}
