package daraja

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Error is an answer of Daraja that is not the one asked for, or the want of one. However it is printed, it holds no token,
// password or key, and no whole CheckoutRequestID or phone number.
type Error struct {
	Op        string // "token", "push" or "query"
	Status    int    // of HTTP; 0: there was no answer, or the request was not fit to be sent
	Code      string // "400.002.02", "policies.ratelimit.SpikeArrestViolation", or a response code; may be ""
	Message   string // Daraja's words, or ours
	RequestID string // Daraja's number of the request, for its support
	Envelope  string // the form of the answer: "daraja", "fault", "soap", "other"; "": none

	verdict verdict
	retry   time.Duration // 0: Daraja did not ask to be left alone
	cause   error         // context.Canceled or context.DeadlineExceeded, or nothing
}

// verdict answers the question that matters: may the customer have been prompted?
type verdict int

const (
	ambiguous verdict = iota // perhaps
	refused                  // no: Daraja said so
	unsent                   // no: it never left
)

// Error says what failed, in what form, and Daraja's own words.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "daraja: %s: ", e.Op)
	switch {
	case e.Status == 0 && e.verdict == unsent:
		b.WriteString("not sent: ")
	case e.Status == 0 && e.verdict == ambiguous:
		b.WriteString("no answer: ")
	case e.Status != 0:
		fmt.Fprintf(&b, "HTTP %d: ", e.Status)
	}
	if e.Code != "" {
		b.WriteString(e.Code + ": ")
	}
	if e.Message == "" {
		b.WriteString("without a word")
	}
	b.WriteString(e.Message)
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return b.String()
}

// Unwrap gives context.Canceled or context.DeadlineExceeded if that is why there was no answer. Nothing else is passed on,
// since nobody knows what it would print.
func (e *Error) Unwrap() error { return e.cause }

// Refused reports whether a push certainly did not prompt the customer: Daraja refused it, or it never left. If it reports
// false, nobody knows.
func Refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.verdict != ambiguous
}

// NotSent reports whether the request never left, because Daraja or its tokens could not be reached.
func NotSent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.verdict == unsent
}

// RefusalOutcome says what a refused push came to: busy, not_sent or rejected, with Daraja's code ("" if it gave none) and
// its words. Of an error that is not Refused it says unknown.
func RefusalOutcome(err error) (outcome Outcome, code, desc string) {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return OutcomeUnknown, "", ""
	case e.verdict == ambiguous:
		return OutcomeUnknown, e.Code, e.Message
	case e.verdict == unsent:
		return OutcomeNotSent, e.Code, e.Message
	case e.locked(), e.retry > 0:
		return OutcomeBusy, e.Code, e.Message
	}
	return OutcomeRejected, e.Code, e.Message
}

// RetryAfter reports how long Daraja wants to be left alone, by its header or by the kind of its refusal.
func RetryAfter(err error) (time.Duration, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.retry == 0 {
		return 0, false
	}
	return e.retry, true
}

// InFlight reports whether a query was answered, but with "not yet" or with one of the things Daraja says at random about
// payments that it knows very well. Ask again; it never means that the payment failed.
func InFlight(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Op != "query" {
		return false
	}
	return e.Code == "4999" || e.Code == "500.001.1001" && !e.misconfigured() || e.Code == "400.002.02" && e.says("checkoutrequestid")
}

// Down reports whether an error says that Daraja does not work, or cannot be reached, rather than something about what was
// asked: no answer, a page in place of one, an error of the server's, no token.
func Down(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || InFlight(err) || e.misconfigured() {
		return false
	}
	return e.Op == "token" || e.Status == 0 && e.verdict != refused || e.Status >= 500 || e.Envelope == "other"
}

// says looks into the message, which is right only where one code stands for several things.
func (e *Error) says(lower string) bool { return strings.Contains(strings.ToLower(e.Message), lower) }

// locked: the customer has another transaction open.
func (e *Error) locked() bool { return e.Code == "500.001.1001" && e.says("lock subscriber") }

// misconfigured: the shortcode or its passkey is wrong.
func (e *Error) misconfigured() bool {
	return e.Code == "500.001.1001" && (e.says("wrong credentials") || e.says("merchant does not exist"))
}

// tokenRefused reports whether Daraja did not know the token. Which of the codes it uses depends on the product; its
// gateway has a form of its own.
func (r reply) tokenRefused() bool {
	switch r.envelope {
	case "daraja":
		switch r.code {
		case "400.003.01", "401.002.01", "401.003.01", "404.001.03":
			return true
		}
	case "fault":
		return strings.Contains(strings.ToLower(r.code), "access_token") || strings.Contains(strings.ToLower(r.code), "accesstoken")
	}
	return false
}

