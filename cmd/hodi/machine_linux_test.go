package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/internal/authority"
	"github.com/hodihq/hodi/internal/loopback"
)

// A village is machines that know each other by name, on each of which the commands of a page can be typed as they are
// written: with a root of its own under a folder, so that /etc/hodi is not this machine's, and ports of its own in the place
// of 443 and 8787. The binary and the daemons are real. What changes the machine itself (apt, systemctl) is played by the
// test, which does to real processes what those would: it starts the ExecStart of our units with a notify socket. That systemd
// and apt themselves take our units and packages is for the tests of package systemd.
type village struct {
	*testing.T            // the chapter that is read
	owner      *testing.T // with which the village ends
	dir        string
	machines   map[string]*machine
	addresses  map[string]string   // by the port that the page names: where that is here
	means      map[string][]string // what a word of the page stands for here, the first time, the second...
	settings   []string            // environment of every hodi
	code       string              // the newest join code, which people carry
	asks       chan ask            // commands that the test plays
	printed    string              // all that was

	authority *authority.Authority // of public certificates; nil: none
}

type machine struct {
	*village
	name, root string
	units      map[string]*service
	installed  bool
}

// A service is a daemon that the test looks after as systemd would.
type service struct {
	manager *manager
	cmd     *exec.Cmd
	log     *lockedBuffer
	ended   chan struct{} // closed when it has
	err     error
}

func newVillage(t *testing.T) *village {
	t.Helper()
	dir, err := os.MkdirTemp("", "hodi") // of a test it may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := &village{T: t, owner: t, dir: dir, machines: make(map[string]*machine), addresses: make(map[string]string), means: make(map[string][]string), asks: make(chan ask)}
	return v
}

// at is where a port of the page is here. The machine that is set up by hand is no part of the shop.
func (m *machine) at(port string) string {
	key := port
	if m.name == byHand {
		key = m.name + " " + port
	}
	if m.addresses[key] == "" {
		m.addresses[key] = loopback.Address(m.owner)
	}
	return m.addresses[key]
}

const (
	byHand     = "hand"
	publicName = "hooks.example.co.ke" // of the page's edge
)

// played are the commands that are the test's, for they would change this machine.
var played = []string{"apt", "dnf", "systemctl", "journalctl", "timedatectl", "sysctl"}

// machine is the one of that name; a new one has nothing.
func (v *village) machine(name string) *machine {
	v.Helper()
	name = cmp.Or(name, "shop")
	if m := v.machines[name]; m != nil {
		return m
	}
	m := &machine{village: v, name: name, root: filepath.Join(v.dir, name), units: make(map[string]*service)}
	v.machines[name] = m
	for _, dir := range []string{"root", "bin", "etc", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			v.Fatal(err)
		}
	}
	pretend, err := exec.LookPath("pretend")
	if err != nil {
		v.Fatal(err)
	}
	for _, command := range played {
		m.script(command, fmt.Sprintf("exec %s %s \"$@\"", pretend, command))
	}
	m.script("sudo", `exec "$@"`)
	// Another machine is reached by its name.
	m.script("ssh", fmt.Sprintf(`other=$1; shift; exec %s/"$other"/bin/enter sh -c "$*"`, v.dir))
	m.script("scp", fmt.Sprintf(`for to; do :; done
other=${to%%%%:*}
while [ $# -gt 1 ]; do cp "$1" "%s/$other${to#*:%s}"; shift; done`, v.dir, m.root))
	m.script("enter", fmt.Sprintf("cd %s/root && exec env -i %s \"$@\"", m.root, quoted(m.environment())))
	m.write("root/.curlrc", "silent\nshow-error\nfail\n")
	if name == byHand {
		m.binary()
	}

	l, err := net.Listen("unix", m.asking())
	if err != nil {
		v.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { m.hear(c) })
		}
	})
	v.owner.Cleanup(func() { l.Close(); open.Wait() })
	return m
}

func (m *machine) asking() string { return filepath.Join(m.root, "asks") }

