package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/cmd/hodi/doctor"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// shop is the data folder of a sidecar that has joined an edge, and that edge's authority.
type shop struct {
	*testing.T
	dir, edge string
	ca        *x509.Certificate
	key       *ecdsa.PrivateKey
}

// newShop is one whose edge is at a name; the edge is for the test to start.
func newShop(t *testing.T, edge string) *shop {
	t.Helper()
	s := &shop{T: t, dir: filepath.Join(t.TempDir(), "sidecar"), edge: edge}
	s.key = newKey(t)
	s.ca = s.certificate(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Hodi test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}, s.key)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})
	_, err := sidecar.Adopt(s.dir, edge, root, func(request []byte) (*wire.Issued, error) {
		parsed, _, err := enrol.ReadRequest(request, "duka")
		if err != nil {
			return nil, err
		}
		der, err := enrol.Issue(s.ca, s.key, "duka", parsed, time.Now())
		return &wire.Issued{Time: time.Now(), Callback: "https://edge.example/c/duka", Certificate: der}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate is one of the authority, or its own.
func (s *shop) certificate(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	s.Helper()
	c.SerialNumber, c.NotBefore = big.NewInt(1), time.Now().Add(-48*time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(90 * 24 * time.Hour)
	}
	parent := s.ca
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), s.key)
	if err != nil {
		s.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		s.Fatal(err)
	}
	return made
}

// tls is what the edge shows.
func (s *shop) tls() *tls.Config {
	key := newKey(s)
	leaf := s.certificate(&x509.Certificate{DNSNames: []string{wire.ServerName}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, key)
	pool := x509.NewCertPool()
	pool.AddCert(s.ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, s.ca.Raw}, PrivateKey: key}}, ClientCAs: pool}
}

// serve starts the shop's edge: over UDP, over TCP, or both, at addresses that are free.
func (s *shop) serve(udp, tcp string) {
	s.Helper()
	server := &tunnel.Server{History: noHistory{}, TLS: s.tls(), Authorize: func(context.Context, *x509.Certificate) (tunnel.Endpoint, error) {
		return tunnel.Endpoint{Name: "duka"}, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	if udp != "" {
		conn, err := net.ListenPacket("udp", udp)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { conn.Close() })
		serving.Go(func() {
			if err := server.Serve(ctx, conn); err != nil {
				s.Error(err)
			}
		})
	}
	if tcp != "" {
		l, err := net.Listen("tcp", tcp)
		if err != nil {
			s.Fatal(err)
		}
		serving.Go(func() {
			if err := server.ServeWebSocket(ctx, tls.NewListener(l, server.WebSocketTLS())); err != nil {
				s.Error(err)
			}
		})
	}
	s.Cleanup(serving.Wait) // before the socket is closed
	s.Cleanup(cancel)
}

// noHistory is of an edge with which nobody has a link: nobody says Hello to it.
type noHistory struct{ tunnel.History }

// examine is what the doctor says, by the name of the check.
func (s *shop) examine(change func(*doctor.Sidecar)) map[string]doctor.Finding {
	s.Helper()
	d := doctor.Sidecar{
		Dir: s.dir, Listen: loopback.Address(s), Environment: func(string) string { return "" },
		Runs: func(context.Context) (string, error) { return "", errors.New("nobody answers") },
	}
	if change != nil {
		change(&d)
	}
	found := map[string]doctor.Finding{}
	d.Examine(s.Context(), func(f doctor.Finding) {
		found[f.Check] = f
		if (f.Verdict == doctor.Warn || f.Verdict == doctor.Fail) == (f.Do == "") {
			s.Errorf("what there is to do does not fit what there is: %+v", f)
		}
	})
	return found
}

// wanted is a verdict, and words that the finding has to have.
type wanted struct {
	check   string
	verdict doctor.Verdict
	words   []string
}

func want(check string, verdict doctor.Verdict, words ...string) wanted {
	return wanted{check, verdict, words}
}

func (w wanted) fits(f doctor.Finding) bool {
	all := f.Found + " " + f.Do + " " + strings.Join(f.Commands, "\n")
	return f.Verdict == w.verdict && !slices.ContainsFunc(w.words, func(word string) bool { return !strings.Contains(all, word) })
}

// finds examines until all this is said. The doctor gives the other end some seconds, and on a busy machine they may pass.
func (s *shop) finds(change func(*doctor.Sidecar), wants ...wanted) map[string]doctor.Finding {
	s.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		found := s.examine(change)
		i := slices.IndexFunc(wants, func(w wanted) bool { return !w.fits(found[w.check]) })
		if i < 0 {
			return found
		}
		if time.Now().After(deadline) {
			s.Fatalf("want %+v, there is %+v", wants[i], found)
		}
	}
}

