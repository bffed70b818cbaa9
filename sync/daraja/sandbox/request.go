package sandbox

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// A request goes sending → live → done, or sending → off → done for a phone that is switched off. Until it is done, its
// phone is locked for others.
const (
	stageSending = "sending" // accepted; the prompt is on its way
	stageLive    = "live"    // the prompt is on the phone
	stageOff     = "off"     // the prompt cannot be shown
	stageDone    = "done"
)

// request is one accepted push, from its acceptance to its last callback.
type request struct {
	MerchantRequestID string    `json:"id"`
	CheckoutRequestID string    `json:"checkout"`
	Shortcode         string    `json:"shortcode"`
	Payee             string    `json:"payee"` // PartyB: what the customer pays to
	Phone             string    `json:"phone"`
	Amount            int64     `json:"amount"` // whole shillings
	Reference         string    `json:"reference"`
	Description       string    `json:"description,omitempty"`
	CallbackURL       string    `json:"callbackURL"`
	Created           time.Time `json:"created"`
	Behaviour         Behaviour `json:"behaviour"` // as it was when the request came

	Stage   string    `json:"stage"`
	Due     time.Time `json:"due,omitzero"`   // when the stage ends by itself
	Then    outcome   `json:"then,omitempty"` // and how
	Shown   time.Time `json:"shown,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Ignored bool      `json:"ignored,omitempty"` // a person chose to leave it
	Asked   int       `json:"asked,omitempty"`   // queries about it while it was in flight

	Outcome outcome   `json:"outcome,omitempty"`
	Receipt string    `json:"receipt,omitempty"`
	Decided time.Time `json:"decided,omitzero"`
	Body    string    `json:"body,omitempty"` // of the callback
	Posts   []post    `json:"posts,omitempty"`
}

// post is one sending of the callback.
type post struct {
	Due    time.Time `json:"due"`
	Begun  time.Time `json:"begun,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
	Status int       `json:"status,omitempty"` // the receiver's
	Error  string    `json:"error,omitempty"`
}

// next is when something happens to the request by itself; zero: never.
func (r *request) next() time.Time {
	next := r.Due
	for _, p := range r.Posts {
		if p.Begun.IsZero() && (next.IsZero() || p.Due.Before(next)) {
			next = p.Due
		}
	}
	return next
}

// prompting reports whether the request still locks its phone.
func (r *request) prompting() bool { return r.Stage != stageDone }

// accept makes a request of a push. s.mu is held.
func (s *Sandbox) accept(p push, b Behaviour, now time.Time) *request {
	r := &request{
		MerchantRequestID: merchantRequestID(),
		CheckoutRequestID: checkoutRequestID(now, p.phone),
		Shortcode:         s.config.Shortcode,
		Payee:             p.payee,
		Phone:             p.phone,
		Amount:            p.amount,
		Reference:         p.reference,
		Description:       p.description,
		CallbackURL:       p.callbackURL,
		Created:           now,
		Behaviour:         b,
		Stage:             stageSending,
		Due:               now.Add(s.config.PromptDelay),
	}
	switch {
	case p.tooLong():
		r.Then = pushError
	case b.Callback == callbackBeforeAck:
		r.Due = now // its reply is waiting
	}
	return r
}

// advance moves a request on as far as its time has come, and names the posts that are to go out now. s.mu is held.
func (s *Sandbox) advance(r *request, now time.Time) (posts []int) {
	for !r.Due.IsZero() && !r.Due.After(now) {
		switch {
		case r.Stage == stageSending && r.Then != pushError:
			s.show(r, now)
		default:
			s.decide(r, r.Then, now)
		}
	}
	for i := range r.Posts {
		if p := &r.Posts[i]; p.Begun.IsZero() && !p.Due.After(now) {
			p.Begun = now
			posts = append(posts, i)
		}
	}
	return posts
}

