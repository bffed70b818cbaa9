package edge_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/wire"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, text := range list {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// from posts a callback that says it was forwarded for somebody.
func (w *world) from(forwarded ...string) {
	w.Helper()
	lines := ""
	for _, f := range forwarded {
		lines += "X-Forwarded-For: " + f + "\r\n"
	}
	answer := w.raw("POST " + path(w.callback) + " HTTP/1.1\r\nHost: x\r\n" + lines + "Content-Length: 2\r\nConnection: close\r\n\r\n{}")
	if !strings.Contains(answer, "Accepted") {
		w.Errorf("a callback forwarded for %q is answered %q", forwarded, answer)
	}
}

func TestACallbackFromElsewhereIsAcceptedAndMarked(t *testing.T) {
	for _, c := range []struct {
		config edge.Config
		want   wire.Source
	}{
		{edge.Config{}, wire.SourceUnknown},
		{edge.Config{Source: edge.SourceFlag}, wire.SourceUnknown},
		{edge.Config{Source: edge.SourceEnforce}, wire.SourceEnforced},
		{edge.Config{Source: edge.SourceOff}, wire.SourceUnjudged},
		{edge.Config{Ranges: prefixes("127.0.0.0/8")}, wire.SourceKnown},
		{edge.Config{Source: edge.SourceEnforce, Ranges: prefixes("192.0.2.0/24", "127.0.0.1/32")}, wire.SourceKnown},
		{edge.Config{Source: edge.SourceOff, Ranges: prefixes("127.0.0.0/8")}, wire.SourceUnjudged},
	} {
		w := start(t, c.config)
		w.from()
		if entries := w.stored("duka"); len(entries) != 1 || entries[0].Source != c.want || !strings.HasPrefix(entries[0].Remote, "127.0.0.1:") {
			t.Errorf("policy %q, ranges %v: stored %+v, want one that is %v", c.config.Source, c.config.Ranges, entries, c.want)
		}
	}
}

func TestWhoIsNotAProxyOfOursIsNotBelievedToForward(t *testing.T) {
	for _, proxies := range [][]netip.Prefix{nil, prefixes("192.0.2.0/24", "2001:db8::/32")} {
		w := start(t, edge.Config{Proxies: proxies})
		w.from("196.201.214.200")
		w.from("196.201.214.200", "192.0.2.1")
		for _, e := range w.stored("duka") {
			if e.Source != wire.SourceUnknown || !strings.HasPrefix(e.Remote, "127.0.0.1:") {
				t.Errorf("a stranger forwards for Safaricom, and is put down as %s, %v", e.Remote, e.Source)
			}
			if !strings.Contains(string(e.Header), "X-Forwarded-For: 196.201.214.200\r\n") {
				t.Error("what he said is not kept")
			}
		}
	}
}

func TestAProxyOfOursIsAskedWhomItForwards(t *testing.T) {
	w := start(t, edge.Config{Proxies: prefixes("127.0.0.1/32", "10.0.0.0/8", "2001:db8:1::/48")})
	cases := []struct {
		forwarded []string
		remote    string
		source    wire.Source
	}{
		{[]string{"196.201.214.200"}, "196.201.214.200", wire.SourceKnown},
		{[]string{"196.201.213.114:40412"}, "196.201.213.114", wire.SourceKnown},
		{[]string{"::ffff:196.201.212.138"}, "196.201.212.138", wire.SourceKnown},
		{[]string{"203.0.113.9"}, "203.0.113.9", wire.SourceUnknown},
		{[]string{"[2001:db8:2::7]:443"}, "2001:db8:2::7", wire.SourceUnknown},
		// The poster wrote the first, our proxy the last.
		{[]string{"196.201.214.200, 203.0.113.9"}, "203.0.113.9", wire.SourceUnknown},
		{[]string{"196.201.214.200", "203.0.113.9"}, "203.0.113.9", wire.SourceUnknown},
		{[]string{"196.201.214.200, 203.0.113.9, 10.0.0.7", "2001:db8:1::2"}, "203.0.113.9", wire.SourceUnknown},
		{[]string{"203.0.113.9,196.201.212.69,10.0.0.7 , 10.1.1.1"}, "196.201.212.69", wire.SourceKnown},
		// Who cannot say for whom speaks for himself.
		{[]string{"196.201.214.200, unknown"}, "127.0.0.1:", wire.SourceUnknown},
		{[]string{"196.201.214.200,, 10.0.0.7"}, "10.0.0.7", wire.SourceUnknown},
		{[]string{"196.201.214.200 203.0.113.9"}, "127.0.0.1:", wire.SourceUnknown},
		{[]string{""}, "127.0.0.1:", wire.SourceUnknown},
		{nil, "127.0.0.1:", wire.SourceUnknown},
		{[]string{"10.0.0.7"}, "10.0.0.7", wire.SourceUnknown},
		{[]string{"fe80::1%" + strings.Repeat("z", 9000)}, "fe80::1", wire.SourceUnknown},
	}
	for _, c := range cases {
		w.from(c.forwarded...)
	}
	entries := w.stored("duka")
	if len(entries) != len(cases) {
		t.Fatalf("%d callbacks are stored, want %d", len(entries), len(cases))
	}
	for i, c := range cases {
		if e := entries[i]; e.Remote != c.remote && !(strings.HasSuffix(c.remote, ":") && strings.HasPrefix(e.Remote, c.remote)) || e.Source != c.source {
			t.Errorf("forwarded for %.100q: put down as %s, %v; want %s, %v", c.forwarded, e.Remote, e.Source, c.remote, c.source)
		}
	}
}

func TestEveryPublishedAddressIsKnownAndItsNeighboursAreNot(t *testing.T) {
	w := start(t, edge.Config{Source: edge.SourceEnforce, Proxies: prefixes("127.0.0.1/32")})
	published := strings.Fields(`196.201.214.200 196.201.214.206 196.201.214.207 196.201.214.208 196.201.213.44 196.201.213.114
		196.201.212.69 196.201.212.74 196.201.212.127 196.201.212.129 196.201.212.136 196.201.212.138`)
	neighbours := strings.Fields("196.201.214.201 196.201.212.128 196.201.212.132 196.201.213.45 1.196.201.214 ::")
	for _, a := range append(published, neighbours...) {
		w.from(a)
	}
	for i, e := range w.stored("duka") {
		want := wire.SourceEnforced
		if i < len(published) {
			want = wire.SourceKnown
		}
		if e.Source != want {
			t.Errorf("%s is %v, want %v", e.Remote, e.Source, want)
		}
	}
}

func TestAnEdgeThatCannotJudgeDoesNotOpen(t *testing.T) {
	for _, c := range []edge.Config{{Source: "block"}, {Ranges: make([]netip.Prefix, 1)}, {Proxies: make([]netip.Prefix, 1)}} {
		c.Dir, c.HTTP, c.UDP = t.TempDir(), newPipes(), noPackets{}
		if e, err := edge.Open(t.Context(), c); err == nil {
			e.Close()
			t.Errorf("opens with the policy %q, ranges %v, proxies %v", c.Source, c.Ranges, c.Proxies)
		}
	}
}
