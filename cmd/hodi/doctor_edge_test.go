package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/internal/loopback"
)

// publish writes a certificate for a name, and the authority that signed it, into a folder.
func publish(t *testing.T, dir, name string, ends time.Time) {
	t.Helper()
	write := func(file, kind string, der ...[]byte) {
		t.Helper()
		var text []byte
		for _, b := range der {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-9 * 24 * time.Hour), NotAfter: now.Add(99 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ends, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("authority.pem", "CERTIFICATE", root)
	write("chain.pem", "CERTIFICATE", der)
	write("chain.key", "PRIVATE KEY", private)
}

func TestTheDoctorLooksAtAnEdgeFromInsideAndByItsPublicName(t *testing.T) {
	t.Parallel()
	p := &ill{pair: &pair{T: t, dir: t.TempDir()}}
	publish(t, p.dir, "localhost", time.Now().Add(60*24*time.Hour))
	tcp, udp := loopback.Address(t), loopback.Address(t)
	_, port, _ := net.SplitHostPort(tcp)
	p.write("hodi.toml", `
[edge]
data = "edge"
listen = "`+tcp+`"
tunnel-listen = "`+udp+`"
public-url = "https://localhost:`+port+`"
certificate-file = "chain.pem"
key-file = "chain.key"
`)
	p.env = []string{"SSL_CERT_FILE=" + filepath.Join(p.dir, "authority.pem"), "SSL_CERT_DIR=" + p.dir}
	start := func() *daemon {
		d := startDaemon(t, p.dir, "edge")
		d.says("sidecars")
		return d
	}
	edge := start()
	found := p.finds(true, nil, "settings: ok hodi.toml", "edge: ok runs; 0 of 0 shops", "TCP port: ok this edge answers", "UDP port: ok this edge answers", "name: ok this machine",
		"public TCP: ok leads to this edge", "public UDP: ok leads to this edge", "certificate: ok good for localhost", "permissions: ok", "database: ok")
	for _, name := range []string{"clock", "UDP buffers", "disk"} {
		if f := found[name]; f.Verdict == doctor.Fail || f.Verdict == "" {
			t.Errorf("%+v", f)
		}
	}

	p.reads()

	// The name leads to another machine; and the certificate is not for it.
	p.finds(false, []string{"edge", "--public-url", "https://127.0.0.3:" + port}, "name: warn A record", "public TCP: warn from another network", "public UDP: warn a shop that has joined", "certificate: fail is for localhost, and not for 127.0.0.3")

	// Another edge's port; a certificate that nobody knows; open files.
	other := startDaemon(t, p.dir, "edge", "--data", "other", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t), "--certificate-file", "", "--key-file", "")
	p.env = nil
	p.finds(false, []string{"edge", "--listen", other.says("callbacks"), "--tunnel-listen", other.says("sidecars")}, "TCP port: fail something else than this edge answers", "UDP port: fail something else than this edge answers", "public TCP: skip")
	p.finds(false, nil, "certificate: fail no authority that this machine knows")
	edge.end()

	if err := os.Chmod(filepath.Join(p.dir, "edge", "ca.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	socket, err := net.ListenPacket("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	p.finds(false, nil, "edge: warn does not run", "TCP port: fail sudo ss -lnpt", "UDP port: fail sudo ss -lnpu", "public TCP: skip", "permissions: fail chmod 600 edge/ca.key")
}

func TestStatusTellsOfAPublicCertificateThatNobodyRenews(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   time.Duration
		soon bool
	}{{60 * 24 * time.Hour, false}, {3 * 24 * time.Hour, true}} {
		dir := t.TempDir()
		ends := time.Now().Add(c.in)
		publish(t, dir, "localhost", ends)
		startDaemon(t, dir, "edge", "--data", "edge", "--listen", loopback.Address(t), "--tunnel-listen", loopback.Address(t), "--public-url", "https://localhost", "--certificate-file", "chain.pem", "--key-file", "chain.key").says("sidecars")
		out, _ := status(t, dir, "--edge-data", "edge", "--listen", loopback.Address(t), "--data", "none")
		if strings.Contains(out, "public certificate ends on") != c.soon || !strings.Contains(out, "the public one until "+ends.Local().Format(time.DateOnly)) {
			t.Errorf("with a certificate that ends in %v:\n%s", c.in, out)
		}
	}
}

func TestTheDoctorNamesACertificateThatEnds(t *testing.T) {
	t.Parallel()
	p := &ill{pair: &pair{T: t, dir: t.TempDir()}}
	for _, c := range []struct {
		in   time.Duration
		well bool
		want string
	}{{3 * 24 * time.Hour, true, "certificate: warn nobody has renewed it"}, {-time.Hour, false, "certificate: fail it ended on"}} {
		publish(t, p.dir, "localhost", time.Now().Add(c.in))
		p.env = []string{"SSL_CERT_FILE=" + filepath.Join(p.dir, "authority.pem"), "SSL_CERT_DIR=" + p.dir}
		p.finds(c.well, []string{"edge", "--data", "edge", "--listen", loopback.Address(t), "--public-url", "https://localhost", "--certificate-file", "chain.pem", "--key-file", "chain.key"},
			c.want, "TCP port: ok is free", "disk: skip")
	}
}

func TestTheDoctorNamesADatabaseThatANewerHodiHasUsed(t *testing.T) {
	t.Parallel()
	p := &ill{pair: &pair{T: t, dir: t.TempDir()}}
	head := make([]byte, 4096)
	copy(head, "SQLite format 3\x00")
	binary.BigEndian.PutUint32(head[60:], 999) // user_version
	for _, name := range []string{"sidecar.db", "edge.db"} {
		p.write(name, string(head))
	}
	for _, part := range []string{"sidecar", "edge"} {
		p.finds(false, []string{part, "--data", "."}, "database: fail a newer hodi has used it")
	}
}
