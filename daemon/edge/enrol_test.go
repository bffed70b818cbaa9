package edge_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

const enoughTime = 5 * time.Minute // for whatever is to succeed

func (w *world) invite(endpoint string, life time.Duration) edge.Invitation {
	w.Helper()
	i, err := w.Invite(w.Context(), "asha", endpoint, "", life)
	if err != nil {
		w.Fatal(err)
	}
	return i
}

// join is what a shop does with a code, in a folder of its own.
func (w *world) join(code string, more ...func(*sidecar.JoinConfig)) (dir string, joined sidecar.Joined, err error) {
	w.Helper()
	c := sidecar.JoinConfig{Dir: w.TempDir(), Code: code}
	for _, m := range more {
		m(&c)
	}
	joined, err = sidecar.Join(w.Context(), c)
	return c.Dir, joined, err
}

func (w *world) mustJoin(endpoint string) (dir string) {
	w.Helper()
	dir, _, err := w.join(w.invite(endpoint, 0).Code)
	if err != nil {
		w.Fatal(err)
	}
	return dir
}

// wantRefused is about one whom the edge refuses, in these words, and what it is to write down of it.
func (w *world) wantRefused(err error, why, subject string) {
	w.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		w.Errorf("the error is %v, want %q", err, why)
	}
	line := "127.0.0.1: connection refused: " + subject + ": "
	w.eventually("the audit to say "+line, func() bool { // it does so when the sidecar has been told
		return slices.ContainsFunc(w.audited(), func(l string) bool { return strings.HasPrefix(l, line) })
	})
}

// identityOf is what a shop that has joined shows to its edge.
func identityOf(t *testing.T, dir string) *tls.Config {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ CA, Certificate, Key string }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(file.Certificate), []byte(file.Key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(file.CA))
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// link runs a sidecar's end of a link until stop.
func (w *world) link(conf *tls.Config, more ...func(*tunnel.Client)) (c *tunnel.Client, s *sink, stop func()) {
	w.Helper()
	s = &sink{got: make(chan string, 10_000)}
	c = &tunnel.Client{Edge: w.udp, TLS: conf, Sink: s, Instance: [16]byte{1}}
	for _, m := range more {
		m(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("run: %v", err)
		}
	})
	w.Cleanup(stop)
	return c, s, stop
}

func (w *world) eventually(what string, done func() bool) {
	w.Helper()
	for end := time.Now().Add(enoughTime); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("waited in vain for %s\n%s", what, w.log)
		}
	}
}

func TestAShopJoinsWithACodeAndIsThenTheEndpoint(t *testing.T) {
	w := start(t, edge.Config{})
	i := w.invite("kiosk", 0)
	if !i.New || i.Edge != w.udp || strings.ContainsAny(i.Code, "ILOU \n") {
		t.Errorf("the invitation is %+v", i)
	}
	dir, joined, err := w.join("  " + strings.ToLower(strings.ReplaceAll(i.Code, "-", " ")) + "\n") // as a person copies it
	if err != nil {
		t.Fatal(err)
	}
	if joined.Endpoint != "kiosk" || joined.Callback != i.Callback || joined.Edge != w.udp || time.Until(joined.Expires) < 89*24*time.Hour {
		t.Errorf("joined %+v", joined)
	}
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(filepath.Join(dir, "identity.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the identity's file: %v, %v", info, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "join.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key for joining is still there: %v", err)
	}
	_, s, _ := w.link(identityOf(t, dir))
	w.wantPost(i.Callback+"/1", "{}", 200)
	if got := <-s.got; got != "1 {}" {
		t.Errorf("received %q", got)
	}
	for _, line := range []string{"asha: endpoint added: kiosk", "asha: invite made: kiosk", "127.0.0.1:", "127.0.0.1:"} {
		w.wantAudit(line)
	}
	w.mustNotLog(i.Code)
	if _, err := sidecar.Join(t.Context(), sidecar.JoinConfig{Dir: dir, Code: w.invite("kiosk", 0).Code}); !errors.Is(err, sidecar.ErrJoined) {
		t.Errorf("a sidecar that has joined joins again: %v", err)
	}
}

