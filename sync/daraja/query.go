package daraja

import (
	"context"
	"time"
)

// Answer is a query's answer that says what became of a payment. It never has a receipt.
type Answer struct {
	ResultCode        string
	ResultDesc        string
	MerchantRequestID string
}

// Query asks what became of a prompt. The oracle is weak: while a payment is in flight, and sometimes at random, it has no
// answer (an error that is InFlight), and it has contradicted true successes, so that a single "failed" proves little.
func (c *Client) Query(ctx context.Context, checkoutRequestID string) (Answer, error) {
	s := c.Shortcode
	if checkoutRequestID == "" {
		return Answer{}, refusal("query", "without a CheckoutRequestID there is nothing to ask about")
	}
	password, timestamp := s.password(time.Now())
	answer, err := c.post(ctx, "query", "/mpesa/stkpushquery/v1/query", queryTime, map[string]string{
		"BusinessShortCode": s.business(),
		"Password":          password,
		"Timestamp":         timestamp,
		"CheckoutRequestID": checkoutRequestID,
	})
	if err != nil {
		return Answer{}, err
	}
	return answer.result(checkoutRequestID)
}

// result reads the answer to a query.
func (r reply) result(checkoutRequestID string) (Answer, error) {
	if !r.ok() {
		return Answer{}, r.error()
	}
	var body struct {
		MerchantRequestID, CheckoutRequestID text
		ResponseCode, ResponseDescription    text
		ResultCode, ResultDesc               text
	}
	if err := unmarshal(r.body, &body); err != nil {
		return Answer{}, r.error()
	}
	r.code, r.message, r.requestID = string(body.ResultCode), string(body.ResultDesc), string(body.MerchantRequestID)
	switch {
	case body.CheckoutRequestID != "" && string(body.CheckoutRequestID) != checkoutRequestID:
		e := r.error()
		e.Code, e.Message = "", "the answer is about another request"
		return Answer{}, e
	case body.ResultCode == "":
		r.code, r.message = string(body.ResponseCode), "the answer has no result: "+string(body.ResponseDescription)
		return Answer{}, r.error()
	case body.ResultCode == "4999":
		e := r.error()
		e.Envelope = ""
		return Answer{}, e
	}
	return Answer{ResultCode: string(body.ResultCode), ResultDesc: r.clean(string(body.ResultDesc)), MerchantRequestID: string(body.MerchantRequestID)}, nil
}
