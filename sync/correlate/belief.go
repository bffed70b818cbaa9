package correlate

import (
	"crypto/hmac"
	"fmt"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A verdict is what is thought of a callback.
type verdict struct {
	state   string          // unparsed, unmatched or suspect; "" if it is believed
	why     string          // for people; says nothing that must not be logged
	payment *Payment        // that it is about, if that is known
	said    daraja.Callback // what it says, unless unparsed
}

// judge decides whether a callback is to be believed, and of which payment it speaks. Daraja signs nothing. What counts
// is the address it was posted to: a ref with the right code was told to nobody but Daraja.
//
//	ref with a right code       its payment, unless the ids are known to be others
//	ref with a wrong code       forged
//	no ref, both ids known      their payment, if the app made the push itself without a ref (or in development)
//	no ref, ids not known       parked until its payment is
//	success of another amount,  not believed (but in development)
//	or of none
func (x *tx) judge(e wire.Entry, session string) (verdict, error) {
	id, code, ours := splitRef(e.Ref)
	right := ours && hmac.Equal([]byte(code), []byte(x.t.mac(id)))
	var named *Payment
	if ours {
		p, found, err := x.payment(id)
		if err != nil {
			return verdict{}, err
		}
		if found {
			named = p
		}
	}
	if e.Kind != wire.KindNotice {
		return verdict{state: StateUnparsed, why: fmt.Sprintf("callbacks of kind %d are not understood by this version", e.Kind), payment: named}, nil
	}
	c, err := parse(e.Body)
	switch {
	case err != nil:
		return verdict{state: StateUnparsed, why: err.Error(), payment: named}, nil
	case ours && !right:
		return verdict{state: StateSuspect, why: "the code in its address is wrong: forged, or made with another key", payment: named, said: c}, nil
	case !ours:
		return x.judgeByIDs(c, session)
	case named == nil:
		return x.judgeRestored(id, c, e)
	}
	v := verdict{payment: named, said: c}
	switch {
	case named.MerchantRequestID == "":
		if p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID); err != nil {
			return verdict{}, err
		} else if p != nil || other != nil {
			v.state, v.why = StateSuspect, "its ids are those of another payment"
			return v, nil
		}
	case named.MerchantRequestID != c.MerchantRequestID || named.CheckoutRequestID != c.CheckoutRequestID:
		v.state, v.why = StateSuspect, "its ids are not those of the payment that its address names"
		return v, nil
	}
	return x.t.judgeAmount(v), nil
}

// judgeByIDs is for a callback whose address names no payment.
func (x *tx) judgeByIDs(c daraja.Callback, session string) (verdict, error) {
	p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID)
	switch {
	case err != nil:
		return verdict{}, err
	case p != nil:
		return x.t.judgeMatched(p, c, session), nil
	case other != nil:
		return verdict{state: StateSuspect, why: "its MerchantRequestID is known with another CheckoutRequestID", payment: other, said: c}, nil
	}
	return verdict{state: StateUnmatched, said: c}, nil
}

// judgeMatched is for a callback that both ids connect with a payment, now or when its ids became known.
func (t *Table) judgeMatched(p *Payment, c daraja.Callback, session string) verdict {
	v := verdict{payment: p, said: c}
	switch {
	case p.HasRef && !t.cfg.Trusting:
		v.state, v.why = StateSuspect, "its payment is settled only through the address that was made for it"
	case session != "" && session != p.Session:
		v.state, v.why = StateSuspect, "it was posted to the address of another session"
	default:
		return t.judgeAmount(v)
	}
	return v
}

func (t *Table) judgeAmount(v verdict) verdict {
	c, p := v.said, v.payment
	if daraja.OutcomeOf(c.ResultCode) != daraja.OutcomePaid || p.Amount == 0 || t.cfg.Trusting {
		return v
	}
	switch {
	case !c.HasAmount: // every success that Daraja was ever seen to send has one
		v.state, v.why = StateSuspect, fmt.Sprintf("it does not say how much was paid, and %s was asked for", p.Amount)
	case push.Money(c.Amount) != p.Amount:
		v.state, v.why = StateSuspect, fmt.Sprintf("it says that %s was paid, and %s was asked for", push.Money(c.Amount), p.Amount)
	}
	return v
}

// judgeRestored is for a ref with the right code that names a payment we do not know: we made it, and then lost the
// disk. The callback is all that is left of the payment.
func (x *tx) judgeRestored(id string, c daraja.Callback, e wire.Entry) (verdict, error) {
	p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID)
	if err != nil {
		return verdict{}, err
	}
	if p != nil || other != nil {
		return verdict{state: StateSuspect, why: "its ids are those of another payment", said: c}, nil
	}
	phone, err := daraja.NormalizePhone(c.Phone)
	if err != nil {
		phone = "" // absent, or masked
	}
	made, err := x.begin(Payment{ID: id, Session: id, Phone: phone, HasRef: true, Created: e.Received.UTC(), Status: push.Pending, silentAt: x.now.Add(x.t.cfg.UnknownAfter)})
	if err != nil {
		return verdict{}, err
	}
	x.t.log.Warn("a callback names a payment that is not known here; it was made by this sidecar, so it is taken up", "payment", id)
	return verdict{payment: made, said: c}, nil
}

// parse reads a callback. Whatever a stranger may send must not stop those behind it.
func parse(body []byte) (c daraja.Callback, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading it went wrong: %v", r)
		}
	}()
	return daraja.ParseCallback(body)
}
