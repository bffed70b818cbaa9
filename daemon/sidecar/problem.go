package sidecar

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// The close codes of ours, beyond those of RFC 6455. Browsers see them; a page retries none of 4400, 4401, 4403, 4404.
const (
	closeBadRequest    websocket.StatusCode = 4400
	closeNotAuthorised websocket.StatusCode = 4401
	closeForbidden     websocket.StatusCode = 4403
	closeNoSession     websocket.StatusCode = 4404
	closeSlow          websocket.StatusCode = 4408
	closeTooMany       websocket.StatusCode = 4429
)

// A problem is an answer other than the one asked for: RFC 9457 over HTTP, and on a WebSocket a close code.
type problem struct {
	status     int
	kind       string // the last word of its type, which programs branch on
	detail     string // for whoever reads the page or the log; it never tells of anybody else's payment
	retryAfter time.Duration
}

func problemf(status int, kind, format string, args ...any) *problem {
	return &problem{status: status, kind: kind, detail: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *problem {
	return problemf(http.StatusBadRequest, "bad-request", format, args...)
}

func (p *problem) after(d time.Duration) *problem {
	p.retryAfter = d
	return p
}

// closeCode is what a WebSocket that cannot be let in is closed with.
func (p *problem) closeCode() websocket.StatusCode {
	switch p.status {
	case http.StatusUnauthorized:
		return closeNotAuthorised
	case http.StatusForbidden, http.StatusMisdirectedRequest:
		return closeForbidden
	case http.StatusNotFound:
		return closeNoSession
	case http.StatusTooManyRequests:
		return closeTooMany
	}
	if p.status >= 500 {
		return websocket.StatusTryAgainLater
	}
	return closeBadRequest
}

func (p *problem) write(w http.ResponseWriter) {
	body := struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"urn:hodi:" + p.kind, http.StatusText(p.status), p.status, p.detail}
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="hodi"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(body)
}

// reply writes what was asked for.
func reply(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // of types of our own: a mistake in this program
		problemf(http.StatusInternalServerError, "internal", "the answer could not be written").write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}