// names is a resolver that knows only this.
func names(t *testing.T, known map[string][]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(begun) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		addresses, there := known[q.Question[0].Name]
		if !there {
			m.SetRcode(q, dns.RcodeNameError)
		}
		for _, a := range addresses {
			if q.Question[0].Qtype == dns.TypeA {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(a)})
			}
		}
		w.WriteMsg(m)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-begun
	t.Cleanup(func() {
		server.Shutdown()
		<-ended
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestANameThatLeadsNowhereIsNamed(t *testing.T) {
	t.Parallel()
	s := newShop(t, "hooks.example.co.ke:443")
	nobody := names(t, nil)
	found := s.finds(func(d *doctor.Sidecar) { d.Resolver = nobody },
		want("DNS", doctor.Fail, "no machine of the name hooks.example.co.ke", "getent hosts"),
		want("TCP", doctor.Skip),
		want("QUIC", doctor.Skip, "not known where the edge is"),
		want("link", doctor.Fail),
	)
	if f := found["disk"]; !strings.Contains(f.Found, "a write takes") { // however fast it is
		t.Errorf("what comes after is not looked at: %+v", f)
	}
}

func TestAnAddressThatLeadsNowhereIsNamedAlthoughAnotherAnswers(t *testing.T) {
	t.Parallel()
	at := loopback.Address(t)
	_, port, _ := net.SplitHostPort(at)
	s := newShop(t, "hooks.example.co.ke:"+port)
	s.serve(at, at)
	two := names(t, map[string][]string{"hooks.example.co.ke.": {"127.0.0.1", "127.0.0.3"}})
	s.finds(func(d *doctor.Sidecar) { d.Resolver = two },
		want("DNS", doctor.OK, "127.0.0.1", "127.0.0.3"),
		want("QUIC", doctor.Warn, "at "+at, "but not at 127.0.0.3"),
		want("link", doctor.OK),
	)
}

func TestTheClockIsHeldAgainstTheEdges(t *testing.T) {
	t.Parallel()
	s := newShop(t, loopback.Address(t))
	config := s.tls()
	config.NextProtos, config.ClientAuth = []string{wire.ALPN}, tls.RequireAndVerifyClientCert
	l, err := quic.ListenAddr(s.edge, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() {
		cancel()
		l.Close()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept(ctx)
			if err != nil {
				return
			}
			stream, err := conn.AcceptStream(ctx)
			if err != nil {
				continue
			}
			if _, err := wire.NewReader(stream).Read(); err == nil {
				stream.Write(wire.Append(nil, &wire.Issued{Time: time.Now().Add(3*24*time.Hour + time.Minute)}))
				<-conn.Context().Done()
			}
		}
	})
	s.finds(nil,
		want("QUIC", doctor.OK),
		want("clock", doctor.Fail, "3 days behind the edge's", "timedatectl set-ntp true", "sudo date -u -s"),
	)
}

func TestACertificateThatTheEdgeNeverGaveIsNamed(t *testing.T) {
	t.Parallel()
	at := loopback.Address(t)
	s := newShop(t, at)
	s.serve(at, at)
	given := newShop(t, at) // of another edge; it is made to know this one, which does not know it
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})
	b, err := os.ReadFile(filepath.Join(given.dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var identity map[string]any
	if err := json.Unmarshal(b, &identity); err != nil {
		t.Fatal(err)
	}
	identity["ca"] = string(root)
	if b, err = json.Marshal(identity); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(given.dir, "identity.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	given.finds(nil,
		want("TLS", doctor.Fail, "not one that this edge gave", "hodi join --replace"),
		want("QUIC", doctor.Fail, "not one that this edge gave", "hodi join --replace"),
	)
}

func TestTheLinkGoesThroughAProxyThatIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	const password = "PROXYMARKPROXYMARK"
	at := loopback.Address(t)
	s := newShop(t, at)
	s.serve("", at)
	var asked sync.Map
	right := true
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Host, true)
		if !right {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		to, err := net.Dial("tcp", at)
		if err != nil {
			return
		}
		defer to.Close()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		fmt.Fprint(from, "HTTP/1.1 200 OK\r\n\r\n")
		pass(from, to)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(proxy) })
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { server.Close() })
	through := func(d *doctor.Sidecar) {
		d.Environment = func(name string) string {
			return map[string]string{"HTTPS_PROXY": "http://shop:" + password + "@" + proxy.Addr().String()}[name]
		}
		d.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse(d.Environment("HTTPS_PROXY")) }
	}
	found := s.finds(through,
		want("TCP", doctor.OK, "the proxy "+proxy.Addr().String()),
		want("QUIC", doctor.Warn, "refuses UDP"),
		want("link", doctor.Warn, "through the proxy"),
		want("proxy", doctor.OK, "HTTPS_PROXY", proxy.Addr().String(), "with a name and password"),
	)
	if _, there := asked.Load(at); !there {
		t.Error("the proxy was not asked")
	}
	for _, f := range found {
		if text := fmt.Sprint(f); strings.Contains(text, password) {
			t.Errorf("it prints the password: %s", text)
		}
	}

	right = false
	s.finds(through,
		want("TLS", doctor.Fail, "does not take the name and password", "HTTPS_PROXY"),
		want("link", doctor.Fail),
	)
}

