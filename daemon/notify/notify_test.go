package notify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/notify"
)

// post is a way that keeps what it is given.
type post struct {
	name string

	mu    sync.Mutex
	fails error
	got   []notify.Message
	tries int
}

func (p *post) Name() string { return p.name }

func (p *post) Send(ctx context.Context, m notify.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.fails == nil {
		p.got = append(p.got, m)
	}
	return p.fails
}

func (p *post) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

// subjects are those of all messages.
func (p *post) subjects() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, m := range p.got {
		all = append(all, strings.TrimPrefix(m.Subject, "Hodi: "))
	}
	return strings.Join(all, " | ")
}

func (p *post) last() notify.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[len(p.got)-1]
}

// bubble is a Notifier in a bubble, and what is so.
type bubble struct {
	*testing.T
	file string
	post *post

	mu   sync.Mutex
	is   map[string]notify.Condition
	stop func()
	*notify.Notifier
}

func inBubble(t *testing.T, f func(b *bubble)) {
	t.Helper()
	t.Parallel()
	file := filepath.Join(t.TempDir(), "notify.json")
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, file: file, post: &post{name: "post"}, is: map[string]notify.Condition{}}
		b.start()
		defer func() { b.stop() }()
		f(b)
	})
}

func (b *bubble) start(ways ...notify.Way) {
	if ways == nil {
		ways = []notify.Way{b.post}
	}
	b.Notifier = notify.New(notify.Config{Look: b.look, Ways: ways, File: b.file, Edge: "hooks.example.co.ke", Location: time.UTC})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n := b.Notifier
	go func() { n.Run(ctx); close(done) }()
	b.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (b *bubble) look(context.Context) (all []notify.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.is {
		all = append(all, c)
	}
	return all
}

// so has a condition be so.
func (b *bubble) so(c notify.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.Since.IsZero() && c.Kind != notify.Suspect {
		c.Since = time.Now()
	}
	b.is[string(c.Kind)+c.Subject] = c
}

func (b *bubble) no(kind notify.Kind, subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.is, string(kind)+subject)
}

func (b *bubble) silent(subject string) {
	b.so(notify.Condition{Kind: notify.Silent, Subject: subject})
}
func (b *bubble) back(subject string) { b.no(notify.Silent, subject) }

// want sleeps, and wants these to be the subjects of all messages that there ever were.
func (b *bubble) want(after time.Duration, subjects ...string) {
	b.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := b.post.subjects(); got != strings.Join(subjects, " | ") {
		b.Errorf("after %v a person was told\n\t%s\nand should have been told\n\t%s", after, got, strings.Join(subjects, " | "))
	}
}

func TestAConditionIsToldOfOnceThenDailyThenWhenItHasEnded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.want(time.Hour)
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		b.want(23*time.Hour, "duka is silent")
		b.want(2*time.Hour, "duka is silent", "duka is still silent")
		b.want(22*time.Hour, "duka is silent", "duka is still silent")
		b.want(2*time.Hour, "duka is silent", "duka is still silent", "duka is still silent")
		b.back("duka")
		b.want(9*time.Minute, "duka is silent", "duka is still silent", "duka is still silent")
		b.want(2*time.Minute, "duka is silent", "duka is still silent", "duka is still silent", "duka is back")
		b.want(72*time.Hour, "duka is silent", "duka is still silent", "duka is still silent", "duka is back")
	})
}

func TestFiveHundredThatAreSilentAtOnceAreOneMessage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for i := range 500 {
			b.silent(fmt.Sprintf("shop-%03d", i))
			time.Sleep(50 * time.Millisecond)
		}
		b.want(5*time.Minute, "500 shops are silent")
		text := b.post.last().Text
		if !strings.Contains(text, "  shop-000: since") || !strings.Contains(text, "and 480 more: hodi edge endpoints") || strings.Count(text, "\n") > 40 {
			t.Errorf("it says\n%s", text)
		}
		if n := len(b.post.last().Items); n != 500 {
			t.Errorf("it has %d items", n)
		}
		for i := range 500 {
			b.back(fmt.Sprintf("shop-%03d", i))
		}
		b.want(15*time.Minute, "500 shops are silent", "500 shops are back")
	})
}

func TestOneThatComesAndGoesIsNotToldOfEachTime(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for range 24 * 4 { // a quarter of an hour silent, a quarter not
			b.silent("duka")
			time.Sleep(15 * time.Minute)
			b.back("duka")
			time.Sleep(15 * time.Minute)
		}
		if n := strings.Count(b.post.subjects(), "|") + 1; n > 6 {
			t.Errorf("in two days there were %d messages: %s", n, b.post.subjects())
		}
		before := b.post.subjects()
		b.want(48*time.Hour, before, "duka is back")
		b.silent("duka")
		b.want(time.Hour, before, "duka is back", "duka is silent")
		b.back("duka") // of late it has begun once
		b.want(11*time.Minute, before, "duka is back", "duka is silent", "duka is back")
	})
}

