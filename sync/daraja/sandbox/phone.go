package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// Answer is what a person, or a script, does with a prompt.
type Answer struct {
	ID      string  `json:"id"`      // of the prompt; "": the newest
	Phone   string  `json:"phone"`   // only prompts of this phone; "": of any
	Outcome outcome `json:"outcome"` // what to do
	PIN     string  `json:"pin"`     // with approve: any four digits; 0000 is wrong; "" is a right one
	Wait    Seconds `json:"wait"`    // for a prompt to appear; none is needed for one that is already on its way
}

// State is what the phone shows.
type State struct {
	Time       time.Time            `json:"time"` // of this sandbox's clock
	Business   string               `json:"business"`
	Shortcode  string               `json:"shortcode"`
	Prompts    []Request            `json:"prompts"`              // on the screen, newest first
	Pending    []Request            `json:"pending"`              // on their way, or for a phone that is off
	History    []Request            `json:"history"`              // ended, newest first, the last 20
	Behaviour  Behaviour            `json:"behaviour"`            // of every phone without its own
	Behaviours map[string]Behaviour `json:"behaviours,omitempty"` // of phones that have their own
}

// Request is one prompt, as the control routes tell of it.
type Request struct {
	ID                string    `json:"id"`
	MerchantRequestID string    `json:"merchantRequestId"`
	CheckoutRequestID string    `json:"checkoutRequestId"`
	Phone             string    `json:"phone"`
	Business          string    `json:"business"`
	Payee             string    `json:"payee"`
	Amount            int64     `json:"amount"`
	AccountReference  string    `json:"accountReference"`
	Description       string    `json:"description,omitempty"`
	Stage             string    `json:"stage"`
	Ignored           bool      `json:"ignored,omitempty"` // somebody chose to leave it; it can still be answered
	Created           time.Time `json:"created"`
	Shown             time.Time `json:"shown,omitzero"`
	Expires           time.Time `json:"expires,omitzero"`
	Behaviour         Behaviour `json:"behaviour"`
	Outcome           outcome   `json:"outcome,omitempty"`
	ResultCode        string    `json:"resultCode,omitempty"`
	ResultDesc        string    `json:"resultDesc,omitempty"`
	Receipt           string    `json:"receipt,omitempty"`
	Decided           time.Time `json:"decided,omitzero"`
	Callbacks         []Sending `json:"callbacks"`
}

// Sending is one callback.
type Sending struct {
	State  string    `json:"state"` // waiting, sending, delivered (any answer below 300), refused (any other), lost (nobody answered)
	Due    time.Time `json:"due"`
	Ended  time.Time `json:"ended,omitzero"`
	Status int       `json:"status,omitempty"`
	Error  string    `json:"error,omitempty"`
}

func (s *Sandbox) view(r *request) Request {
	v := Request{
		ID:                r.MerchantRequestID,
		MerchantRequestID: r.MerchantRequestID,
		CheckoutRequestID: r.CheckoutRequestID,
		Phone:             r.Phone,
		Business:          s.config.Business,
		Payee:             r.Payee,
		Amount:            r.Amount,
		AccountReference:  r.Reference,
		Description:       r.Description,
		Stage:             r.Stage,
		Ignored:           r.Ignored,
		Created:           r.Created,
		Shown:             r.Shown,
		Expires:           r.Expires,
		Behaviour:         r.Behaviour,
		Outcome:           r.Outcome,
		Receipt:           r.Receipt,
		Decided:           r.Decided,
		Callbacks:         []Sending{},
	}
	if r.Stage == stageDone {
		v.ResultCode, v.ResultDesc, _ = r.Outcome.result()
	}
	for _, p := range r.Posts {
		sending := Sending{State: "waiting", Due: p.Due, Ended: p.Ended, Status: p.Status, Error: p.Error}
		switch {
		case p.Begun.IsZero():
		case p.Ended.IsZero():
			sending.State = "sending"
		case p.Status == 0:
			sending.State = "lost"
		case p.Status < 300:
			sending.State = "delivered"
		default:
			sending.State = "refused"
		}
		v.Callbacks = append(v.Callbacks, sending)
	}
	return v
}

