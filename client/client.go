// Package client is the Go subscriber to a sidecar's events: what became of each payment, as it happens.
//
//	c := client.New("http://127.0.0.1:8787", client.WithKey(key))
//	for m, err := range c.Events(ctx, after) {
//		if err != nil {
//			return err // for good: a wrong key, no such session
//		}
//		book(m)
//		after = m.ID.String() // keep it in the same transaction, and nothing is missed or booked twice
//	}
//
// The sidecar's events are a numbered history, and a subscriber is a reader who remembers where it is. A sequence
// connects again by itself, goes on after the last message it gave, and gives no number twice; so a cut network, a
// restarted sidecar and a slow loop body cost time and nothing else. Only what the sidecar no longer keeps is lost (7 days
// by default), and then the next message has Gap set.
//
// What a payment came to is in Data.Status, not in Type: whoever subscribes to a session after its end is given the result
// as the present state, a PAYMENT_UPDATE.
package client

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Client subscribes to one sidecar. Its methods may be called at the same time. It needs no closing.
type Client struct {
	base string
	key  func(context.Context) (string, error)
	http *http.Client
	log  *slog.Logger
}

// Option changes how a Client asks.
type Option func(*Client)

// WithKey sends an API key. Default: none.
func WithKey(key string) Option {
	return WithKeyFunc(func(context.Context) (string, error) { return key, nil })
}

// WithKeyFunc asks for the API key before each connection, so that it may change while the program runs. An error is logged
// and the connection tried again later.
func WithKeyFunc(key func(context.Context) (string, error)) Option {
	return func(c *Client) { c.key = key }
}

// WithHTTPClient dials with another HTTP client. Default: one with deadlines and the proxy of the environment. It never
// follows a redirect, which would take the key elsewhere; one that is for good is an Error.
func WithHTTPClient(hc *http.Client) Option { return func(c *Client) { c.http = hc } }

// WithLogger says why a connection was lost or could not be made. Default: nothing is logged.
func WithLogger(log *slog.Logger) Option { return func(c *Client) { c.log = log } }

// New makes a client of the sidecar at a base address such as "http://127.0.0.1:8787". It starts nothing.
func New(baseURL string, opts ...Option) *Client {
	c := &Client{base: strings.TrimRight(baseURL, "/")}
	for _, o := range opts {
		o(c)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	own := http.Client{}
	if c.http != nil {
		own = *c.http
	} else {
		own.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			DisableKeepAlives:   true,
		}
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	return c
}

// Events is every event of the sidecar after a cursor, oldest first; with "" for a cursor, from now on.
//
// The sequence ends when ctx is done, when the loop breaks, or after one error, an *Error that no retry would change.
// Everything that may pass is retried and not reported.
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[push.Message, error] {
	return c.events(ctx, "/events", after, true)
}

// Session is one checkout.
func (c *Client) Session(id string) *Session { return &Session{c, id} }

// Session subscribes to one checkout.
type Session struct {
	client *Client
	id     string
}

// Events is the session's events after a cursor; with "" for a cursor, first its present state if it has a payment, then
// on. It ends as Client.Events does: not with the payment, since a failed one may yet succeed or be followed by another.
func (s *Session) Events(ctx context.Context, after string) iter.Seq2[push.Message, error] {
	if s.id == "" || s.id == "." || s.id == ".." {
		return func(yield func(push.Message, error) bool) {
			yield(push.Message{}, &Error{Reason: "there is no session " + strconv.Quote(s.id)})
		}
	}
	return s.client.events(ctx, "/sessions/"+url.PathEscape(s.id)+"/websocket", after, false)
}

// Error is the sidecar's refusal: no retry would change it.
type Error struct {
	Status int    // as HTTP says it: 301, 308, 400, 401, 403, 404; 0: it was not the sidecar's doing
	Reason string // for a log
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return "client: " + e.Reason
	}
	return fmt.Sprintf("client: %d %s: %s", e.Status, strings.ToLower(http.StatusText(e.Status)), e.Reason)
}
