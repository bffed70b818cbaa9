package main

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A fate is what must become of a callback.
type fate uint8

const (
	counted     fate = iota // it is believed: applied, repeated or overruled
	unreadable              // unparsed
	noticed                 // recorded: it tells of money and settles nothing
	disbelieved             // suspect or forged
	unclaimed               // unmatched
)

var fates = map[string]fate{
	"applied": counted, "repeated": counted, "overruled": counted,
	"unparsed": unreadable, "recorded": noticed, "suspect": disbelieved, "forged": disbelieved, "unmatched": unclaimed,
}

// A code is a result code that callbacks of this program say, as a place in codes.
type code uint8

var codes = []struct {
	text  string
	fails bool
}{paid: {"0", false}, 1: {"1032", true}, 2: {"1037", true}, 3: {"2001", true}, 4: {"1", true}, 5: {"1019", true}, strange: {"BW-JMS-100039", false}}

const (
	paid    code = 0
	strange code = 6 // no code that anybody knows: neither paid nor failed
	noCode  code = 255
)

// none is a payment that a callback does not speak of.
const none = ^uint32(0)

// A post is one callback, posted once. Its serial is its place in the ledger.
type post struct {
	sent, answered time.Duration // since the ledger was opened; answered is 0 as long as no 200 was read to its end
	payment        uint32
	sum            uint32 // of its body
	shop           uint8
	code           code
	fate           fate
	found          uint8 // so often in the sidecar's table
}

// An entry is what the ledger knows of one payment.
type entry struct {
	id     string
	amount int
	shop   uint8

	// What the callbacks in the table amount to, in the order of the journal.
	paid     bool
	failure  code // the last of the failures, each counted where it was said first
	unknown  code // the same of the codes that nobody knows
	said     [8]bool
	distinct int

	// What subscribers were told.
	successes, failures uint8 // completions
	status, result      string
	told                bool
	listed              bool
}

// An event is a message as a subscriber saw it.
type event struct {
	epoch, seq                              uint64
	kind, status, result, callback, payment string
	gap                                     bool
}

// A history is what the subscribers of one shop were told. Who is told something first writes it down; whoever comes
// later must be told the same.
type history struct {
	epoch   uint64
	begin   uint64   // the sequence number before the first event
	told    []uint64 // digests, one for each event
	settled []bool   // by place in the journal: an event names this callback
	readers map[string]uint64
	journal uint64 // its epoch
}

// A ledger accounts for every callback that was answered 200.
type ledger struct {
	opened time.Time

	mu        sync.Mutex
	posts     []post
	entries   []entry
	byID      map[string]uint32
	early     map[string][]event // of payments whose id is not known yet
	histories []history
	answered  int
	findings  map[string][]string
	counts    map[string]int
}

func newLedger(shops int) *ledger {
	l := &ledger{opened: time.Now(), byID: map[string]uint32{}, early: map[string][]event{}, findings: map[string][]string{}, counts: map[string]int{}}
	for range shops {
		l.histories = append(l.histories, history{readers: map[string]uint64{}})
	}
	return l
}

// The kinds of findings.
const (
	lost       = "lost"
	repeated   = "repeated"
	misordered = "out of order"
	altered    = "altered"
	misjudged  = "misjudged"
	misstated  = "misstated"
	unruly     = "unruly" // a process that ended by itself, or not when it was asked to; a delivery that did not start again
)

// keep is how many findings of a kind are told in words; the others are counted.
const keep = 20

// find notes something that is wrong.
func (l *ledger) find(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(kind, format, args...)
}

func (l *ledger) note(kind, format string, args ...any) {
	l.counts[kind]++
	if len(l.findings[kind]) < keep {
		l.findings[kind] = append(l.findings[kind], fmt.Sprintf(format, args...))
	}
}

// bad is how much was found so far.
func (l *ledger) bad() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts {
		n += c
	}
	return n
}

// pay enters a payment, before anybody else knows of it.
func (l *ledger) pay(shop, amount int) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{shop: uint8(shop), amount: amount, failure: noCode, unknown: noCode})
	return uint32(len(l.entries) - 1)
}

