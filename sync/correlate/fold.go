package correlate

import (
	"cmp"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// A factKind is what sort of thing became known.
type factKind int

const (
	factAccepted  factKind = iota // Daraja queued the prompt and gave its ids
	factRefused                   // Daraja did not take the request, or never got it
	factAmbiguous                 // nobody can say whether Daraja took it
	factCallback                  // a callback that is believed
	factAnswer                    // Daraja's answer to a query
	factSilence                   // the time for news is over
	factDoubted                   // a callback that is not believed
	factHeld                      // a success that is believed, and counts when Daraja agrees
	factConfirmed                 // a person has found it paid
	factDenied                    // a person has found it not paid
)

// A fact is one thing that became known about a payment.
type fact struct {
	kind factKind
	at   time.Time

	merchant, checkout string         // accepted, callback: Daraja's ids
	outcome            daraja.Outcome // refused, callback, answer, denied
	code, desc         string         // the same
	place              push.Cursor    // callback, doubted, held: where in which journal
	receipt            string         // callback, held, confirmed
	doubt              string         // doubted
	who                string         // confirmed, denied, and a callback that was held and that a person has confirmed
	completed          time.Time      // callback
	amount             push.Money     // callback: paid; 0 if it does not say
	ask                time.Time      // accepted: when to ask about it; zero: never
}

const (
	askApart   = 15 * time.Second // between two questions about one payment
	agreeApart = 15 * time.Second // between two answers that agree on a failure
)

// fold says what a fact changes: the payment with it applied, whether anything is different, and the type of the event
// that tells subscribers, "" if there is nothing to tell. The rules, whatever the order in which facts come:
//
//   - SUCCESS is final. A receipt may still be learnt, nothing else changes.
//   - PENDING → UNKNOWN | FAILED | SUCCESS, UNKNOWN → FAILED | SUCCESS, FAILED → SUCCESS, nothing else.
//   - Among failures told by callbacks the one that came last stands: see before. It stands above a
//     refusal and above failures told by answers; codes that we do not know leave the payment UNKNOWN.
//   - A refusal counts only while nothing has shown that Daraja took the request.
//   - An answer makes a failure only if the one before it, at least 15 s earlier, said the same.
//   - The same thing said again changes nothing.
//   - Nothing that is not believed changes a status. It leaves a doubt, until there is a result.
//   - While a success is held, no failure counts; what releases it is an answer that agrees, or a person.
//   - A person may decide what is open or has failed, and can only add to SUCCESS.
//   - A payment in doubt that comes by its ids can be asked about from then on, and its sentence says so.
func fold(p Payment, f fact) (next Payment, changed bool, event string) {
	learnt := learnIDs(&p, f)
	next, changed, event = foldFact(p, f, learnt)
	if learnt && next.Doubt != "" && next.Status != push.Success && event == "" {
		next.askAt = soonest(next, f.at)
		return next, true, push.PaymentUpdate
	}
	return next, changed, event
}

func foldFact(p Payment, f fact, learnt bool) (next Payment, changed bool, event string) {
	switch f.kind {
	case factAccepted:
		if !learnt {
			return p, false, ""
		}
		switch p.Status {
		case push.Pending:
			p.askAt = f.ask
			return p, true, push.STKInitiated
		case push.Unknown: // now it can be asked about, and the sentence says so
			p.askAt = f.ask
			return p, true, push.PaymentUpdate
		}
		return p, true, ""

	case factAmbiguous, factSilence:
		if p.Status != push.Pending {
			return p, false, ""
		}
		return unknown(p), true, push.PaymentUpdate

	case factRefused:
		if p.Status.Ended() || p.MerchantRequestID != "" {
			return p, false, ""
		}
		return failed(p, f.outcome, f.code, f.desc, f.at), true, push.PaymentCompleted

	case factAnswer:
		return foldAnswer(p, f)

	case factDoubted:
		return foldDoubt(p, f)

	case factHeld:
		if p.Status == push.Success || p.held != "" {
			return p, learnt, ""
		}
		p.Doubt, p.held = DoubtLarge, f.place.String()+" "+f.receipt
		p.askAt = soonest(p, f.at)
		return p, true, push.PaymentUpdate

	case factConfirmed:
		return foldConfirmed(p, f)

	case factDenied:
		return foldDenied(p, f)

	case factCallback:
		if f.outcome == daraja.OutcomePaid {
			return foldPaid(p, f, learnt)
		}
		return foldNotice(p, f, learnt)
	}
	return p, false, ""
}

// learnIDs fills in Daraja's ids where they are not known. They never change: who believed the fact has seen to that.
func learnIDs(p *Payment, f fact) bool {
	if p.MerchantRequestID != "" || f.merchant == "" {
		return false
	}
	p.MerchantRequestID, p.CheckoutRequestID = f.merchant, f.checkout
	return true
}

func foldPaid(p Payment, f fact, learnt bool) (Payment, bool, string) {
	if p.Status == push.Success {
		if p.Receipt != "" && p.Callback != "" || f.receipt == "" { // without a callback it is what a person has seen
			return p, learnt, ""
		}
		p.ResultCode, p.ResultDesc, p.CompletedAt = f.code, f.desc, f.completed
		return paid(p, f), true, push.PaymentUpdate
	}
	return paid(ended(p, push.Success, daraja.OutcomePaid, f.code, f.desc, f.completed), f), true, push.PaymentCompleted
}

// paid adds what only a callback can tell. Where nobody said what was asked for, what was paid is shown, unchecked.
func paid(p Payment, f fact) Payment {
	p.Receipt, p.Callback = f.receipt, f.place.String()
	p.DecidedBy = cmp.Or(f.who, p.DecidedBy)
	p.AmountChecked = p.Amount != 0 && p.Amount == f.amount
	if p.Amount == 0 {
		p.Amount = f.amount
	}
	return p
}

// foldNotice adds a result that is not success to those that came before, and sees which of them stands now.
func foldNotice(p Payment, f fact, learnt bool) (Payment, bool, string) {
	if p.Status == push.Success {
		return p, learnt, ""
	}
	notices, fresh := noted(p.notices, notice{f.code, f.desc, f.outcome, f.place.Epoch, f.place.Seq, f.at.UnixMilli()})
	if !fresh {
		return p, learnt, ""
	}
	p.notices = notices
	if p.held != "" {
		return p, true, ""
	}
	n := standing(notices)
	was, at := p, push.Cursor{Epoch: n.Epoch, Seq: n.Seq}.String()
	// The same code may stand from an earlier place than was known: a live callback, which overtakes, had repeated it.
	said := p.ResultCode == n.Code && (p.Callback == at || p.Callback == "")
	switch {
	case n.Outcome.Failed():
		if p.Status == push.Failed && said {
			return p, true, ""
		}
		p = failed(p, n.Outcome, n.Code, n.Desc, time.UnixMilli(n.At))
	case p.Status == push.Failed:
		return p, true, ""
	default: // to be asked about at once
		if p.Status == push.Unknown && said {
			return p, true, ""
		}
		p = unknown(p)
		p.ResultCode, p.ResultDesc = n.Code, n.Desc
		p.askAt = soonest(p, f.at)
	}
	p.Callback = at
	if p.Status == push.Failed && was.Status != push.Failed {
		return p, true, push.PaymentCompleted
	}
	return p, true, push.PaymentUpdate
}

// maxNotices bounds what one payment can be made to remember. Daraja was never seen to give one payment three codes.
const maxNotices = 16

// noted adds a notice, or gives the one with its code the lesser of both places: what is said again is not news.
func noted(list []notice, n notice) (_ []notice, fresh bool) {
	for i, have := range list {
		if have.Code != n.Code {
			continue
		}
		if !before(n, have) {
			return list, false
		}
		list = append([]notice(nil), list...)
		list[i] = n
		return list, true
	}
	if len(list) >= maxNotices {
		return list, false
	}
	return append(list[:len(list):len(list)], n), true
}

// standing is the notice that counts: the last of the failures, or if there is none the last of what is not known.
func standing(list []notice) notice {
	best := list[0]
	for _, n := range list[1:] {
		if a, b := n.Outcome.Failed(), best.Outcome.Failed(); a && !b || a == b && before(best, n) {
			best = n
		}
	}
	return best
}

// before reports whether a notice came before another one. Within an epoch the number tells. A greater epoch is that of
// the same journal, renewed, which goes on with its numbers and shows old entries by them once more; or that of a journal
// made anew, whose numbers begin again. So if the numbers contradict the epochs, nobody knows which of the two it is, and
// the edge's clock tells.
func before(a, b notice) bool {
	switch {
	case a.Epoch == b.Epoch:
		return a.Seq < b.Seq
	case a.Epoch < b.Epoch && a.Seq <= b.Seq:
		return true
	case a.Epoch > b.Epoch && a.Seq >= b.Seq:
		return false
	case a.At != b.At:
		return a.At < b.At
	}
	return a.Seq < b.Seq
}

func foldAnswer(p Payment, f fact) (Payment, bool, string) {
	switch {
	case p.Status == push.Success:
		return p, false, ""
	case f.outcome == daraja.OutcomePaid: // the receipt follows with the callback, if it ever comes
		return ended(p, push.Success, daraja.OutcomePaid, f.code, f.desc, f.at), true, push.PaymentCompleted
	case !f.outcome.Failed(), p.held != "", p.Status == push.Failed && p.Doubt == "":
		return p, false, ""
	case p.answered.Code != f.code, f.at.Before(p.answerAt):
		p.answered, p.answerAt = notice{Code: f.code, Desc: f.desc, Outcome: f.outcome}, f.at
		p.askAt = f.at.Add(agreeApart)
		return p, true, ""
	case f.at.Sub(p.answerAt) < agreeApart:
		return p, false, ""
	case p.Status == push.Failed: // so it is, and what was not believed is not to be
		p.Doubt, p.answered, p.answerAt, p.askAt = "", notice{}, time.Time{}, time.Time{}
		return p, true, push.PaymentUpdate
	}
	return failed(p, f.outcome, f.code, f.desc, f.at), true, push.PaymentCompleted
}

// foldDoubt leaves a mark on a payment of which something is said that is not believed. The first mark stays, and only the
// first has Daraja asked ahead of time.
func foldDoubt(p Payment, f fact) (Payment, bool, string) {
	if p.Doubt != "" || (p.Status == push.Success) != (f.doubt == DoubtTwice) {
		return p, false, ""
	}
	p.Doubt = f.doubt
	if p.Status != push.Success {
		if next := soonest(p, f.at); sooner(next, p.askAt) {
			p.askAt = next
		}
	}
	return p, true, push.PaymentUpdate
}

func foldConfirmed(p Payment, f fact) (Payment, bool, string) {
	if p.Status != push.Success {
		p = ended(p, push.Success, daraja.OutcomePaid, "", "", f.at)
		p.Receipt, p.DecidedBy = f.receipt, f.who
		return p, true, push.PaymentCompleted
	}
	if p.Doubt == "" && (p.Receipt != "" || f.receipt == "") {
		return p, false, ""
	}
	p.Doubt, p.Receipt, p.DecidedBy = "", cmp.Or(p.Receipt, f.receipt), f.who
	return p, true, push.PaymentUpdate
}

func foldDenied(p Payment, f fact) (Payment, bool, string) {
	switch {
	case p.Status == push.Success:
		return p, false, ""
	case p.Status != push.Failed:
		p = failed(p, f.outcome, "", "", f.at)
		p.DecidedBy = f.who
		return p, true, push.PaymentCompleted
	case p.Doubt == "":
		return p, false, ""
	}
	p.Doubt, p.held, p.askAt, p.DecidedBy = "", "", time.Time{}, f.who
	return p, true, push.PaymentUpdate
}

func unknown(p Payment) Payment {
	p.Status, p.Outcome, p.silentAt = push.Unknown, daraja.OutcomeUnknown, time.Time{}
	return p
}

func failed(p Payment, outcome daraja.Outcome, code, desc string, at time.Time) Payment {
	return ended(p, push.Failed, outcome, code, desc, at)
}

// ended stops the clocks as well: nobody needs to ask any more.
func ended(p Payment, status push.Status, outcome daraja.Outcome, code, desc string, at time.Time) Payment {
	p.Status, p.Outcome, p.ResultCode, p.ResultDesc, p.CompletedAt, p.Callback = status, outcome, code, desc, at, ""
	p.answered, p.answerAt, p.silentAt, p.askAt = notice{}, time.Time{}, time.Time{}, time.Time{}
	p.Doubt, p.held = "", ""
	return p
}

// soonest is the earliest time at which the payment may be asked about, or zero if there is no way to ask.
func soonest(p Payment, now time.Time) time.Time {
	if p.CheckoutRequestID == "" || p.Shortcode == "" {
		return time.Time{}
	}
	next := p.askedAt.Add(askApart)
	if p.askedAt.IsZero() || next.Before(now) || p.askedAt.After(now) { // the last: the clock was set back
		return now
	}
	return next
}
