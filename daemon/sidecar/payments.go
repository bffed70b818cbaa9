package sidecar

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// view is a payment as the app sees it: its data, and what else the app must know.
type view struct {
	push.Data
	Session     string `json:"session"`
	Environment string `json:"environment,omitempty"` // sandbox or production: sums never mix them
	DecidedBy   string `json:"decidedBy,omitempty"`   // the person who has confirmed or denied it
	CallbackURL string `json:"callbackUrl,omitempty"` // where Daraja is to send the answer, of a payment that the app will push
}

func views(payments []correlate.Payment) []view {
	list := make([]view, len(payments))
	for i, p := range payments {
		list[i] = viewOf(p)
	}
	return list
}

func viewOf(p correlate.Payment) view {
	return view{Data: p.Data(), Session: p.Session, Environment: p.Environment, DecidedBy: p.DecidedBy}
}

// registerPayment takes up a push that the app makes itself: after it, with Daraja's own ack; or before it, and then the
// answer has the address at which its callback is to come.
func (s *Sidecar) registerPayment(w http.ResponseWriter, r *http.Request) *problem {
	var in struct {
		MerchantRequestID string // as Daraja's ack writes them; encoding/json takes merchantRequestId too
		CheckoutRequestID string
		PaymentID         string `json:"paymentId"`
		Session           string `json:"session"`
		Amount            amount `json:"amount"`
		PhoneNumber       word   `json:"phoneNumber"`
		AccountReference  word   `json:"accountReference"`
		Shortcode         word   `json:"shortcode"`
		ResponseCode      word   // of an ack that is one: 0
		ErrorCode         word   `json:"errorCode"` // of Daraja's errors
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	if in.ErrorCode != "" || in.ResponseCode != "" && in.ResponseCode != "0" {
		return problemf(http.StatusBadRequest, "refused-push", "Daraja refused this push, so there is nothing to follow")
	}
	registration := correlate.Registration{
		PaymentID: in.PaymentID, Session: in.Session,
		MerchantRequestID: in.MerchantRequestID, CheckoutRequestID: in.CheckoutRequestID,
		AccountReference: strings.TrimSpace(string(in.AccountReference)),
	}
	if (in.MerchantRequestID == "") != (in.CheckoutRequestID == "") {
		return badRequest("Daraja gives MerchantRequestID and CheckoutRequestID together: send both, or neither to reserve a payment")
	}
	if in.PaymentID != "" && in.MerchantRequestID == "" {
		return badRequest("a reserved payment is completed with MerchantRequestID and CheckoutRequestID")
	}
	if len(in.MerchantRequestID) > 128 || len(in.CheckoutRequestID) > 128 || len(in.PaymentID) > 128 || len(registration.AccountReference) > 128 {
		return badRequest("an id or a reference has at most 128 characters")
	}
	if in.Amount.open || in.Amount.Money < 0 {
		return problemf(http.StatusBadRequest, "bad-amount", "the amount is a number of shillings")
	}
	registration.Amount = in.Amount.Money
	if in.PhoneNumber != "" {
		phone, err := daraja.NormalizePhone(string(in.PhoneNumber))
		if err != nil {
			return problemf(http.StatusBadRequest, "bad-phone", "phoneNumber is not a Kenyan mobile number")
		}
		registration.Phone = phone
	}
	if in.Session != "" {
		r.SetPathValue("session", in.Session)
		if p := checkSessionID(r); p != nil {
			return p
		}
	}
	// The app may push for a shortcode that this sidecar has no credentials for: then nobody names one.
	if set := s.settings.Load(); in.Shortcode != "" || len(set.config.Shortcodes) == 1 {
		client, p := set.client(string(in.Shortcode))
		if p != nil {
			return p
		}
		code := client.Shortcode
		registration.Shortcode, registration.Number, registration.Environment = code.Name, code.Number, code.Environment
	}
	reserving := in.MerchantRequestID == ""
	base := s.callbackBase()
	if reserving && base == "" {
		return noCallbackAddress()
	}

	payment, err := s.table.Register(r.Context(), registration)
	switch {
	case errors.Is(err, correlate.ErrNotFound):
		return problemf(http.StatusNotFound, "not-found", "no such session or reserved payment")
	case errors.Is(err, correlate.ErrConflict):
		return problemf(http.StatusConflict, "other-payment", "%s", correlate.ErrConflict)
	case errors.Is(err, correlate.ErrPinned):
		return problemf(http.StatusBadRequest, "other-terms", "%s", correlate.ErrPinned)
	case errors.Is(err, correlate.ErrInvalid):
		return badRequest("%s", correlate.ErrInvalid)
	case err != nil:
		return s.internal("register a payment", err)
	}
	out := viewOf(payment)
	if reserving {
		out.CallbackURL = callbackURL(base, s.table.Ref(payment.ID))
	}
	w.Header().Set("Location", s.addressFor(r)+"/payments/"+payment.ID)
	reply(w, http.StatusCreated, out)
	return nil
}

func (s *Sidecar) getPayment(w http.ResponseWriter, r *http.Request) *problem {
	payment, err := s.table.Payment(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, correlate.ErrNotFound):
		return problemf(http.StatusNotFound, "not-found", "no such payment")
	case err != nil:
		return s.internal("look up a payment", err)
	}
	reply(w, http.StatusOK, viewOf(payment))
	return nil
}

