package edge_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

const publicName = "hooks.shop.example"

// public is what TLS is with a certificate for publicName, and who trusts it.
func public(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: publicName}, DNSNames: []string{publicName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"},
	}, pool
}

// private is who trusts the edge's own authority.
func (w *world) private() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.CA())
	return pool
}

// ask sends one request under a server name, in HTTP/1.1, and returns the whole answer.
func (w *world) ask(name string, trust *x509.CertPool, request string) string {
	w.Helper()
	return w.askAs(name, &tls.Config{RootCAs: trust}, request)
}

func (w *world) askAs(name string, who *tls.Config, request string) string {
	w.Helper()
	who = who.Clone()
	who.ServerName = name
	c, err := tls.Dial("tcp", w.http, who)
	if err != nil {
		w.Fatalf("TLS with the name %q: %v", name, err)
	}
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != name {
		w.Errorf("asked for %q, got a certificate for %q", name, got)
	}
	io.WriteString(c, request)
	b, _ := io.ReadAll(c)
	return string(b)
}

func (w *world) callbackRequest(ref string) string {
	return fmt.Sprintf("POST %s/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", path(w.callback), ref, publicName)
}

const upgrade = "GET /tunnel HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"

func TestTheTwoNamesOfThePortAreTwoWorlds(t *testing.T) {
	conf, trust := public(t)
	w := start(t, edge.Config{TLS: conf})
	if answer := w.ask(publicName, trust, w.callbackRequest("1")); !strings.Contains(answer, "Accepted") {
		t.Errorf("a callback to the public name is answered %q", answer)
	}
	closing := strings.Replace(upgrade, "Connection: Upgrade", "Connection: Upgrade, close", 1)
	// Whatever it says its host is: the name in TLS decides.
	for _, host := range []string{publicName, wire.ServerName} {
		if answer := w.ask(publicName, trust, fmt.Sprintf(closing, host)); !strings.HasPrefix(answer, "HTTP/1.1 404") {
			t.Errorf("the tunnel is at the public name, with the host %s: %q", host, answer)
		}
	}
	if answer := w.ask(wire.ServerName, w.private(), w.callbackRequest("2")); answer != "" {
		t.Errorf("who has no certificate is answered %q at the tunnel's name", answer)
	}
	duka := w.sidecar("duka")
	if answer := w.askAs(wire.ServerName, duka, w.callbackRequest("2")); !strings.HasPrefix(answer, "HTTP/1.1 404") {
		t.Errorf("a callback to the tunnel's name is answered %q", answer)
	}
	for _, at := range []string{"/healthz", "/", "/tunnel/", "/c/"} {
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", at, publicName)
		if answer := w.askAs(wire.ServerName, duka, request); !strings.HasPrefix(answer, "HTTP/1.1 404") {
			t.Errorf("the tunnel's name has something at %s: %q", at, answer)
		}
	}
	if answer := w.askAs(wire.ServerName, duka, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 426") {
		t.Errorf("without an upgrade the tunnel answers %q", answer)
	}
	// With no name at all, it is a poster's.
	c, err := tls.Dial("tcp", w.http, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != publicName {
		t.Errorf("with no name in TLS the certificate is for %s", got)
	}
	c.Close()
	if entries := w.stored("duka"); len(entries) != 1 || entries[0].Ref != "1" {
		t.Errorf("stored %d entries, want the one to the public name", len(entries))
	}
}

func TestTheTunnelsNameSpeaksOnlyTheNewestTLS(t *testing.T) {
	conf, _ := public(t)
	w := start(t, edge.Config{TLS: conf})
	_, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: wire.ServerName, RootCAs: w.private(), MaxVersion: tls.VersionTLS12})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2 to the tunnel: %v", err)
	}
}

func TestSafaricomMaySpeakHTTP2(t *testing.T) {
	conf, trust := public(t)
	w := start(t, edge.Config{TLS: conf, PublicURL: "https://" + publicName})
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trust},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.http)
		},
	}}
	defer client.CloseIdleConnections()
	for range 3 {
		response, err := client.Post(w.callback+"/1", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 || response.ProtoMajor != 2 {
			t.Errorf("answered %s in %s", response.Status, response.Proto)
		}
	}
}

func TestPlainHTTPOnATLSPortIsToldSo(t *testing.T) {
	conf, _ := public(t)
	w := start(t, edge.Config{TLS: conf})
	if answer := w.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400") || !strings.Contains(answer, "HTTPS") {
		t.Errorf("answered %q", answer)
	}
}

// A port without a public certificate is told from one with it by the first byte of each connection.
func TestASidecarWithoutUDPReceivesWhatWasPosted(t *testing.T) {
	conf, trust := public(t)
	for name, c := range map[string]edge.Config{"beside TLS": {TLS: conf}, "beside plain HTTP": {}} {
		t.Run(name, func(t *testing.T) {
			w := start(t, c)
			post := func(ref string) {
				t.Helper()
				answer := ""
				if c.TLS != nil {
					answer = w.ask(publicName, trust, w.callbackRequest(ref))
				} else {
					answer = w.raw(w.callbackRequest(ref))
				}
				if !strings.Contains(answer, "Accepted") {
					t.Fatalf("a callback is answered %q", answer)
				}
			}
			post("1")
			s := &sink{got: make(chan string, 10)}
			// The UDP port with the number of this TCP port is not the edge's.
			client := &tunnel.Client{Edge: w.http, TLS: w.sidecar("duka"), Sink: s}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- client.Run(ctx) }()
			if got := <-s.got; got != "1 {}" {
				t.Errorf("received %q", got)
			}
			post("2")
			if got := <-s.got; got != "2 {}" {
				t.Errorf("received %q", got)
			}
			if over := client.Status().Transport; over != tunnel.TransportWebSocket {
				t.Errorf("over %s", over)
			}
			cancel()
			<-ended
		})
	}
	t.Run("and nobody else has TLS beside plain HTTP", func(t *testing.T) {
		w := start(t, edge.Config{})
		if _, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, InsecureSkipVerify: true}); err == nil {
			t.Error("a certificate for a name that the edge does not have")
		}
	})
}

func TestThoseWhoStallInTheirHandshakeKeepNobodyWaiting(t *testing.T) {
	conf, trust := public(t)
	w := start(t, edge.Config{TLS: conf})
	hello := clientHello(t)
	var stalled []net.Conn
	for i := range 60 {
		c, err := net.Dial("tcp", w.http)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(hello[:i%3*len(hello)/2]) // nothing, half of it, or all of it and never an answer to the edge's
		stalled = append(stalled, c)
	}
	if answer := w.ask(publicName, trust, w.callbackRequest("1")); !strings.Contains(answer, "Accepted") {
		t.Errorf("a callback is answered %q", answer)
	}
	w.stop()
	for _, c := range stalled { // within the test's time, not theirs
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a stalled one was left: %v", err)
		}
	}
}

// clientHello is the first that a poster says.
func clientHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go tls.Client(here, &tls.Config{ServerName: publicName}).Handshake()
	defer here.Close()
	b := make([]byte, 4096)
	n, err := bufio.NewReaderSize(there, 4096).Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
