package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/daraja/sandbox"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/sync/watch"
)

// weather is what lies between a shop and the sandbox. It notes the questions that leave the shop.
type weather struct {
	box http.Handler

	mu     sync.Mutex
	is     string
	asked  map[string][]time.Time // by shortcode
	about  map[string][]time.Time // by payment, in its CheckoutRequestID
	random *rand.Rand
}

var weathers = []string{"fine", "fine", "HTML", "500", "429", "silence", "refused", "no tokens", "no token, in HTML", "random"}

func (w *weather) set(is string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.is = is
}

func (w *weather) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	token := strings.HasPrefix(r.URL.Path, "/oauth/")
	w.mu.Lock()
	is := w.is
	if is == "random" {
		is = weathers[w.random.IntN(len(weathers)-1)]
	}
	if strings.Contains(r.URL.Path, "stkpushquery") {
		text := string(body)
		at := strings.Index(text, "ws_CO_")
		about := text[at : at+strings.IndexByte(text[at:], '"')]
		w.about[about] = append(w.about[about], time.Now())
		for _, code := range []string{"174379", "600001"} {
			if strings.Contains(text, `"BusinessShortCode":"`+code) {
				w.asked[code] = append(w.asked[code], time.Now())
			}
		}
	}
	w.mu.Unlock()
	reply := func(status int, text string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	}
	switch {
	case is == "HTML":
		return reply(503, "<html><head></head><body>Request unsuccessful. Incapsula incident ID: 1-2</body></html>")
	case is == "no token, in HTML" && token:
		return reply(200, "<html>Please wait</html>")
	case is == "no tokens" && token:
		return reply(500, `{"requestId":"1","errorCode":"500.003.1001","errorMessage":"Internal Server Error"}`)
	case is == "500" && !token:
		return reply(500, `{"requestId":"1","errorCode":"500.003.1001","errorMessage":"Internal Server Error"}`)
	case is == "429":
		return reply(429, spike)
	case is == "silence":
		<-r.Context().Done()
		return nil, r.Context().Err()
	case is == "refused":
		return nil, errors.New("connection refused")
	}
	inner := r.Clone(context.WithoutCancel(r.Context()))
	inner.Body, inner.RequestURI = io.NopCloser(strings.NewReader(string(body))), r.URL.RequestURI()
	answer := httptest.NewRecorder()
	w.box.ServeHTTP(answer, inner)
	response := answer.Result()
	response.Request = r
	return response, nil
}

const spike = `{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{messagesPerPeriod=5, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}","detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}`

// A street is a shop with a real table, its watch, the sandbox, and weather between them.
type street struct {
	*testing.T
	*weather
	dir    string
	table  *correlate.Table
	watch  *watch.Watch
	client *daraja.Client
	stop   func()
	paid   []string
}

func onAStreet(t *testing.T, f func(*street)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		box, err := sandbox.Open(t.Context(), sandbox.Config{QueryPerMinute: 5, HTTP: &http.Client{Transport: deaf{}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- box.Run(ctx) }()
		s := &street{T: t, dir: dir, weather: &weather{box: box.Handler(), is: "fine", asked: map[string][]time.Time{}, about: map[string][]time.Time{}, random: rand.New(rand.NewPCG(1, 2))}}
		answer := httptest.NewRecorder()
		box.Handler().ServeHTTP(answer, httptest.NewRequest("POST", "http://127.0.0.1/phone/behaviour", strings.NewReader(`{"callback":"never","auto":"approve"}`)))
		if answer.Code >= 300 {
			t.Fatalf("the sandbox answered %d %s", answer.Code, answer.Body)
		}
		s.open()
		defer func() { // however the test ends: a bubble waits for all in it
			s.stop()
			cancel()
			if err := errors.Join(<-ended, box.Close()); err != nil {
				t.Error(err)
			}
		}()
		f(s)
	})
}

// deaf is a shop whose callbacks all are lost.
type deaf struct{}

func (deaf) RoundTrip(r *http.Request) (*http.Response, error) { return nil, errors.New("no route") }

func (s *street) open() {
	s.Helper()
	var err error
	if s.table, err = correlate.Open(context.Background(), correlate.Config{Path: filepath.Join(s.dir, "hodi.db"), Key: make([]byte, 32)}); err != nil {
		s.Fatal(err)
	}
	hc := &http.Client{Transport: s.weather}
	s.client = &daraja.Client{
		BaseURL:   "http://daraja.test",
		Shortcode: daraja.Shortcode{Name: "main", Environment: "sandbox", Kind: "paybill", Number: sandbox.DefaultShortcode, Credentials: daraja.Credentials{ConsumerKey: sandbox.DefaultConsumerKey, ConsumerSecret: sandbox.DefaultConsumerSecret, Passkey: sandbox.DefaultPasskey}},
		HTTP:      hc,
	}
	s.watch = &watch.Watch{Table: s.table, Apps: [][]string{{"main", "branch"}}, Client: func(name string) *daraja.Client {
		if name == "gone" {
			return nil
		}
		return s.client
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.watch.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-done, s.table.Close()); err != nil {
			s.Error(err)
		}
	}
}

