package correlate

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A verdict is what is thought of a callback.
type verdict struct {
	state   string          // unparsed, unmatched, recorded, repeated, held, suspect or forged; "" if it is believed
	why     string          // for people; says nothing that must not be logged
	doubt   string          // what its payment is marked with, if it is suspect
	payment *Payment        // that it is about, if that is known
	said    daraja.Callback // what it says, unless unparsed, forged or a notice
	notice  *daraja.Notice  // what it says, if it is a C2B notice
	misdate bool            // the letters of its receipt are of another day
}

// suspect is a verdict of a callback that is not believed.
func (v verdict) suspect(format string, args ...any) verdict {
	v.state, v.doubt, v.why = StateSuspect, DoubtSuspect, fmt.Sprintf(format, args...)
	return v
}

// post is how a callback came.
type post struct {
	ref      bool   // to the address that was made for its payment, with the right code
	session  string // to the address of a session (dev)
	source   wire.Source
	received time.Time
}

// judge decides whether a callback is to be believed, and of which payment it speaks. Daraja signs nothing. What counts
// is the address it was posted to: a ref with the right code was told to nobody but Daraja.
//
//	ref with a wrong code       forged: nothing else of it is looked at
//	ref with a right code       its payment, unless the ids are known to be others
//	no ref, both ids known      their payment, if the app made the push itself without a ref (or in development)
//	no ref, ids not known       parked until its payment is
//	no STK callback but C2B     recorded: it settles nothing, but is the same money as a payment with its receipt
//
// Then it is weighed: see weigh.
func (x *tx) judge(e wire.Entry, session string) (verdict, error) {
	id, code, ours := splitRef(e.Ref)
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
	if ours && !x.t.made(id, code) {
		return verdict{state: StateForged, why: "the code in its address is wrong: somebody made it up, or it is of a key that is retired", payment: named}, nil
	}
	if e.Kind != wire.KindNotice {
		return verdict{state: StateUnparsed, why: fmt.Sprintf("callbacks of kind %d are not understood by this version", e.Kind), payment: named}, nil
	}
	from := post{ref: ours, session: session, source: e.Source, received: e.Received}
	c, err := parse(e.Body)
	if err != nil {
		if n, e := parseNotice(e.Body); e == nil {
			return x.judgeNotice(n, from)
		}
		return verdict{state: StateUnparsed, why: err.Error(), payment: named}, nil
	}
	switch {
	case !ours:
		return x.judgeByIDs(c, from)
	case named == nil:
		return x.judgeRestored(id, c, from)
	}
	v := verdict{payment: named, said: c}
	switch {
	case named.MerchantRequestID == "":
		if p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID); err != nil {
			return verdict{}, err
		} else if p != nil || other != nil {
			return v.suspect("its ids are those of another payment"), nil
		}
	case named.MerchantRequestID != c.MerchantRequestID,
		named.CheckoutRequestID != "" && named.CheckoutRequestID != c.CheckoutRequestID: // "": its customer was forgotten, and M-Pesa has more to say
		return v.suspect("its ids are not those of the payment that its address names"), nil
	}
	return x.weigh(v, from)
}

// judgeByIDs is for a callback whose address names no payment.
func (x *tx) judgeByIDs(c daraja.Callback, from post) (verdict, error) {
	p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID)
	switch {
	case err != nil:
		return verdict{}, err
	case p != nil:
		return x.judgeMatched(p, c, from)
	case other != nil && other.CheckoutRequestID == "":
		return x.judgeForgotten(other, c), nil
	case other != nil:
		return verdict{payment: other, said: c}.suspect("its MerchantRequestID is known with another CheckoutRequestID"), nil
	}
	return verdict{state: StateUnmatched, said: c}, nil
}

// judgeForgotten is for a callback without a ref of a payment whose customer was forgotten: with the number the
// CheckoutRequestID went, which holds it, and one id alone is not enough to be believed. Nor can Daraja be asked without it, and
// asking with the one that is said here would be to ask about whatever the poster likes. So a person decides, with the callback
// and the shop's statement before him. What says what is known already troubles nobody.
func (x *tx) judgeForgotten(p *Payment, c daraja.Callback) verdict {
	v := verdict{payment: p, said: c}
	paid := daraja.OutcomeOf(c.ResultCode) == daraja.OutcomePaid
	if !paid && p.ResultCode == c.ResultCode || paid && p.Status == push.Success && p.Receipt != "" && strings.EqualFold(p.Receipt, c.Receipt) {
		v.state = StateRepeated
		return v
	}
	return v.suspect("the customer of its payment was forgotten, and with the number one of the ids by which it would be believed: look at the shop's statement, and decide (hodi payments confirm or deny)")
}

// judgeMatched is for a callback that both ids connect with a payment, now or when its ids became known.
func (x *tx) judgeMatched(p *Payment, c daraja.Callback, from post) (verdict, error) {
	v := verdict{payment: p, said: c}
	switch {
	case p.HasRef && !x.t.cfg.Trusting:
		return v.suspect("its payment is settled only through the address that was made for it"), nil
	case from.session != "" && from.session != p.Session:
		return v.suspect("it was posted to the address of another session"), nil
	}
	return x.weigh(v, from)
}