// registered notes the id that the sidecar gave to a payment.
func (l *ledger) registered(payment uint32, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, known := l.byID[id]; known && other != payment {
		l.note(misstated, "payment %s was given to two registrations", id)
	}
	l.entries[payment].id, l.byID[id] = id, payment
	for _, e := range l.early[id] {
		l.state(payment, e)
	}
	delete(l.early, id)
}

// post enters a callback that is about to be posted.
func (l *ledger) post(shop int, payment uint32, says code, must fate, sum uint32) (serial int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts = append(l.posts, post{sent: time.Since(l.opened), payment: payment, sum: sum, shop: uint8(shop), code: says, fate: must})
	return len(l.posts) - 1
}

// answer notes that a 200 was read to its end.
func (l *ledger) answer(serial int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts[serial].answered = max(time.Since(l.opened), 1)
	l.answered++
}

// progress is how many callbacks were posted, and how many answered.
func (l *ledger) progress() (posted, answered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posts), l.answered
}

// subscribe enters a subscriber that will be told everything behind a place.
func (l *ledger) subscribe(shop int, reader string, epoch, after uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.histories[shop]
	if h.epoch == 0 {
		h.epoch, h.begin = epoch, after
	}
	h.readers[reader] = after
}

// tell enters what a subscriber was told. Over all its connections it must be told every number once, in order.
func (l *ledger) tell(shop int, reader string, e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.histories[shop]
	at := h.readers[reader]
	switch {
	case e.gap:
		l.note(lost, "shop-%d, %s: was told of a gap at event %d", shop+1, reader, e.seq)
	case e.epoch != h.epoch:
		l.note(lost, "shop-%d, %s: the history has another epoch at event %d", shop+1, reader, e.seq)
		return
	case e.seq <= at && at-e.seq < uint64(len(h.told)):
		l.note(repeated, "shop-%d, %s: event %d after event %d", shop+1, reader, e.seq, at)
	case e.seq <= at:
		l.note(misordered, "shop-%d, %s: event %d after event %d", shop+1, reader, e.seq, at)
	case e.seq > at+1:
		l.note(lost, "shop-%d, %s: events %d to %d were left out", shop+1, reader, at+1, e.seq-1)
	}
	h.readers[reader] = max(at, e.seq)
	if e.seq <= h.begin {
		return
	}

	digest := e.digest()
	if i := e.seq - h.begin - 1; i < uint64(len(h.told)) {
		if h.told[i] == 0 {
			h.told[i] = digest // it was left out for who was ahead
		} else if h.told[i] != digest {
			l.note(altered, "shop-%d, %s: event %d is not what others were told", shop+1, reader, e.seq)
		}
		return
	} else {
		h.told = append(h.told, make([]uint64, i+1-uint64(len(h.told)))...)
		h.told[i] = digest
	}
	l.follow(shop, h, e)
}

// follow enters what an event, told for the first time, says of its callback and of its payment.
func (l *ledger) follow(shop int, h *history, e event) {
	if e.callback != "" {
		epoch, seq, err := parseCursor(e.callback)
		switch {
		case err != nil:
			l.note(altered, "shop-%d: event %d names callback %q", shop+1, e.seq, e.callback)
		case h.journal != 0 && h.journal != epoch:
			l.note(misstated, "shop-%d: event %d names a callback of another journal: %s", shop+1, e.seq, e.callback)
		default:
			h.journal = epoch
			if more := int(seq) + 1 - len(h.settled); more > 0 {
				h.settled = append(h.settled, make([]bool, more)...)
			}
			h.settled[seq] = true
		}
	}
	if number, known := l.byID[e.payment]; known {
		l.state(number, e)
	} else { // its registration is being answered; or the answer was lost, and nobody will ask for it
		l.early[e.payment] = append(l.early[e.payment], e)
	}
}

// state enters what an event says of a payment.
func (l *ledger) state(number uint32, e event) {
	p := &l.entries[number]
	switch {
	case e.kind != "PAYMENT_COMPLETED":
	case e.status == "SUCCESS":
		p.successes++
	case e.status == "FAILED" && p.successes > 0:
		l.note(misstated, "shop-%d: event %d unsays the money of payment %s", p.shop+1, e.seq, e.payment)
	default:
		p.failures++
	}
	if p.status == "SUCCESS" && e.status != "SUCCESS" {
		l.note(misstated, "shop-%d: event %d says %s of payment %s, which had succeeded", p.shop+1, e.seq, e.status, e.payment)
	}
	p.status, p.result, p.told = e.status, e.result, true
}

