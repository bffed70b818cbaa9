package sandbox

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// heldBack is how long the reply to a push waits for a callback that is to go out first.
const heldBack = 25 * time.Second

// processRequest is POST /mpesa/stkpush/v1/processrequest: a prompt for one phone.
func (s *Sandbox) processRequest(w http.ResponseWriter, r *http.Request) {
	accepted, bad := s.admit(w, r)
	if bad != nil {
		if pause(r.Context(), s.config.AckDelay) {
			s.refused(w, r, bad)
		}
		return
	}
	b := accepted.Behaviour
	switch {
	case b.Callback == callbackBeforeAck && accepted.Stage != "":
		s.holdBack(r.Context(), accepted.MerchantRequestID)
	case b.Ack == ackSlow:
		pause(r.Context(), time.Duration(b.Slow))
	default:
		pause(r.Context(), s.config.AckDelay)
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client went away, or this sandbox is stopping: either way there is no reply
	}
	switch b.Ack {
	case ackLost:
		panic(http.ErrAbortHandler)
	case ackError:
		s.refused(w, r, refuse(http.StatusInternalServerError, "500.003.1001", "Internal Server Error").because("as was asked of this phone; the prompt goes out all the same"))
	case ackHTML:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, firewallPage)
	default:
		reply(w, http.StatusOK, struct {
			MerchantRequestID   string
			CheckoutRequestID   string
			ResponseCode        string
			ResponseDescription string
			CustomerMessage     string
		}{accepted.MerchantRequestID, accepted.CheckoutRequestID, "0", "Success. Request accepted for processing", "Success. Request accepted for processing"})
	}
}

// firewallPage is what the firewall in front of Daraja's sandbox sends to callers it does not like.
const firewallPage = `<html style="height:100%"><head><META NAME="ROBOTS" CONTENT="NOINDEX, NOFOLLOW"></head>` +
	`<body style="margin:0px;height:100%">Request unsuccessful. Incapsula incident ID: 0-000000000000000000</body></html>`

// admit checks a push and stores it. A request without a stage is one that the firewall kept out.
func (s *Sandbox) admit(w http.ResponseWriter, r *http.Request) (*request, *fault) {
	if r.Method != http.MethodPost {
		return nil, methodNotAllowed()
	}
	if bad := s.authorised(r); bad != nil {
		return nil, bad
	}
	f, bad := readFields(w, r)
	if bad != nil {
		return nil, bad
	}
	if bad := s.merchant(f); bad != nil {
		return nil, bad
	}
	p, bad := readPush(f)
	if bad != nil {
		return nil, bad
	}
	if err := s.waitForPhone(r.Context(), p.phone); err != nil {
		return nil, s.internal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch other, err := s.store.request(`WHERE phone = ? AND stage <> ?`, p.phone, stageDone); {
	case err != nil:
		return nil, s.internal(err)
	case other != nil:
		return nil, refuse(http.StatusInternalServerError, "500.001.1001",
			"Unable to lock subscriber, a transaction is already in process for the current subscriber")
	}
	b, err := s.takeBehaviour(p.phone)
	if err != nil {
		return nil, s.internal(err)
	}
	if b.Ack == ackHTML {
		s.touch()
		return &request{Behaviour: b}, nil
	}
	accepted := s.accept(p, b, s.now())
	if err := s.store.put(accepted); err != nil {
		return nil, s.internal(err)
	}
	s.log.Info("push", "phone", daraja.MaskPhone(p.phone), "amount", p.amount)
	s.touch()
	return accepted, nil
}

// holdBack waits until the callback of a request has gone out.
func (s *Sandbox) holdBack(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, heldBack)
	defer cancel()
	s.await(ctx, func() (bool, error) {
		r, err := s.store.request(`WHERE id = ?`, id)
		return err == nil && r != nil && len(r.Posts) > 0 && !r.Posts[0].Ended.IsZero(), err
	})
}
