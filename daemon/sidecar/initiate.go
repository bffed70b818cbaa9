package sidecar

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// pushDeadline is how long one push may take with all that belongs to it. Daraja's client has its own, shorter ones.
const pushDeadline = 75 * time.Second

// initiate asks a customer for money. The answers:
//
//	200  data            PENDING: the prompt is on its way; FAILED: Daraja refused, or could not be reached;
//	                     or the payment as it stands, where nothing was to be sent
//	202  data            UNKNOWN: Daraja gave no clear answer, so the customer may have been prompted
//	400  problem         nothing was sent and there is no payment; likewise all below
//	404  no-such-session
//	409  prompt-live     this phone has a prompt; Retry-After
//	409  again-needed    the last payment has no result: it may be paid
//	410  session-expired the session was opened more than a day ago
//	429  too-many-prompts  of this phone, or of this session, were not paid; Retry-After. The app (with its key) and a till
//	                     may ask a phone all the same, one prompt at a time
//	429  till-limit      this till asks too often; Retry-After
//	422  key-reused      the Idempotency-Key was used for something else
//	503  no-callback-address
func (s *Sidecar) initiate(work context.Context) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		request, client, p := s.readInitiate(w, r)
		if p != nil {
			return p
		}
		till, byShop := s.asks(r)
		request.ByShop = byShop
		base := s.callbackBase()
		if base == "" {
			return noCallbackAddress()
		}
		if p := s.tillMay(r, till, &s.tillPrompts, "payments"); p != nil {
			return p
		}

		// From here on it does not matter whether the browser stays.
		ctx, cancel := context.WithTimeout(work, pushDeadline)
		begun, err := s.table.Begin(ctx, request)
		if err != nil {
			cancel()
			return s.beginProblem(err)
		}
		if !begun.Send {
			cancel()
			reply(w, http.StatusOK, begun.Payment.Data())
			return nil
		}
		done := make(chan correlate.Payment, 1)
		s.pushes.Go(func() {
			defer cancel()
			done <- s.push(ctx, begun.Payment, client, callbackURL(base, s.table.Ref(begun.Payment.ID)))
		})
		select {
		case payment := <-done:
			status := http.StatusOK
			if payment.Status == push.Unknown {
				status = http.StatusAccepted
			}
			reply(w, status, payment.Data())
		case <-r.Context().Done(): // nobody is there to be answered
		}
		return nil
	}
}

// readInitiate reads and checks the request, and fills in what the session has fixed.
func (s *Sidecar) readInitiate(w http.ResponseWriter, r *http.Request) (request correlate.Request, client *daraja.Client, p *problem) {
	var in struct {
		PhoneNumber      word   `json:"phoneNumber"`
		Amount           amount `json:"amount"`
		AccountReference word   `json:"accountReference"`
		Shortcode        word   `json:"shortcode"`
		Again            bool   `json:"again"`
	}
	if p = readJSON(w, r, &in); p != nil {
		return
	}
	session, p := s.knownSession(r.Context(), r.PathValue("session"))
	if p != nil {
		return request, client, p
	}
	request = correlate.Request{Session: session.ID, Again: in.Again, IdempotencyKey: r.Header.Get("Idempotency-Key")}
	if len(request.IdempotencyKey) > 255 {
		return request, client, badRequest("an Idempotency-Key has at most 255 characters")
	}

	if in.PhoneNumber == "" {
		return request, client, problemf(http.StatusBadRequest, "bad-phone", "phoneNumber is needed: the customer's, as 07XXXXXXXX, 01XXXXXXXX or 2547XXXXXXXX")
	}
	phone, err := daraja.NormalizePhone(string(in.PhoneNumber))
	if err != nil {
		return request, client, problemf(http.StatusBadRequest, "bad-phone", "phoneNumber is not a Kenyan mobile number: write it as 07XXXXXXXX, 01XXXXXXXX or 2547XXXXXXXX")
	}
	request.Phone = phone

	switch {
	case in.Amount.open:
		return request, client, problemf(http.StatusBadRequest, "bad-amount", "the amount is a number of shillings")
	case !in.Amount.given && session.Amount == 0:
		return request, client, problemf(http.StatusBadRequest, "bad-amount", "amount is needed: whole shillings")
	case !in.Amount.given:
		in.Amount.Money = session.Amount
	case session.Amount != 0 && in.Amount.Money != session.Amount:
		return request, client, problemf(http.StatusBadRequest, "other-amount", "this session is for KES %s", session.Amount)
	}
	if p := checkAmount(in.Amount.Money); p != nil {
		return request, client, p
	}
	request.Amount = in.Amount.Money

	request.AccountReference = strings.TrimSpace(string(in.AccountReference))
	if request.AccountReference == "" {
		request.AccountReference = session.AccountReference
	}
	if session.AccountReference != "" && request.AccountReference != session.AccountReference {
		return request, client, problemf(http.StatusBadRequest, "other-reference", "this session is for another accountReference: leave it out")
	}
	if p := checkReference(request.AccountReference); p != nil {
		return request, client, p
	}

	name := string(in.Shortcode)
	if name == "" {
		name = session.Shortcode
	}
	if client, p = s.settings.Load().client(name); p != nil {
		return request, client, p
	}
	code := client.Shortcode
	if session.Shortcode != "" && code.Name != session.Shortcode {
		return request, client, problemf(http.StatusBadRequest, "other-shortcode", "this session is for another shortcode: leave it out")
	}
	request.Shortcode, request.Number, request.Environment = code.Name, code.Number, code.Environment
	return request, client, nil
}