func TestNotBeingSureNeitherBeginsNorEndsAnything(t *testing.T) {
	inBubble(t, func(b *bubble) {
		unsure := notify.Condition{Kind: notify.Silent, Subject: "duka", Phase: notify.Unsure}
		b.so(unsure)
		b.want(time.Hour)
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		b.back("duka")
		time.Sleep(5 * time.Minute)
		b.so(unsure)
		b.want(2*time.Hour, "duka is silent")
		b.back("duka")
		b.want(11*time.Minute, "duka is silent", "duka is back")
	})
}

func TestWhatNobodyWantsToHearOfAnyMoreEndsWithoutAWord(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		b.so(notify.Condition{Kind: notify.Silent, Subject: "duka", Phase: notify.Moot})
		b.want(72*time.Hour, "duka is silent")
	})
}

func TestWhatIsOverBeforeItWasToldIsNotTold(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.silent("duka")
		time.Sleep(30 * time.Second)
		b.back("duka")
		b.want(48 * time.Hour)
	})
}

func TestWhatIsCountedIsToldOfAtOnceAndThenOnceADayForAsLongAsThereIsMore(t *testing.T) {
	inBubble(t, func(b *bubble) {
		doubts := func(n uint64) { b.so(notify.Condition{Kind: notify.Suspect, Subject: "duka", Count: n}); b.Wake() }
		doubts(0)
		b.want(48 * time.Hour)
		doubts(1)
		first := "a callback at duka is not believed"
		b.want(time.Second, first)
		for n := range uint64(50) {
			doubts(2 + n)
			time.Sleep(10 * time.Minute)
		}
		b.want(0, first)
		b.no(notify.Suspect, "duka") // it is not connected, and so says nothing
		b.want(24*time.Hour, first, "50 callbacks at duka are not believed")
		b.want(72*time.Hour, first, "50 callbacks at duka are not believed")
		doubts(51)
		b.want(time.Hour, first, "50 callbacks at duka are not believed")
		doubts(52)
		b.want(time.Second, first, "50 callbacks at duka are not believed", first)
		doubts(3) // another store
		b.want(time.Hour, first, "50 callbacks at duka are not believed", first)
		b.stop()
		b.start()
		b.want(72*time.Hour, first, "50 callbacks at duka are not believed", first)
		doubts(5)
		b.want(time.Second, first, "50 callbacks at duka are not believed", first, "2 callbacks at duka are not believed")
	})
}

func TestARestartTellsNothingASecondTimeAndForgetsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		for range 5 {
			b.stop()
			b.start()
			b.want(time.Hour, "duka is silent")
		}
		b.stop()
		time.Sleep(20 * time.Hour)
		b.start()
		b.want(time.Minute, "duka is silent", "duka is still silent")
		b.stop()
		b.back("duka")
		b.start()
		b.want(11*time.Minute, "duka is silent", "duka is still silent", "duka is back")
		if since := b.post.last().Items[0].Since; time.Since(since) < 25*time.Hour {
			t.Errorf("it was silent since %v", since)
		}
	})
}

func TestAWayThatFailsHoldsUpNoOtherAndIsTriedAgainForADay(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.stop()
		mail := &post{name: "mail", fails: errors.New("421 try later")}
		b.start(mail, b.post)
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		failing := b.States()[0]
		if failing.Way != "mail" || failing.Waiting != 1 || failing.Fails.IsZero() || failing.Error != "421 try later" {
			t.Errorf("the way that fails is %+v", failing)
		}
		if well := b.States()[1]; well.Waiting != 0 || !well.Fails.IsZero() || well.Sent.IsZero() {
			t.Errorf("the other is %+v", well)
		}
		time.Sleep(time.Hour)
		b.stop() // what was not told is not forgotten
		b.start(mail, b.post)
		time.Sleep(time.Hour)
		mail.fail(nil)
		time.Sleep(70 * time.Minute)
		if got := mail.subjects(); got != "duka is silent" {
			t.Errorf("when it works again it has told %q", got)
		}
		if s := b.States()[0]; !s.Fails.IsZero() || s.Error != "" || s.Waiting != 0 {
			t.Errorf("the way that works again is %+v", s)
		}
		mail.fail(errors.New("550 no"))
		mail.mu.Lock()
		mail.tries = 0
		mail.mu.Unlock()
		b.back("duka")
		time.Sleep(20 * time.Minute)
		b.mu.Lock()
		clear(b.is)
		b.mu.Unlock()
		time.Sleep(30 * time.Hour)
		s := b.States()[0]
		if s.Waiting != 0 || s.GaveUp.IsZero() || s.Fails.IsZero() {
			t.Errorf("after a day and more it is %+v", s)
		}
		mail.mu.Lock()
		defer mail.mu.Unlock()
		if mail.tries < 20 || mail.tries > 150 {
			t.Errorf("in a day it was tried %d times", mail.tries)
		}
	})
}

