package sidecar

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/watch"
)

// What may change while a sidecar runs lies behind one pointer. Whoever needs some of it takes all of it, once, and so has what
// belongs together; nobody changes it there: other settings are put in its place.

// settings are what Config says, made ready for use.
type settings struct {
	config  Config
	clients map[string]*daraja.Client // by the shortcode's name
	tokens  map[account]*daraja.Tokens
	apps    [][]string         // the names of shortcodes that have one consumer key
	base    string             // our own address, without a slash at the end
	origins map[string]bool    // that may call
	hosts   map[string]bool    // that we answer to besides loopback's
	watch   *watch.Watch       // asks Daraja
	forward *forward.Forwarder // to the app; nil: nobody is given callbacks
}

// account is what Daraja knows a program by. It has one owner of its token, for a new one may end the one before.
type account struct{ host, key, secret string }

// shortestKept is how long payments are kept at least.
const shortestKept = 30 * 24 * time.Hour

// newSettings checks what can be checked without the disk. What goes on from the settings before (nil: there are none) is in use
// already: tokens.
func newSettings(c Config, hc *http.Client, before *settings) (*settings, error) {
	set := &settings{config: c, clients: map[string]*daraja.Client{}, tokens: map[account]*daraja.Tokens{}, origins: map[string]bool{}, hosts: map[string]bool{}}
	if c.KeepPayments != 0 && c.KeepPayments < shortestKept {
		return nil, fmt.Errorf("payments are kept for %v at least, and were to be for %v: the edge may show callbacks of weeks ago again", shortestKept, c.KeepPayments)
	}
	if err := set.setNames(); err != nil {
		return nil, err
	}
	if err := set.setShortcodes(hc, before); err != nil {
		return nil, err
	}
	return set, nil
}

// setNames finds out what we are called, and who may call.
func (set *settings) setNames() error {
	c := &set.config
	scheme := "http"
	if c.CertificateFile != "" {
		scheme = "https"
	}
	set.base = scheme + "://" + c.Listener.Addr().String()
	for _, host := range c.Hosts {
		name := strings.ToLower(strings.TrimSuffix(host, "."))
		if name == "" || strings.ContainsAny(name, "/:*@ ") {
			return fmt.Errorf("%q is not a host: write a name such as shop-pc or pay.shop.example, without scheme and port", host)
		}
		set.hosts[name] = true
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("public address %q: write scheme, host and perhaps a path, as in https://pay.shop.example", c.PublicURL)
		}
		set.base = strings.TrimSuffix(c.PublicURL, "/")
		set.hosts[strings.ToLower(u.Hostname())] = true
	}
	for _, o := range c.Origins {
		origin, err := originOf(o)
		if err != nil {
			return err
		}
		set.origins[origin] = true
		u, _ := url.Parse(origin)
		set.hosts[u.Hostname()] = true
	}
	return nil
}

// setShortcodes makes a client of Daraja for each.
func (set *settings) setShortcodes(hc *http.Client, before *settings) error {
	c := &set.config
	app := map[string]int{} // by host and consumer key: Daraja's limits are the app's
	for _, code := range c.Shortcodes {
		if code.Name == "" || set.clients[code.Name] != nil {
			return fmt.Errorf("shortcode %q: every shortcode needs a name of its own", code.Name)
		}
		host := c.DarajaURL
		if host == "" {
			if host = daraja.BaseURL(code.Environment); host == "" {
				return fmt.Errorf("shortcode %q: environment %q: write sandbox or production", code.Name, code.Environment)
			}
		}
		who := account{host, code.ConsumerKey, code.ConsumerSecret}
		if set.tokens[who] == nil && before != nil {
			set.tokens[who] = before.tokens[who]
		}
		if set.tokens[who] == nil {
			set.tokens[who] = daraja.NewTokens(host, code.ConsumerKey, code.ConsumerSecret, hc)
		}
		at, known := app[host+" "+code.ConsumerKey]
		if !known {
			at = len(set.apps)
			app[host+" "+code.ConsumerKey], set.apps = at, append(set.apps, nil)
		}
		set.apps[at] = append(set.apps[at], code.Name)
		set.clients[code.Name] = &daraja.Client{BaseURL: host, Shortcode: code, Tokens: set.tokens[who], HTTP: hc}
	}
	return nil
}

// client finds that of a shortcode by its name, or by its number, which is what messages call it by; "" is the only one there is.
func (set *settings) client(name string) (*daraja.Client, *problem) {
	codes := set.config.Shortcodes
	if name == "" {
		switch len(codes) {
		case 0:
			return nil, problemf(http.StatusBadRequest, "unknown-shortcode", "no shortcode is configured, so nothing can be asked for from here")
		case 1:
			return set.clients[codes[0].Name], nil
		}
		return nil, problemf(http.StatusBadRequest, "unknown-shortcode", "there are several shortcodes: name one")
	}
	if client := set.clients[name]; client != nil {
		return client, nil
	}
	var found *daraja.Client
	for _, code := range codes {
		if code.Number != name {
			continue
		}
		if found != nil {
			return nil, problemf(http.StatusBadRequest, "unknown-shortcode", "several shortcodes have that number: give the name of one")
		}
		found = set.clients[code.Name]
	}
	if found == nil {
		return nil, problemf(http.StatusBadRequest, "unknown-shortcode", "no shortcode of that name is configured")
	}
	return found, nil
}

// live reports whether the app's callbacks may be about real money: unless all shortcodes are known to be Daraja's sandbox.
func (set *settings) live() bool {
	real := func(c daraja.Shortcode) bool { return c.Environment != daraja.EnvironmentSandbox }
	codes := set.config.Shortcodes
	return !set.config.Dev && (len(codes) == 0 || slices.ContainsFunc(codes, real))
}

// newWatch is what asks Daraja by these settings.
func (s *Sidecar) newWatch(set *settings) *watch.Watch {
	return &watch.Watch{
		Table: s.table, Apps: set.apps, PerMinute: set.config.QueriesPerMinute, Logger: s.log, Heard: s.tally.asked,
		Client: func(name string) *daraja.Client { return s.settings.Load().clients[name] },
	}
}