// asks says whether it is the app or a till that asks, and which till. Nobody needs to be either, so whoever is not is not told.
func (s *Sidecar) asks(r *http.Request) (till *correlate.Till, byShop bool) {
	if s.config.Dev { // everybody is the app
		return nil, false
	}
	till, p := s.admit(r)
	return till, p == nil
}

func (s *Sidecar) beginProblem(err error) *problem {
	var live *correlate.PromptLiveError
	var limit *correlate.LimitError
	switch {
	case errors.As(err, &live):
		return problemf(http.StatusConflict, "prompt-live", "this phone was just asked for a payment: wait until that request has ended").after(max(live.RetryAfter, time.Second))
	case errors.As(err, &limit) && limit.Session:
		return problemf(http.StatusTooManyRequests, "too-many-prompts", "this checkout has asked for a payment too often without one: wait, or begin a new checkout").after(limit.RetryAfter)
	case errors.As(err, &limit):
		return problemf(http.StatusTooManyRequests, "too-many-prompts", "this phone was asked for payments too often without one: wait, pay from another, or have the shop ask at its till").after(limit.RetryAfter)
	case errors.Is(err, correlate.ErrExpired):
		return problemf(http.StatusGone, "session-expired", "this checkout was opened more than a day ago: begin a new one")
	case errors.Is(err, correlate.ErrAgain):
		return problemf(http.StatusConflict, "again-needed", `nobody knows yet whether the last payment of this session was made: to charge again all the same, send "again": true`)
	case errors.Is(err, correlate.ErrIdempotency):
		return problemf(http.StatusUnprocessableEntity, "key-reused", "this Idempotency-Key belongs to another request")
	case errors.Is(err, correlate.ErrNotFound):
		return noSuchSession()
	case errors.Is(err, correlate.ErrPinned):
		return problemf(http.StatusBadRequest, "other-terms", "%s", correlate.ErrPinned)
	case errors.Is(err, correlate.ErrInvalid):
		return badRequest("%s", correlate.ErrInvalid)
	}
	return s.internal("begin a payment", err)
}

// push sends one prompt and records what came of it. The payment is on disk already: whatever happens here, its callback
// finds it. Nothing is ever sent a second time.
func (s *Sidecar) push(ctx context.Context, payment correlate.Payment, client *daraja.Client, callback string) correlate.Payment {
	log := s.log.With("payment", payment.ID, "shortcode", client.Shortcode.Name)
	ack, err := client.Push(ctx, daraja.PushRequest{
		Phone: payment.Phone, Amount: int64(payment.Amount / 100),
		AccountReference: payment.AccountReference, Description: payment.AccountReference, CallbackURL: callback,
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // what is known is written down in any case
	defer cancel()
	var now correlate.Payment
	var stored error
	switch {
	case err == nil:
		s.tally.prompted(client.Shortcode.Name, promptAccepted)
		now, stored = s.table.Accepted(ctx, payment.ID, ack.MerchantRequestID, ack.CheckoutRequestID)
	case daraja.Refused(err):
		s.tally.prompted(client.Shortcode.Name, promptRefused)
		outcome, resultCode, desc := daraja.RefusalOutcome(err)
		log.Warn("sidecar: push refused", "outcome", outcome, "err", err)
		now, stored = s.table.Refused(ctx, payment.ID, outcome, resultCode, desc)
	default:
		s.tally.prompted(client.Shortcode.Name, promptAmbiguous)
		now, stored = s.table.Ambiguous(ctx, payment.ID, err.Error())
	}
	if stored != nil {
		// The clock in the table makes it UNKNOWN, and its callback still finds it.
		log.Error("sidecar: the answer to a push could not be stored", "err", stored)
		return payment
	}
	return now
}

// limits is how many prompts may go unpaid. In dev a customer is a toy, and a class may share one phone.
func (c Config) limits() correlate.Limits {
	chosen := func(n, fallback int) int {
		if n == 0 && !c.Dev {
			return fallback
		}
		return max(n, 0)
	}
	return correlate.Limits{PhoneHour: chosen(c.PromptsPerPhone, 6), PhoneDay: chosen(c.PromptsPerPhoneDay, 20), SessionHour: chosen(c.PromptsPerSession, 10)}
}
