package main

import (
	"fmt"
	"strings"
	"testing"
)

// A day is a history in which nothing is wrong: one shop, one subscriber that hung up once, three payments. Each test
// below takes it as it is but for one thing, and the ledger must see that one thing.
type day struct {
	l      *ledger
	events []event
	filed  []filed
	stated []statement
	stored uint64
	// after the third event the subscriber comes back with its cursor
}

const (
	journalEpoch = 0x111
	tableEpoch   = 0x222
)

func cursor(epoch, seq uint64) string { return fmt.Sprintf("%012x-%016x", epoch, seq) }

func newDay() *day {
	d := &day{l: newLedger(1)}
	d.l.subscribe(0, "till", tableEpoch, 10)
	d.l.subscribe(0, "app", tableEpoch, 10)
	for i, id := range []string{"first", "second", "third"} {
		d.l.registered(d.l.pay(0, 100+i), id)
	}
	tell := func(kind, status, result string, callback uint64, payment string) {
		e := event{epoch: tableEpoch, seq: uint64(11 + len(d.events)), kind: kind, status: status, result: result, payment: payment}
		if callback > 0 {
			e.callback = cursor(journalEpoch, callback)
		}
		d.events = append(d.events, e)
	}
	post := func(payment uint32, says code, must fate, state, id string) {
		serial := d.l.post(0, payment, says, must, uint32(1000+len(d.filed)))
		d.l.answer(serial)
		if must != counted {
			id = ""
		}
		d.filed = append(d.filed, filed{id: cursor(journalEpoch, uint64(len(d.filed)+1)), state: state, payment: id, serial: serial, sum: uint32(1000 + serial)})
	}
	post(0, paid, counted, "applied", "first") // callback 1
	tell("PAYMENT_COMPLETED", "SUCCESS", "0", 1, "first")
	post(1, 1, counted, "applied", "second") // 2: cancelled
	tell("PAYMENT_COMPLETED", "FAILED", "1032", 2, "second")
	post(0, paid, counted, "repeated", "first")       // 3
	post(0, 2, counted, "overruled", "first")         // 4: it was paid
	post(2, strange, unreadable, "unparsed", "third") // 5
	post(1, paid, counted, "applied", "second")       // 6: paid after all
	tell("PAYMENT_COMPLETED", "SUCCESS", "0", 6, "second")
	post(2, 2, counted, "applied", "third") // 7
	tell("PAYMENT_COMPLETED", "FAILED", "1037", 7, "third")
	post(2, 3, counted, "applied", "third") // 8: another reason
	tell("PAYMENT_UPDATE", "FAILED", "2001", 8, "third")
	post(2, 2, counted, "repeated", "third") // 9: the first reason again is no news
	d.stated = []statement{{"third", "FAILED", "2001", ""}, {"second", "SUCCESS", "0", receiptOf(1)}, {"first", "SUCCESS", "0", receiptOf(0)}}
	d.stored = uint64(len(d.filed))
	return d
}

// account goes through the day, and returns what was found.
func (d *day) account() map[string]int {
	for _, reader := range []string{"till", "app"} {
		for _, e := range d.events {
			d.l.tell(0, reader, e)
		}
	}
	a := d.l.audit(0, d.stored)
	for _, f := range d.filed {
		a.callback(f)
	}
	a.end()
	for _, s := range d.stated {
		a.payment(s)
	}
	d.l.close()
	return d.l.counts
}

func TestLedgerFindsNothingWhereNothingIsWrong(t *testing.T) {
	d := newDay()
	if found := d.account(); len(found) > 0 {
		t.Errorf("it found %v", d.l.findings)
	}
}

func TestLedgerKnowsThatSomeNumbersAreNoCallbacks(t *testing.T) {
	d := newDay()
	for i := range d.filed { // the journal's first was a canary
		d.filed[i].id = cursor(journalEpoch, uint64(i+2))
	}
	for i, e := range d.events {
		if e.callback != "" {
			_, seq, _ := parseCursor(e.callback)
			d.events[i].callback = cursor(journalEpoch, seq+1)
		}
	}
	if found := d.account(); len(found) > 0 {
		t.Errorf("it found %v", d.l.findings)
	}
}

