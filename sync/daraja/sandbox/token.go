package sandbox

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// tokenLife is how long a token is good for, in seconds, as Daraja says it.
const tokenLife = 3599

// fault is Daraja's refusal of a call.
type fault struct {
	status        int
	code, message string
	why           string // for the log, where the message does not say it
}

func refuse(status int, code, message string) *fault {
	return &fault{status: status, code: code, message: message, why: message}
}

// because says in the log what Daraja leaves its callers to guess, or what must not be logged as Daraja says it.
func (f *fault) because(why string) *fault {
	f.why = why
	return f
}

// invalid refuses one field, in the words of the real thing.
func invalid(field string) *fault {
	return refuse(http.StatusBadRequest, "400.002.02", "Bad Request - Invalid "+field)
}

// internal is for a sandbox that cannot store.
func (s *Sandbox) internal(err error) *fault {
	s.log.Error("the store does not work", "err", err)
	return refuse(http.StatusInternalServerError, "500.003.1001", "Internal Server Error")
}

// refused writes the usual one of Daraja's error envelopes.
func (s *Sandbox) refused(w http.ResponseWriter, r *http.Request, f *fault) {
	s.log.Info("refused", "path", r.URL.Path, "code", f.code, "why", f.why)
	reply(w, f.status, struct {
		RequestID    string `json:"requestId"`
		ErrorCode    string `json:"errorCode"`
		ErrorMessage string `json:"errorMessage"`
	}{requestID(), f.code, f.message})
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is written here is made of strings and numbers
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

// generate is GET /oauth/v1/generate: a token for key and secret.
func (s *Sandbox) generate(w http.ResponseWriter, r *http.Request) {
	key, secret, basic := r.BasicAuth()
	switch {
	case r.Method != http.MethodGet:
		s.refused(w, r, methodNotAllowed())
		return
	case r.URL.Query().Get("grant_type") != "client_credentials":
		s.refused(w, r, refuse(http.StatusBadRequest, "400.008.02", "Invalid grant type passed"))
		return
	case !basic, !same(key, s.config.ConsumerKey), !same(secret, s.config.ConsumerSecret):
		s.refused(w, r, refuse(http.StatusBadRequest, "400.008.01", "Invalid Authentication passed").
			because("these are not the consumer key and secret of this sandbox"))
		return
	}
	token := newToken()
	s.mu.Lock()
	err := s.store.addToken(token, s.now().Add(tokenLife*time.Second), s.config.OneToken)
	s.mu.Unlock()
	if err != nil {
		s.refused(w, r, s.internal(err))
		return
	}
	var expiry any = tokenLife
	if s.config.TextExpiry {
		expiry = fmt.Sprint(tokenLife)
	}
	reply(w, http.StatusOK, struct {
		Token  string `json:"access_token"`
		Expiry any    `json:"expires_in"`
	}{token, expiry})
}

func methodNotAllowed() *fault {
	return refuse(http.StatusMethodNotAllowed, "405.001", "Method Not Allowed")
}

// authorised finds fault with a call's token. An unknown token is echoed, as Daraja does: clients must keep it out of logs.
func (s *Sandbox) authorised(r *http.Request) *fault {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return refuse(http.StatusNotFound, "404.001.03", "Invalid Access Token").because("there is no Authorization: Bearer TOKEN")
	}
	s.mu.Lock()
	expires, err := s.store.tokenExpiry(token)
	s.mu.Unlock()
	switch {
	case err != nil:
		return s.internal(err)
	case expires.IsZero():
		return refuse(http.StatusUnauthorized, "401.002.01", "Error Occurred - Invalid Access Token - "+token).
			because("it is no token that this sandbox has given out, or a newer one has ended it")
	case !s.now().Before(expires):
		return refuse(http.StatusNotFound, "404.001.03", "Invalid Access Token").because("the token has expired")
	}
	return nil
}

// newToken has the 28 letters and digits of a real one.
func newToken() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 28)
	for i := range b {
		b[i] = alphabet[randomBelow(int64(len(alphabet)))]
	}
	return string(b)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