// listPayments answers payments, newest first, and a cursor: whoever goes on with /events?after= from there misses
// nothing between list and stream.
func (s *Sidecar) listPayments(w http.ResponseWriter, r *http.Request) *problem {
	q := r.URL.Query()
	filter := correlate.Filter{Status: q.Get("status"), Session: q.Get("session"), Shortcode: q.Get("shortcode"), After: q.Get("after")}
	switch doubt := q.Get("doubt"); doubt {
	case "":
	case "true":
		filter.Doubted = true
	default:
		return badRequest("doubt is true, or left out")
	}
	switch push.Status(filter.Status) {
	case "", push.Pending, push.Success, push.Failed, push.Unknown:
	default:
		return badRequest("status is PENDING, SUCCESS, FAILED or UNKNOWN")
	}
	if filter.Shortcode != "" {
		if client, p := s.settings.Load().client(filter.Shortcode); p == nil { // else perhaps one of the past
			filter.Shortcode = client.Shortcode.Name
		}
	}
	var p *problem
	if filter.Limit, p = pageSize(r, 100, 500); p != nil {
		return p
	}
	if filter.From, p = instant(q.Get("from"), false); p != nil {
		return p
	}
	if filter.To, p = instant(q.Get("to"), true); p != nil {
		return p
	}
	if p = pageCursor(filter.After); p != nil {
		return p
	}
	head := s.cursor(s.hub.Head()) // before the list is read
	payments, next, err := s.table.Payments(r.Context(), filter)
	if err != nil {
		return s.internal("list payments", err)
	}
	reply(w, http.StatusOK, struct {
		Payments []view      `json:"payments"`
		Next     string      `json:"next,omitempty"`
		Head     push.Cursor `json:"head"`
	}{views(payments), next, head})
	return nil
}

// instant reads a time, or a day: of Nairobi, and whole. Today and yesterday are days.
func instant(text string, end bool) (time.Time, *problem) {
	switch ago, named := map[string]int{"today": 0, "yesterday": 1}[text]; {
	case text == "":
		return time.Time{}, nil
	case named:
		text = time.Now().In(daraja.Nairobi).AddDate(0, 0, -ago).Format(time.DateOnly)
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, daraja.Nairobi); err == nil {
		if end {
			day = day.AddDate(0, 0, 1)
		}
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, badRequest("a time is written as 2026-01-31T08:00:00Z, a day as 2026-01-31, today or yesterday")
	}
	return at, nil
}

// searchPayments finds payments by what a person holds in hand. It is a POST because numbers of customers have no place
// in addresses and logs.
func (s *Sidecar) searchPayments(w http.ResponseWriter, r *http.Request) *problem {
	var in struct {
		Receipt           word `json:"receipt"`
		MpesaReceipt      word `json:"mpesaReceiptNumber"`
		CheckoutRequestID word `json:"checkoutRequestId"`
		PhoneNumber       word `json:"phoneNumber"`
		Limit             int  `json:"limit"`
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	query := correlate.Query{Receipt: strings.ToUpper(strings.TrimSpace(string(in.Receipt + in.MpesaReceipt))), CheckoutRequestID: string(in.CheckoutRequestID), Limit: in.Limit}
	if in.PhoneNumber != "" {
		phone, err := daraja.NormalizePhone(string(in.PhoneNumber))
		if err != nil {
			return problemf(http.StatusBadRequest, "bad-phone", "phoneNumber is not a Kenyan mobile number")
		}
		query.Phone = phone
	}
	if query.Receipt == "" && query.CheckoutRequestID == "" && query.Phone == "" {
		return badRequest("search by receipt, checkoutRequestId or phoneNumber")
	}
	if query.Limit < 0 || query.Limit > 500 {
		return badRequest("limit is a number from 1 to 500")
	}
	payments, err := s.table.Search(r.Context(), query)
	if err != nil {
		return s.internal("search payments", err)
	}
	reply(w, http.StatusOK, map[string][]view{"payments": views(payments)})
	return nil
}
