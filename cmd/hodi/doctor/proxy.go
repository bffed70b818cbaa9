package doctor

import (
	"fmt"
	"net/url"
	"strings"
)

// Environment is what variables say, as os.Getenv does.
type Environment func(name string) string

// proxyOf names the variable that says which proxy is on the way to the edge, in the order in which they are looked at.
func (e Environment) proxyOf() (name string) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"} {
		if e(name) != "" {
			return name
		}
	}
	return ""
}

func (s Sidecar) proxy(w *way) Finding {
	f := Finding{Check: "proxy", Verdict: OK}
	name := s.Environment.proxyOf()
	if name == "" {
		f.Found = "none is set (HTTPS_PROXY, ALL_PROXY)"
		return f
	}
	by, err := s.Proxy(&url.URL{Scheme: "https", Host: w.web})
	switch {
	case err != nil:
		f.Found = fmt.Sprintf("what %s says is no address of a proxy", name)
		return refused(f, fmt.Sprintf("Write %s=http://HOST:PORT (socks5:// for a SOCKS proxy), or take it away.", name))
	case by == nil:
		f.Found = fmt.Sprintf("%s is set, and NO_PROXY or the edge's address says that the edge is reached without", name)
		return f
	}
	f.Found = fmt.Sprintf("%s: the edge is reached through %s", name, by.Host)
	if by.User != nil {
		f.Found += ", with a name and password"
	}
	f.Found += ", where QUIC does not work"
	if strings.EqualFold(name, "ALL_PROXY") {
		f.Found += "; Daraja is asked without (that is HTTPS_PROXY)"
	}
	f.Found += ". This shell says so: a service of systemd has its own (systemctl edit hodi-sidecar, Environment=" + name + "=...)"
	return f
}