// judgeRestored is for a ref with the right code that names a payment we do not know: we made it, and then lost the
// disk. The callback is all that is left of the payment.
func (x *tx) judgeRestored(id string, c daraja.Callback, from post) (verdict, error) {
	v := verdict{said: c}
	p, other, err := x.pair(c.MerchantRequestID, c.CheckoutRequestID)
	if err != nil {
		return verdict{}, err
	}
	if p != nil || other != nil {
		return v.suspect("its ids are those of another payment"), nil
	}
	if v, err = x.weigh(v, from); err != nil || v.state == StateSuspect {
		return v, err
	}
	phone, err := daraja.NormalizePhone(c.Phone)
	if err != nil {
		phone = "" // absent, or masked
	}
	v.payment, err = x.begin(Payment{ID: id, Session: id, Phone: phone, HasRef: true, Created: from.received.UTC(), Status: push.Pending, silentAt: x.now.Add(x.rules.unknownAfter)})
	if err != nil {
		return verdict{}, err
	}
	x.t.log.Warn("a callback names a payment that is not known here; it was made by this sidecar, so it is taken up", "payment", id)
	return v, nil
}

// weigh holds what a callback says, and where it came from, against what is known:
//
//	from an address that the edge was told not to believe      suspect, whatever it says
//	a success of another amount than was asked for, or of none suspect (but in development)
//	a success whose receipt is of another day: see misdate     suspect, if no ref speaks for it or its source is unknown
//	a success whose receipt is another payment's               suspect
//	a second success, with another receipt                     suspect: paid twice?
//	a success above the limit of its shortcode, or of no       held, until Daraja was asked
//	amount that anybody knows
func (x *tx) weigh(v verdict, from post) (verdict, error) {
	if from.source == wire.SourceEnforced {
		return v.suspect("it came from an address that is not Safaricom's, and the edge was told not to believe such"), nil
	}
	c, p := v.said, v.payment
	if daraja.OutcomeOf(c.ResultCode) != daraja.OutcomePaid {
		return v, nil
	}
	v.misdate = c.Receipt != "" && misdate(c.Receipt, c.Completed, from.received)
	if p == nil {
		p = new(Payment)
	}
	receipt := strings.ToUpper(c.Receipt)
	switch {
	case x.t.cfg.Trusting:
	case p.Amount != 0 && !c.HasAmount: // every success that Daraja was ever seen to send has one
		return v.suspect("it does not say how much was paid, and %s was asked for", p.Amount), nil
	case p.Amount != 0 && push.Money(c.Amount) != p.Amount:
		return v.suspect("it says that %s was paid, and %s was asked for", push.Money(c.Amount), p.Amount), nil
	case v.misdate && !from.ref:
		return v.suspect("the letters of its receipt are of another day, and it was not posted to the address of a payment"), nil
	case v.misdate && from.source == wire.SourceUnknown:
		return v.suspect("the letters of its receipt are of another day, and it came from an address that is not Safaricom's"), nil
	case receipt != "" && receipt != p.Receipt:
		if why, err := x.spent(receipt, p.ID, push.Money(c.Amount)); err != nil {
			return verdict{}, err
		} else if why != "" {
			return v.suspect("%s", why), nil
		}
	}
	if told := p.told(); receipt != "" && told != "" && receipt != told {
		v = v.suspect("paid twice? It has receipt %s, and the payment has %s", receipt, told)
		if p.Status == push.Success {
			v.doubt = DoubtTwice
		}
		return v, nil
	}
	switch limit, ok := x.rules.limit(p.Shortcode); {
	case !ok || p.Status == push.Success:
	case p.Amount == 0 && !c.HasAmount:
		v.state, v.why = StateHeld, fmt.Sprintf("nobody has said how much it is, which may be over %s, so Daraja is asked before it counts", limit)
	case max(p.Amount, push.Money(c.Amount)) > limit:
		v.state, v.why = StateHeld, fmt.Sprintf("it is over %s, so Daraja is asked before it counts", limit)
	}
	return v, nil
}

// misdate reports whether the letters of a receipt are of another day than the callback says, or than the edge received it
// on: who replays an old receipt with its own old date has only the first right. A day is let pass, as clocks and midnights
// differ. An edge whose clock stands before there was any Hodi has lost it, and only what the callback says counts then; by
// any other clock that is wrong all of them are of another day, so that those which no ref speaks for wait for the query.
func misdate(receipt string, said, received time.Time) bool {
	return !said.IsZero() && !daraja.ReceiptDated(receipt, said) || received.Year() >= firstYear && !daraja.ReceiptDated(receipt, received)
}

const firstYear = 2026 // of Hodi

// limit is the amount above which a success of a shortcode does not count before Daraja was asked. Where the shortcode is
// not known, the least of all is as good a guess as any, and the safe one.
func (r *rules) limit(shortcode string) (limit push.Money, ok bool) {
	if shortcode != "" {
		limit, ok = r.queryAbove[shortcode]
		return limit, ok
	}
	for _, l := range r.queryAbove {
		if !ok || l < limit {
			limit, ok = l, true
		}
	}
	return limit, ok
}

// parse reads a callback. Whatever a stranger may send must not stop those behind it.
func parse(body []byte) (c daraja.Callback, err error) {
	defer recovered(&err)
	return daraja.ParseCallback(body)
}

// parseNotice reads a C2B notice.
func parseNotice(body []byte) (n daraja.Notice, err error) {
	defer recovered(&err)
	return daraja.ParseNotice(body)
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("reading it went wrong: %v", r)
	}
}
