package forward

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hodihq/hodi/sync/correlate"
)

// What we say to the app besides what Daraja said. Only the first three are signed, with the body.
const (
	headerState    = "Hodi-State"    // what the sidecar thinks of it: applied, unmatched ...
	headerPayment  = "Hodi-Payment"  // whose it is, if that is known
	headerReceived = "Hodi-Received" // when the edge had it on disk
	headerAttempt  = "Hodi-Attempt"  // which this is, from 1 on
	headerReplay   = "Hodi-Replay"   // true: somebody asked for it again
)

// answerMost is how much is read of what the app answers, which nobody looks at, so that the connection can be used again.
const answerMost = 64 << 10

// outcome is what an attempt has come to.
type outcome struct {
	correlate.Handling
	item  *item
	to    *aim          // where the app was then
	tried bool          // the app was asked
	cut   bool          // nobody knows what came of it: we went away, or our disk failed
	gone  bool          // 410: the app wants no more
	hold  time.Duration // the app wants nothing for so long
}

// word is what came of an attempt.
func (o *outcome) word() string {
	switch {
	case o.State == correlate.AppHandled:
		return "handled"
	case o.gone:
		return "gone"
	case o.Status == 0:
		return "unreachable"
	}
	return "refused"
}

// attempt gives the app one callback.
func (f *Forwarder) attempt(ctx context.Context, to *aim, it *item) outcome {
	o := outcome{item: it, to: to, Handling: it.Handling}
	cb, err := f.config.Table.Stored(ctx, it.Delivery)
	switch {
	case errors.Is(err, correlate.ErrErased):
		o.State, o.Error, o.Due = correlate.AppDead, correlate.ErrErased.Error(), time.Time{}
		return o
	case err != nil:
		if ctx.Err() == nil {
			f.log.Error("forward: cannot read a callback", "callback", it.ID, "err", err)
		}
		o.cut = true
		return o
	case !cb.ForTheApp(): // since it was taken up, somebody has found that it is not to be believed
		o.State, o.Error, o.Due = correlate.AppWithheld, "", time.Time{}
		return o
	}
	it.away = false
	bounded, cancel := context.WithTimeout(ctx, f.config.Timeout)
	defer cancel()
	now := time.Now()
	o.Attempts++
	if o.First.IsZero() {
		o.First = now
	}
	o.Last, o.Status, o.Error = now, 0, ""
	request, err := to.request(bounded, cb, &o, now)
	if err != nil {
		f.later(&o, err.Error())
		return o
	}
	o.tried = true
	response, err := f.client.Do(request)
	if err != nil {
		o.cut = ctx.Err() != nil
		it.away = true
		f.later(&o, reason(err))
		return o
	}
	_, _ = io.CopyN(io.Discard, response.Body, answerMost)
	response.Body.Close()
	f.weigh(&o, response, now)
	return o
}

// weigh says what an answer means, as Standard Webhooks has it: 2xx is that the app has it, 410 that it wants no more, and all else
// that it is to be tried again.
//
//	2xx                handled
//	410                everything waits until an operator resumes
//	429, 503           tried again; with Retry-After nothing else is sent before either
//	502, 503, 504      tried again, and at once when another shows that the app is back
//	3xx, 4xx, 5xx      tried again: a redirect is not followed
func (f *Forwarder) weigh(o *outcome, response *http.Response, now time.Time) {
	o.Status = response.StatusCode
	if o.Status >= 200 && o.Status < 300 {
		o.State, o.Due, o.Error, o.Last = correlate.AppHandled, time.Time{}, "", time.Now()
		return
	}
	f.later(o, "")
	wait, asked := retryAfter(response.Header, now)
	switch o.Status {
	case http.StatusGone:
		o.gone = true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if asked {
			o.hold = wait
		}
	}
	o.item.away = !asked && (o.Status == http.StatusBadGateway || o.Status == http.StatusServiceUnavailable || o.Status == http.StatusGatewayTimeout)
	if asked && o.State == correlate.AppWaiting {
		o.Due = now.Add(wait)
		if end := f.end(o.First); o.Due.After(end) {
			o.Due = end
		}
	}
}

