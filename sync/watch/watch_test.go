package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/sync/watch"
)

// pretend is a Daraja that only answers questions. It notes who asked about what, and when.
type pretend struct {
	start time.Time

	mu     sync.Mutex
	asked  []question
	answer func(checkout string, n int) (status int, body string) // n: how often this one was asked about, this time included
	times  map[string]int
}

type question struct {
	after    time.Duration // since the start
	checkout string
}

func (d *pretend) RoundTrip(r *http.Request) (*http.Response, error) {
	reply := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	if strings.HasPrefix(r.URL.Path, "/oauth/") {
		return reply(200, `{"access_token":"t","expires_in":"3599"}`)
	}
	var q struct{ CheckoutRequestID string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.asked = append(d.asked, question{time.Since(d.start), q.CheckoutRequestID})
	d.times[q.CheckoutRequestID]++
	answer, n := d.answer, d.times[q.CheckoutRequestID]
	d.mu.Unlock()
	status, body := answer(q.CheckoutRequestID, n)
	if status == 0 {
		return nil, errors.New("no answer")
	}
	return reply(status, strings.Replace(body, `"CheckoutRequestID":""`, fmt.Sprintf(`"CheckoutRequestID":%q`, q.CheckoutRequestID), 1))
}

const inFlight = `{"requestId":"1","errorCode":"500.001.1001","errorMessage":"The transaction is being processed"}`

func said(code string) string {
	return fmt.Sprintf(`{"ResponseCode":"0","ResponseDescription":"ok","MerchantRequestID":"","CheckoutRequestID":"","ResultCode":"%s","ResultDesc":"it said %s"}`, code, code)
}

// A bench is a table, its watch and a pretend Daraja, in a bubble.
type bench struct {
	*testing.T
	*pretend
	*correlate.Table
	cfg       correlate.Config
	stop      func()
	perMinute int
	apps      [][]string
	watch     *watch.Watch
}

func inBubble(t *testing.T, f func(*bench)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, pretend: &pretend{start: time.Now(), times: map[string]int{}, answer: func(string, int) (int, string) { return 500, inFlight }}}
		b.cfg = correlate.Config{Path: filepath.Join(dir, "hodi.db"), Key: make([]byte, 32)}
		b.run()
		f(b)
		b.stop()
	})
}