// pass carries bytes both ways until one of them ends.
func pass(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			buffer := make([]byte, 4096)
			for {
				n, err := way[0].Read(buffer)
				if n > 0 {
					if _, err := way[1].Write(buffer[:n]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			a.Close()
			b.Close()
		})
	}
	both.Wait()
}

func TestWhatOthersSayIsCleanedOfCredentialsAndNumbers(t *testing.T) {
	t.Parallel()
	s := newShop(t, loopback.Address(t))
	found := s.finds(func(d *doctor.Sidecar) {
		d.SettingsErr = errors.New("forward: http://app:FORWARDMARK@127.0.0.1/ is no address, says 254708374149")
	},
		want("settings", doctor.Fail, "no address"),
	)
	if text := found["settings"].Found; strings.Contains(text, "FORWARDMARK") || strings.Contains(text, "254708374149") {
		t.Errorf("it says %q", text)
	}
}

func TestWhatAMachineMayLackIsJudged(t *testing.T) {
	t.Parallel()
	is := func(f doctor.Finding, verdict doctor.Verdict, words ...string) {
		t.Helper()
		if w := want("", verdict, words...); !w.fits(f) {
			t.Errorf("want %+v, there is %+v", w, f)
		}
	}

	is(doctor.JudgeBuffers(8<<20, 8<<20), doctor.OK, "8.0 MiB")
	is(doctor.JudgeBuffers(416<<10, 8<<20), doctor.Warn, "416 KiB", "Have the kernel grant more")

	now := time.Now()
	is(doctor.JudgeClock("", now, 20*time.Millisecond, true, true), doctor.OK, "the same as the edge's", "synchronised")
	is(doctor.JudgeClock("", now, 20*time.Millisecond, false, true), doctor.Warn, "nothing synchronises it")
	is(doctor.JudgeClock("", now, -9*time.Second, true, true), doctor.Warn, "9.0 s ahead of the edge's")
	is(doctor.JudgeClock("", now, 5*time.Minute, true, true), doctor.Fail, "5 minutes behind")
	is(doctor.JudgeClock("not known", time.Time{}, 0, false, false), doctor.OK, "not known")

	plenty := room.Room{Free: 100 << 30, Size: 200 << 30}
	is(doctor.JudgeDisk(doctor.Finding{Verdict: doctor.OK}, "d", "The cashier waits.", time.Millisecond, plenty), doctor.OK)
	is(doctor.JudgeDisk(doctor.Finding{Verdict: doctor.OK}, "d", "The cashier waits.", 80*time.Millisecond, plenty), doctor.Warn, "The cashier waits.", "SSD")
	is(doctor.JudgeDisk(doctor.Finding{Verdict: doctor.OK}, "d", "", time.Millisecond, room.Room{Free: 300 << 20, Size: 200 << 30}), doctor.Warn, "little room")
	is(doctor.JudgeDisk(doctor.Finding{Verdict: doctor.OK}, "d", "", time.Millisecond, room.Room{Free: 1 << 20, Size: 200 << 30}), doctor.Fail, "all but full")
}
