package daraja

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// maxReply bounds what is read of an answer. Real ones are under 1 kB.
const maxReply = 1 << 20

// caller makes single requests.
type caller struct {
	base string
	http *http.Client
}

func newCaller(base string, hc *http.Client) caller {
	own := *hc
	own.CheckRedirect = noRedirect // an Authorization header goes to Daraja and to nobody it names
	own.Jar = nil
	return caller{strings.TrimRight(base, "/"), &own}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// reply is an answer of any kind.
type reply struct {
	op     string
	status int
	header http.Header
	body   []byte
	hide   *strings.Replacer // what this request must keep to itself

	envelope                 string // "" if it is no error envelope
	code, message, requestID string
	cause                    error // context.Canceled or context.DeadlineExceeded, if the answer broke off for that
}

// ok reports whether it is an answer to the question: a success of HTTP that is JSON and no error envelope.
func (r reply) ok() bool {
	return r.status >= 200 && r.status < 300 && r.envelope == ""
}

// call makes one request. It returns an error only if there was no answer; secrets are hidden in whatever it returns.
func (c caller) call(ctx context.Context, op string, limit time.Duration, method, path, authorization string, body map[string]string, secrets ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	hide := hider(secrets)
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return reply{}, refusal(op, err.Error())
		}
		payload = bytes.NewReader(b)
	}

	// A transport that tells its trace of looking for a connection and never of having one has sent nothing. One that tells
	// nothing proves nothing.
	var looked, got atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { looked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return reply{}, refusal(op, "the base address is not a URL")
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		v := ambiguous
		if !got.Load() && (looked.Load() || dialFailed(err)) {
			v = unsent
		}
		return reply{}, noAnswer(op, hide, err, v)
	}
	defer response.Body.Close()
	r := reply{op: op, status: response.StatusCode, header: response.Header, hide: hide}
	r.body, err = io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	switch {
	case err != nil:
		r.body, r.envelope, r.message, r.cause = nil, "other", "the answer broke off", ctx.Err()
	case len(r.body) > maxReply:
		r.body, r.envelope, r.message = nil, "other", "the answer is too long"
	default:
		r.body = bare(r.body)
		r.open()
	}
	return r, nil
}

// dialFailed reports whether an error is of the making of a connection.
func dialFailed(err error) bool {
	var dns *net.DNSError
	var dial *net.OpError
	return errors.As(err, &dns) || errors.As(err, &dial) && dial.Op == "dial"
}

// open tells the four error envelopes from each other, and from an answer:
//
//	{"requestId", "errorCode", "errorMessage"}            daraja
//	{"fault":{"faultstring", "detail":{"errorcode"}}}     fault: its gateway, on quotas and tokens
//	{"Envelope":{"Body":{"Fault":{...}}}}                 soap: what is behind it, showing through
//	a page, nothing, or JSON that says nothing known      other: with any status, 200 too
func (r *reply) open() {
	var e struct {
		RequestID, ErrorCode, ErrorMessage text
		Fault                              *struct {
			FaultString text
			Detail      struct{ ErrorCode text }
		}
		Envelope *struct {
			Body struct {
				Fault *struct {
					FaultCode, FaultString text
					Code                   struct{ Value text }
					Reason                 struct{ Text text }
				}
			}
		}
	}
	object := len(r.body) > 0 && unmarshal(r.body, &e) == nil && r.body[0] == '{'
	r.requestID = string(e.RequestID)
	switch {
	case !object:
		r.envelope, r.message = "other", excerpt(r.body)
	case e.ErrorCode != "" || e.ErrorMessage != "":
		r.envelope, r.code, r.message = "daraja", string(e.ErrorCode), string(e.ErrorMessage)
	case e.Fault != nil:
		r.envelope, r.code, r.message = "fault", string(e.Fault.Detail.ErrorCode), string(e.Fault.FaultString)
	case e.Envelope != nil && e.Envelope.Body.Fault != nil:
		f := e.Envelope.Body.Fault
		r.envelope, r.code, r.message = "soap", string(f.FaultCode+f.Code.Value), string(f.FaultString+f.Reason.Text)
	case r.status < 200 || r.status > 299:
		r.envelope, r.message = "other", excerpt(r.body)
	}
}

// excerpt is the text of a page, without its markup.
func excerpt(body []byte) string {
	if len(body) > 64<<10 {
		body = body[:64<<10]
	}
	var b strings.Builder
	in := false
	for _, r := range string(body) {
		switch {
		case r == '<':
			in = true
			b.WriteByte(' ')
		case r == '>' && in:
			in = false
		case !in:
			b.WriteRune(r)
		}
	}
	return html.UnescapeString(b.String())
}

// cause is what went wrong with a request, without the address that url.Error repeats.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