func (b *bench) run() {
	b.Helper()
	var err error
	if b.Table, err = correlate.Open(context.Background(), b.cfg); err != nil {
		b.Fatal(err)
	}
	hc := &http.Client{Transport: b.pretend}
	client := &daraja.Client{
		BaseURL:   "http://daraja.test",
		Shortcode: daraja.Shortcode{Name: "main", Environment: "sandbox", Kind: "paybill", Number: "174379", Credentials: daraja.Credentials{ConsumerKey: "k", ConsumerSecret: "s", Passkey: "p"}},
		Tokens:    daraja.NewTokens("http://daraja.test", "k", "s", hc),
		HTTP:      hc,
	}
	b.watch = &watch.Watch{Table: b.Table, PerMinute: b.perMinute, Apps: b.apps, Client: func(name string) *daraja.Client {
		if name != "main" && b.apps == nil {
			return nil
		}
		return client
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.watch.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := b.Close(); err != nil {
			b.Error(err)
		}
	}
}

// pay registers a push of the app: it has ids, and no phone whose other prompts matter.
func (b *bench) pay(name string) correlate.Payment {
	b.Helper()
	p, err := b.Register(context.Background(), correlate.Registration{MerchantRequestID: "mr-" + name, CheckoutRequestID: name, Amount: 100_00, Shortcode: "main"})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (b *bench) status(p correlate.Payment) push.Status {
	b.Helper()
	synctest.Wait()
	p, err := b.Payment(context.Background(), p.ID)
	if err != nil {
		b.Fatal(err)
	}
	return p.Status
}

func (b *bench) answers(f func(checkout string, n int) (status int, body string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func (b *bench) questions() []question {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]question(nil), b.asked...)
}

func TestOnePaymentIsAskedAboutEverMoreSparselyForTwoDays(t *testing.T) {
	inBubble(t, func(b *bench) {
		p := b.pay("one")
		time.Sleep(30*time.Second - time.Millisecond)
		if q := b.questions(); len(q) != 0 {
			b.Fatalf("asked %v, want nothing before 30 s", q)
		}
		time.Sleep(time.Millisecond)
		if q := b.questions(); len(q) != 1 {
			b.Fatalf("asked %v, want one question at 30 s", q)
		}
		time.Sleep(62 * time.Hour)
		q := b.questions()
		var gap time.Duration
		for i := 1; i < len(q); i++ {
			next := q[i].after - q[i-1].after
			if next < 15*time.Second {
				b.Errorf("asked at %s and again %s later, want at least 15 s", q[i-1].after, next)
			}
			if next < gap-time.Second {
				b.Errorf("asked %s after the last time, and before that %s: not ever more sparsely", next, gap)
			}
			gap = next
		}
		if last := q[len(q)-1].after; last > 61*time.Hour || last < 40*time.Hour {
			b.Errorf("asked last after %s, want about two days", last)
		}
		if len(q) < 20 || len(q) > 60 {
			b.Errorf("asked %d times in two days", len(q))
		}
		if s := b.status(p); s != push.Unknown {
			b.Errorf("after two days without an answer the payment is %s, want UNKNOWN", s)
		}
	})
}

func TestNobodyIsPromisedAnAnswerThatCannotBeAskedFor(t *testing.T) {
	inBubble(t, func(b *bench) {
		p, err := b.Register(context.Background(), correlate.Registration{MerchantRequestID: "mr", CheckoutRequestID: "one", Amount: 100_00, Shortcode: "no longer configured"})
		if err != nil {
			b.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if s := b.status(p); s != push.Unknown {
			b.Errorf("the payment is %s, want UNKNOWN", s)
		}
		if p, _ = b.Payment(context.Background(), p.ID); p.Asking() || strings.Contains(p.Data().Reason, "checking") {
			b.Errorf("nobody can ask about it, and it says %q", p.Data().Reason)
		}
		if q := b.questions(); len(q) != 0 {
			b.Errorf("asked %v", q)
		}
	})
}

func TestSilenceIsUnknownAfterNinetySeconds(t *testing.T) {
	inBubble(t, func(b *bench) {
		p := b.pay("one")
		time.Sleep(90*time.Second - time.Millisecond)
		if s := b.status(p); s != push.Pending {
			b.Errorf("just before 90 s the payment is %s, want PENDING", s)
		}
		time.Sleep(time.Millisecond)
		if s := b.status(p); s != push.Unknown {
			b.Errorf("at 90 s the payment is %s, want UNKNOWN", s)
		}
	})
}

func TestTheClocksGoOnAfterARestart(t *testing.T) {
	inBubble(t, func(b *bench) {
		early, late := b.pay("early"), b.pay("late")
		time.Sleep(10 * time.Second)
		b.stop()
		time.Sleep(70 * time.Second)
		b.run()
		if n := len(b.questions()); n != 1 {
			b.Errorf("%d questions on starting again, want one: what was due while nobody ran", n)
		}
		time.Sleep(10*time.Second - time.Millisecond)
		if s := b.status(early); s != push.Pending {
			b.Errorf("just before its 90 s the payment is %s, want PENDING", s)
		}
		time.Sleep(time.Millisecond)
		if e, l := b.status(early), b.status(late); e != push.Unknown || l != push.Unknown {
			b.Errorf("at their 90 s the payments are %s and %s, want UNKNOWN", e, l)
		}
		b.stop()
		time.Sleep(time.Hour)
		b.run()
		if s := b.status(late); s != push.Unknown {
			b.Errorf("the payment is %s", s)
		}
	})
}

func TestUnknownComesOnTimeWhileAQuestionHangs(t *testing.T) {
	inBubble(t, func(b *bench) {
		p := b.pay("one")
		time.Sleep(45 * time.Second)
		b.pay("two")
		b.answers(func(string, int) (int, string) { time.Sleep(19 * time.Second); return 500, inFlight })
		time.Sleep(45 * time.Second)
		if s := b.status(p); s != push.Unknown {
			b.Errorf("the payment is %s, want UNKNOWN", s)
		}
	})
}

func TestFiveQuestionsAMinuteAndTheNewestFirst(t *testing.T) {
	inBubble(t, func(b *bench) {
		const many = 60
		for i := range many {
			b.pay(fmt.Sprintf("p%02d", i))
		}
		time.Sleep(5 * time.Minute)
		b.pay("at the till")
		time.Sleep(5 * time.Minute)
		q := b.questions()
		for i := range q {
			n := 0
			for _, other := range q[i:] {
				if other.after < q[i].after+time.Minute {
					n++
				}
			}
			if n > 5 {
				b.Fatalf("%d questions within a minute of %s, want 5 at most", n, q[i].after)
			}
		}
		if q[0].checkout != "p59" {
			b.Errorf("the first question is about %s, want the newest payment", q[0].checkout)
		}
		if n := len(q); n < 45 || n > 50 {
			b.Errorf("%d questions in the 9.5 minutes in which some were due, want all that are allowed", n)
		}
		for _, x := range q {
			if x.checkout == "at the till" {
				if x.after > 5*time.Minute+43*time.Second {
					b.Errorf("the new payment was asked about after %s, behind the old ones", x.after-5*time.Minute)
				}
				return
			}
		}
		b.Error("the new payment was never asked about")
	})
}

func TestDarajasOwnPatienceIsHonoured(t *testing.T) {
	inBubble(t, func(b *bench) {
		spike := `{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{messagesPerPeriod=5, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}","detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}`
		asked := 0
		b.answers(func(string, int) (int, string) {
			if asked++; asked == 1 {
				return 429, spike
			}
			return 500, inFlight
		})
		p := b.pay("one")
		b.pay("two")
		time.Sleep(2 * time.Minute)
		q := b.questions()
		if len(q) < 2 || q[1].after-q[0].after < 12*time.Second {
			b.Errorf("asked %v, want at least 12 s of quiet after 429", q)
		}
		if s := b.status(p); s == push.Failed {
			b.Error("429 made a payment FAILED")
		}
	})
}

func TestTwoAnswersThatAgreeAreAFailure(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.answers(func(string, int) (int, string) { return 200, said("1032") })
		p := b.pay("one")
		time.Sleep(44 * time.Second)
		if s := b.status(p); s != push.Pending || len(b.questions()) != 1 {
			b.Errorf("after one answer (%v) the payment is %s, want PENDING", b.questions(), s)
		}
		time.Sleep(time.Second)
		if s := b.status(p); s != push.Failed {
			b.Errorf("after two answers the payment is %s, want FAILED", s)
		}
		time.Sleep(time.Hour)
		if q := b.questions(); len(q) != 2 {
			b.Errorf("asked %v, want nothing more", q)
		}
	})
}

func TestAnswersThatDisagreeAreNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.answers(func(_ string, n int) (int, string) {
			return 200, said([]string{"1032", "1037", "1032", "4999", "1037"}[(n-1)%5])
		})
		p := b.pay("one")
		time.Sleep(10 * time.Minute)
		if s := b.status(p); s != push.Unknown {
			b.Errorf("the payment is %s after %d answers that differ, want UNKNOWN", s, len(b.questions()))
		}
	})
}

func TestASuccessByQueryCountsAtOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.answers(func(_ string, n int) (int, string) {
			if n == 3 {
				return 200, said("0")
			}
			return 500, inFlight
		})
		p := b.pay("one")
		time.Sleep(10 * time.Minute)
		if s := b.status(p); s != push.Success || len(b.questions()) != 3 {
			b.Errorf("the payment is %s after %d questions, want SUCCESS after three", s, len(b.questions()))
		}
	})
}

func TestErrorsChangeNothing(t *testing.T) {
	for name, answer := range map[string]func(string, int) (int, string){
		"no answer": func(string, int) (int, string) { return 0, "" },
		"html":      func(string, int) (int, string) { return 200, "<html>Request unsuccessful.</html>" },
		"503":       func(string, int) (int, string) { return 503, "busy" },
		"unknown id": func(string, int) (int, string) {
			return 400, `{"requestId":"1","errorCode":"400.002.02","errorMessage":"Bad Request - Invalid CheckoutRequestID"}`
		},
		"4999":         func(string, int) (int, string) { return 200, said("4999") },
		"no such code": func(string, int) (int, string) { return 200, said("BW-JMS-100039") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.answers(answer)
				p := b.pay("one")
				time.Sleep(10 * time.Minute)
				if s := b.status(p); s != push.Unknown || len(b.questions()) < 4 {
					b.Errorf("the payment is %s after %d questions, want UNKNOWN and still asked about", s, len(b.questions()))
				}
			})
		})
	}
}

func TestAPaymentWhoseShortcodeIsGoneHoldsUpNobody(t *testing.T) {
	inBubble(t, func(b *bench) {
		p := b.pay("one")
		if _, err := b.Register(context.Background(), correlate.Registration{MerchantRequestID: "mr", CheckoutRequestID: "gone", Shortcode: "closed"}); err != nil {
			b.Fatal(err)
		}
		b.answers(func(string, int) (int, string) { return 200, said("0") })
		time.Sleep(30 * time.Second)
		if s := b.status(p); s != push.Success {
			b.Errorf("the other payment is %s, want SUCCESS", s)
		}
	})
}

func TestAWatchThatIsStoppedHearsWhatItHasAskedAndAsksNoMore(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.answers(func(string, int) (int, string) {
			time.Sleep(25 * time.Second)
			return 200, said("0")
		})
		b.pay("one")
		time.Sleep(31 * time.Second)
		if len(b.questions()) != 1 {
			b.Fatal("nothing was asked")
		}
		silent, err := b.Register(context.Background(), correlate.Registration{MerchantRequestID: "mr-two", Amount: 100_00, Shortcode: "main", CheckoutRequestID: "two"})
		if err != nil {
			b.Fatal(err)
		}
		b.watch.Stop()
		one, err := b.Payment(context.Background(), "mr-one")
		if err != nil {
			b.Fatal(err)
		}
		if s := b.status(one); s != push.Pending {
			b.Fatalf("the payment is %s before the answer", s)
		}
		time.Sleep(25 * time.Second)
		if s := b.status(one); s != push.Success {
			b.Errorf("the answer was not heard: the payment is %s", s)
		}
		time.Sleep(time.Hour)
		if q := b.questions(); len(q) != 1 {
			b.Errorf("%d were asked", len(q))
		}
		if s := b.status(silent); s != push.Pending {
			b.Errorf("it has ended, and the payment is %s", s)
		}
	})
}
