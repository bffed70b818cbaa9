package edge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/hodihq/hodi/tunnel/wire"
)

// SourcePolicy is what to think of callbacks from addresses that are not Safaricom's. None is refused: they are answered
// and stored like all others.
type SourcePolicy string

// The policies.
const (
	SourceFlag    SourcePolicy = "flag"    // say so to the sidecar, for whom it is one reason among others
	SourceEnforce SourcePolicy = "enforce" // have the sidecar not believe them: they are suspect, and settle nothing
	SourceOff     SourcePolicy = "off"     // do not judge
)

// safaricom is whom Safaricom says that it posts from, in its Getting Started guide; the lists that integrators have
// published since are the same. It is no more certain than that: two who tried say that the sandbox posts from elsewhere,
// and a third saw it post from among these. Hence to flag is the default, and ranges can be added.
var safaricom = [...]string{
	"196.201.214.200", "196.201.214.206", "196.201.214.207", "196.201.214.208",
	"196.201.213.44", "196.201.213.114",
	"196.201.212.69", "196.201.212.74", "196.201.212.127", "196.201.212.129", "196.201.212.136", "196.201.212.138",
}

// sources judges where callbacks come from.
type sources struct {
	policy  SourcePolicy
	known   map[netip.Addr]bool
	ranges  []netip.Prefix
	proxies []netip.Prefix
}

func newSources(policy SourcePolicy, ranges, proxies []netip.Prefix) (*sources, error) {
	switch policy {
	case "":
		policy = SourceFlag
	case SourceFlag, SourceEnforce, SourceOff:
	default:
		return nil, fmt.Errorf("source is %q: say flag, enforce or off", policy)
	}
	s := &sources{policy: policy, known: make(map[netip.Addr]bool), ranges: ranges, proxies: proxies}
	for _, address := range safaricom {
		s.known[netip.MustParseAddr(address)] = true
	}
	for _, p := range slices.Concat(ranges, proxies) {
		if !p.IsValid() {
			return nil, fmt.Errorf("%v is no range of addresses", p)
		}
	}
	return s, nil
}

// judge says whom we believe to have posted r, and what we think of that. It is whoever is at the other end of the
// connection, unless that is a proxy of ours: then it is whom that one names. Anybody can write an X-Forwarded-For; each
// proxy adds to its end. So it is read from the end, for as long as those who wrote are ours.
func (s *sources) judge(r *http.Request) (remote string, source wire.Source) {
	remote = r.RemoteAddr
	at, ok := addressOf(remote)
	if ok && s.trusts(at) {
		for hop := range hopsBack(r.Header["X-Forwarded-For"]) {
			before, ok := addressOf(hop)
			if !ok { // it says "unknown", or nonsense: what is before it is no better
				break
			}
			if at, remote = before, before.String(); !s.trusts(at) {
				break
			}
		}
	}
	switch {
	case s.policy == SourceOff:
		return remote, wire.SourceUnjudged
	case ok && (s.known[at] || within(s.ranges, at)):
		return remote, wire.SourceKnown
	case s.policy == SourceEnforce:
		return remote, wire.SourceEnforced
	}
	return remote, wire.SourceUnknown
}

// friendly reports whether it is to be expected that a has callbacks.
func (s *sources) friendly(a netip.Addr) bool {
	return s.known[a] || within(s.ranges, a) || s.trusts(a)
}

// trusts reports whether a is a proxy of ours.
func (s *sources) trusts(a netip.Addr) bool { return within(s.proxies, a) }

func within(ranges []netip.Prefix, a netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// hopsBack yields what the lines of an X-Forwarded-For name, the last first.
func hopsBack(lines []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := len(lines) - 1; i >= 0; i-- {
			for rest, more := lines[i], true; more; {
				var hop string
				if at := strings.LastIndexByte(rest, ','); at >= 0 {
					rest, hop = rest[:at], rest[at+1:]
				} else {
					hop, more = rest, false
				}
				if !yield(strings.TrimSpace(hop)) {
					return
				}
			}
		}
	}
}

// addressOf reads an address that may have a port: 192.0.2.1, 192.0.2.1:443, 2001:db8::1, [2001:db8::1], [2001:db8::1]:443.
func addressOf(s string) (netip.Addr, bool) {
	host := s
	if h, _, err := net.SplitHostPort(s); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	a, err := netip.ParseAddr(host)
	return a.Unmap().WithZone(""), err == nil
}
