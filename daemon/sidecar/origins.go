package sidecar

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Who may call? Three questions, in this order.
//
// Host: a page of anywhere can have its own name point at 127.0.0.1 (DNS rebinding) and is then of the same origin as we
// are. So a sidecar on loopback answers only to loopback's names, and to those that are configured, which no stranger can
// own. One that listens beyond loopback answers to addresses too, which no name can be pointed at, and to its machine's name.
//
// Origin: a browser says which page calls. Ours may, configured ones may, in dev any on loopback may; for others the
// customer's browser is not lent out.
//
// Key: the app's routes are for the app (Authorization: Bearer), a session's are for whoever knows the session.

// originOf gives an origin in the form in which browsers send it.
func originOf(s string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q is not an origin: write scheme and host, as in https://shop.example", s)
	}
	standard := ":80" // which browsers leave out
	if u.Scheme == "https" {
		standard = ":443"
	}
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), standard), nil
}

// loopbackName reports whether a host (without port) can only be this machine.
func loopbackName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// hostname cuts the port off a Host header.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// loopbackOnly reports whether nobody but this machine can reach a listener.
func loopbackOnly(addr net.Addr) bool {
	return addr.Network() == "unix" || loopbackName(hostname(addr.String()))
}

// knownHost checks the Host header.
func (s *Sidecar) knownHost(r *http.Request) bool {
	host := strings.ToLower(strings.TrimSuffix(hostname(r.Host), "."))
	if loopbackName(host) || s.settings.Load().hosts[host] {
		return true
	}
	if s.onLoopback {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || s.machine != "" && (host == s.machine || host == s.machine+".local")
}

// allowedOrigin reports whether a page of this origin may call.
func (s *Sidecar) allowedOrigin(r *http.Request, origin string) bool {
	origin, err := originOf(origin)
	if err != nil {
		return false // "null" too: any page can make itself a frame without an origin
	}
	if s.ownOrigin(r, origin) && s.knownHost(r) || s.settings.Load().origins[origin] {
		return true
	}
	_, host, _ := strings.Cut(origin, "://")
	return s.config.Dev && loopbackName(hostname(host))
}

// ownOrigin reports whether an origin is the address that r was sent to. Where that is spoken to over TLS, a page of the same
// name without it may be of anybody on the way.
func (s *Sidecar) ownOrigin(r *http.Request, origin string) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	return strings.EqualFold(host, r.Host) && (scheme == "https" || !s.secure(r))
}

// checkCaller asks the first two questions.
func (s *Sidecar) checkCaller(r *http.Request) *problem {
	if !s.knownHost(r) {
		return unknownHost()
	}
	return s.checkOrigin(r)
}

func unknownHost() *problem {
	return problemf(http.StatusMisdirectedRequest, "unknown-host", "this sidecar does not answer to that name: use localhost or 127.0.0.1, or add the name to the sidecar's hosts")
}

func (s *Sidecar) checkOrigin(r *http.Request) *problem {
	if origin := r.Header.Get("Origin"); origin != "" && !s.allowedOrigin(r, origin) {
		return problemf(http.StatusForbidden, "forbidden-origin", "pages of this origin may not call: name it in the sidecar's origins")
	}
	return nil
}

// checkKey asks the third question on behalf of the app's routes.
func (s *Sidecar) checkKey(r *http.Request) *problem {
	if s.config.Dev {
		return nil
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Hashed first, so that not even the length shows in the time it takes.
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(s.apiKey))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return problemf(http.StatusUnauthorized, "not-authorised", "this needs the key in %s of the sidecar's data folder, as Authorization: Bearer", apiKey)
	}
	return nil
}

// cors lets pages of allowed origins read the answer.
func (s *Sidecar) cors(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !s.knownHost(r) || !s.allowedOrigin(r, origin) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After")
}

// preflight answers a browser that asks before it calls.
func (s *Sidecar) preflight(w http.ResponseWriter, r *http.Request) {
	if p := s.ask(r, s.checkCaller); p != nil {
		p.write(w)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" { // a page from the internet calls a sidecar in the shop
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
}
