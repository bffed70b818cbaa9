package sidecar

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Bounds of what is read. Daraja's callbacks are under a kilobyte; an app's requests too.
const (
	maxRequest  = 16 << 10
	maxCallback = 256 << 10
	readTime    = 10 * time.Second // for a body to arrive
)

// readBody reads a whole body within bounds of size and time. The time began with the request: see front.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil { // the server watches the connection for its end while we answer
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	var tooLong *http.MaxBytesError
	var netErr net.Error
	switch {
	case errors.As(err, &tooLong):
		return nil, problemf(http.StatusRequestEntityTooLarge, "too-large", "the body is over %d bytes", limit)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		w.Header().Set("Connection", "close")
		return nil, problemf(http.StatusRequestTimeout, "timeout", "the body stopped coming")
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, badRequest("the body broke off")
	}
	return body, nil
}

// readJSON reads a body that is one JSON object. Fields that are not known are left alone.
func readJSON(w http.ResponseWriter, r *http.Request, into any) *problem {
	body, p := readBody(w, r, maxRequest)
	if p != nil {
		return p
	}
	if err := json.Unmarshal(body, into); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) && wrongType.Field != "" {
			return badRequest("%s cannot be a JSON %s", wrongType.Field, wrongType.Value)
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.As(err, &wrongType) || errors.Is(err, io.ErrUnexpectedEOF) || len(body) == 0 {
			return badRequest("the body is not a JSON object")
		}
		return badRequest("%s", strings.TrimPrefix(err.Error(), "push: "))
	}
	return nil
}

// word is a short text that people also write as a number: a phone number, an account.
type word string

func (t *word) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) == "null" {
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return errors.New("a text was expected")
	}
	*t = word(n)
	return nil
}

// amount is money that may be absent, or left open.
type amount struct {
	push.Money
	given, open bool
}

func (a *amount) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", `""`:
		return nil
	case `"open"`:
		a.given, a.open = true, true
		return nil
	}
	a.given = true
	return a.Money.UnmarshalJSON(b)
}

// pageSize reads ?limit=.
func pageSize(r *http.Request, standard, most int) (int, *problem) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, badRequest("limit is a number from 1 to %d", most)
	}
	return n, nil
}

// pageCursor checks ?after= of a list.
func pageCursor(after string) *problem {
	if after == "" {
		return nil
	}
	if _, err := push.ParseCursor(after); err != nil {
		return badRequest("after is what the page before answered as next")
	}
	return nil
}
