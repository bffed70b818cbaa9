package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestAddressesStayOverARestartAndWorkUntilTheyAreRetired(t *testing.T) {
	w := start(t, edge.Config{PublicURL: "https://hooks.example.co.ke/"})
	first := w.callback
	if !strings.HasPrefix(first, "https://hooks.example.co.ke/c/") || len(path(first)) != len("/c/")+32 || strings.Trim(path(first)[3:], "0123456789abcdef") != "" {
		t.Errorf("the address is %s", first)
	}
	second, err := w.AddKey(t.Context(), "asha", "duka", "", "")
	if err != nil {
		t.Fatal(err)
	}
	third, err := w.AddKey(t.Context(), "asha", "duka", "after the burglary", "")
	if err == nil {
		t.Errorf("a key may be called %q", third.Name)
	}
	if k, err := w.AddKey(t.Context(), "asha", "duka", "key-1", ""); err == nil {
		t.Errorf("a name that is taken was given again, as %s", k.Name)
	}
	if _, err := w.AddKey(t.Context(), "asha", "duka", "", ""); err != nil {
		t.Fatal(err)
	}
	w.stop()

	w = start(t, edge.Config{Dir: w.dir, PublicURL: "https://hooks.example.co.ke"})
	on := func(url string) string { return "http://" + w.http + path(url) }
	w.wantPost(on(first), "{}", 200)
	w.wantPost(on(second.URL), "{}", 200)
	if err := w.RetireKey(t.Context(), "asha", "duka", "key-1"); err != nil {
		t.Fatal(err)
	}
	w.wantPost(on(first), "{}", 404)
	w.wantPost(on(second.URL), "{}", 200)
	for _, name := range []string{"key-1", "key-2"} {
		if err := w.RetireKey(t.Context(), "asha", "duka", name); err != nil {
			t.Errorf("retire %s: %v", name, err)
		}
	}
	if err := w.RetireKey(t.Context(), "asha", "duka", "key-3"); err == nil {
		t.Error("the last address of an endpoint was retired")
	}
	for _, err := range []error{w.RetireKey(t.Context(), "asha", "duka", "nobody's"), w.RetireKey(t.Context(), "asha", "nobody", "key-1")} {
		if err == nil {
			t.Error("a key that there is not was retired")
		}
	}
	w.stop()

	w = start(t, edge.Config{Dir: w.dir})
	w.wantPost(on(first), "{}", 404)
	if n := len(w.stored("duka")); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
}

func TestEndpointsAreRefusedThatWouldBeConfused(t *testing.T) {
	w := start(t, edge.Config{})
	for _, name := range []string{"", "../duka", "duka 2", "duka/2", strings.Repeat("k", 64)} {
		if _, err := w.SetEndpoint(t.Context(), name); err == nil {
			t.Errorf("endpoint %q was made", name)
		}
	}
	again, err := w.SetEndpoint(t.Context(), "duka")
	if err != nil || again.CallbackURL != w.callback {
		t.Errorf("set again: %v, %v", again, err)
	}
}