func TestLedgerFindsEverythingThatCanBeWrong(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(d *day)
		want string
	}{
		{"an answered callback is not in the table", func(d *day) { d.filed = d.filed[:8] }, lost},
		{"one in the middle is not in the table", func(d *day) { d.filed = append(d.filed[:2], d.filed[3:]...) }, lost},
		{"one that was stored and never answered is not in the table", func(d *day) { d.stored++ }, lost},
		{"a callback is in the table twice", func(d *day) {
			d.filed = append(d.filed, d.filed[0])
			d.filed[9].id, d.filed[9].state = cursor(journalEpoch, 10), "repeated"
		}, repeated},
		{"a callback has another body", func(d *day) { d.filed[4].sum++ }, altered},
		{"two callbacks have changed places", func(d *day) {
			d.filed[0].serial, d.filed[2].serial, d.filed[0].sum, d.filed[2].sum = 2, 0, d.filed[2].sum, d.filed[0].sum
		}, misordered},
		{"the table is listed in another order", func(d *day) { d.filed[2], d.filed[3] = d.filed[3], d.filed[2] }, misordered},
		{"a callback that nobody posted is in the table", func(d *day) {
			d.filed = append(d.filed, filed{id: cursor(journalEpoch, 10), state: "unmatched", serial: 77})
		}, misstated},
		{"a good callback is not believed", func(d *day) { d.filed[1].state = "suspect" }, misjudged},
		{"what cannot be read is applied", func(d *day) { d.filed[4].state = "applied" }, misjudged},
		{"a callback counts for another payment", func(d *day) { d.filed[5].payment = "first" }, misjudged},
		{"a success stayed a failure", func(d *day) { d.stated[1] = statement{"second", "FAILED", "1032", ""} }, misstated},
		{"the earlier reason stands", func(d *day) { d.stated[0].result = "1037" }, misstated},
		{"the receipt is another one's", func(d *day) { d.stated[1].receipt = receiptOf(0) }, misstated},
		{"a payment is not in the table", func(d *day) { d.stated = d.stated[1:] }, lost},
		{"a payment is listed twice", func(d *day) { d.stated = append(d.stated, d.stated[0]) }, repeated},
		{"the table has another journal's callbacks", func(d *day) { d.filed[3].id = cursor(journalEpoch+1, 4) }, misstated},

		{"a subscriber was not told something", func(d *day) { d.events = append(d.events[:2], d.events[3:]...) }, lost},
		{"a subscriber was not told the last thing", func(d *day) { d.l.subscribe(0, "slow", tableEpoch, 14) }, lost},
		{"a subscriber was told something twice", func(d *day) { d.events = append(d.events, d.events[4]) }, repeated},
		{"a subscriber was told in another order", func(d *day) { d.events[1], d.events[2] = d.events[2], d.events[1] }, lost},
		{"a subscriber was told of a gap", func(d *day) { d.events[3].gap = true }, lost},
		{"the history began anew", func(d *day) { d.events[4].epoch++ }, lost},
		{"a change was told to nobody", func(d *day) { d.events[0].callback = "" }, lost},
		{"a success was completed twice", func(d *day) {
			d.events = append(d.events, event{epoch: tableEpoch, seq: 16, kind: "PAYMENT_COMPLETED", status: "SUCCESS", result: "0", payment: "first"})
		}, misstated},
		{"money was unsaid", func(d *day) {
			d.events = append(d.events, event{epoch: tableEpoch, seq: 16, kind: "PAYMENT_UPDATE", status: "FAILED", result: "1037", payment: "first"})
		}, misstated},
		{"a failure was completed without being one", func(d *day) { d.events[4].kind = "PAYMENT_COMPLETED" }, misstated},
		{"the last that was told is not what stands", func(d *day) { d.events[4].result = "1037" }, misstated},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			d := newDay()
			c.do(d)
			if found := d.account(); found[c.want] == 0 {
				t.Errorf("%s, and the ledger found %v, nothing that is %s", c.what, d.l.findings, c.want)
			}
		})
	}
}

func TestLedgerComparesWhatSubscribersWereTold(t *testing.T) {
	d := newDay()
	d.l.subscribe(0, "slow", tableEpoch, 10)
	for i, e := range d.events {
		if i == 2 {
			e.status = "FAILED"
		}
		d.l.tell(0, "slow", e)
	}
	if found := d.account(); found[altered] == 0 {
		t.Errorf("two subscribers were told different things, and the ledger found %v", d.l.findings)
	}
}

func TestLedgerTakesWhatHadNoAnswerEitherWay(t *testing.T) {
	for _, stored := range []bool{true, false} {
		d := newDay()
		serial := d.l.post(0, 0, paid, counted, 5) // no answer was read
		if stored {
			d.filed = append(d.filed, filed{id: cursor(journalEpoch, 10), state: "repeated", payment: "first", serial: serial, sum: 5})
		}
		if found := d.account(); len(found) > 0 {
			t.Errorf("stored %t: it found %v", stored, d.l.findings)
		}
	}
}

func TestLedgerKnowsEventsThatComeBeforeTheAnswerOfTheirRegistration(t *testing.T) {
	d := newDay()
	number := d.l.pay(0, 7)
	d.events = append(d.events, event{epoch: tableEpoch, seq: 16, kind: "PAYMENT_COMPLETED", status: "SUCCESS", result: "0", payment: "fourth", callback: cursor(journalEpoch, 10)})
	for _, reader := range []string{"till", "app"} {
		for _, e := range d.events {
			d.l.tell(0, reader, e)
		}
	}
	d.events = nil
	d.l.registered(number, "fourth")
	serial := d.l.post(0, number, paid, counted, 5)
	d.l.answer(serial)
	d.filed = append(d.filed, filed{id: cursor(journalEpoch, 10), state: "applied", payment: "fourth", serial: serial, sum: 5})
	d.stated = append(d.stated, statement{"fourth", "SUCCESS", "0", receiptOf(number)})
	if found := d.account(); len(found) > 0 {
		t.Errorf("it found %v", d.l.findings)
	}
}