func TestHoweverMuchHappensMessagesAreFew(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for i := range 3 * 60 { // another shop every minute, for three hours
			b.silent(fmt.Sprintf("shop-%04d", i))
			time.Sleep(time.Minute)
		}
		if n := strings.Count(b.post.subjects(), "|") + 1; n > 3*6+5 {
			t.Errorf("there were %d messages in three hours", n)
		}
		seen := map[string]int{}
		for _, m := range b.post.got {
			for _, i := range m.Items {
				if i.State == notify.Begun {
					seen[i.Subject]++
				}
			}
		}
		if len(seen) < 3*60-15 {
			t.Errorf("%d of 180 were told of", len(seen))
		}
		for shop, n := range seen {
			if n != 1 {
				t.Errorf("%s was told of %d times", shop, n)
			}
		}
	})
}

func TestHoweverOftenItIsWokenTheDiskIsNotAskedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		n := notify.New(notify.Config{Ways: []notify.Way{&post{name: "post"}}, Look: func(context.Context) []notify.Condition { looks.Add(1); return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		for range 10_000 { // ten seconds of forgeries
			n.Wake()
			time.Sleep(time.Millisecond)
		}
		if got := looks.Load(); got < 10 || got > 30 {
			t.Errorf("in ten seconds it looked %d times", got)
		}
		cancel()
		<-done
	})
}

func TestAFileThatIsAheadOfItsMessagesKeepsNobodyFromBeingTold(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.stop()
		if err := os.WriteFile(b.file, []byte(`{"conditions": [], "last": 3, "messages": [], "ways": {"post": {"after": 4000}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
	})
}

func TestWithoutAWayNothingCountsAsTold(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.Set()
		b.silent("duka")
		b.want(30 * time.Hour)
		b.Set(b.post)
		b.want(2*time.Minute, "duka is silent")
		other := &post{name: "other"} // is owed nothing of before
		b.Set(b.post, other)
		b.want(time.Hour, "duka is silent")
		if got := other.subjects(); got != "" {
			t.Errorf("a new way told what was told before it came: %s", got)
		}
		b.Set(other)
		b.back("duka")
		b.want(time.Hour, "duka is silent")
		if got := other.subjects(); got != "duka is back" {
			t.Errorf("the way that is left told %q", got)
		}
	})
}

func TestATestIsSentByEveryWayAtOnceAndSaysWhatEachAnswered(t *testing.T) {
	inBubble(t, func(b *bubble) {
		bad := &post{name: "bad", fails: errors.New("no\n such   host")}
		b.Set(b.post, bad)
		answers := b.Test(b.Context())
		if len(answers) != 2 || answers[0] != (notify.Answer{Way: "post"}) || answers[1] != (notify.Answer{Way: "bad", Error: "no such host"}) {
			t.Errorf("the answers are %+v", answers)
		}
		if m := b.post.last(); len(m.Items) != 0 || m.Number != 0 || !strings.Contains(m.Subject, "test") {
			t.Errorf("the message is %+v", m)
		}
		b.want(time.Hour, "a test, and nothing is wrong")
	})
}

func TestAFileThatIsDamagedHasWhatLastsToldOnceMoreAndStopsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.silent("duka")
		b.want(2*time.Minute, "duka is silent")
		b.stop()
		if err := os.WriteFile(b.file, []byte(`{"conditions": [null, {`), 0o600); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.want(2*time.Minute, "duka is silent", "duka is silent")
	})
}

func TestWhatTheMessageSays(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.so(notify.Condition{Kind: notify.Silent, Subject: "duka", Since: time.Now().Add(-10 * time.Minute), Detail: "Its sidecar is not connected"})
		b.so(notify.Condition{Kind: notify.Disk, Detail: "Nothing can be stored: no space left on device"})
		b.so(notify.Condition{Kind: notify.Certificate, Subject: "", Ends: time.Now().Add(13 * 24 * time.Hour)})
		b.want(2*time.Minute, "the disk of the edge is full; duka is silent; and more")
		want := `The Hodi edge hooks.example.co.ke, on 1 Jan 2000 00:00 (times are UTC):

the disk of the edge is full
  this edge: since 1 Jan 2000 00:00. Nothing can be stored: no space left on device.
  What to do: make room on this machine now: what Safaricom posts while nothing can be stored may be lost. See hodi status

duka is silent
  duka: since 31 Dec 1999 23:50, for 10 minutes. Its sidecar is not connected.
  What to do: see whether the shop has power and internet. On its machine: hodi status, hodi doctor. Payments go on, and their callbacks wait here. If the shop is closed for good, on this machine: hodi edge revoke duka

the certificate of this edge ends on 14 January 2000
  this edge: on 14 Jan 2000 00:00.
  What to do: renew it: without it Safaricom's callbacks do not come. On this machine: hodi status, and the edge's log says what keeps it from being renewed
`
		if got := b.post.last().Text; got != want {
			t.Errorf("it says\n%s\nand should say\n%s", got, want)
		}
	})
}
