package forward_test

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hodihq/hodi/sync/correlate"
)

// TestThePaymentsOfAnyAppInAnyDay lives through days of random callbacks, an app that answers at random, and restarts at any
// moment. Whatever happens: of a payment one callback is with the app at a time, and none before those ahead of it were handled
// or given up; no more are with the app than may be; and in the end each has been.
func TestThePaymentsOfAnyAppInAnyDay(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // a day is a new table and two processes at least
		if err := flag.Set("rapid.checks", "20"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		d := day{
			atOnce:  rapid.IntRange(1, 4).Draw(r, "at once"),
			answers: rapid.SliceOfN(rapid.SampledFrom([]int{200, 200, 204, 0, 400, 404, 429, 500, 502, 503, 307}), 1, 30).Draw(r, "answers"),
			slow:    rapid.SliceOfN(rapid.IntRange(0, 30_000), 1, 10).Draw(r, "slow"),
			steps:   rapid.SliceOfN(rapid.SampledFrom([]string{"restart", "minutes", "second", "a", "a", "b", "c"}), 1, 15).Draw(r, "steps"),
		}
		// What is drawn is drawn outside of the bubble, whose clock is not the one by which rapid ends.
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = d.live(t) })
		for _, what := range wrong {
			r.Error(what)
		}
	})
}

type day struct {
	atOnce        int
	answers, slow []int
	steps         []string
}

func (d day) live(t *testing.T) []string {
	s := open(t)
	s.begins()
	s.config.AtOnce = d.atOnce
	w := &witness{payment: map[string]string{}, with: map[string]bool{}, done: map[string]bool{}}
	s.app.answers(func(n int, h hit) (*http.Response, error) {
		w.begins(h.id, d.atOnce)
		time.Sleep(time.Duration(d.slow[n%len(d.slow)]) * time.Millisecond)
		code := d.answers[n%len(d.answers)]
		w.ends(h.id, code/100 == 2)
		if code == 0 {
			return nil, errRefused
		}
		return status(code, "Retry-After", []string{"", "7", "soon"}[n%3])
	})
	s.start()
	for _, step := range d.steps {
		switch step {
		case "restart":
			s.end()
			s.table.Close()
			s.openTable()
			s.start()
		case "minutes":
			time.Sleep(7 * time.Minute)
		case "second":
			time.Sleep(time.Second)
		default:
			w.mu.Lock() // so that none is with the app before it is known that it came
			w.came(s.posts(step), step)
			w.mu.Unlock()
		}
	}
	s.app.answers(func(_ int, h hit) (*http.Response, error) {
		w.begins(h.id, d.atOnce)
		w.ends(h.id, true)
		return status(200)
	})
	time.Sleep(time.Hour)
	s.end()
	for id, at := range s.at() {
		if at.State != correlate.AppHandled {
			w.wrong = append(w.wrong, fmt.Sprintf("in the end %s is %+v", id, at))
		}
	}
	if n := len(w.order); n != len(s.at()) {
		w.wrong = append(w.wrong, fmt.Sprintf("of %d callbacks %d were seen to come", len(s.at()), n))
	}
	return w.wrong
}

// A witness sees what comes to the app, and when it ought not to have.
type witness struct {
	mu      sync.Mutex
	payment map[string]string // of a callback
	order   []string          // in which they came to the sidecar
	with    map[string]bool   // the app
	done    map[string]bool   // the app has said that it has it
	wrong   []string
}

// came is for who holds mu.
func (w *witness) came(id, payment string) {
	if !slices.Contains(w.order, id) {
		w.order = append(w.order, id)
	}
	w.payment[id] = payment
}

func (w *witness) begins(id string, atOnce int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.with[id] = true
	if len(w.with) > atOnce {
		w.wrong = append(w.wrong, fmt.Sprintf("%d are with the app at a time", len(w.with)))
	}
	at := slices.Index(w.order, id)
	for i, other := range w.order {
		if i >= at || w.payment[other] != w.payment[id] {
			continue
		}
		if w.with[other] {
			w.wrong = append(w.wrong, fmt.Sprintf("%s came while %s was with the app", id, other))
		}
		if !w.done[other] {
			w.wrong = append(w.wrong, fmt.Sprintf("%s came before %s was handled", id, other))
		}
	}
}

func (w *witness) ends(id string, handled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.with, id)
	if handled {
		w.done[id] = true
	}
}