func quoted(words []string) string {
	var b strings.Builder
	for _, word := range words {
		b.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	return b.String()
}

func (m *machine) script(name, text string) { m.write("bin/"+name, "#!/bin/sh\nset -e\n"+text+"\n") }

func (m *machine) write(name, text string) {
	m.Helper()
	path := filepath.Join(m.root, name)
	mode := os.FileMode(0o600)
	if filepath.Dir(name) == "bin" {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.Fatal(err)
	}
}

// environment is that of every process on the machine.
func (m *machine) environment() []string {
	set := []string{
		"PATH=" + filepath.Join(m.root, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + filepath.Join(m.root, "root"), "CURL_HOME=" + filepath.Join(m.root, "root"), "LC_ALL=C",
		"HODI_TEST_MACHINE=" + m.asking(),
		"HODI_EDGE_LISTEN=" + m.at("443"),
		"HODI_SIDECAR_DATA=" + filepath.Join(m.root, "var/lib/hodi/sidecar/default"), "HODI_SIDECAR_LISTEN=" + m.at("8787"),
	}
	for _, name := range []string{"GOCOVERDIR", "GORACE", "TMPDIR", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			set = append(set, name+"="+value)
		}
	}
	return append(set, m.settings...)
}

var (
	path   = regexp.MustCompile(`(^|[\s"'=(:<>@])(/(?:etc|var|root|backup|run|media|usr/lib)(?:[/\s"')]|$))`)
	local  = regexp.MustCompile(`\b(?:127\.0\.0\.1|localhost|0\.0\.0\.0):(\d+)\b`)
	public = regexp.MustCompile(regexp.QuoteMeta(publicName) + `(?::(\d+))?`)
	copied = regexp.MustCompile(`hodi-(edge|sidecar)-\d{8}T\d{6}Z\.tar`)
	remark = regexp.MustCompile(`(?m)\s+# .*$`)
	stands = regexp.MustCompile(`\b[A-Z]{2,}\b`)
)

// here is a text of the page with what it stands for on this machine.
func (m *machine) here(b block) string {
	m.Helper()
	text := path.ReplaceAllString(remark.ReplaceAllString(b.text, ""), "${1}"+m.root+"${2}")
	text = local.ReplaceAllStringFunc(text, func(address string) string { return m.at(local.FindStringSubmatch(address)[1]) })
	// Nobody is to be asked where that name leads; the certificate is for it all the same.
	text = public.ReplaceAllStringFunc(text, func(address string) string { return m.at(cmp.Or(public.FindStringSubmatch(address)[1], "443")) })
	text = copied.ReplaceAllStringFunc(text, func(name string) string {
		all, _ := filepath.Glob(filepath.Join(m.root, "*", "hodi-"+copied.FindStringSubmatch(name)[1]+"-*.tar"))
		for i := range all {
			all[i] = filepath.Base(all[i])
		}
		if len(all) == 0 {
			return name
		}
		return slices.Max(all)
	})
	return stands.ReplaceAllStringFunc(text, func(word string) string {
		if values := m.means[word]; len(values) > 0 {
			if len(values) > 1 {
				m.means[word] = values[1:]
			}
			return values[0]
		}
		if slices.Contains(placeholders, word) {
			m.Errorf("%s:%d: no test knows what %s is to be", operators, b.line, word)
		}
		return word
	})
}

// types has a person type the lines of a block, each of which has to succeed; it returns what they print.
func (m *machine) types(b block) string {
	m.Helper()
	out, err := m.tries(b)
	if err != nil {
		m.Fatalf("%s:%d: on the machine %s, this ends with %v:\n%s\n%s", operators, b.line, m.name, err, b.text, out)
	}
	return out
}

func (m *machine) tries(b block) (printed string, err error) {
	m.Helper()
	text := strings.TrimRight(m.here(b), "\n")
	if last := lastCommand(text); foreground(text[last:]) {
		m.leave(b, text[:last]+"exec "+text[last:])
		return "", nil
	}
	cmd := exec.Command("sh", "-euc", text)
	out := new(lockedBuffer)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = filepath.Join(m.root, "root"), m.environment(), out, out
	cmd.Stdin = strings.NewReader(m.code)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case ask := <-m.asks:
			ask.reply <- ask.on.plays(ask.words)
		case err := <-ended:
			m.printed += out.String()
			if code := joinCode.FindString(out.String()); code != "" {
				m.code = code + "\n"
			}
			return out.String(), err
		case <-late.C:
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			return out.String(), fmt.Errorf("nothing in %v", patience)
		}
	}
}

