package daraja

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Tokens owns the access token of one consumer key. There must be one owner per key in a process, because each new token
// may end the one before it. However many ask at once, one request for a token is on its way; it is made by one of those
// who ask, on their context, and if they give up, the next of them makes it. A token is renewed in the last tenth of its
// life, or when Daraja no longer knows it.
type Tokens struct {
	api         caller
	key, secret string

	mu     sync.Mutex
	token  string
	renew  time.Time // from then on it is better to ask for another
	ends   time.Time // from then on it is no token
	flight *flight   // the request that is on its way, if any
}

// flight is one request for a token. Its result may be read once done is closed.
type flight struct {
	done  chan struct{}
	token string
	err   error
	left  bool // who made it gave up: the error is theirs alone
}

// NewTokens makes the one owner of a consumer key's tokens. hc may be nil, for NewHTTPClient().
func NewTokens(baseURL, consumerKey, consumerSecret string, hc *http.Client) *Tokens {
	if hc == nil {
		hc = NewHTTPClient()
	}
	return &Tokens{api: newCaller(baseURL, hc), key: consumerKey, secret: consumerSecret}
}

// Check asks Daraja for a token, and so whether it takes the consumer key and its secret. The token is told to nobody.
func (t *Tokens) Check(ctx context.Context) error {
	_, err := t.get(ctx, "")
	return err
}

// get gives a token other than refused, which is one that Daraja did not know; "" if there is none such.
func (t *Tokens) get(ctx context.Context, refused string) (string, error) {
	for first := true; ; first = false {
		t.mu.Lock()
		if t.token == refused {
			t.token = ""
		}
		if t.token != "" && time.Now().Before(t.renew) {
			defer t.mu.Unlock()
			return t.token, nil
		}
		f := t.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			t.flight = f
			t.mu.Unlock()
			t.fly(ctx, f)
			return f.token, f.err
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", noAnswer("token", nil, ctx.Err(), unsent)
		}
		if f.left || first && f.err == nil && f.token == refused {
			continue // its maker gave up, or it left before the refusal was known
		}
		return f.token, f.err
	}
}

// fly asks for a token. A renewal that fails does no harm while the token still lives.
func (t *Tokens) fly(ctx context.Context, f *flight) {
	var lives time.Duration
	asked := time.Now()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.err == nil && f.token != "" {
			t.token, t.ends, t.renew = f.token, asked.Add(lives), asked.Add(lives*9/10)
		} else if t.token != "" && time.Now().Before(t.ends) {
			t.renew = time.Now().Add(time.Until(t.ends) / 4)
			f.token, f.err = t.token, nil
		}
		t.flight = nil
		close(f.done)
	}()
	f.token, lives, f.err = t.fetch(ctx)
	f.left = f.err != nil && ctx.Err() != nil
}

// fetch is one request for a token. Whatever goes wrong with it, a push that waits for it has not left.
func (t *Tokens) fetch(ctx context.Context) (token string, lives time.Duration, err error) {
	basic := base64.StdEncoding.EncodeToString([]byte(t.key + ":" + t.secret))
	r, err := t.api.call(ctx, "token", tokenTime, http.MethodGet, "/oauth/v1/generate?grant_type=client_credentials", "Basic "+basic, nil, t.key, t.secret, basic)
	if e, ok := errors.AsType[*Error](err); ok {
		e.verdict = unsent
		return "", 0, e
	}
	var body struct {
		AccessToken text `json:"access_token"`
		ExpiresIn   text `json:"expires_in"` // "3599" or 3599
	}
	if !r.ok() || unmarshal(r.body, &body) != nil || !fit(string(body.AccessToken)) {
		e := r.error()
		switch {
		case e.retry > 0:
			e.verdict = unsent
		case e.Status == http.StatusBadRequest, e.Status == http.StatusUnauthorized, // wrong credentials, with or without words
			e.Status >= 400 && e.Status < 500 && e.Envelope != "other":
			e.verdict = refused
		default:
			e.verdict = unsent
		}
		return "", 0, e
	}
	lives = time.Hour - time.Second
	if seconds, err := strconv.ParseFloat(string(body.ExpiresIn), 64); err == nil && seconds >= 0 && seconds <= 86400 {
		lives = time.Duration(seconds * float64(time.Second))
	}
	return string(body.AccessToken), lives, nil
}

// fit reports whether a token can stand in a header. Asking with one that cannot would look as if the request was lost.
func fit(token string) bool {
	return token != "" && len(token) <= 4096 && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}