func TestAJoinCodeIsGoodOnce(t *testing.T) {
	w := start(t, edge.Config{})
	i := w.invite("kiosk", 0)
	code, err := enrol.ParseCode(i.Code)
	if err != nil {
		t.Fatal(err)
	}
	_, request := newRequest(t, nil)
	ask := func(request []byte) error {
		c := &tunnel.Client{Edge: code.Edge}
		_, _, err := c.Join(t.Context(), code.Pin, &wire.Join{Version: wire.Version, Secret: code.Secret, Request: request})
		return err
	}
	if err := ask(request); err != nil {
		t.Fatal(err)
	}
	if err := ask(request); err != nil {
		t.Errorf("who did not hear the answer asks again, with the same key: %v", err)
	}
	_, other := newRequest(t, nil)
	w.wantRefused(ask(other), "this join code was used already", "kiosk")
	_, _, err = w.join(i.Code)
	w.wantRefused(err, "this join code was used already", "kiosk")
}

func TestAJoinCodeThatIsNotGoodAnyMoreOpensNothing(t *testing.T) {
	w := start(t, edge.Config{})
	expired := w.invite("expired", time.Nanosecond)
	time.Sleep(2 * time.Millisecond) // a code is good to the millisecond
	_, _, err := w.join(expired.Code)
	w.wantRefused(err, "this join code has expired", "expired")

	revoked := w.invite("revoked", 0)
	if err := w.Uninvite(t.Context(), "asha", "revoked"); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.join(revoked.Code)
	w.wantRefused(err, "this join code was revoked", "revoked")

	replaced := w.invite("replaced", 0)
	w.invite("replaced", 0)
	_, _, err = w.join(replaced.Code)
	w.wantRefused(err, "not known here", "stranger")

	code, err := enrol.ParseCode(w.invite("kiosk", 0).Code)
	if err != nil {
		t.Fatal(err)
	}
	code.Secret[0] ^= 1
	_, _, err = w.join(code.String())
	w.wantRefused(err, "not known here", "stranger")

	for _, e := range w.Endpoints() {
		if !e.Joined.IsZero() {
			t.Errorf("%s has a sidecar", e.Name)
		}
	}
}

func TestWhoStandsBetweenAShopAndItsEdgeLearnsNoSecret(t *testing.T) {
	w, between := start(t, edge.Config{}), start(t, edge.Config{})
	i := w.invite("kiosk", 0)
	for _, address := range []string{between.udp, between.http} {
		join := func(timeout time.Duration) error { // who has met a stranger tries for as long as it may
			_, _, err := w.join(i.Code, func(c *sidecar.JoinConfig) { c.Edge, c.Timeout = address, timeout })
			return err
		}
		const words = "this is not the edge that the join code is of"
		err := join(2 * time.Second)
		if err != nil && !strings.Contains(err.Error(), words) { // so busy a machine has not come to the end of a handshake
			err = join(time.Minute)
		}
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("joined by way of another: %v", err)
		}
	}
	if lines := between.audited(); len(lines) != 1 { // its own endpoint
		t.Errorf("the one in between has heard something:\n%s", strings.Join(lines, "\n"))
	}
	if _, _, err := w.join(i.Code); err != nil {
		t.Errorf("the code is as good as before: %v", err)
	}
}

