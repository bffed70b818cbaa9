package daraja

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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

// Client asks Daraja on behalf of one shortcode. Its methods may be called at the same time.
type Client struct {
	BaseURL   string // default: the host of the shortcode's environment
	Shortcode Shortcode
	Tokens    *Tokens      // shared by all clients of one consumer key; default: its own
	HTTP      *http.Client // default: NewHTTPClient()
}

// Tokens owns the access token of one consumer key.
type Tokens struct{}

// NewTokens makes the one owner of a consumer key's token.
func NewTokens(baseURL, consumerKey, consumerSecret string, hc *http.Client) *Tokens {
	return &Tokens{}
}

// PushRequest is one prompt to one phone.
type PushRequest struct {
	Phone            string // in any form that NormalizePhone reads
	Amount           int64  // whole shillings
	AccountReference string
	Description      string
	CallbackURL      string
}

// Ack is Daraja's word that it has queued a prompt; no more than that.
type Ack struct {
	MerchantRequestID string
	CheckoutRequestID string
	Description       string
	CustomerMessage   string
}

// Answer is a query's answer that says what became of a payment.
type Answer struct {
	ResultCode        string
	ResultDesc        string
	MerchantRequestID string
}

// Push sends a prompt to a phone.
func (c *Client) Push(ctx context.Context, r PushRequest) (Ack, error) {
	return Ack{}, errors.New("daraja: push: not written")
}

// Query asks what became of a prompt.
func (c *Client) Query(ctx context.Context, checkoutRequestID string) (Answer, error) {
	return Answer{}, errors.New("daraja: query: not written")
}

// Error is an answer of Daraja that is not the one asked for, or the want of one.
type Error struct {
	Op        string // "token", "push" or "query"
	Status    int    // HTTP status; 0: there was no answer
	Code      string // "400.002.02", "policies.ratelimit.SpikeArrestViolation", or a ResponseCode
	Message   string
	RequestID string
	Envelope  string // "daraja", "fault", "soap", "other"; "": there was no answer
}

func (e *Error) Error() string { return "daraja: " + e.Op }

// Refused reports whether the customer was certainly not prompted.
func Refused(err error) bool { return false }

// NotSent reports whether the request never reached Daraja.
func NotSent(err error) bool { return false }

// RefusalOutcome says what a refused push came to.
func RefusalOutcome(err error) (outcome Outcome, code, desc string) { return OutcomeRejected, "", "" }

// RetryAfter reports how long Daraja wants to be left alone.
func RetryAfter(err error) (time.Duration, bool) { return 0, false }

// InFlight reports whether a query had no answer yet.
func InFlight(err error) bool { return false }

// CheckReference reports what is wrong with an account reference.
func CheckReference(s string) error { return nil }

// CheckAmount reports what is wrong with an amount of whole shillings.
func CheckAmount(shillings int64) error { return nil }
