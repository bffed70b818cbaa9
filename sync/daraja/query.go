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
		MerchantRequestID, CheckoutRequestID fact
		ResponseCode, ResultCode             fact
		ResponseDescription, ResultDesc      text
	}
	if err := unmarshal(r.body, &body); err != nil {
		return Answer{}, r.error()
	}
	code, about := body.ResultCode.text, body.CheckoutRequestID.text
	r.code, r.message, r.requestID = code, string(body.ResultDesc), body.MerchantRequestID.text
	switch {
	case about != "" && about != checkoutRequestID:
		e := r.error()
		e.Code, e.Message = "", "the answer is about another request"
		return Answer{}, e
	case about == "" && OutcomeOf(code) == OutcomePaid: // SUCCESS is for good, so nobody may have to guess whose
		e := r.error()
		e.Code, e.Message = "", "the answer says paid and does not say what"
		return Answer{}, e
	case !body.ResultCode.usable(), !accepted(body.ResponseCode.text):
		r.code, r.message = body.ResponseCode.text, "the answer has no result: "+string(body.ResponseDescription)
		return Answer{}, r.error()
	case code == "4999":
		e := r.error()
		e.Envelope = ""
		return Answer{}, e
	}
	return Answer{ResultCode: code, ResultDesc: r.clean(string(body.ResultDesc)), MerchantRequestID: body.MerchantRequestID.text}, nil
}
