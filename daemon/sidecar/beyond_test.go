package sidecar_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
)

// A sidecar beyond loopback: TLS or a word, and names.

// certify writes a certificate of its own signature, and returns who signed it.
func certify(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "shop-pc"}, DNSNames: []string{"shop-pc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"chain.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return pool
}

func TestBeyondLoopbackItTakesTLSOrAWord(t *testing.T) {
	everywhere := func() net.Listener { return publicListener{newPipeListener()} }
	_, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Listener: everywhere()})
	if err == nil || !strings.Contains(err.Error(), "there is no certificate") {
		t.Errorf("without TLS: %v", err)
	}
	s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Listener: everywhere(), PlainHTTP: true})
	if err != nil {
		t.Fatalf("with a word: %v", err)
	}
	_ = s.Close()
	dir := t.TempDir()
	certify(t, dir, 1)
	s, err = sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Listener: everywhere(), CertificateFile: filepath.Join(dir, "chain.pem"), KeyFile: filepath.Join(dir, "key.pem")})
	if err != nil {
		t.Fatalf("with TLS: %v", err)
	}
	_ = s.Close()
}

func TestATillOverTLSHasASecureCookie(t *testing.T) {
	dir := t.TempDir()
	roots := certify(t, dir, 1)
	s := open(t, false, outside, func(c *sidecar.Config) {
		c.CertificateFile, c.KeyFile = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	})
	s.base = "https" + strings.TrimPrefix(s.base, "http")
	transport := s.http.Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	a := s.types(s.invited("till"))
	s.want(a, 201, "")
	if cookie := a.header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-hodi-till=") || !strings.Contains(cookie, "; Secure") {
		t.Errorf("the cookie is %s", cookie)
	}
	cookie := s.cookie(a)
	s.want(s.do("GET", "/payments", "", "Cookie", cookie), 200, "")
	s.socket("/events", "Cookie", cookie, "Origin", s.base).close()
	plain := "http" + strings.TrimPrefix(s.base, "https")
	s.socket("/events", "Cookie", cookie, "Origin", plain).wantClose(4403)
	s.want(s.do("POST", "/sessions/"+strings.Repeat("0", 32)+"/initiate", "{}", "Origin", plain), 403, "forbidden-origin")

	// The certificate is renewed: who comes from now on gets the new one. It is looked for every few seconds.
	transport.TLSClientConfig = &tls.Config{RootCAs: certify(t, dir, 2)}
	for patience := time.Now().Add(2 * time.Minute); ; {
		if a, err := s.try(t.Context(), "GET", "/healthz", ""); err == nil && a.status == 200 {
			break
		} else if time.Now().After(patience) {
			t.Fatalf("the old certificate is still in use: %v", err)
		}
	}
}

func TestBeyondLoopbackItAnswersToAddressesAndItsOwnNames(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, false, outside, func(c *sidecar.Config) {
		c.Listener, c.PlainHTTP, c.Hosts = l, true, []string{"Duka.example"}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.base = "http://127.0.0.1:" + port
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"192.0.2.7:" + port, "[2001:db8::1]:" + port, "localhost", "duka.example", machine, machine + ".local"} {
		s.want(s.do("GET", "/healthz", "", "Host", host), 200, "")
	}
	for _, host := range []string{"evil.example:" + port, "192.0.2.7.evil.example", machine + ".evil.example"} {
		s.want(s.do("GET", "/healthz", "", "Host", host), 421, "unknown-host")
	}
	for _, wrong := range []string{"", "https://duka.example", "duka.example:80", "*.example"} {
		s, err := sidecar.Open(t.Context(), sidecar.Config{Dir: t.TempDir(), Listener: newPipeListener(), Hosts: []string{wrong}})
		if err == nil {
			t.Errorf("%q is taken for a host", wrong)
			_ = s.Close()
		}
	}
}

func TestWhoWasPromptedEnoughIsLeftInPeace(t *testing.T) {
	s := open(t, true, outside, func(c *sidecar.Config) { c.PromptsPerPhone, c.PromptsPerSession = 2, 3 })
	n := 0
	ask := func(session, phone string, headers ...string) answer {
		a := s.do("POST", "/sessions/"+session+"/initiate", `{"phoneNumber":"`+phone+`"}`, headers...)
		if a.status == 200 {
			n++
			s.want(s.do("POST", s.daraja.callback(n), cancelled(n)), 200, "")
		}
		return a
	}
	one, two, three := s.opened("100"), s.opened("100"), s.opened("100")
	s.want(ask(one, phone), 200, "")
	s.want(ask(two, phone), 200, "")
	a := ask(three, phone)
	s.want(a, 429, "too-many-prompts")
	if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), phone) || !strings.Contains(string(a.body), "this phone") {
		t.Errorf("it is told %v %s", a.header, a.body)
	}
	s.want(ask(three, phone, "Authorization", "Bearer 0123"), 429, "too-many-prompts")
	s.want(ask(three, phone, "Authorization", "Bearer "+s.key), 200, "") // the customer has turned to the shop
	s.want(ask(three, phone), 429, "too-many-prompts")
	s.want(ask(s.opened("100"), phone, s.enter(s.invited("Front desk"))...), 200, "")
	for i := range 2 {
		s.want(ask(one, "25470000000"+string(rune('1'+i))), 200, "")
	}
	a = ask(one, "254700000003")
	s.want(a, 429, "too-many-prompts")
	if !strings.Contains(string(a.body), "this checkout") {
		t.Errorf("it is told %s", a.body)
	}
	if n := s.daraja.count(); n != 6 {
		t.Errorf("%d prompts left", n)
	}
}