// pay has the sandbox prompt a phone that pays; of that the shop hears nothing but what it asks.
func (s *street) pay(i int) {
	s.Helper()
	was := s.is
	s.set("fine")
	defer s.set(was)
	push := func() (daraja.Ack, error) {
		return s.client.Push(context.Background(), daraja.PushRequest{Phone: fmt.Sprintf("2547000%05d", i), Amount: 10, AccountReference: "INV-7", Description: "goods", CallbackURL: "http://127.0.0.1:1/c/0/1"})
	}
	ack, err := push()
	for daraja.NotSent(err) { // it waited for a token that was asked for in other weather
		ack, err = push()
	}
	if err != nil {
		s.Fatal(err)
	}
	p, err := s.table.Register(context.Background(), correlate.Registration{MerchantRequestID: ack.MerchantRequestID, CheckoutRequestID: ack.CheckoutRequestID, Amount: 1000, Shortcode: []string{"main", "branch"}[i%2]})
	if err != nil {
		s.Fatal(err)
	}
	s.paid = append(s.paid, p.ID)
}

// behaved holds the questions against what is always true.
func (s *street) behaved() {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, asked := range s.asked {
		for i := 5; i < len(asked); i++ {
			if d := asked[i].Sub(asked[i-5]); d < time.Minute {
				s.Fatalf("six questions of %s within %v", code, d)
			}
		}
	}
	for about, asked := range s.about {
		for i := 1; i < len(asked); i++ {
			if d := asked[i].Sub(asked[i-1]); d < 15*time.Second-time.Millisecond { // the table's clock has milliseconds
				s.Fatalf("about %s it was asked twice within %v", about, d)
			}
		}
	}
}

func (s *street) known() (n int) {
	s.Helper()
	synctest.Wait()
	for _, id := range s.paid {
		p, err := s.table.Payment(context.Background(), id)
		if err != nil {
			s.Fatal(err)
		}
		switch p.Status {
		case push.Success:
			n++
		case push.Failed:
			s.Errorf("payment %s is FAILED: nobody said so", id)
		}
	}
	return n
}

func (s *street) questions() int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked["174379"])
}

// Whatever Daraja does, however often the sidecar is started, and whoever else uses the app: never more than five a minute, and
// in the end every payment is known.
func TestWhateverHappensEveryPaymentIsAskedAboutInTheEndAndNeverTooOften(t *testing.T) {
	for seed := range uint64(1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			onAStreet(t, func(s *street) {
				r := rand.New(rand.NewPCG(seed, 7))
				for i := range 15 {
					for range r.IntN(3) {
						s.pay(len(s.paid))
					}
					s.set(weathers[r.IntN(len(weathers))])
					time.Sleep(time.Duration(r.IntN(90_000)) * time.Millisecond)
					if r.IntN(4) == 0 {
						s.stop()
						time.Sleep(time.Duration(r.IntN(40)) * time.Second)
						s.open()
					}
					if i%10 == 0 {
						s.behaved()
					}
				}
				s.set("fine")
				time.Sleep(2 * time.Hour) // each is asked about again in a quarter of its age
				s.behaved()
				if n := s.known(); n != len(s.paid) {
					t.Errorf("%d of %d payments are known in the end", n, len(s.paid))
				}
				if st := s.watch.Status(); len(st) != 0 {
					t.Errorf("Daraja answers, and the status is %+v", st)
				}
			})
		})
	}
}