func TestASecondEdgeOnOneFolderIsRefused(t *testing.T) {
	w := start(t, edge.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := edge.Open(t.Context(), edge.Config{Dir: w.dir, HTTP: l, UDP: udp}); err == nil || !strings.Contains(err.Error(), "another edge runs") {
		t.Errorf("a second edge: %v", err)
	}
	w.wantPost(w.callback, "{}", 200)
}

func TestTheStateIsItsOwnersAlone(t *testing.T) {
	w := start(t, edge.Config{})
	w.wantPost(w.callback, "{}", 200)
	for _, name := range []string{"edge.db", "edge.db-wal", "ca.key", "reset.key", "lock", "admin.sock"} {
		info, err := os.Stat(filepath.Join(w.dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestTheTunnelsCertificateIsRenewedUnderAnAuthorityThatStays(t *testing.T) {
	w := start(t, edge.Config{})
	ca := w.CA()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	verify := func(at time.Time) *tls.Certificate {
		t.Helper()
		c, err := w.Certificate(at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: wire.ServerName, Roots: roots, CurrentTime: at}); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
		return c
	}
	now := time.Now()
	first := verify(now)
	if verify(now.AddDate(0, 0, 50)) != first {
		t.Error("it is renewed long before its end")
	}
	if verify(now.AddDate(0, 0, 70)) == first {
		t.Error("it is not renewed near its end")
	}
	verify(now.AddDate(25, 0, 0))
	w.stop()
	w = start(t, edge.Config{Dir: w.dir})
	if string(w.CA()) != string(ca) {
		t.Error("the authority is another one after a restart: every sidecar would be locked out")
	}
}

// An edge that makes another authority looks well, and not one shop comes back.
func TestAnEdgeDoesNotBecomeAnotherInSilence(t *testing.T) {
	lose := func(t *testing.T, dir string, files ...string) {
		for _, file := range files {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, lost := range [][]string{{"ca.crt"}, {"ca.key"}, {"ca.crt", "ca.key"}, {"ca.crt", "ca.key", "edge.db"}} {
		t.Run(strings.Join(lost, " and "), func(t *testing.T) {
			w := start(t, edge.Config{})
			w.sidecar("duka")
			w.stop()
			lose(t, w.dir, lost...)
			e, err := edge.Open(t.Context(), edge.Config{Dir: w.dir, HTTP: newPipes(), UDP: noPackets{}})
			if err == nil {
				e.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "back from a backup") || !strings.Contains(err.Error(), lost[0]) {
				t.Fatalf("it opens: %v", err)
			}
			for _, file := range lost[:min(2, len(lost))] {
				if _, err := os.Stat(filepath.Join(w.dir, file)); err == nil {
					t.Errorf("%s was made anew all the same", file)
				}
			}
		})
	}
	t.Run("unless that is said", func(t *testing.T) {
		w := start(t, edge.Config{})
		w.sidecar("duka")
		ca := string(w.CA())
		w.stop()
		w = start(t, edge.Config{Dir: w.dir, NewIdentity: true})
		if string(w.CA()) != ca {
			t.Fatal("what was there is another one")
		}
		w.stop()
		lose(t, w.dir, "ca.crt")
		w = start(t, edge.Config{Dir: w.dir, NewIdentity: true})
		if string(w.CA()) == ca {
			t.Error("it is the same as before")
		}
		w.wantAudit("edge: identity made anew: edge: 1 sidecars have to join anew")
	})
	t.Run("or nobody knows it", func(t *testing.T) {
		w := start(t, edge.Config{})
		w.sidecar("duka")
		if err := w.Revoke(t.Context(), "asha", "duka"); err != nil {
			t.Fatal(err)
		}
		w.stop()
		lose(t, w.dir, "ca.crt") // also killed between the two, at the first start
		start(t, edge.Config{Dir: w.dir})
	})
}

type noPackets struct{ net.PacketConn }

// sink remembers what it is given, as a sidecar's table would.
type sink struct {
	mu      sync.Mutex
	welcome wire.Welcome
	cursor  wire.Cursor
	got     chan string
}

func (s *sink) Cursor(context.Context) (wire.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor, nil
}

func (s *sink) Welcome(_ context.Context, w wire.Welcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.welcome = w
	return nil
}

func (s *sink) Apply(_ context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor = cursor
	for _, e := range entries {
		s.got <- e.Ref + " " + string(e.Body)
	}
	return nil
}

func TestASidecarReceivesWhatWasPosted(t *testing.T) {
	w := start(t, edge.Config{})
	w.wantPost(w.callback+"/1", "before", 200)
	s := &sink{got: make(chan string, 10)}
	client := &tunnel.Client{Edge: w.udp, TLS: w.sidecar("duka"), Sink: s}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	if got := <-s.got; got != "1 before" {
		t.Errorf("received %q", got)
	}
	w.wantPost(w.callback+"/2", "after", 200)
	if got := <-s.got; got != "2 after" {
		t.Errorf("received %q", got)
	}
	if s.welcome.Callback != w.callback {
		t.Errorf("the callback base is %q, want %q", s.welcome.Callback, w.callback)
	}
	var list struct{ Links []struct{ Endpoint string } }
	w.admin(http.MethodGet, "/links", "", 200, &list)
	if len(list.Links) != 1 || list.Links[0].Endpoint != "duka" {
		t.Errorf("links: %+v", list)
	}
	cancel()
	<-ended
}

func (w *world) admin(method, at, body string, status int, into any) string {
	w.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.dir, "admin.sock"))
		},
	}}
	// Run may not have come to its socket yet; but it has once it answers callbacks and is ready.
	for {
		response, _ := w.do(http.MethodGet, "http://"+w.http+"/readyz", nil)
		if response.StatusCode == 200 {
			break
		}
	}
	r, err := http.NewRequestWithContext(w.Context(), method, "http://edge"+at, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		w.Errorf("%s %s answers %d %s, %v; want %d", method, at, response.StatusCode, b, err, status)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			w.Errorf("%s %s answers %s: %v", method, at, b, err)
		}
	}
	return string(b)
}

func TestAFolderThatAnybodyMayWriteToIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such bits")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if _, err := edge.Open(t.Context(), edge.Config{Dir: dir, HTTP: tcp, UDP: udp}); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("it was told: %v", err)
	}
}