// state is what the phone shows now, and a channel that is closed when that is no longer so.
func (s *Sandbox) state() (State, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Time: s.now(), Business: s.config.Business, Shortcode: s.config.Shortcode, Prompts: []Request{}, Pending: []Request{}, History: []Request{}}
	open, err := s.store.requests(`WHERE stage <> ? ORDER BY created DESC, rowid DESC`, stageDone)
	if err != nil {
		return State{}, nil, err
	}
	for _, r := range open {
		if r.Stage == stageLive {
			st.Prompts = append(st.Prompts, s.view(r))
		} else {
			st.Pending = append(st.Pending, s.view(r))
		}
	}
	slices.SortStableFunc(st.Prompts, func(a, b Request) int { return b.Shown.Compare(a.Shown) })
	done, err := s.store.requests(`WHERE stage = ? ORDER BY created DESC, rowid DESC LIMIT 20`, stageDone)
	if err != nil {
		return State{}, nil, err
	}
	for _, r := range done {
		st.History = append(st.History, s.view(r))
	}
	if st.Behaviours, err = s.store.behaviours(); err != nil {
		return State{}, nil, err
	}
	st.Behaviour = st.Behaviours[""]
	delete(st.Behaviours, "")
	return st, s.changed, nil
}

// errNoPrompt says that there is nothing to answer.
var errNoPrompt = errors.New("no payment request is on the phone; ask for a payment first, or give a wait such as \"10s\"")

// findPrompt is the prompt that an answer means: nil if it has yet to appear, and whether one is coming. s.mu is held.
func (s *Sandbox) findPrompt(a Answer) (live *request, coming bool, err error) {
	open, err := s.store.requests(`WHERE stage <> ? ORDER BY created DESC, rowid DESC`, stageDone)
	if err != nil {
		return nil, false, err
	}
	for _, r := range open {
		switch {
		case a.ID != "" && a.ID != r.MerchantRequestID, a.Phone != "" && a.Phone != r.Phone:
		case r.Stage == stageLive && (live == nil || r.Shown.After(live.Shown)):
			live = r
		case r.Stage == stageSending && r.Then != pushError && r.Behaviour.Auto != off:
			coming = true
		}
	}
	return live, coming, nil
}

// apply does with a prompt what the answer says. s.mu is held.
func (s *Sandbox) apply(r *request, a Answer) error {
	now := s.now()
	switch o := a.Outcome; {
	case o == ignore:
		r.Due, r.Then, r.Ignored = r.Expires, ignore, true
	case o == off:
		r.Stage, r.Then, r.Due = stageOff, off, earlier(s.unreachable(now), r.Expires)
	case o == approve && a.PIN == "0000":
		s.decide(r, wrongPIN, now)
	default:
		s.decide(r, o, now)
	}
	if err := s.store.put(r); err != nil {
		return err
	}
	s.log.Info("answer", "phone", daraja.MaskPhone(r.Phone), "outcome", a.Outcome)
	s.touch()
	return nil
}

// check finds fault with an answer before a prompt is looked for.
func (a Answer) check() error {
	switch {
	case a.Outcome == "":
		return fmt.Errorf("outcome is missing; it is one of %s", outcomeList())
	case !slices.Contains(outcomes[:], a.Outcome):
		return fmt.Errorf("outcome %q is not one of %s", a.Outcome, outcomeList())
	case a.PIN != "" && a.Outcome != approve:
		return errors.New("a pin goes only with the outcome approve")
	case a.PIN != "" && !digits(a.PIN, 4, 4):
		return errors.New("a pin is four digits") // the pin itself is nobody's business
	case a.Wait < 0:
		return errors.New("wait is not negative")
	}
	return nil
}

// again sends the callback of an ended request once more, or for the first time. Daraja never does; a person at a demo may.
func (s *Sandbox) again(id string) (*request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.store.request(`WHERE id = ? AND stage = ?`, id, stageDone)
	if err != nil || r == nil {
		return nil, err
	}
	r.Posts = append(r.Posts, post{Due: s.now()})
	if err := s.store.put(r); err != nil {
		return nil, err
	}
	s.touch()
	return r, nil
}