func (e event) digest() uint64 {
	h := fnv.New64a()
	for _, s := range []string{e.kind, e.status, e.result, e.callback, e.payment} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return h.Sum64() | 1 // 0 stands for none
}

// behind are the subscribers that have not been told everything up to a shop's head.
func (l *ledger) behind(shop int, head uint64) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var late []string
	for _, reader := range slices.Sorted(maps.Keys(l.histories[shop].readers)) {
		if l.histories[shop].readers[reader] < head {
			late = append(late, reader)
		}
	}
	return late
}

// A filed callback is one in the table of a sidecar, as its API shows it.
type filed struct {
	id, state, payment string
	serial             int // -1: it has none
	sum                uint32
}

// An audit goes through the table of one sidecar, in the order of the journal.
type audit struct {
	l      *ledger
	shop   int
	stored uint64        // callbacks in the journal
	filed  uint64        // in the table, so far
	last   uint64        // place of the callback before
	sent   time.Duration // the latest sending so far
}

func (l *ledger) audit(shop int, stored uint64) *audit {
	return &audit{l: l, shop: shop, stored: stored}
}

// callback enters the next callback of the table.
func (a *audit) callback(f filed) {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	a.filed++
	epoch, seq, err := parseCursor(f.id)
	h := &l.histories[a.shop]
	if h.journal == 0 {
		h.journal = epoch
	}
	switch {
	case err != nil || epoch != h.journal:
		l.note(misstated, "shop-%d: callback %q is of another journal", a.shop+1, f.id)
		return
	case seq <= a.last:
		l.note(misordered, "shop-%d: callback %d is listed behind %d", a.shop+1, seq, a.last)
	}
	a.last = max(a.last, seq)
	if f.serial < 0 || f.serial >= len(l.posts) || int(l.posts[f.serial].shop) != a.shop {
		l.note(misstated, "shop-%d: callback %d was never posted to it (serial %d)", a.shop+1, seq, f.serial)
		return
	}
	p := &l.posts[f.serial]
	if p.found++; p.found > 1 {
		l.note(repeated, "shop-%d: serial %d is in the table %d times, again as callback %d", a.shop+1, f.serial, p.found, seq)
		return
	}
	if p.answered > 0 && p.answered < a.sent {
		l.note(misordered, "shop-%d: serial %d, callback %d, was answered before one that stands in front of it was posted", a.shop+1, f.serial, seq)
	}
	a.sent = max(a.sent, p.sent)
	if p.sum != f.sum {
		l.note(altered, "shop-%d: serial %d, callback %d, has another body than was posted", a.shop+1, f.serial, seq)
	}
	if is, known := fates[f.state]; !known || is != p.fate {
		l.note(misjudged, "shop-%d: serial %d, callback %d, is %s", a.shop+1, f.serial, seq, f.state)
		return
	}
	if p.fate != counted {
		return
	}
	e := &l.entries[p.payment]
	if f.payment != e.id {
		l.note(misjudged, "shop-%d: serial %d, callback %d, is about payment %s, and was taken to be about %s", a.shop+1, f.serial, seq, e.id, f.payment)
		return
	}
	e.fold(p.code)
	// Where there were several codes the event that a callback caused may name another one, whose turn then came.
	if f.state == "applied" && e.distinct == 1 && (int(seq) >= len(h.settled) || !h.settled[seq]) {
		l.note(lost, "shop-%d: callback %d, serial %d, changed its payment, and no subscriber was told", a.shop+1, seq, f.serial)
	}
}

// fold is the rule of the design, for one that reads callbacks in the order of the journal: success is final; else the
// last of the failures stands, and what is said again is no news; else the last code that nobody knows.
func (e *entry) fold(c code) {
	if e.said[c] {
		return
	}
	e.said[c] = true
	e.distinct++
	switch {
	case c == paid:
		e.paid = true
	case codes[c].fails:
		e.failure = c
	default:
		e.unknown = c
	}
}