func TestTheOperatorsSocket(t *testing.T) {
	dir := t.TempDir()
	stale, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close() // and the socket stays, as a kill would leave it

	w := start(t, edge.Config{Dir: dir})
	var made, again edge.Invitation
	w.admin("POST", "/endpoints/kiosk/invite", ``, 201, &made)
	if made.Endpoint != "kiosk" || !made.New || made.Edge != w.udp || time.Until(made.Expires) > time.Hour || time.Until(made.Expires) < 59*time.Minute {
		t.Errorf("made %+v", made)
	}
	w.wantPost(made.Callback, "{}", 200)
	w.admin("POST", "/endpoints/kiosk/invite", `{"edge":"hooks.example.co.ke:443","seconds":60}`, 201, &again)
	if again.New || again.Code == made.Code || again.Callback != made.Callback || again.Edge != "hooks.example.co.ke:443" || time.Until(again.Expires) > time.Minute {
		t.Errorf("again %+v", again)
	}
	w.admin("POST", "/endpoints/kiosk/invite", `{"seconds":604801}`, 400, nil)
	w.admin("POST", "/endpoints/kiosk/invite", `{"seconds":-1}`, 400, nil)
	w.admin("POST", "/endpoints/kiosk/invite", `{"edge":"hooks.example.co.ke"}`, 400, nil)
	w.admin("POST", "/endpoints/not%2Fa%2Fname/invite", ``, 400, nil)
	w.admin("POST", "/endpoints/duka/invite", `{"sceonds":1}`, 400, nil)
	w.admin("DELETE", "/endpoints/kiosk/invite", ``, 200, nil)
	w.admin("DELETE", "/endpoints/kiosk/invite", ``, 404, nil)
	w.admin("DELETE", "/endpoints/kiosk/sidecar", ``, 404, nil)
	var key struct{ Name, URL string }
	w.admin("POST", "/endpoints/kiosk/keys", ``, 201, &key)
	w.wantPost(key.URL, "{}", 200)
	w.admin("POST", "/endpoints/kiosk/keys", `{"name":"key-1"}`, 409, nil)
	w.admin("POST", "/endpoints/nobody/keys", ``, 404, nil)
	w.admin("DELETE", "/endpoints/kiosk/keys/key-1", ``, 200, nil)
	w.wantPost(made.Callback, "{}", 404)
	w.admin("DELETE", "/endpoints/kiosk/keys/key-2", ``, 400, nil)
	var list struct {
		Endpoints []struct {
			Name, Callback string
			Connected      bool
			Head, Acked    uint64
			Keys           []struct{ Name, Kind string }
		}
	}
	text := w.admin("GET", "/endpoints", "", 200, &list)
	if len(list.Endpoints) != 2 || list.Endpoints[1].Name != "kiosk" || list.Endpoints[1].Head != 2 || list.Endpoints[1].Callback != key.URL || len(list.Endpoints[1].Keys) != 2 || list.Endpoints[1].Keys[0].Kind != "notice" {
		t.Errorf("endpoints: %s", text)
	}
	w.stop()
	if _, err := os.Lstat(filepath.Join(dir, "admin.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket after the end: %v", err)
	}
	w.mustNotLog(made.Code, again.Code, path(made.Callback)[3:], path(key.URL)[3:], path(w.callback)[3:])
}

func (w *world) mustNotLog(secrets ...string) {
	w.Helper()
	if w.log.String() == "" {
		w.Error("nothing was logged at all")
	}
	for _, s := range secrets {
		if strings.Contains(w.log.String(), s) {
			w.Errorf("the log holds the secret %s:\n%s", s, w.log.String())
		}
	}
}

func TestNoSecretIsInALog(t *testing.T) {
	w := start(t, edge.Config{Limits: limited})
	key := path(w.callback)[3:]
	for _, body := range []string{"{}", strings.Repeat("x", 3000)} {
		w.post(w.callback+"/"+ref, body)
	}
	w.raw(fmt.Sprintf("POST %s/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path(w.callback), ref, 300<<10, strings.Repeat("x", 300<<10)))
	w.raw(fmt.Sprintf("GET /c/%s HTTP/1.1\r\nHost: x\r\n\r\n", key))
	w.raw(fmt.Sprintf("POST /c/%s HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", key))
	w.stop()
	w.mustNotLog(key, ref)
}

func TestEndpointsAreListedWithTheirAddresses(t *testing.T) {
	w := start(t, edge.Config{})
	if list := w.Endpoints(); len(list) != 1 || !slices.ContainsFunc(list[0].Keys, func(k edge.Key) bool { return k.URL == w.callback }) {
		t.Errorf("endpoints: %+v", list)
	}
}