func TestAShopJoinsWhereUDPIsBlocked(t *testing.T) {
	conf, _ := public(t)
	for name, c := range map[string]edge.Config{"the edge has the public certificate": {TLS: conf}, "a proxy has it": {}} {
		t.Run(name, func(t *testing.T) {
			w := start(t, c)
			dir, joined, err := w.join(w.invite("kiosk", 0).Code, func(c *sidecar.JoinConfig) { c.Edge = w.http }) // the UDP port of this number is not the edge's
			if err != nil || joined.Endpoint != "kiosk" {
				t.Fatalf("joined %+v, %v", joined, err)
			}
			client, _, _ := w.link(identityOf(t, dir), func(c *tunnel.Client) { c.Edge = w.http })
			w.eventually("a link over WebSocket", func() bool { return client.Status().Transport == tunnel.TransportWebSocket })
			if _, err := client.Renew(t.Context(), renewal(t, identityOf(t, dir))); err != nil {
				t.Errorf("renewed over WebSocket: %v", err)
			}
		})
	}
}

func TestARevokedSidecarIsOutAtOnceAndItsStolenCertificateIsWorthNothing(t *testing.T) {
	w := start(t, edge.Config{})
	dir := w.mustJoin("kiosk")
	client, _, _ := w.link(identityOf(t, dir))
	w.eventually("the link", func() bool { return client.Status().Connected })
	if err := w.Revoke(t.Context(), "asha", "kiosk"); err != nil {
		t.Fatal(err)
	}
	w.eventually("its end", func() bool {
		return !client.Status().Connected && strings.Contains(client.Status().LastError, "this sidecar was revoked")
	})
	thief, _, _ := w.link(identityOf(t, dir), func(c *tunnel.Client) { c.Instance = [16]byte{2} })
	w.eventually("the thief to be refused", func() bool { return strings.Contains(thief.Status().LastError, "this sidecar was revoked") })
	_, err := thief.Renew(t.Context(), renewal(t, identityOf(t, dir)))
	w.wantRefused(err, "this sidecar was revoked", "kiosk")
	w.wantAudit("asha: sidecar revoked: kiosk")

	// It stays so over a restart, and over the loss of the database.
	w.stop()
	for _, file := range []string{"edge.db", "edge.db-wal", "edge.db-shm"} {
		os.Remove(filepath.Join(w.dir, file))
	}
	again := start(t, edge.Config{Dir: w.dir})
	thief, _, _ = again.link(identityOf(t, dir))
	again.eventually("the thief to be refused", func() bool { return strings.Contains(thief.Status().LastError, "this sidecar was revoked") })

	// The endpoint is there for who joins next; then the stolen certificate is that of another machine.
	client, _, _ = again.link(identityOf(t, again.mustJoin("kiosk")))
	again.eventually("the link of the machine that joined next", func() bool { return client.Status().Connected })
	again.eventually("the thief to be told so", func() bool { return strings.Contains(thief.Status().LastError, "another machine has joined") })
}

// Who takes a machine may find the code on it too, and it is good for days, if somebody wanted that: to the same key the edge
// repeats its answer. That must not take back what an operator did.
func TestARevokedSidecarDoesNotComeBackWithTheCodeThatItUsed(t *testing.T) {
	w := start(t, edge.Config{})
	i := w.invite("kiosk", 24*time.Hour)
	dir, _, err := w.join(i.Code)
	if err != nil {
		t.Fatal(err)
	}
	code, err := enrol.ParseCode(i.Code)
	if err != nil {
		t.Fatal(err)
	}
	again := func(code enrol.Code) error {
		_, _, err := (&tunnel.Client{Edge: code.Edge}).Join(t.Context(), code.Pin, &wire.Join{Version: wire.Version, Secret: code.Secret, Request: renewal(t, identityOf(t, dir)).Request})
		return err
	}
	lines := len(w.audited())
	for range 3 {
		if err := again(code); err != nil {
			t.Fatal(err)
		}
	}
	if more := w.audited()[lines:]; len(more) != 0 {
		t.Errorf("who asks again and again fills the audit: %q", more)
	}
	if err := w.Revoke(t.Context(), "asha", "kiosk"); err != nil {
		t.Fatal(err)
	}
	w.wantRefused(again(code), "key was revoked", "kiosk")
	next, err := enrol.ParseCode(w.invite("kiosk", 0).Code) // nor with a code that is meant for another machine
	if err != nil {
		t.Fatal(err)
	}
	w.wantRefused(again(next), "key was revoked", "kiosk")
	thief, _, _ := w.link(identityOf(t, dir))
	w.eventually("the thief to be refused", func() bool { return strings.Contains(thief.Status().LastError, "this sidecar was revoked") })
}