// lastCommand is where the last line of a script begins, with those that it goes on from.
func lastCommand(script string) (at int) {
	for i, c := range script {
		if c == '\n' && !strings.HasSuffix(script[:i], "\\") {
			at = i + 1
		}
	}
	return at
}

// foreground reports whether a command is a daemon, which somebody leaves running in a terminal.
func foreground(command string) bool {
	words := strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
	if len(words) < 2 || words[0] != "hodi" {
		return false
	}
	l := sortLine(newApp(nil, nil), words[1:])
	return len(l.path) == 1 && slices.Contains([]string{"edge", "sidecar", "sandbox", "dev"}, l.path[0]) && !l.help
}

// leave starts what runs until the test ends it.
func (m *machine) leave(b block, script string) {
	m.Helper()
	if before := m.units["terminal"]; before != nil {
		before.end(m.T)
		before.forget()
	}
	s := m.begin(script, m.environment(), filepath.Join(m.root, "root"), nil)
	m.units["terminal"] = s
	if !s.ready(m.T) {
		m.Fatalf("%s:%d: this ended:\n%s\n%s", operators, b.line, b.text, s.log)
	}
}

// begin starts a script whose last command is a daemon, with the ports that were kept from the one before it.
func (m *machine) begin(script string, environment []string, dir string, before *service) *service {
	m.Helper()
	s := &service{log: new(lockedBuffer), ended: make(chan struct{})}
	if before != nil {
		s.manager = before.manager
	} else {
		s.manager = newManager(m.owner)
	}
	s.manager.mu.Lock()
	s.manager.said = nil
	var names []string
	var files []*os.File
	for name, f := range s.manager.kept {
		names, files = append(names, name), append(files, f)
	}
	s.manager.mu.Unlock()
	s.cmd = exec.Command("sh", "-euc", "export LISTEN_PID=$$\n"+script)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = dir, s.log, s.log, files
	s.cmd.Env = append(environment, "NOTIFY_SOCKET="+s.manager.socket)
	if len(files) > 0 {
		s.cmd.Env = append(s.cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	if err := s.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		s.err = s.cmd.Wait()
	}()
	m.owner.Cleanup(func() {
		s.end(m.owner)
		if m.owner.Failed() {
			m.owner.Logf("%v:\n%s", s.cmd.Args, s.log)
		}
	})
	return s
}

// forget closes the ports that were kept, as systemd does when a unit is stopped rather than started anew.
func (s *service) forget() {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	for name, f := range s.manager.kept {
		f.Close()
		delete(s.manager.kept, name)
	}
}

// ready waits until the service has said that it is, and reports whether it has.
func (s *service) ready(t *testing.T) (is bool) {
	t.Helper()
	eventually(t, "the daemon to be ready", func() bool {
		select {
		case <-s.ended:
			return true
		default:
			is = s.said("READY=1")
			return is
		}
	})
	return is
}

func (s *service) said(words string) bool {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return slices.ContainsFunc(s.manager.said, func(said string) bool { return strings.HasPrefix(said, words) })
}

// end ends it as systemd does. It may have ended before, but not by itself.
func (s *service) end(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.cmd.Process.Kill()
		<-s.ended
		t.Errorf("%v did not end", s.cmd.Args)
	}
	if s.err != nil {
		t.Errorf("%v ended with %v\n%s", s.cmd.Args, s.err, s.log)
	}
}

func (s *service) runs() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// An ask is a command of the machine that the test plays.
type ask struct {
	on    *machine
	words []string
	reply chan reply
}

func (m *machine) hear(c net.Conn) {
	defer c.Close()
	a := ask{on: m, reply: make(chan reply, 1)}
	if err := json.NewDecoder(c).Decode(&a.words); err != nil {
		return
	}
	select {
	case m.asks <- a:
		json.NewEncoder(c).Encode(<-a.reply)
	case <-m.owner.Context().Done():
	}
}

