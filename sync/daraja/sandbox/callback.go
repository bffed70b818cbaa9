package sandbox

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hodihq/hodi/sync/daraja"
)

// Two of the five items of a callback's metadata have to be written as Daraja writes them: an amount with two decimals, and
// a balance without a value.
type (
	callback struct {
		Body struct {
			STK stkCallback `json:"stkCallback"`
		}
	}
	stkCallback struct {
		MerchantRequestID string
		CheckoutRequestID string
		ResultCode        json.RawMessage
		ResultDesc        string
		CallbackMetadata  *metadata `json:",omitempty"` // absent unless something was paid
	}
	metadata struct{ Item []item }
	item     struct {
		Name  string
		Value json.RawMessage `json:",omitempty"`
	}
)

// callbackBody writes the body of a request's callback. Some bodies have a Balance and some have none, on one shortcode
// in one week.
func callbackBody(r *request, balance bool) string {
	code, text, _ := r.Outcome.result()
	if _, err := strconv.Atoi(code); err != nil {
		code = strconv.Quote(code)
	}
	var c callback
	c.Body.STK = stkCallback{
		MerchantRequestID: r.MerchantRequestID,
		CheckoutRequestID: r.CheckoutRequestID,
		ResultCode:        json.RawMessage(code),
		ResultDesc:        text,
	}
	if r.Outcome == approve {
		number := func(s string) json.RawMessage { return json.RawMessage(s) }
		items := []item{
			{"Amount", number(strconv.FormatInt(r.Amount, 10) + ".00")},
			{"MpesaReceiptNumber", number(strconv.Quote(r.Receipt))},
			{Name: "Balance"},
			{"TransactionDate", number(r.Decided.In(daraja.Nairobi).Format("20060102150405"))},
			{"PhoneNumber", number(r.Phone)},
		}
		if !balance {
			items = append(items[:2], items[3:]...)
		}
		c.Body.STK.CallbackMetadata = &metadata{items}
	}
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // it is made of strings and digits
	}
	return string(body)
}

// post sends a callback, once. Whatever the receiver does, even nothing, it is not sent again: Daraja has no second try.
// The request was marked before, so a sandbox that is killed here never sends twice. One that is stopped in good order
// before it had reached anybody takes the mark back, and the callback goes out after the restart.
func (s *Sandbox) post(ctx context.Context, id string, i int) {
	defer s.posts.Done()
	s.mu.Lock()
	r, err := s.store.request(`WHERE id = ?`, id)
	s.mu.Unlock()
	if err != nil || r == nil {
		s.log.Error("a callback cannot be read", "err", err)
		return
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	status, err := s.send(ctx, r)

	s.mu.Lock()
	defer s.mu.Unlock()
	latest, lookup := s.store.request(`WHERE id = ?`, id)
	if lookup != nil || latest == nil || i >= len(latest.Posts) {
		s.log.Error("the end of a callback cannot be stored", "err", lookup)
		return
	}
	p := &latest.Posts[i]
	if ctx.Err() != nil && !connected.Load() {
		*p = post{Due: p.Due}
	} else {
		p.Ended, p.Status, p.Error = s.now(), status, plain(err)
	}
	if err := s.store.put(latest); err != nil {
		s.log.Error("the end of a callback cannot be stored", "err", err)
	}
	s.log.Info("callback", "phone", daraja.MaskPhone(r.Phone), "outcome", r.Outcome, "status", status, "err", plain(err))
	s.touch()
}

// send is one POST, with the headers that Daraja's were seen to have.
func (s *Sandbox) send(ctx context.Context, r *request) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.CallbackURL, strings.NewReader(r.Body))
	if err != nil {
		return 0, err
	}
	req.Close = true // a connection kept from before may be dead, and there is no second try
	req.Header.Set("Content-Type", "application/json;charset=UTF-8")
	req.Header.Set("BusinessShortCode", r.Shortcode)
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // nobody reads what the receiver says
	return resp.StatusCode, nil
}

// plain is an error without the address that was posted to: whoever knows that can post there.
func plain(err error) string {
	if err == nil {
		return ""
	}
	if wrapped, ok := err.(*url.Error); ok {
		err = wrapped.Err
	}
	return err.Error()
}