// A sidecar that was stopped between the two leaves the key that it joined with beside its identity. The next time it joins, it
// makes another.
func TestAKeyThatWasUsedIsNotJoinedWithAgain(t *testing.T) {
	w := start(t, edge.Config{})
	dir := w.mustJoin("kiosk")
	var file struct{ Key string }
	b, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "join.key"), []byte(file.Key), 0o600)
	}
	if err == nil {
		err = w.Revoke(t.Context(), "asha", "kiosk")
	}
	if err != nil {
		t.Fatal(err)
	}
	code := w.invite("kiosk", 0).Code
	if _, _, err := w.join(code, func(c *sidecar.JoinConfig) { c.Dir, c.Replace = dir, true }); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "identity.json")); err != nil || strings.Contains(string(b), strings.Split(file.Key, "\n")[1]) {
		t.Errorf("it has the same key as before: %v", err)
	}
	client, _, _ := w.link(identityOf(t, dir))
	w.eventually("the link", func() bool { return client.Status().Connected })
}

func TestAnExpiredCertificateIsForRenewingAndAfterNinetyDaysForNothing(t *testing.T) {
	const day = 24 * time.Hour
	w := start(t, edge.Config{})
	for _, c := range []struct {
		name           string
		age            time.Duration
		linked, renews bool
	}{
		{"fresh", day, true, true},
		{"nearly-expired", 89 * day, true, true},
		{"expired", 91 * day, false, true},
		{"expired-89-days-ago", 179 * day, false, true},
		{"expired-91-days-ago", 181 * day, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, request := newRequest(t, nil)
			issued, err := w.AdmitAt(t.Context(), c.name, request, time.Now().Add(-c.age))
			if err != nil {
				t.Fatal(err)
			}
			conf := &tls.Config{RootCAs: w.private(), Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}}
			told := make(chan struct{}, 100)
			client, _, stop := w.link(conf, func(c *tunnel.Client) { c.Expired = func() { told <- struct{}{} } })
			switch {
			case c.linked:
				w.eventually("the link", func() bool { return client.Status().Connected })
			case c.renews:
				select {
				case <-told:
				case <-time.After(enoughTime):
					t.Fatal("nobody is told that it has expired")
				}
			default:
				w.eventually("the refusal", func() bool { return strings.Contains(client.Status().LastError, "has to join anew") })
			}
			stop()
			renewed, err := client.Renew(t.Context(), renewal(t, conf))
			if !c.renews {
				w.wantRefused(err, "has to join anew", c.name)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			conf = conf.Clone()
			conf.Certificates = []tls.Certificate{{Certificate: [][]byte{renewed.Certificate}, PrivateKey: key}}
			client, _, _ = w.link(conf)
			w.eventually("a link with the new certificate", func() bool { return client.Status().Connected })
		})
	}
}

