package notify

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Message is what a person is told at one time. It holds nothing of customers: names of endpoints, counts and times.
type Message struct {
	Number  uint64    `json:"number"` // in the order of telling
	ID      string    `json:"id"`     // the same whenever it is sent
	Time    time.Time `json:"time"`
	Edge    string    `json:"edge"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	Items   []Item    `json:"items"` // none: it is a test
}

// Item is what a message says of one condition.
type Item struct {
	State   State     `json:"state"`
	Kind    Kind      `json:"kind"`
	Subject string    `json:"endpoint,omitempty"` // "": the edge itself
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // when it ended
	Ends    time.Time `json:"ends,omitzero"`  // of a certificate
	Detail  string    `json:"detail,omitempty"`
	Count   uint64    `json:"count,omitempty"` // how many more there are of what is counted
}

// State is what is said of a condition.
type State string

// The states.
const (
	Begun State = "begun"
	Still State = "still" // a day after it was last told of
	Over  State = "over"
)

func (s State) order() int {
	switch s {
	case Begun:
		return 0
	case Over:
		return 1
	}
	return 2
}

// mail is the messages that not every way has told yet.
type mail struct {
	Last     uint64    `json:"last"` // number of the newest that there ever was
	Messages []Message `json:"messages"`
}

// mostMail is how many wait at most. Nobody reads the first of so many.
const mostMail = 64

func (m *mail) post(message Message) {
	m.Last++
	message.Number = m.Last
	m.Messages = append(m.Messages, message)
	if over := len(m.Messages) - mostMail; over > 0 {
		m.Messages = append([]Message(nil), m.Messages[over:]...)
	}
}

// next is the first message behind a number.
func (m *mail) next(after uint64) (Message, bool) {
	for _, message := range m.Messages {
		if message.Number > after {
			return message, true
		}
	}
	return Message{}, false
}

// waiting is how many there are behind a number.
func (m *mail) waiting(after uint64) (n int) {
	for _, message := range m.Messages {
		if message.Number > after {
			n++
		}
	}
	return n
}

// newID names a message, and nothing else.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return "notice-" + hex.EncodeToString(b[:])
}

// compose writes the message. How times are written is the reader's affair, who is where this machine is.
func (n *Notifier) compose(items []Item, now time.Time) Message {
	m := Message{ID: newID(), Time: now.UTC().Round(0), Edge: n.config.Edge, Items: items}
	w := writer{at: n.config.Location, now: now}
	m.Subject = "Hodi: " + w.subject(items)
	m.Text = w.text(n.config.Edge, items)
	return m
}

// test is a message that says nothing but that it has come.
func (n *Notifier) test(now time.Time) Message {
	w := writer{at: n.config.Location, now: now}
	return Message{
		ID: newID(), Time: now.UTC().Round(0), Edge: n.config.Edge, Subject: "Hodi: a test, and nothing is wrong",
		Text: fmt.Sprintf("The Hodi edge %s was told, at %s, to try whether you hear from it. You do.\n", n.config.Edge, w.time(now)),
	}
}

// writer writes for a person.
type writer struct {
	at  *time.Location
	now time.Time
}

func (w writer) time(t time.Time) string { return t.In(w.at).Format("2 Jan 2006 15:04") }
func (w writer) date(t time.Time) string { return t.In(w.at).Format("2 January 2006") }

// span is how long something took, as one says it.
func span(d time.Duration) string {
	d = d.Abs()
	switch {
	case d < 90*time.Second:
		return "a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Round(time.Minute)/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Round(time.Hour)/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// subject says the first thing, and how much there is besides.
func (w writer) subject(items []Item) string {
	var parts []string
	for _, g := range groups(items) {
		parts = append(parts, g[0].headline(len(g), w))
	}
	switch len(parts) {
	case 0:
		return "nothing"
	case 1:
		return parts[0]
	case 2:
		return parts[0] + "; " + parts[1]
	}
	return fmt.Sprintf("%s; %s; and more", parts[0], parts[1])
}

// groups are the items of one state and kind, in the order in which they come.
func groups(items []Item) (all [][]Item) {
	for _, i := range items {
		if n := len(all); n > 0 && all[n-1][0].State == i.State && all[n-1][0].Kind == i.Kind && (i.Subject == "") == (all[n-1][0].Subject == "") {
			all[n-1] = append(all[n-1], i)
			continue
		}
		all = append(all, []Item{i})
	}
	return all
}

// listed is how many of a kind are named.
const listed = 20

// text says all of it.
func (w writer) text(edge string, items []Item) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The Hodi edge %s, on %s (times are %s):\n", edge, w.time(w.now), w.now.In(w.at).Format("MST"))
	for _, g := range groups(items) {
		fmt.Fprintf(&b, "\n%s\n", g[0].headline(len(g), w))
		for i, item := range g {
			if i == listed && len(g) > listed+1 {
				fmt.Fprintf(&b, "  and %d more: hodi edge endpoints\n", len(g)-listed)
				break
			}
			fmt.Fprintf(&b, "  %s\n", item.line(w))
		}
		if do := g[0].do(len(g)); do != "" {
			fmt.Fprintf(&b, "  What to do: %s\n", do)
		}
	}
	return b.String()
}
