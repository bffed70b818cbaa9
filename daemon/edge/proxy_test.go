package edge_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/wire"
)

// speak writes something before anything else, then a callback, over TLS if the edge has it; and returns the answer.
func (w *world) speak(before []byte, withTLS bool) string {
	w.Helper()
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	c.Write(before)
	if withTLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	io.WriteString(c, w.callbackRequest("1"))
	b, _ := io.ReadAll(c)
	return string(b)
}

func v2(t *testing.T, source, local string) []byte {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", source)
	if err != nil {
		t.Fatal(err)
	}
	b, err := net.ResolveTCPAddr("tcp", "192.0.2.80:443")
	if err != nil {
		t.Fatal(err)
	}
	h := proxyproto.HeaderProxyFromAddrs(2, a, b)
	if local != "" {
		h.Command, h.TransportProtocol = proxyproto.LOCAL, proxyproto.UNSPEC
	}
	out, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestATrustedProxySaysForWhomItSpeaks(t *testing.T) {
	conf, _ := public(t)
	for name, c := range map[string]edge.Config{"TLS": {TLS: conf}, "plain HTTP": {}} {
		t.Run(name, func(t *testing.T) {
			c.Proxies, c.ProxyHeader = prefixes("127.0.0.1/32"), true
			w := start(t, c)
			for _, header := range [][]byte{
				[]byte("PROXY TCP4 196.201.214.207 192.0.2.80 40412 443\r\n"), v2(t, "196.201.214.207:40412", ""), v2(t, "203.0.113.9:40412", ""),
				[]byte("PROXY UNKNOWN\r\n"), v2(t, "203.0.113.9:40412", "a check of its own"),
			} {
				if answer := w.speak(header, c.TLS != nil); !strings.Contains(answer, "Accepted") {
					t.Errorf("after %q a callback is answered %q", header, answer)
				}
			}
			got := ""
			for _, e := range w.stored("duka") {
				got += fmt.Sprintf("%s %v\n", strings.Split(e.Remote, ":")[0], e.Source)
			}
			if want := "196.201.214.207 known\n196.201.214.207 known\n203.0.113.9 unknown\n127.0.0.1 unknown\n127.0.0.1 unknown\n"; got != want {
				t.Errorf("put down as\n%swant\n%s", got, want)
			}
		})
	}
}

func TestAProxyMayNameAnotherProxyOfOurs(t *testing.T) {
	w := start(t, edge.Config{ProxyHeader: true, Proxies: prefixes("127.0.0.1/32", "10.0.0.0/8")})
	forwarded := strings.Replace(w.callbackRequest("1"), "\r\n\r\n", "\r\nX-Forwarded-For: 196.201.214.200, 196.201.213.44\r\n\r\n", 1)
	w.raw("PROXY TCP4 10.0.0.7 192.0.2.80 40412 443\r\n" + forwarded)
	w.raw("PROXY TCP4 203.0.113.9 192.0.2.80 40412 443\r\n" + forwarded)
	entries := w.stored("duka")
	if len(entries) != 2 || entries[0].Remote != "196.201.213.44" || entries[1].Remote != "203.0.113.9:40412" {
		t.Errorf("stored %+v", entries)
	}
}

func TestAProxyHeaderFromAStrangerIsNotBelieved(t *testing.T) {
	conf, _ := public(t)
	for name, c := range map[string]edge.Config{
		"who is no proxy":                       {ProxyHeader: true, Proxies: prefixes("192.0.2.0/24")},
		"where there is TLS":                    {ProxyHeader: true, Proxies: prefixes("192.0.2.0/24"), TLS: conf},
		"where it is not asked for":             {Proxies: prefixes("127.0.0.1/32")},
		"where it is not asked for, before TLS": {Proxies: prefixes("127.0.0.1/32"), TLS: conf},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, c)
			for _, header := range [][]byte{[]byte("PROXY TCP4 196.201.214.207 192.0.2.80 40412 443\r\n"), v2(t, "196.201.214.207:40412", "")} {
				if answer := w.speak(header, c.TLS != nil); strings.Contains(answer, "Accepted") {
					t.Errorf("after %q a callback is answered %q", header, answer)
				}
			}
			if answer := w.speak(nil, c.TLS != nil); !strings.Contains(answer, "Accepted") {
				t.Errorf("without a header a callback is answered %q", answer)
			}
			if entries := w.stored("duka"); len(entries) != 1 || !strings.HasPrefix(entries[0].Remote, "127.0.0.1:") || entries[0].Source != wire.SourceUnknown {
				t.Errorf("stored %+v", entries)
			}
		})
	}
}

func TestAProxyThatHasToSayForWhomItSpeaksAndDoesNotIsSentAway(t *testing.T) {
	w := start(t, edge.Config{ProxyHeader: true, Proxies: prefixes("127.0.0.1/32")})
	for _, before := range []string{"", "PROXY TCP4 196.201.214.207 192.0.2.80 40412\r\n", "PROXY TCP4 safaricom 192.0.2.80 40412 443\r\n", "PROXY " + strings.Repeat("x", 1000)} {
		if answer := w.speak([]byte(before), false); answer != "" {
			t.Errorf("after %.50q a callback is answered %q", before, answer)
		}
	}
	if entries := w.stored("duka"); len(entries) != 0 {
		t.Errorf("stored %+v", entries)
	}
	if log := w.log.String(); !strings.Contains(log, "a proxy did not say for whom it speaks") {
		t.Errorf("the operator is not told: %s", log)
	}
}