func TestASidecarRenewsByItselfBeforeItsCertificateEndsAndAfter(t *testing.T) {
	const day = 24 * time.Hour
	for _, age := range []time.Duration{61 * day, 100 * day} {
		t.Run(fmt.Sprint(int(age/day), " days old"), func(t *testing.T) {
			w := start(t, edge.Config{})
			dir := t.TempDir()
			_, err := sidecar.Adopt(dir, w.udp, w.CA(), func(request []byte) (*wire.Issued, error) {
				return w.AdmitAt(t.Context(), "kiosk", request, time.Now().Add(-age))
			})
			if err != nil {
				t.Fatal(err)
			}
			before := identityOf(t, dir).Certificates[0].Leaf
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: dir, Listener: l, Dev: true})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			w.eventually("the next certificate", func() bool {
				return slices.ContainsFunc(w.audited(), func(l string) bool { return strings.HasPrefix(l, "sidecar kiosk: certificate renewed: kiosk") })
			})
			w.eventually("the link", func() bool { return s.Linked() == nil })
			w.eventually("it to be on disk", func() bool { return identityOf(t, dir).Certificates[0].Leaf.NotAfter.After(before.NotAfter) })
			after := identityOf(t, dir).Certificates[0].Leaf
			if enrol.DeviceOf(before) != enrol.DeviceOf(after) || enrol.Due(after, time.Now()) {
				t.Errorf("the next certificate is of another key, or due already: it ends %v", after.NotAfter)
			}
			cancel()
			if err := errors.Join(<-ran, s.Close()); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func TestALinkEndsWithTheLastCertificateOfItsSidecar(t *testing.T) {
	inTimeWith(t, edge.Config{}, func(w *world, http *pipes) {
		old := func(endpoint string) *tls.Config { // it ends in half an hour
			key, request := newRequest(w.T, nil)
			issued, err := w.AdmitAt(w.Context(), endpoint, request, time.Now().Add(30*time.Minute-enrol.Life))
			if err != nil {
				w.Fatal(err)
			}
			return &tls.Config{RootCAs: w.private(), Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}}
		}
		told := make(chan struct{}, 1000)
		late, _, stop := w.link(old("late"), overTCP(http, "203.0.113.9:1"), func(c *tunnel.Client) { c.Expired = func() { told <- struct{}{} } })
		defer stop()
		papers := old("renewed")
		renewed, _, stop := w.link(papers, overTCP(http, "203.0.113.8:1"))
		defer stop()
		time.Sleep(20 * time.Minute)
		if !late.Status().Connected || !renewed.Status().Connected || len(told) != 0 {
			w.Fatalf("before that they are %+v, %+v", late.Status(), renewed.Status())
		}
		since := renewed.Status().Since
		if _, err := renewed.Renew(w.Context(), renewal(w.T, papers)); err != nil {
			w.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		if late.Status().Connected || len(told) == 0 || !strings.Contains(late.Status().LastError, "has to be renewed") {
			w.Errorf("the certificate has ended, and the link is %+v; told %d times", late.Status(), len(told))
		}
		if s := renewed.Status(); !s.Connected || !s.Since.Equal(since) {
			w.Errorf("one that renewed in time was not left alone: %+v", s)
		}
	})
}

func TestOneShopsSidecarGetsNothingOfAnothersEndpoint(t *testing.T) {
	w := start(t, edge.Config{})
	duka := identityOf(t, w.mustJoin("duka"))
	w.mustJoin("kiosk")
	client, s, _ := w.link(duka)
	key := duka.Certificates[0].PrivateKey.(crypto.Signer)

	// It asks to be kiosk, with the key that it has, and for another key.
	for _, c := range []struct {
		key  crypto.Signer
		name string
		why  string
	}{{key, "kiosk", "the request is for hodi://endpoint/kiosk"}, {nil, "duka", "another key"}} {
		_, request := newRequest(t, c.key, c.name)
		_, err := client.Renew(t.Context(), &wire.Renew{Version: wire.Version, Request: request})
		w.wantRefused(err, c.why, "duka")
	}
	// It has a code for itself, and asks to be kiosk with that. The code is not used up.
	i := w.invite("duka", 0)
	code, _ := enrol.ParseCode(i.Code)
	_, request := newRequest(t, nil, "kiosk")
	_, _, err := client.Join(t.Context(), code.Pin, &wire.Join{Version: wire.Version, Secret: code.Secret, Request: request})
	w.wantRefused(err, "the request is for hodi://endpoint/kiosk", "duka")

	// And what it says of itself in a certificate of its own making is nothing.
	forger, forged := newRequest(t, nil)
	other := start(t, edge.Config{})
	issued, err := other.Admit(t.Context(), "asha", "kiosk", forged)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: duka.RootCAs, Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: forger}}}
	stranger, _, _ := w.link(conf)
	w.eventually("the forger to be refused", func() bool { return stranger.Status().LastError != "" })
	w.wantPost(w.Endpoints()[1].Keys[0].URL+"/kiosks", "{}", 200)
	w.wantPost(w.Endpoints()[0].Keys[0].URL+"/dukas", "{}", 200)
	if got := <-s.got; got != "dukas {}" {
		t.Errorf("duka received %q", got)
	}
	for _, l := range w.audited() {
		if strings.Contains(l, "certificate renewed") {
			t.Errorf("the audit says %q", l)
		}
	}
}