func TestAnOutageIsProbedAndTheBacklogSpread(t *testing.T) {
	onAStreet(t, func(s *street) {
		for i := range 30 {
			s.pay(i)
		}
		s.set("HTML")
		time.Sleep(30 * time.Second)
		began := time.Now()
		time.Sleep(time.Hour)
		if n := s.questions(); n < 8 || n > 25 {
			t.Errorf("%d questions in an outage of an hour, want one every few minutes", n)
		}
		st := s.watch.Status()
		if len(st) != 1 || st[0].Failures < 8 || st[0].Since.Before(began.Add(-time.Minute)) || st[0].Since.After(began.Add(time.Minute)) || !strings.Contains(st[0].Why, "503") || len(st[0].Shortcodes) != 2 {
			t.Fatalf("the status is %+v", st)
		}
		if until := time.Until(st[0].Until); until <= 0 || until > 8*time.Minute {
			t.Errorf("it is tried again in %v", until)
		}
		if n, err := s.table.Waiting(context.Background()); err != nil || n == 0 {
			t.Errorf("%d payments wait, %v", n, err)
		}

		// A start in the middle of it does not ask at once, and knows.
		was := s.questions()
		s.stop()
		s.open()
		if n := s.questions(); n != was {
			t.Errorf("%d questions at the start, want none before it is time", n-was)
		}
		if again := s.watch.Status(); len(again) != 1 || again[0].Failures != st[0].Failures || !again[0].Until.Equal(st[0].Until.Round(0).Truncate(time.Millisecond)) {
			t.Errorf("after the start the status is %+v, was %+v", again, st)
		}

		s.set("fine")
		time.Sleep(35 * time.Minute) // some were asked about in vain just now, and are again in a quarter of their age
		if n := s.known(); n != len(s.paid) {
			t.Errorf("%d of %d are known", n, len(s.paid))
		}
		s.behaved()
	})
}

func TestTooOftenIsLongerEachTimeAndNeverInStep(t *testing.T) {
	pauses := func() (list []time.Duration) {
		onAStreet(t, func(s *street) {
			for i := range 6 {
				s.pay(i)
			}
			s.set("429")
			time.Sleep(25 * time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			asked := s.asked["174379"]
			for i := 1; i < len(asked); i++ {
				list = append(list, asked[i].Sub(asked[i-1]))
			}
		})
		return list
	}
	first, second := pauses(), pauses()
	if len(first) < 4 || first[0] < 12*time.Second || first[3] < 90*time.Second || first[len(first)-1] > 15*time.Minute {
		t.Errorf("the pauses are %v", first)
	}
	if fmt.Sprint(first) == fmt.Sprint(second) {
		t.Errorf("two sidecars with one app pause in step: %v", first)
	}
}

func TestEveryAppHasItsOwnLimitAndItsOwnOutage(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.stop()
		b.apps = [][]string{{"main", "second"}, {"other"}}
		b.run()
		b.answers(func(checkout string, _ int) (int, string) {
			if strings.HasPrefix(checkout, "other") {
				return 500, inFlight
			}
			return 503, "<html>"
		})
		for i := range 20 {
			for _, name := range []string{"main", "second", "other"} {
				checkout := fmt.Sprintf("%s%d", name, i)
				if _, err := b.Register(context.Background(), correlate.Registration{MerchantRequestID: "mr-" + checkout, CheckoutRequestID: checkout, Amount: 100, Shortcode: name}); err != nil {
					b.Fatal(err)
				}
			}
		}
		time.Sleep(5*time.Minute + 30*time.Second)
		n := map[bool]int{}
		for _, q := range b.questions() {
			n[strings.HasPrefix(q.checkout, "other")]++
		}
		if n[true] < 24 || n[true] > 26 {
			b.Errorf("%d questions with the app that answers, want five a minute", n[true])
		}
		if n[false] > 9 {
			b.Errorf("%d questions with the app that does not, which has two shortcodes", n[false])
		}
		if st := b.watch.Status(); len(st) != 1 || len(st[0].Shortcodes) != 2 {
			b.Errorf("the status is %+v", st)
		}
	})
}

func TestWhoStandsAtTheTillGoesFirstAndWhoHasWaitedIsNotForgotten(t *testing.T) {
	inBubble(t, func(b *bench) {
		for i := range 100 {
			b.pay(fmt.Sprintf("old%d", i))
		}
		time.Sleep(30 * time.Minute) // all were asked about, some more than once
		before := len(b.questions())
		for i := range 60 { // a busy half hour: one that is never told of every 30 s
			b.pay(fmt.Sprintf("new%d", i))
			time.Sleep(30 * time.Second)
		}
		first, old := map[string]bool{}, 0
		for _, q := range b.questions()[before:] {
			if strings.HasPrefix(q.checkout, "old") {
				old++
				continue
			}
			if first[q.checkout] {
				continue
			}
			first[q.checkout] = true
			var i int
			fmt.Sscanf(q.checkout, "new%d", &i)
			if late := q.after - (30*time.Minute + time.Duration(i)*30*time.Second + 30*time.Second); late > 12*time.Second {
				b.Errorf("%s was first asked about %v after it was due", q.checkout, late)
			}
		}
		if len(first) < 58 || old < 20 {
			b.Errorf("%d new payments were asked about, and the old ones %d times", len(first), old)
		}
	})
}