// show puts the prompt on the phone, if the phone is on.
func (s *Sandbox) show(r *request, now time.Time) {
	r.Shown, r.Expires = now, now.Add(s.config.PromptTimeout)
	switch r.Then = r.Behaviour.Auto; r.Then {
	case off:
		r.Shown = time.Time{}
		r.Stage, r.Due = stageOff, s.unreachable(now)
	case "":
		r.Stage, r.Due, r.Then = stageLive, r.Expires, ignore
	case ignore:
		r.Stage, r.Due = stageLive, r.Expires
	default:
		r.Stage, r.Due = stageLive, earlier(now.Add(s.config.AnswerDelay), r.Expires)
	}
	s.log.Info("prompt", "phone", daraja.MaskPhone(r.Phone), "amount", r.Amount, "shown", r.Stage == stageLive)
}

// unreachable is when Daraja gives up on a phone that is off: about half as long as it waits for an answer (26 to 40 s
// were seen).
func (s *Sandbox) unreachable(now time.Time) time.Time { return now.Add(s.config.PromptTimeout / 2) }

// decide ends the prompt and says what callbacks there will be. s.mu is held.
func (s *Sandbox) decide(r *request, o outcome, now time.Time) {
	r.Stage, r.Due, r.Then = stageDone, time.Time{}, ""
	r.Outcome, r.Decided = o, now
	if o == approve {
		r.Receipt = s.receipt(now)
	}
	r.Body = callbackBody(r, randomBelow(2) == 0)
	delay := s.config.CallbackDelay
	switch r.Behaviour.Callback {
	case callbackLate:
		delay = time.Duration(r.Behaviour.Late)
	case callbackBeforeAck:
		delay = 0
	case callbackNever, callbackNeverSilent:
		s.log.Info("no callback, as was asked", "phone", daraja.MaskPhone(r.Phone), "outcome", o)
		return
	}
	r.Posts = append(r.Posts, post{Due: now.Add(delay)})
	if r.Behaviour.Callback == callbackTwice {
		r.Posts = append(r.Posts, post{Due: now.Add(delay + time.Second)})
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// receipt mints a receipt number that nobody has yet. s.mu is held.
func (s *Sandbox) receipt(now time.Time) string {
	for {
		receipt := receiptNumber(now)
		if taken, err := s.store.receiptTaken(receipt); !taken || err != nil {
			return receipt // an error will come up again when the request is stored
		}
	}
}

// receiptNumber begins with the date in Nairobi: a letter for the year (2026 is U), a letter for the month (A to L), and
// 1 to 9 or A to V for the day. Seven letters and digits follow.
func receiptNumber(now time.Time) string {
	const alphabet = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	year, month, day := now.In(daraja.Nairobi).Date()
	b := []byte{'A' + byte(((year-2006)%26+26)%26), 'A' + byte(month-1), alphabet[day-1]}
	for len(b) < 10 {
		b = append(b, alphabet[randomBelow(int64(len(alphabet)))])
	}
	return string(b)
}

// merchantRequestID has the form of 2024 and later: 2654-4b64-97ff-b827b542881d3130.
func merchantRequestID() string {
	b := randomBytes(12)
	b[2], b[4] = 0x40|b[2]&0x0f, 0x80|b[4]&0x3f
	return fmt.Sprintf("%x-%x-%x-%x%d", b[:2], b[2:4], b[4:6], b[6:], 1000+randomBelow(9_000_000))
}

// requestID names a refused call, in the same form.
func requestID() string { return merchantRequestID() }

// checkoutRequestID has the form of late 2022 and later: the time in Nairobi to the millisecond, then the last nine digits
// of the phone. Like Daraja's it is not unique.
func checkoutRequestID(now time.Time, phone string) string {
	eat := now.In(daraja.Nairobi)
	return fmt.Sprintf("ws_CO_%s%03d%s", eat.Format("02012006150405"), eat.Nanosecond()/int(time.Millisecond), phone[len(phone)-9:])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func randomBelow(n int64) int64 {
	i, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return i.Int64()
}