// error makes an error of an answer, and judges it.
func (r reply) error() *Error {
	e := &Error{
		Op: r.op, Status: r.status, Code: r.clean(r.code), Message: r.clean(r.message), RequestID: r.clean(r.requestID),
		Envelope: r.envelope, cause: r.cause,
	}
	if e.Envelope == "" {
		e.Envelope = "other" // an answer, but not to what was asked
	}
	status := r.status
	if code, _, _ := strings.Cut(e.Code, "."); status < 300 {
		if n, err := strconv.Atoi(code); err == nil {
			status = n // an error that travels with status 200
		}
	}
	e.retry = r.patience(e, status)
	switch {
	case e.Envelope == "other", status == http.StatusRequestTimeout: // whose time ran out is not said
	case status >= 400 && status < 500, e.locked(), e.misconfigured(), e.limited():
		e.verdict = refused
	}
	return e
}

// limited: the gateway turned the request away by its own count, before anything behind it saw it.
func (e *Error) limited() bool {
	return strings.HasPrefix(e.Code, "policies.ratelimit.") || e.Code == "500.003.03" || e.Code == "500.003.02" && e.says("spike arrest")
}

var ratePattern = regexp.MustCompile(`messagesPerPeriod=(\d{1,9}), *periodInMicroseconds=(\d{1,15})`)

// patience is how long Daraja wants to be left alone.
func (r reply) patience(e *Error, status int) time.Duration {
	const least, most = time.Second, time.Hour
	if s := r.header.Get("Retry-After"); s != "" {
		if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
			return min(max(time.Duration(seconds)*time.Second, least), most)
		}
		if when, err := http.ParseTime(s); err == nil {
			return min(max(time.Until(when), least), most)
		}
	}
	if m := ratePattern.FindStringSubmatch(e.Message); m != nil {
		messages, _ := strconv.ParseInt(m[1], 10, 64)
		period, _ := strconv.ParseInt(m[2], 10, 64)
		return min(max(time.Duration(period/max(messages, 1))*time.Microsecond, least), most)
	}
	switch {
	case e.Code == "500.003.03", strings.Contains(strings.ToLower(e.Code), "quota"):
		return 10 * time.Minute
	case e.Code == "500.003.02", e.limited(), status == http.StatusTooManyRequests:
		return 12 * time.Second // five a minute, the only limit that is known
	}
	return 0
}

// refusal is of a request that we did not send because it is not fit to be sent.
func refusal(op, message string) *Error { return &Error{Op: op, Message: message, verdict: refused} }

// noAnswer is of a request that came to nothing.
func noAnswer(op string, hide *strings.Replacer, err error, v verdict) *Error {
	e := &Error{Op: op, Message: reply{hide: hide}.clean(cause(err).Error()), verdict: v}
	for _, why := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, why) {
			e.cause = why
		}
	}
	return e
}

// hider hides secrets wherever they stand. What is shorter than four characters is no secret, and would hide the text.
func hider(secrets []string) *strings.Replacer {
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "***", url.QueryEscape(s), "***")
	}
	return strings.NewReplacer(pairs...)
}

var (
	// A token that is not the one we sent: Daraja has been seen to name it.
	tokenPattern = regexp.MustCompile(`(?i)(token|bearer|basic)(\s*[-:=]?\s*)[A-Za-z0-9+/_=.~-]{20,}`)
	// Name and password in an address, such as that of a proxy that Go could not read.
	userPattern = regexp.MustCompile(`://[^\s"]*@`)
)

// clean makes one line of at most 300 characters of what somebody else wrote, without secrets and without who pays.
func (r reply) clean(s string) string {
	if r.hide != nil {
		s = r.hide.Replace(s)
	}
	s = userPattern.ReplaceAllString(tokenPattern.ReplaceAllString(s, "$1$2***"), "://***@")
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }), " ")
	return short(Scrub(s))
}

// short is at most 300 characters of a text: as much as anybody reads.
func short(s string) string {
	n := 0
	for i := range s {
		if n++; n > 300 {
			return s[:i] + "…"
		}
	}
	return s
}

var (
	checkoutPattern = regexp.MustCompile(`(?i)ws_CO_[a-z0-9_]+`)
	numberPattern   = regexp.MustCompile(`\+?[0-9]+`)
	phonePattern    = regexp.MustCompile(`^\+?(?:(?:00)?254|0)[17][0-9]{8}$`)
)

// Scrub hides the CheckoutRequestIDs and phone numbers in a text that is going to be logged: a CheckoutRequestID ends in
// the customer's phone number.
func Scrub(s string) string {
	s = checkoutPattern.ReplaceAllString(s, "ws_CO_***")
	return numberPattern.ReplaceAllStringFunc(s, func(number string) string {
		if phonePattern.MatchString(number) {
			return MaskPhone(number)
		}
		return number
	})
}
