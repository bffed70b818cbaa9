package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
)

// pair is a certificate and its key, in PEM.
type pair struct{ certificate, key []byte }

func newPair(t *testing.T, serial int64, until time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{publicName}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}
}

// onConn posts a callback on a connection that is there.
func (w *world) onConn(c net.Conn) string {
	w.Helper()
	io.WriteString(c, w.callbackRequest("1"))
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestACertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inYears := time.Now().Add(1000 * time.Hour)
	first, second, ended := newPair(t, 1, inYears), newPair(t, 22, inYears), newPair(t, 3, time.Now().Add(-time.Hour))
	write(certificate, first.certificate)
	write(key, first.key)
	w := start(t, edge.Config{CertificateFile: certificate, KeyFile: key})
	if !strings.HasPrefix(w.callback, "https://") {
		t.Errorf("with a certificate the address is %s", w.callback)
	}
	dial := func() *tls.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", w.http, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := func(serial int64, after string) {
		t.Helper()
		w.Look()
		c := dial()
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != serial {
			t.Errorf("after %s the certificate is number %d, want %d", after, got, serial)
		}
	}
	old := dial()
	defer old.Close()
	want(1, "the start")
	write(certificate, second.certificate)
	want(1, "half of a pair was written")
	if log := w.log.String(); !strings.Contains(log, "the one in use stays") {
		t.Errorf("nobody is told: %s", log)
	}
	for range 5 {
		w.Look()
	}
	if n := strings.Count(w.log.String(), "the one in use stays"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	write(key, second.key[:len(second.key)/2])
	want(1, "half of a file was written")
	write(key, second.key)
	want(22, "the pair was whole")
	os.Remove(key)
	want(22, "the key was removed")
	write(key, []byte("no key"))
	want(22, "the key was something else")
	write(certificate, ended.certificate)
	write(key, ended.key)
	want(22, "one that has ended was written")
	write(certificate, first.certificate)
	write(key, first.key)
	want(1, "the first was put back")
	if answer := w.onConn(old); !strings.Contains(answer, "Accepted") {
		t.Errorf("a connection from before is answered %q", answer)
	}
	if log := w.log.String(); strings.Contains(log, "PRIVATE") {
		t.Error("the log has a key")
	}
}

func TestACertificateThatEndsSoonIsTold(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	p := newPair(t, 1, time.Now().Add(24*time.Hour))
	os.WriteFile(certificate, p.certificate, 0o600)
	os.WriteFile(key, p.key, 0o600)
	w := start(t, edge.Config{CertificateFile: certificate, KeyFile: key})
	w.Look()
	w.Look()
	if n := strings.Count(w.log.String(), "the certificate ends"); n != 1 {
		t.Errorf("told %d times, want once a day", n)
	}
	if strings.Contains(w.log.String(), "no secret") {
		t.Error("a key of 0600 is said to be no secret")
	}
	w.stop()
	if runtime.GOOS == "windows" {
		return
	}
	os.Chmod(key, 0o644)
	w = start(t, edge.Config{CertificateFile: certificate, KeyFile: key})
	if log := w.log.String(); !strings.Contains(log, "the key of the public certificate is no secret") || !strings.Contains(log, "chmod 600") {
		t.Errorf("others can read the key, and nobody is told: %s", log)
	}
}

func TestAnEdgeDoesNotOpenWithoutTheCertificateItWasGiven(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	a, b := newPair(t, 1, time.Now().Add(time.Hour)), newPair(t, 2, time.Now().Add(time.Hour))
	os.WriteFile(certificate, a.certificate, 0o600)
	os.WriteFile(key, b.key, 0o600)
	for _, c := range []edge.Config{
		{CertificateFile: certificate, KeyFile: key}, {CertificateFile: certificate}, {CertificateFile: filepath.Join(dir, "none"), KeyFile: key},
	} {
		c.Dir, c.HTTP, c.UDP = t.TempDir(), newPipes(), noPackets{}
		if e, err := edge.Open(t.Context(), c); err == nil {
			e.Close()
			t.Errorf("it opens with %q and %q", c.CertificateFile, c.KeyFile)
		}
	}
}

func TestThePublicNameSpeaksNoTLSOlderThan12(t *testing.T) {
	for _, least := range []uint16{0, tls.VersionTLS10} { // whatever the certificate came with
		conf, trust := public(t)
		conf.MinVersion = least
		w := start(t, edge.Config{TLS: conf})
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, RootCAs: trust, MinVersion: tls.VersionTLS10, MaxVersion: version})
			if err == nil {
				c.Close()
			}
			if (err == nil) != want {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
		}
	}
}