// plays does what a command would do.
func (m *machine) plays(words []string) reply {
	m.Helper()
	flag := func(w string) bool { return strings.HasPrefix(w, "-") }
	command, args := words[0], slices.DeleteFunc(slices.Clone(words[1:]), flag)
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case (command == "apt" || command == "dnf") && verb == "install":
		return m.install(args[1:])
	case command == "systemctl" && len(args) > 1:
		var out strings.Builder
		for _, unit := range args[1:] {
			r := m.systemctl(verb, strings.TrimSuffix(unit, ".service"), slices.Contains(words, "--now"))
			out.WriteString(r.Out)
			if r.Code != 0 {
				return reply{out.String(), r.Code}
			}
		}
		return reply{out.String(), 0}
	case command == "systemctl" && verb == "daemon-reload":
		return reply{}
	case command == "journalctl":
		var out strings.Builder
		for _, word := range args {
			if s := m.units[strings.TrimSuffix(word, ".service")]; s != nil {
				out.WriteString(s.log.String())
			}
		}
		if out.Len() == 0 {
			return reply{fmt.Sprintf("no unit of %q has said anything\n", words), 1}
		}
		return reply{out.String(), 0}
	case command == "timedatectl" && slices.Equal(args, []string{"set-ntp", "true"}):
		return reply{}
	case command == "sysctl" && slices.Contains(words, "-w") && strings.HasPrefix(verb, "net.core."):
		return reply{}
	}
	return reply{fmt.Sprintf("the test does not know how to play %q\n", words), 2}
}

// binary puts hodi into $PATH. As /etc/hodi is elsewhere here, it is told the file in which the part that is called looks for its settings.
func (m *machine) binary() {
	m.Helper()
	real, err := exec.LookPath("hodi")
	if err != nil {
		m.Fatal(err)
	}
	m.script("hodi", fmt.Sprintf(`case " $* " in *" edge "*) edge=true;; *) edge=false;; esac
if [ -z "$HODI_EDGE_DATA" ] && { $edge || [ -d %[1]s/var/lib/hodi/edge ]; }; then export HODI_EDGE_DATA=%[1]s/var/lib/hodi/edge; fi
printf '%%s\n' "$*" >>%[1]s/ran
if $edge; then part=edge; else part=sidecar; fi
if [ -z "$HODI_CONFIG" ] && [ ! -e hodi.toml ] && [ -e %[1]s/etc/hodi/$part.toml ]; then export HODI_CONFIG=%[1]s/etc/hodi/$part.toml; fi
exec %[2]s "$@"`, m.root, real))
}

// install is what a package does: the binary, the settings with everything commented out, and folders. What runs is started anew.
func (m *machine) install(packages []string) reply {
	m.Helper()
	if len(packages) != 1 || !regexp.MustCompile(`^\./hodi[_-][0-9][^/]*\.(deb|rpm)$`).MatchString(packages[0]) {
		return reply{fmt.Sprintf("%q is no package of ours\n", packages), 100}
	}
	m.binary()
	for _, part := range []string{"edge", "sidecar"} {
		if _, err := os.Stat(filepath.Join(m.root, "etc/hodi", part+".toml")); err == nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("../../systemd/package", part+".toml"))
		if err != nil {
			m.Fatal(err)
		}
		m.write("etc/hodi/"+part+".toml", string(text))
	}
	for _, dir := range []string{"etc/hodi/credentials", "var/lib/hodi/sidecar"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			m.Fatal(err)
		}
	}
	m.installed = true
	for name, s := range m.units {
		if s.runs() {
			if r := m.systemctl("restart", name, false); r.Code != 0 {
				return r
			}
		}
	}
	return reply{}
}

