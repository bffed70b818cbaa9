// Package client is the Go subscriber to a sidecar's events: what became of each payment, as it happens.
//
//	c := client.New("http://127.0.0.1:8787", client.WithKey(key))
//	for m, err := range c.Events(ctx, after) {
//		if err != nil {
//			return err // permanent: a wrong key, no such session
//		}
//		book(m)
//		after = m.ID.String() // keep it with your books, and nothing is missed or told twice
//	}
package client

import (
	"context"
	"iter"
	"net/http"
	"strings"

	"github.com/hodihq/hodi/sync/push"
)

// Client subscribes to one sidecar. Its methods may be called at the same time.
type Client struct {
	base string
	key  func(context.Context) (string, error)
	http *http.Client
}

// Option changes how a Client asks.
type Option func(*Client)

// WithKey sends an API key.
func WithKey(key string) Option {
	return WithKeyFunc(func(context.Context) (string, error) { return key, nil })
}

// WithKeyFunc asks for the API key before each connection, so that a key may change while the program runs.
func WithKeyFunc(key func(context.Context) (string, error)) Option {
	return func(c *Client) { c.key = key }
}

// WithHTTPClient dials with another HTTP client than the default one.
func WithHTTPClient(hc *http.Client) Option { return func(c *Client) { c.http = hc } }

// New makes a client of the sidecar at a base address such as "http://127.0.0.1:8787". It starts nothing.
func New(baseURL string, opts ...Option) *Client {
	c := &Client{base: strings.TrimRight(baseURL, "/")}
	for _, o := range opts {
		o(c)
	}
	return c
}

// Events is every event of the sidecar after a cursor; with no cursor, from now on.
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[push.Message, error] {
	return func(yield func(push.Message, error) bool) {}
}

// Session is one checkout.
func (c *Client) Session(id string) *Session { return &Session{c, id} }

// Session subscribes to one checkout.
type Session struct {
	client *Client
	id     string
}

// Events is the session's events after a cursor; with no cursor, its present state first.
func (s *Session) Events(ctx context.Context, after string) iter.Seq2[push.Message, error] {
	return func(yield func(push.Message, error) bool) {}
}
