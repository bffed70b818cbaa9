package edge_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/internal/authority"
	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/internal/scrape"
)

func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", loopback.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// waitFor is for what comes by itself, on a machine however slow.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(enoughTime); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// leaf is what the edge shows for a name; nil: nothing that is trusted.
func (w *world) leaf(name string, trust *x509.CertPool) *x509.Certificate {
	c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: name, RootCAs: trust})
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

func TestAnEdgeGetsItsCertificateByItself(t *testing.T) {
	for _, way := range []string{"on its own port", "on port 80"} {
		t.Run(way, func(t *testing.T) {
			callbacks, tlsPort := listen(t)
			web, httpPort := listen(t)
			acme := &edge.ACME{Domains: []string{publicName, "two.shop.example"}, Agreed: true, Email: "owner@shop.example"}
			if way == "on port 80" {
				acme.HTTP = web
				other, closed := listen(t) // where the authority finds nobody
				other.Close()
				tlsPort = closed
			}
			giver := authority.Start(t, httpPort, tlsPort)
			acme.Directory, acme.Roots = giver.Directory, authority.Pool(giver.Server)
			dir := t.TempDir()
			page := metricsPort(t)
			w := start(t, edge.Config{Dir: dir, HTTP: callbacks, ACME: acme, PublicURL: "https://" + publicName, Metrics: page})
			waitFor(t, "a certificate", func() bool { return w.leaf(publicName, authority.Pool(giver.Root)) != nil })
			waitFor(t, "another", func() bool { return w.leaf("two.shop.example", authority.Pool(giver.Root)) != nil })
			// From an address that has brought no callback few handshakes are taken, and looking has used them up.
			waitFor(t, "a callback to be accepted", func() bool {
				c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, RootCAs: authority.Pool(giver.Root)})
				if err != nil {
					return false
				}
				defer c.Close()
				io.WriteString(c, w.callbackRequest("1"))
				answer, _ := io.ReadAll(c)
				return strings.Contains(string(answer), "Accepted")
			})
			ends := w.leaf(publicName, authority.Pool(giver.Root)).NotAfter
			if other := w.leaf("two.shop.example", authority.Pool(giver.Root)).NotAfter; other.Before(ends) {
				ends = other
			}
			scrape.Of(t, page.Addr().String()).Want(float64(ends.Unix()), "hodi_edge_certificate_end_timestamp_seconds")
			// Who names nobody, or somebody else, gets the first.
			for _, name := range []string{"", "elsewhere.example"} {
				c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: name, InsecureSkipVerify: true})
				if err != nil {
					t.Fatalf("with the name %q: %v", name, err)
				}
				if got := c.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != publicName {
					t.Errorf("with the name %q the certificate is for %q", name, got)
				}
				c.Close()
			}
			// The tunnel's name is ours.
			if w.leaf("tunnel.hodi.internal", w.private()) == nil {
				t.Error("the tunnel has lost its certificate")
			}
			if c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, RootCAs: authority.Pool(giver.Root), NextProtos: []string{"acme-tls/1"}}); err == nil {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("there is something to read for who comes as the authority does")
				}
				c.Close()
			}
			serial := w.leaf(publicName, authority.Pool(giver.Root)).SerialNumber
			w.stop()
			files := 0
			err := filepath.WalkDir(filepath.Join(dir, "acme"), func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := d.Info()
				if runtime.GOOS != "windows" && err == nil && info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s is open to others: %v", path, info.Mode())
				}
				files++
				return err
			})
			if err != nil || files < 5 {
				t.Errorf("%d files are kept: %v", files, err)
			}

			// After a restart it has what it had.
			if callbacks, err = net.Listen("tcp", callbacks.Addr().String()); err != nil {
				t.Fatal(err)
			}
			again := *acme
			again.HTTP = nil
			w = start(t, edge.Config{Dir: dir, HTTP: callbacks, ACME: &again, PublicURL: "https://" + publicName})
			waitFor(t, "the certificate", func() bool { return w.leaf(publicName, authority.Pool(giver.Root)) != nil })
			if now := w.leaf(publicName, authority.Pool(giver.Root)).SerialNumber; now.Cmp(serial) != 0 {
				t.Error("after a restart the certificate is another")
			}
		})
	}
}

func TestACertificateThatEndsIsRenewed(t *testing.T) {
	callbacks, port := listen(t)
	giver := authority.Start(t, 1, port)
	w := start(t, edge.Config{HTTP: callbacks, PublicURL: "https://" + publicName, ACME: edge.Hasty(&edge.ACME{
		Domains: []string{publicName}, Agreed: true, Directory: giver.Directory, Roots: authority.Pool(giver.Server),
	})})
	var first *x509.Certificate
	waitFor(t, "a certificate", func() bool { first = w.leaf(publicName, authority.Pool(giver.Root)); return first != nil })
	c, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, RootCAs: authority.Pool(giver.Root)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, "another", func() bool {
		now := w.leaf(publicName, authority.Pool(giver.Root))
		return now != nil && now.SerialNumber.Cmp(first.SerialNumber) != 0
	})
	if answer := w.onConn(c); !strings.Contains(answer, "Accepted") {
		t.Errorf("a connection that is older than the certificate is answered %q", answer)
	}
}

func TestWithoutACertificateAnEdgeServesItsSidecarsAndSaysWhatIsWrong(t *testing.T) {
	callbacks, _ := listen(t)
	other, closed := listen(t)
	other.Close()
	giver := authority.Start(t, 1, closed) // it looks for us where nobody is
	w := start(t, edge.Config{HTTP: callbacks, PublicURL: "https://" + publicName, ACME: &edge.ACME{
		Domains: []string{publicName}, Agreed: true, Directory: giver.Directory, Roots: authority.Pool(giver.Server),
	}})
	waitFor(t, "an alarm", func() bool { return strings.Contains(w.log.String(), "no certificate: callbacks cannot arrive") })
	if w.leaf("tunnel.hodi.internal", w.private()) == nil {
		t.Error("the tunnel's name has no certificate")
	}
	if _, err := tls.Dial("tcp", w.http, &tls.Config{ServerName: publicName, InsecureSkipVerify: true}); err == nil {
		t.Error("the public name has a certificate")
	}
}

func TestAnEdgeThatMayNotAskForACertificateDoesNotOpen(t *testing.T) {
	conf, _ := public(t)
	for _, c := range []edge.Config{
		{ACME: &edge.ACME{Domains: []string{publicName}}}, {ACME: &edge.ACME{Agreed: true}},
		{ACME: &edge.ACME{Domains: []string{publicName}, Agreed: true}, TLS: conf}, {CertificateFile: "a", KeyFile: "b", TLS: conf},
	} {
		c.Dir, c.HTTP, c.UDP = t.TempDir(), newPipes(), noPackets{}
		if e, err := edge.Open(t.Context(), c); err == nil {
			e.Close()
			t.Errorf("it opens with %+v", c.ACME)
		}
	}
	if _, err := os.Stat("acme"); err == nil {
		t.Error("something was written here")
	}
}
