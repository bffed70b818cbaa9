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
}

func refuse(status int, code, message string) *fault { return &fault{status, code, message} }

// invalid refuses one field, in the words of the real thing.
func invalid(field string) *fault {
	return refuse(http.StatusBadRequest, "400.002.02", "Bad Request - Invalid "+field)
}

// internal is for a sandbox that cannot store.
func (s *Sandbox) internal(err error) *fault {
	s.log.Error("the store does not work", "error", err)
	return refuse(http.StatusInternalServerError, "500.003.1001", "Internal Server Error")
}

// refused writes the usual one of Daraja's error envelopes.
func refused(w http.ResponseWriter, f *fault) {
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
		refused(w, methodNotAllowed())
		return
	case r.URL.Query().Get("grant_type") != "client_credentials":
		refused(w, refuse(http.StatusBadRequest, "400.008.02", "Invalid grant type passed"))
		return
	case !basic, !same(key, s.config.ConsumerKey), !same(secret, s.config.ConsumerSecret):
		refused(w, refuse(http.StatusBadRequest, "400.008.01", "Invalid Authentication passed"))
		return
	}
	token := newToken()
	s.mu.Lock()
	err := s.store.addToken(token, s.now().Add(tokenLife*time.Second), s.config.OneToken)
	s.mu.Unlock()
	if err != nil {
		refused(w, s.internal(err))
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
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || token == "" {
		return refuse(http.StatusNotFound, "404.001.03", "Invalid Access Token")
	}
	s.mu.Lock()
	expires, err := s.store.tokenExpiry(token)
	s.mu.Unlock()
	switch {
	case err != nil:
		return s.internal(err)
	case expires.IsZero():
		return refuse(http.StatusUnauthorized, "401.002.01", "Error Occurred - Invalid Access Token - "+token)
	case !s.now().Before(expires):
		return refuse(http.StatusNotFound, "404.001.03", "Invalid Access Token")
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