func (m *machine) systemctl(verb, unit string, now bool) reply {
	m.Helper()
	if strings.HasSuffix(unit, ".socket") { // the ports are the machine's own all the time
		return reply{}
	}
	s := m.units[unit]
	running := s != nil && s.runs()
	switch verb {
	case "enable", "disable", "mask", "unmask":
		if !now {
			return reply{}
		}
		return m.systemctl(map[string]string{"enable": "start", "disable": "stop"}[verb], unit, false)
	case "start":
		if running {
			return reply{}
		}
		return m.start(unit)
	case "stop":
		if running {
			s.end(m.T)
		}
		if s != nil {
			s.forget()
		}
		return reply{}
	case "restart", "try-restart":
		if running {
			s.end(m.T)
		} else if verb == "try-restart" {
			return reply{}
		}
		return m.start(unit)
	case "reload":
		if !running {
			return reply{unit + " is not active\n", 1}
		}
		return m.reload(unit, s)
	case "cat": // hodi join asks whether there is such a unit
		if !m.installed {
			return reply{fmt.Sprintf("No files found for %s.service.\n", unit), 1}
		}
		return reply{strings.Join(m.unitFile(unit, "Description"), "\n") + "\n", 0}
	case "is-active", "status":
		if !running {
			return reply{unit + ": inactive\n", 3}
		}
		return reply{unit + ": active\n", 0}
	}
	return reply{fmt.Sprintf("the test does not know how to play systemctl %s\n", verb), 2}
}

// unitFile are the values of a key of a unit, as they are on this machine.
func (m *machine) unitFile(unit, key string) (values []string) {
	m.Helper()
	name, instance, _ := strings.Cut(unit, "@")
	if instance != "" {
		name += "@"
	}
	text, err := os.ReadFile(filepath.Join("../../systemd", name+".service"))
	if err != nil {
		m.Fatalf("there is no unit %s: %v", unit, err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			value = strings.NewReplacer("%i", instance, "/usr/bin/hodi", m.root+"/bin/hodi", "/etc/", m.root+"/etc/").Replace(value)
			values = append(values, value)
		}
	}
	return values
}

func (m *machine) start(unit string) reply {
	m.Helper()
	if !m.installed {
		return reply{fmt.Sprintf("Unit %s.service not found.\n", unit), 5}
	}
	state := filepath.Join(m.root, "var/lib", m.unitFile(unit, "StateDirectory")[0])
	if err := os.MkdirAll(state, 0o700); err != nil {
		m.Fatal(err)
	}
	environment := slices.DeleteFunc(m.environment(), func(v string) bool {
		return strings.Contains(unit, "@") && strings.HasPrefix(v, "HODI_SIDECAR_LISTEN=") || strings.HasPrefix(v, "HODI_EDGE_DATA=") || strings.HasPrefix(v, "HODI_SIDECAR_DATA=")
	})
	environment = append(environment, "STATE_DIRECTORY="+state, "CREDENTIALS_DIRECTORY="+m.credentials(unit), "HODI_LOG_FORMAT=json")
	s := m.begin("exec "+m.unitFile(unit, "ExecStart")[0], environment, state, m.units[unit])
	m.units[unit] = s
	if !s.ready(m.T) {
		return reply{fmt.Sprintf("Job for %s.service failed:\n%s", unit, s.log), 1}
	}
	return reply{}
}

// credentials is the folder in which a unit finds those that it loads: LoadCredential=hodi:/etc/hodi/credentials.
func (m *machine) credentials(unit string) string {
	m.Helper()
	secrets, err := filepath.Glob(filepath.Join(m.root, "etc/hodi/credentials/*"))
	if err != nil {
		m.Fatal(err)
	}
	for _, path := range secrets {
		b, err := os.ReadFile(path)
		if err != nil {
			m.Fatal(err)
		}
		m.write(filepath.Join("run/credentials", unit, "hodi_"+filepath.Base(path)), string(b))
	}
	return filepath.Join(m.root, "run/credentials", unit)
}

func (m *machine) reload(unit string, s *service) reply {
	m.Helper()
	s.manager.mu.Lock()
	s.manager.said = nil
	s.manager.mu.Unlock()
	signalled := false
	for _, line := range m.unitFile(unit, "ExecReload") {
		signalled = signalled || strings.Contains(line, "-HUP")
		cmd := exec.Command("sh", "-c", strings.TrimLeft(line, "+-"))
		cmd.Env = append(m.environment(), "CREDENTIALS_DIRECTORY="+m.credentials(unit), fmt.Sprintf("MAINPID=%d", s.cmd.Process.Pid))
		if out, err := cmd.CombinedOutput(); err != nil {
			return reply{string(out), 1}
		}
	}
	if !signalled { // Type=notify-reload
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			m.Fatal(err)
		}
	}
	s.manager.hears("RELOADING=1")
	s.manager.hears("READY=1")
	return reply{}
}
