package correlate

import (
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// Payment is one STK push and all that is known about it. A Payment is a value: changing one changes nothing else.
type Payment struct {
	ID      string // 32 hex digits, ours
	Session string
	Attempt int // 1 for the session's first payment

	Phone            string     // as 2547XXXXXXXX; "" if an app's own push did not say
	Amount           push.Money // asked for; 0 if not known
	AccountReference string
	Shortcode        string // its name in the configuration
	Number           string // what customers pay to
	Environment      string // "sandbox" or "production"
	IdempotencyKey   string
	HasRef           bool // its callback address carries a ref, and only that ref settles it
	Created          time.Time

	MerchantRequestID string
	CheckoutRequestID string

	Status        push.Status
	Outcome       daraja.Outcome
	ResultCode    string
	ResultDesc    string
	Receipt       string
	CompletedAt   time.Time
	AmountChecked bool   // the amount paid was seen and is the one asked for
	Callback      string // the callback that changed it last, if one did

	Doubt     string // what stands against what was said of it, or "": see DoubtSuspect
	DecidedBy string // the person who has confirmed or denied it, if one has

	held     string    // the success that waits until Daraja was asked: its callback, a space, its receipt
	notices  []notice  // what callbacks said other than success
	answered notice    // the failure that a query answered and that waits for a second answer
	answerAt time.Time // when it did first
	silentAt time.Time // when PENDING becomes UNKNOWN
	askAt    time.Time // when Daraja is to be asked; zero: not
	askedAt  time.Time // when it was asked last

	row     int64  // in the table of payments
	indexed bool   // Daraja's ids are in that row
	weighed belief // what that row says
	event   uint64 // its newest event
}

// The doubts. They stand until there is a result, DoubtTwice until a person has looked.
const (
	DoubtSuspect = "suspect"    // something was said of it that is not believed, and Daraja is asked
	DoubtLarge   = "large"      // its success is believed, and so large that Daraja is asked first
	DoubtTwice   = "paid_twice" // it is paid, and M-Pesa has told of it with two receipts
)

// belief is what is stored apart, for few payments have any of it.
type belief struct{ doubt, held, decided string }

func (p *Payment) belief() belief { return belief{p.Doubt, p.held, p.DecidedBy} }

// open reports whether news of the payment are waited for: of one that has failed, too, if there is a doubt.
func (p *Payment) open() bool {
	return !p.Status.Ended() || p.Status == push.Failed && p.Doubt != ""
}

// A notice is a result that is not success. It is kept by its code, with the place of the first callback that said so:
// repetitions change nothing, and among failures the last one wins, in whatever order they arrive: see before.
type notice struct {
	Code    string         `json:"code"`
	Desc    string         `json:"desc,omitempty"`
	Outcome daraja.Outcome `json:"outcome"`
	Epoch   uint64         `json:"epoch,omitempty"`
	Seq     uint64         `json:"seq,omitempty"`
	At      int64          `json:"at,omitempty"` // when it was received, ms
}

// Asking reports whether Daraja is still going to be asked about the payment.
func (p Payment) Asking() bool { return !p.askAt.IsZero() }

// Data is what subscribers see of the payment.
func (p Payment) Data() push.Data {
	d := push.Data{
		Status:             p.Status,
		PaymentID:          p.ID,
		MerchantRequestID:  p.MerchantRequestID,
		CheckoutRequestID:  p.CheckoutRequestID,
		Timestamp:          push.Time{Time: p.Created},
		ResultCode:         push.ResultCode(p.ResultCode),
		ResultDesc:         p.ResultDesc,
		MpesaReceiptNumber: p.Receipt,
		CompletedAt:        push.Time{Time: p.CompletedAt},
		Outcome:            string(p.Outcome),
		Amount:             p.Amount,
		AmountChecked:      p.AmountChecked,
		AccountReference:   p.AccountReference,
		Shortcode:          p.Number,
		Attempt:            p.Attempt,
		Doubt:              p.Doubt,
	}
	if p.Phone != "" {
		d.PhoneNumber = daraja.MaskPhone(p.Phone)
	}
	s := p.sentence()
	d.Reason, d.ReasonSw = s.En, s.Sw
	return d
}

// sentence promises that we check only where somebody will.
func (p Payment) sentence() daraja.Sentence {
	asking := p.Asking()
	switch {
	case p.Doubt == DoubtTwice:
		return daraja.SentencePaidTwice()
	case p.Doubt == DoubtLarge && asking:
		return daraja.SentenceHeld()
	case p.Doubt == DoubtLarge:
		return daraja.SentenceHeldUnasked()
	case p.Doubt != "" && asking:
		return daraja.SentenceDoubted()
	case p.Doubt != "":
		return daraja.SentenceDoubtedUnasked()
	case p.Status == push.Success && p.DecidedBy != "" && p.Callback == "":
		return daraja.SentenceConfirmed()
	}
	switch p.Status {
	case push.Pending:
		return daraja.SentencePending()
	case push.Unknown:
		if asking {
			return daraja.SentenceUnknownAsking()
		}
		return daraja.SentenceUnknownUnasked()
	}
	return p.Outcome.Sentence()
}
