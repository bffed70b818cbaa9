package daraja

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What Daraja allows a push.
const (
	MaxAmount    = 250_000 // whole shillings
	MaxReference = 12      // characters of an account reference; with 14 a prompt has silently not appeared
	maxDesc      = 13
)

// PushRequest is one prompt to one phone.
type PushRequest struct {
	Phone  string // in any form that NormalizePhone reads
	Amount int64  // whole shillings, at most MaxAmount

	// AccountReference is printed in the customer's message and stands in a paybill's statement: it is what a payment is
	// booked by. So it is never changed; what CheckReference finds wrong is refused.
	AccountReference string

	// Description is decoration, so it is made to fit: characters that prompts have failed on become spaces, and whatever
	// is beyond 13 characters is left out. Default: "Payment".
	Description string

	// CallbackURL is where the result is posted: an absolute address without a query, https in production.
	CallbackURL string
}

// Ack is Daraja's word that it has queued a prompt; no more than that.
type Ack struct {
	MerchantRequestID string
	CheckoutRequestID string
	Description       string
	CustomerMessage   string
}

// Push sends a prompt to a phone. It asks once: Daraja knows no idempotency, so that a second request is a second prompt.
// Only where Daraja does not know the token is it asked again, with a new one.
//
// An error is of one of three kinds. NotSent: nothing left. Refused (which NotSent is too): the customer was certainly not
// prompted. Neither: nobody knows, and nothing must be sent again without a person who decides it.
func (c *Client) Push(ctx context.Context, r PushRequest) (Ack, error) {
	s := c.Shortcode
	phone, err := NormalizePhone(r.Phone)
	err = errors.Join(err, CheckAmount(r.Amount), CheckReference(r.AccountReference), CheckCallbackURL(r.CallbackURL, s.Environment))
	if err != nil {
		message := strings.ReplaceAll(err.Error(), "daraja: ", "")
		return Ack{}, refusal("push", strings.ReplaceAll(message, "\n", "; "))
	}
	password, timestamp := s.password(time.Now())
	answer, err := c.post(ctx, "push", "/mpesa/stkpush/v1/processrequest", pushTime, map[string]string{
		"BusinessShortCode": s.business(),
		"Password":          password,
		"Timestamp":         timestamp,
		"TransactionType":   s.transaction(),
		"Amount":            strconv.FormatInt(r.Amount, 10),
		"PartyA":            phone,
		"PartyB":            s.Number,
		"PhoneNumber":       phone,
		"CallBackURL":       r.CallbackURL,
		"AccountReference":  r.AccountReference,
		"TransactionDesc":   describe(r.Description),
	})
	if err != nil {
		return Ack{}, err
	}
	return answer.ack()
}

// ack reads the answer to a push. Only a response code other than zero is a refusal; an answer without both ids says
// nothing that one could rely on.
func (r reply) ack() (Ack, error) {
	if !r.ok() {
		return Ack{}, r.error()
	}
	var body struct {
		MerchantRequestID, CheckoutRequestID, ResponseCode fact
		ResponseDescription, CustomerMessage               text
	}
	if err := unmarshal(r.body, &body); err != nil {
		return Ack{}, r.error()
	}
	r.code, r.message, r.requestID = body.ResponseCode.text, string(body.ResponseDescription), body.MerchantRequestID.text
	if !accepted(r.code) {
		e := r.error()
		e.Envelope, e.verdict = "daraja", refused
		return Ack{}, e
	}
	if !body.MerchantRequestID.usable() || !body.CheckoutRequestID.usable() {
		e := r.error()
		e.Message = "the answer has no ids"
		return Ack{}, e
	}
	return Ack{
		MerchantRequestID: body.MerchantRequestID.text,
		CheckoutRequestID: body.CheckoutRequestID.text,
		Description:       r.clean(string(body.ResponseDescription)),
		CustomerMessage:   r.clean(string(body.CustomerMessage)),
	}, nil
}

// accepted reports whether a ResponseCode is no refusal. Its own 0 has been seen as 00000000, as a number, and not at all.
func accepted(code string) bool {
	n, err := strconv.ParseFloat(code, 64)
	return code == "" || err == nil && n == 0
}

// CheckAmount says what is wrong with an amount of whole shillings.
func CheckAmount(shillings int64) error {
	if shillings < 1 || shillings > MaxAmount {
		return fmt.Errorf("daraja: amount: %d is not between 1 and %d whole shillings", shillings, MaxAmount)
	}
	return nil
}

// CheckReference says what is wrong with an account reference: it has 1 to 12 characters of ASCII, without control
// characters and without those on which prompts have failed (@ # & and, as they mean something to the systems behind,
// < > " ' \ %).
func CheckReference(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("daraja: account reference: it is empty; it is what the payment is booked by")
	}
	for _, r := range s {
		if !printable(r) {
			return fmt.Errorf("daraja: account reference: %q in it makes prompts fail; use letters, digits, spaces and any of -_./:()+*=", r)
		}
	}
	if len(s) > MaxReference {
		return fmt.Errorf("daraja: account reference: it has %d characters; with more than %d a prompt may not appear", len(s), MaxReference)
	}
	return nil
}

func printable(r rune) bool { return r >= ' ' && r <= '~' && !strings.ContainsRune(`@#&<>"'\%`, r) }

// describe makes a description that Daraja takes.
func describe(s string) string {
	s = strings.Map(func(r rune) rune {
		if !printable(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxDesc {
		s = strings.TrimSpace(s[:maxDesc])
	}
	if s == "" {
		s = "Payment"
	}
	return s
}

// CheckCallbackURL says what is wrong with a callback address: it must be absolute and plain ASCII, without user, query and
// fragment, and https in production.
func CheckCallbackURL(s, environment string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("daraja: callback address: not an absolute http or https address")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return errors.New("daraja: callback address: it must have no user, query or fragment")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("daraja: callback address: it must be plain ASCII without spaces")
	case environment == EnvironmentProduction && u.Scheme != "https":
		return errors.New("daraja: callback address: production takes https only")
	}
	return nil
}

// addressSecrets is what makes a callback address one that nobody can guess: all of it, and each long word of its path. What
// Daraja says of a push is shown to who pays; and whoever has the address can post there that he has.
func addressSecrets(address string) (secrets []string) {
	for word := range strings.SplitSeq(address, "/") {
		if len(word) >= 16 && !strings.ContainsAny(word, ".:") { // no host
			secrets = append(secrets, word)
		}
	}
	return append(secrets, address)
}

// ForbiddenWord finds a word that Safaricom does not want in a callback address, in host or path; "" if there is none. Its
// documents forbid them all, in any case; for mpesa a refusal has been seen. Push leaves it to Daraja to refuse.
func ForbiddenWord(address string) string {
	address = strings.ToLower(address)
	for _, word := range []string{"mpesa", "m-pesa", "safaricom", "exec", "exe", "cmd", "sql", "query"} {
		if strings.Contains(address, word) {
			return word
		}
	}
	return ""
}
