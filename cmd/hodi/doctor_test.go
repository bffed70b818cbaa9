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
	"time"
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

// ask runs the doctor, and looks for what it must not say.
func (p *ill) ask(args ...string) (said string, well bool) {
	p.Helper()
	cmd := exec.Command("hodi", append([]string{"doctor"}, args...)...)
	cmd.Dir, cmd.Env = p.dir, slices.Concat(os.Environ(), []string{"HTTPS_PROXY=", "https_proxy=", "ALL_PROXY=", "all_proxy="}, p.env)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	p.hides(text.String())
	return text.String(), err == nil
}

// doctor asks as programs do.
func (p *ill) doctor(args ...string) (found diagnosed, well bool) {
	p.Helper()
	said, well := p.ask(append(args, "--json")...)
	var d diagnosis
	if err := json.Unmarshal([]byte(said), &d); err != nil {
		p.Fatalf("%v\n%s", err, said)
	}
	if well != d.Healthy {
		p.Errorf("it ends as if well were %v, and says\n%s", well, said)
	}
	found = diagnosed{}
	for _, f := range append(d.Sidecar, d.Edge...) {
		found[f.Check] = f
		if (f.Verdict == doctor.Warn || f.Verdict == doctor.Fail) && f.Do == "" {
			p.Errorf("nothing is said to be done about %+v", f)
		}
	}
	return found, well
}

