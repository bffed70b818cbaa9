package sandbox

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// answer is the reply to a query. Every code in it is a string.
type answer struct {
	ResponseCode        string
	ResponseDescription string
	MerchantRequestID   string
	CheckoutRequestID   string
	ResultCode          string
	ResultDesc          string
}

// query is POST /mpesa/stkpushquery/v1/query: what became of a prompt, sometimes.
func (s *Sandbox) query(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.refused(w, r, methodNotAllowed())
		return
	}
	if bad := s.authorised(r); bad != nil {
		s.refused(w, r, bad)
		return
	}
	if !s.mayQuery() {
		s.arrest(w)
		return
	}
	f, bad := readFields(w, r)
	if bad == nil {
		bad = s.merchant(f)
	}
	var a answer
	if bad == nil {
		a, bad = s.find(f["CheckoutRequestID"])
	}
	if bad != nil {
		s.refused(w, r, bad)
		return
	}
	reply(w, http.StatusOK, a)
}

// find answers a query with the truth, or while there is none yet as vaguely as Daraja does.
func (s *Sandbox) find(checkout string) (answer, *fault) {
	if !strings.HasPrefix(checkout, "ws_CO_") {
		return answer{}, invalid("CheckoutRequestID")
	}
	noise := func(message string) *fault { return refuse(http.StatusInternalServerError, "500.001.1001", message) }
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.store.request(`WHERE checkout = ? ORDER BY created DESC, rowid DESC`, checkout)
	switch {
	case err != nil:
		return answer{}, s.internal(err)
	case r == nil:
		return answer{}, noise("The transaction does not Exist")
	case r.Behaviour.Callback == callbackNeverSilent:
		return answer{}, noise("The transaction is being processed")
	case r.Stage == stageSending:
		return answer{}, noise("The transaction is being processed")
	case r.prompting():
		r.Asked++
		if err := s.store.put(r); err != nil {
			return answer{}, s.internal(err)
		}
		if r.Asked%4 == 0 { // of 19 polls of one known id, 4 came back so
			return answer{}, noise("")
		}
		return s.answerTo(r, "4999", "The transaction is still under processing"), nil
	}
	code, _, text := r.Outcome.result()
	return s.answerTo(r, code, text), nil
}

func (s *Sandbox) answerTo(r *request, code, text string) answer {
	return answer{
		ResponseCode:        "0",
		ResponseDescription: "The service request has been accepted successsfully", // spelt so by the real one
		MerchantRequestID:   r.MerchantRequestID,
		CheckoutRequestID:   r.CheckoutRequestID,
		ResultCode:          code,
		ResultDesc:          text,
	}
}

// mayQuery lets queries through evenly: after each there is a pause, and nothing is saved up for a burst.
func (s *Sandbox) mayQuery() bool {
	if s.config.QueryPerMinute < 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Before(s.nextQuery) {
		return false
	}
	s.nextQuery = now.Add(time.Minute / time.Duration(s.config.QueryPerMinute))
	return true
}

// arrest is the reply to a query too many. It comes from the gateway, in an envelope of its own.
func (s *Sandbox) arrest(w http.ResponseWriter) {
	type detail struct {
		ErrorCode string `json:"errorcode"`
	}
	type fault struct {
		FaultString string `json:"faultstring"`
		Detail      detail `json:"detail"`
	}
	reply(w, http.StatusTooManyRequests, struct {
		Fault fault `json:"fault"`
	}{fault{
		fmt.Sprintf("Spike arrest violation. Allowed rate : MessageRate{messagesPerPeriod=%d, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}", s.config.QueryPerMinute),
		detail{"policies.ratelimit.SpikeArrestViolation"},
	}})
}
