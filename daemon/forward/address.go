package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Address checks where callbacks are to go. What customers paid leaves this machine only over TLS, unless somebody says that
// plain HTTP will do there; and it does not go back to where it came from.
func Address(text string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("forward: write the app's address with scheme, host and path, as in http://127.0.0.1:3000/mpesa/callback")
	case u.User != nil:
		return nil, errors.New("forward: the app's address holds a password, which others would see: the app knows its callbacks by their signature")
	case u.Fragment != "":
		return nil, errors.New("forward: the app's address has a fragment (#), which no server sees")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	for _, theirs := range []string{"safaricom.co.ke", "safaricom.com", "safaricom.et", "m-pesa.com", "mpesa.in"} {
		if host == theirs || strings.HasSuffix(host, "."+theirs) {
			return nil, fmt.Errorf("forward: %s is Safaricom's, who has sent these callbacks: write your app's own address", host)
		}
	}
	if u.Scheme == "http" && !loopback(host) && !insecure {
		return nil, fmt.Errorf("forward: %s is another machine, and plain http would show to everybody on the way what customers pay: write https, or set forward-insecure where nobody else is on that network", host)
	}
	return u, nil
}

// Shown is an address as it may be seen: its query may hold what is nobody's business.
func Shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	return u.String()
}

// loopback reports whether a host can only be this machine.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