// reads asks as people do, on a terminal of 80 columns; commands and paths are not broken.
func (p *ill) reads(args ...string) {
	p.Helper()
	text, _ := p.ask(args...)
	for line := range strings.Lines(text) {
		command := strings.HasPrefix(line, "        ") && !strings.HasPrefix(line, "          ")
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !command && !strings.Contains(line, p.dir) {
			p.Errorf("a line of %d columns: %s", n, line)
		}
	}
	found, _ := p.doctor(args...)
	for name := range found {
		if !strings.Contains(text, " "+name+" ") {
			p.Errorf("people are not told of %s:\n%s", name, text)
		}
	}
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

// lacks is the first of these verdicts that there is not; "" if none. They are written as "DNS: ok", or with words that the
// finding has to have, "link: warn out to be opened".
func (d diagnosed) lacks(verdicts ...string) string {
	for _, v := range verdicts {
		name, verdict, _ := strings.Cut(v, ": ")
		verdict, words, _ := strings.Cut(verdict, " ")
		f := d[name]
		if string(f.Verdict) != verdict || !strings.Contains(f.Found+" "+f.Do+" "+strings.Join(f.Commands, " "), words) {
			return v
		}
	}
	return ""
}

// finds asks until the doctor says all this. It gives the other end some seconds, and on a busy machine they may pass.
func (p *ill) finds(well bool, args []string, verdicts ...string) (found diagnosed) {
	p.Helper()
	for deadline := time.Now().Add(patience); ; {
		var is bool
		found, is = p.doctor(args...)
		lacks := found.lacks(verdicts...)
		if is == well && lacks == "" {
			return found
		}
		if time.Now().After(deadline) {
			p.Fatalf("hodi doctor %v: well is %v, want %v; want %q, there is %+v", args, is, well, lacks, found)
		}
	}
}

func TestTheDoctorFindsNothingWrongAndTakesNoLink(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	found := p.finds(true, nil, "settings: ok hodi.toml", "sidecar: ok its link is up, over QUIC", "identity: ok duka", "DNS: ok", "TCP: ok "+p.callbacks, "TLS: ok lets this sidecar in",
		"QUIC: ok lets this sidecar in", "link: ok over QUIC", "proxy: ok none", "permissions: ok", "database: ok", "Daraja main: ok takes the consumer key")
	for _, name := range []string{"clock", "UDP buffers", "disk"} { // which may be poor where this test runs
		if f := found[name]; f.Verdict == doctor.Fail || f.Verdict == "" {
			t.Errorf("%+v", f)
		}
	}
	if found["disk"].Figures["commitMedianMs"] <= 0 || found["UDP buffers"].Figures["receiveBytes"] <= 0 || found["QUIC"].Figures["handshakeMs"] <= 0 {
		t.Errorf("there are no figures: %+v", found)
	}
	eventually(t, "the doctor to leave the link alone", func() bool { // which a busy machine may not
		before := p.generations()
		p.doctor()
		after := p.generations()
		return len(before) == 1 && slices.Equal(before, after)
	})
	p.reads()
	if left, _ := filepath.Glob(filepath.Join(p.dir, "sidecar", ".hodi-doctor-*")); len(left) > 0 {
		t.Errorf("it leaves %v behind", left)
	}
	if strings.Contains(p.edge.log.String(), "certificate renewed") {
		t.Errorf("it has a certificate renewed:\n%s", p.edge.log)
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
	p.finds(true, []string{"sidecar", "--edge", p.callbacks}, "TCP: ok", "TLS: ok", "QUIC: warn refuses UDP", "link: warn over a WebSocket", "link: warn out to be opened")
	// And of which somebody has it who never answers.
	hole, err := net.ListenPacket("udp", p.callbacks)
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	p.finds(true, []string{"sidecar", "--edge", p.callbacks}, "QUIC: warn probably blocked", "link: warn over a WebSocket")
	// Nothing takes WebSockets at the edge's UDP port.
	p.finds(true, []string{"sidecar", "--edge-websocket", p.sidecars}, "TCP: warn", "TLS: skip", "QUIC: ok", "link: ok no other way")
}

func TestTheDoctorSaysWhatKeepsASidecarFromItsEdge(t *testing.T) {
	t.Parallel()
	p := newIll(t)
	other := startDaemon(t, p.dir, "edge", "--data", "other", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t))
	p.finds(false, []string{"sidecar", "--edge", other.says("sidecars"), "--edge-websocket", other.says("callbacks")},
		"TCP: ok", "TLS: fail not the edge that this sidecar has joined", "QUIC: fail hodi join --replace", "link: fail")

	p.hodi("edge", "revoke", "--data", "edge", "duka")
	p.finds(false, nil, "TLS: fail this sidecar was revoked", "QUIC: fail this sidecar was revoked", "QUIC: fail hodi edge invite", "link: fail")

	p.edge.end()
	p.finds(false, nil, "TCP: fail On the edge's machine run hodi doctor", "TLS: skip", "QUIC: fail refuses", "link: fail callbacks wait there")

	p.sidecar.end()
	p.finds(false, nil, "sidecar: warn does not run")
	holder, err := net.Listen("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	p.finds(false, nil, "sidecar: fail another program has its port")
	p.reads()
	p.finds(false, []string{"sidecar", "--data", "nowhere"}, "identity: fail hodi join", "QUIC: skip joined", "disk: skip", "Daraja main: ok")
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
	chmod("sidecar", 0o777)
	p.finds(false, nil, "permissions: fail chmod o-w sidecar", "link: ok")
	chmod("sidecar", 0o700)
	chmod("sidecar/api.key", 0o644)
	p.finds(false, nil, "permissions: fail chmod 600 sidecar/api.key")
	chmod("sidecar/api.key", 0o600)
	chmod("sidecar/identity.json", 0o640)
	p.finds(false, nil, "identity: fail chmod 600", "QUIC: skip")
	chmod("sidecar/identity.json", 0o600)
	chmod("passkey", 0o644)
	p.finds(false, nil, "settings: fail passkey-file", "permissions: fail chmod 600 passkey", "Daraja main: fail passkey-file", "link: ok")
	chmod("passkey", 0o600)
	p.write("consumer-secret", "WRONGSECRETMARK")
	p.finds(false, nil, "Daraja main: fail does not take the consumer key and secret", "link: ok")
	p.reads()
	if found, _ := p.doctor(); strings.Contains(found["Daraja main"].Found, "WRONGSECRETMARK") {
		t.Errorf("it prints the secret: %+v", found["Daraja main"])
	}
	p.write("consumer-secret", markedSecret)
	closed := loopback.Address(t)
	p.finds(false, []string{"sidecar", "--daraja-url", "http://" + closed}, "Daraja main: fail cannot be asked")

	p.env = []string{"HTTPS_PROXY=http://shop:" + markedPassword + "@127.0.0.1:1"}
	p.finds(true, nil, "proxy: ok HTTPS_PROXY is set")
	p.env = []string{"HTTPS_PROXY=http://shop:" + markedPassword + "@[::1"}
	p.finds(true, nil, "proxy: ok")
	p.env = nil

	if err := os.WriteFile(filepath.Join(p.dir, "sidecar", "sidecar.db"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.finds(false, nil, "database: fail damaged")
	p.write("hodi.toml", "[sidecar]\ndata = \"sidecar\"\nmetred = true\n")
	p.finds(false, nil, "settings: fail did you mean metered")
}