// expected is what the payment must have come to. Without any result it may be said to be unknown or not yet.
func (e *entry) expected() (status, result string) {
	switch {
	case e.paid:
		return "SUCCESS", codes[paid].text
	case e.failure != noCode:
		return "FAILED", codes[e.failure].text
	case e.unknown != noCode:
		return "UNKNOWN", codes[e.unknown].text
	}
	return "", ""
}

// A statement is one payment in the table of a sidecar, as its API shows it.
type statement struct{ id, status, result, receipt string }

// payment enters a payment of the table, after all callbacks.
func (a *audit) payment(s statement) {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	number, known := l.byID[s.id]
	if !known {
		return // of a registration whose answer was lost
	}
	e := &l.entries[number]
	if e.listed {
		l.note(repeated, "shop-%d: payment %s is listed twice", a.shop+1, s.id)
	}
	e.listed = true
	status, result := e.expected()
	open := status == "" && (s.status == "PENDING" || s.status == "UNKNOWN") && s.result == ""
	if !open && (s.status != status || s.result != result) {
		l.note(misstated, "shop-%d: payment %s is %s %q, and must be %s %q", a.shop+1, s.id, s.status, s.result, status, result)
	}
	if receipt := receiptOf(number); status == "SUCCESS" && s.receipt != receipt {
		l.note(misstated, "shop-%d: payment %s has receipt %q, and must have %q", a.shop+1, s.id, s.receipt, receipt)
	}
	if status != "" && (e.status != status || e.result != result) {
		l.note(misstated, "shop-%d: the last that subscribers were told of payment %s is %s %q, and it must be %s %q", a.shop+1, s.id, e.status, e.result, status, result)
	}
	if want := e.paid; want != (e.successes == 1) || e.successes > 1 || e.failures > 1 || status == "FAILED" && e.failures != 1 {
		l.note(misstated, "shop-%d: payment %s must be %s, and its success was told %d times, its failure %d times", a.shop+1, s.id, status, e.successes, e.failures)
	}
}

// end is called after the last callback. Numbers that are missing between them say nothing, for some are canaries'; so it counts. This
// finds what was stored and never answered, which close cannot.
func (a *audit) end() {
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	if a.filed < a.stored {
		a.l.note(lost, "shop-%d: the journal has %d callbacks, and the table %d", a.shop+1, a.stored, a.filed)
	}
}

// close says what was never found.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for serial, p := range l.posts {
		if p.answered > 0 && p.found == 0 {
			l.note(lost, "shop-%d: serial %d was answered 200 %v into the run, and is not in the table", p.shop+1, serial, p.answered.Round(time.Millisecond))
		}
	}
	for _, e := range l.entries {
		if e.id != "" && !e.listed {
			l.note(lost, "shop-%d: payment %s was registered, and is not in the table", e.shop+1, e.id)
		}
	}
	for shop, h := range l.histories {
		for reader, at := range h.readers {
			if end := h.begin + uint64(len(h.told)); at < end {
				l.note(lost, "shop-%d, %s: was told everything up to event %d, and others up to %d", shop+1, reader, at, end)
			}
		}
	}
}

// parseCursor reads a place in a numbered history: 12 hex digits, a hyphen, 16 hex digits.
func parseCursor(s string) (epoch, seq uint64, err error) {
	before, after, ok := strings.Cut(s, "-")
	if ok && len(before) == 12 && len(after) == 16 {
		if epoch, err = strconv.ParseUint(before, 16, 64); err == nil {
			seq, err = strconv.ParseUint(after, 16, 64)
			return epoch, seq, err
		}
	}
	return 0, 0, fmt.Errorf("chaos: %q is not a cursor", s)
}

// receiptOf is the receipt of a payment, should it be paid. It begins with its date, as all of them do: the year as a letter
// (2026 is U), the month as one from A, the day as 1 to 9 and then A to V.
func receiptOf(payment uint32) string {
	year, month, day := today.Date()
	date := string([]byte{"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(year-2006)%26], "ABCDEFGHIJKL"[month-1], "123456789ABCDEFGHIJKLMNOPQRSTUV"[day-1]})
	return date + strings.ToUpper(strconv.FormatUint(uint64(payment)+36*36*36*36*36*36, 36))
}

// today is the day of all that is paid in a run, in Nairobi: that on which the run began, so that over midnight too a payment
// keeps its receipt.
var today = time.Now().In(time.FixedZone("EAT", 3*60*60))