func TestRenewingWhileCallbacksFlowLosesNothing(t *testing.T) {
	const callbacks, renewals = 400, 8
	w := start(t, edge.Config{})
	conf := identityOf(t, w.mustJoin("duka"))
	client, s, _ := w.link(conf)
	w.eventually("the link", func() bool { return client.Status().Connected })
	var poster sync.WaitGroup
	poster.Go(func() {
		for i := range callbacks {
			w.wantPost(fmt.Sprintf("%s/%d", w.callback, i), "{}", 200)
		}
	})
	for range renewals {
		if _, err := client.Renew(t.Context(), renewal(t, conf)); err != nil {
			t.Error(err)
		}
	}
	poster.Wait()
	for i := range callbacks {
		if got := <-s.got; got != fmt.Sprintf("%d {}", i) {
			t.Fatalf("callback %d is %q", i, got)
		}
	}
	var list struct{ Links []struct{ Generation int } }
	w.admin("GET", "/links", "", 200, &list)
	if len(list.Links) != 1 || list.Links[0].Generation != 1 {
		t.Errorf("the link was not left alone: %+v", list.Links)
	}
}

func TestASidecarWhoseClockIsAtThirtyYearsAgoJoinsAndLinks(t *testing.T) {
	w := start(t, edge.Config{})
	code, err := enrol.ParseCode(w.invite("duka", 0).Code)
	if err != nil {
		t.Fatal(err)
	}
	epoch := time.Unix(0, 0)
	_, request := newRequest(t, nil)
	join := func(clock func() time.Time) error {
		ctx, cancel := context.WithTimeout(t.Context(), enoughTime)
		if clock().Equal(epoch) {
			ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		}
		defer cancel()
		c := &tunnel.Client{Edge: code.Edge, TLS: &tls.Config{Time: clock}}
		_, _, err := c.Join(ctx, code.Pin, &wire.Join{Version: wire.Version, Secret: code.Secret, Request: request})
		return err
	}
	if err := join(func() time.Time { return epoch }); err == nil {
		t.Error("a clock at 1970 is not what this test thinks")
	}
	if err := join(func() time.Time { return code.Made }); err != nil {
		t.Errorf("with the time in the code: %v", err)
	}
	// Its clock stops at what it heard last, for as long as it is off: the edge's next certificates are not of the future.
	leaf, err := w.Certificate(time.Now().AddDate(0, 3, 0))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.CA())
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: wire.ServerName, CurrentTime: code.Made}); err != nil {
		t.Errorf("three months later, to who was off meanwhile: %v", err)
	}
}

// newRequest is a request for a certificate, perhaps in a name, for a key or a new one.
func newRequest(t *testing.T, key crypto.Signer, names ...string) (crypto.Signer, []byte) {
	t.Helper()
	if key == nil {
		var err error
		if key, err = enrol.NewKey(); err != nil {
			t.Fatal(err)
		}
	}
	template := new(x509.CertificateRequest)
	for _, name := range names {
		template.URIs = append(template.URIs, &url.URL{Scheme: "hodi", Host: "endpoint", Path: "/" + name})
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, request
}

func renewal(t *testing.T, conf *tls.Config) *wire.Renew {
	t.Helper()
	_, request := newRequest(t, conf.Certificates[0].PrivateKey.(crypto.Signer))
	return &wire.Renew{Version: wire.Version, Request: request}
}
