package daraja

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The environments and the kinds of a Shortcode.
const (
	EnvironmentSandbox    = "sandbox"
	EnvironmentProduction = "production"
	KindPaybill           = "paybill"
	KindTill              = "till"
)

// Credentials are what Safaricom gives a merchant's app. They are never printed, logged or encoded.
type Credentials struct {
	ConsumerKey    string `json:"-"`
	ConsumerSecret string `json:"-"`
	Passkey        string `json:"-"`
}

// Format hides the credentials from every verb.
func (Credentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[credentials]")) }

// LogValue hides the credentials.
func (Credentials) LogValue() slog.Value { return slog.StringValue("[credentials]") }

// Shortcode is one paybill or till of a merchant.
type Shortcode struct {
	Name        string // in hodi.toml
	Environment string // EnvironmentSandbox or EnvironmentProduction
	Kind        string // KindPaybill or KindTill
	Number      string // what customers pay to (PartyB)
	Store       string // the BusinessShortCode of a till: its head office or store number; empty: Number
	Credentials
}

// Format writes the shortcode without its credentials.
func (s Shortcode) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s (%s %s %s)", s.Name, s.Environment, s.Kind, s.Number)
}

// LogValue is the shortcode without its credentials.
func (s Shortcode) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// business is the BusinessShortCode, in whose name a push is made.
func (s Shortcode) business() string {
	if s.Kind == KindTill && s.Store != "" {
		return s.Store
	}
	return s.Number
}

// transaction is the TransactionType. With the wrong one Daraja accepts the push, which then fails silently.
func (s Shortcode) transaction() string {
	if s.Kind == KindTill {
		return "CustomerBuyGoodsOnline"
	}
	return "CustomerPayBillOnline"
}

// password proves the passkey for one moment, which Daraja reads as Nairobi's.
func (s Shortcode) password(now time.Time) (password, timestamp string) {
	timestamp = now.In(Nairobi).Format(timestampForm)
	return base64.StdEncoding.EncodeToString([]byte(s.business() + s.Passkey + timestamp)), timestamp
}

// Client asks Daraja on behalf of one shortcode. Its methods may be called at the same time. It starts no goroutine and
// needs no closing.
type Client struct {
	BaseURL   string // default: the host of the shortcode's environment
	Shortcode Shortcode
	Tokens    *Tokens      // shared by all clients of one consumer key, because a new token may end the old; default: its own
	HTTP      *http.Client // default: NewHTTPClient()

	prepare sync.Once
	api     caller
	tokens  *Tokens
}

// BaseURL is Daraja's address in an environment; "" if there is no such environment.
func BaseURL(environment string) string {
	switch environment {
	case EnvironmentSandbox:
		return "https://sandbox.safaricom.co.ke"
	case EnvironmentProduction:
		return "https://api.safaricom.co.ke"
	}
	return ""
}

// NewHTTPClient makes a client fit for Daraja from a shop: deadlines on everything, the proxy of the environment, no
// redirects, and a connection of its own for every request.
//
// A kept connection would save a handshake a payment. But a request written into one that a bad network has cut is never
// answered, and then nobody knows whether the customer was prompted; a connection that cannot be made is a definite "not
// sent", at once.
func NewHTTPClient() *http.Client {
	return &http.Client{
		CheckRedirect: noRedirect,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 8 * time.Second}).DialContext,
			TLSHandshakeTimeout:    8 * time.Second,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(8)},
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
	}
}

// The time given to whole requests, connecting included. Daraja may take 30 seconds over a push, and giving up on one
// leaves a payment that nobody knows about.
const (
	tokenTime = 20 * time.Second
	pushTime  = 45 * time.Second
	queryTime = 20 * time.Second
)

// init makes what the zero fields stand for, once.
func (c *Client) init() {
	c.prepare.Do(func() {
		base := c.BaseURL
		if base == "" {
			base = BaseURL(c.Shortcode.Environment)
		}
		hc := c.HTTP
		if hc == nil {
			hc = NewHTTPClient()
		}
		c.tokens = c.Tokens
		if c.tokens == nil {
			c.tokens = NewTokens(base, c.Shortcode.ConsumerKey, c.Shortcode.ConsumerSecret, hc)
		}
		c.api = newCaller(base, hc)
	})
}

// post asks with a token, and once more with a new one if Daraja does not know the first. The limit is that of one request.
func (c *Client) post(ctx context.Context, op, path string, limit time.Duration, body map[string]string) (reply, error) {
	c.init()
	if c.api.base == "" {
		return reply{}, refusal(op, "there is no environment "+strconv.Quote(c.Shortcode.Environment))
	}
	secrets := append(addressSecrets(body["CallBackURL"]), body["Password"], c.Shortcode.Passkey, c.Shortcode.ConsumerKey, c.Shortcode.ConsumerSecret)
	refusedToken := ""
	for {
		token, err := c.tokens.get(ctx, refusedToken)
		if err != nil {
			return reply{}, err
		}
		r, err := c.api.call(ctx, op, limit, http.MethodPost, path, "Bearer "+token, body, append(secrets, token)...)
		if err != nil || !r.tokenRefused() || refusedToken != "" {
			return r, err
		}
		refusedToken = token
	}
}

// Format hides the tokens and the key they belong to.
func (t *Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[tokens]")) }