// later gives an attempt that failed another, or the callback up: at the end of its time, and never without the last try.
func (f *Forwarder) later(o *outcome, why string) {
	now := time.Now()
	o.State, o.Error = correlate.AppWaiting, why
	end := f.end(o.First)
	switch {
	case !now.Before(end):
		o.State, o.Due = correlate.AppDead, time.Time{}
	default:
		if o.Due = now.Add(backoff(o.Attempts)); o.Due.After(end) {
			o.Due = end
		}
	}
}

// end is until when a callback is tried that was first tried at a time. While nothing was sent its time did not go by.
func (f *Forwarder) end(first time.Time) time.Time {
	if resumed := time.UnixMilli(max(f.resumed.Load(), f.again.Load())); resumed.After(first) {
		first = resumed
	}
	return first.Add(f.config.GiveUpAfter)
}

// reason is why there is no answer, without the address, which may hold what is nobody's business.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := err.Error()
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return text
}

// request is what the app is sent.
func (to *aim) request(ctx context.Context, cb correlate.Callback, o *outcome, now time.Time) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, bytes.NewReader(cb.Body))
	if err != nil {
		return nil, errors.New("the app's address cannot be used")
	}
	r.Header = original(cb.Header)
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "hodi")
	}
	r.Header.Set(headerState, cb.State)
	if cb.PaymentID != "" {
		r.Header.Set(headerPayment, cb.PaymentID)
	}
	r.Header.Set(headerReceived, cb.Received.UTC().Format("2006-01-02T15:04:05.000Z"))
	r.Header.Set(headerAttempt, strconv.Itoa(o.Attempts))
	if o.Replay {
		r.Header.Set(headerReplay, "true")
	}
	r.Header.Set(standardwebhooks.HeaderWebhookID, cb.ID)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	var signatures []string
	for _, secret := range to.secrets() {
		s, err := signer(secret)
		if err != nil {
			return nil, err
		}
		signature, err := s.Sign(cb.ID, now, cb.Body)
		if err != nil {
			return nil, errors.New("it cannot be signed")
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) == 0 {
		return nil, errors.New("there is no secret to sign with")
	}
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return r, nil
}

// CheckSecret says whether requests can be signed with a secret, and does not say it.
func CheckSecret(secret string) error {
	_, err := signer(secret)
	return err
}

// signer reads a secret. What is wrong with one is said without it.
func signer(secret string) (*standardwebhooks.Webhook, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("a secret is whsec_ and 24 to 64 random bytes in base64: (printf whsec_; openssl rand -base64 32)")
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// original is the headers of a callback that make sense to the app. Left out are those that were between Safaricom and the edge
// (hop by hop, lengths, codings, what proxies add), those by which an app might let somebody in, and those that are ours to
// say: whoever knows a callback address could otherwise speak in the sidecar's name.
func original(lines []byte) http.Header {
	h := http.Header{}
	for line := range strings.Lines(string(lines)) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if value = strings.TrimSpace(value); ok && httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) {
			name = textproto.CanonicalMIMEHeaderKey(name)
			h[name] = append(h[name], value)
		}
	}
	for _, named := range h["Connection"] {
		for name := range strings.SplitSeq(named, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for name := range h {
		if !passes(name) {
			delete(h, name)
		}
	}
	return h
}

// passes reports whether a header goes on to the app. Many an app takes an underscore for a hyphen.
func passes(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, ours := range []string{"webhook-", "hodi-", "x-forwarded", "x-real-", "x-http-method", "x-original-", "x-rewrite-", "proxy-", "sec-"} {
		if strings.HasPrefix(name, ours) {
			return false
		}
	}
	switch name {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length", "accept-encoding", "expect",
		"authorization", "cookie", "forwarded", "via", "origin", "referer", "x-method-override", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip":
		return false
	}
	return true
}
