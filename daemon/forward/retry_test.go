package forward_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

func TestAnAppThatWasDownGetsEverythingWhenItIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.begins()
		s.app.answers(func(int, hit) (*http.Response, error) { return nil, errRefused })
		var want []string
		for _, m := range []string{"a", "a", "b", "a", "c", "b"} {
			want = append(want, s.posts(m))
		}
		s.start()
		time.Sleep(5 * time.Hour)
		down := len(s.app.seen())
		// Three payments, each tried once in some five minutes on average: more is a burden, less is late.
		if down < 60 || down > 600 {
			t.Errorf("in five hours %d attempts were made", down)
		}
		s.app.answers(nil)
		time.Sleep(10 * time.Minute)
		var got []string
		for _, h := range s.app.seen()[down:] {
			got = append(got, h.id)
		}
		for _, payment := range [][]int{{0, 1, 3}, {2, 5}, {4}} {
			var order []string
			for _, id := range got {
				if i := slices.Index(want, id); slices.Contains(payment, i) {
					order = append(order, id)
				}
			}
			var right []string
			for _, i := range payment {
				right = append(right, want[i])
			}
			if !slices.Equal(order, right) {
				t.Errorf("a payment's callbacks came as %v, want %v", order, right)
			}
		}
		// Whoever waited because nobody was there is not made to wait once somebody is.
		back := s.app.seen()[down:]
		if last := back[len(back)-1].at.Sub(back[0].at); last > time.Second {
			t.Errorf("the last of them came %v after the first", last)
		}
		for id, at := range s.at() {
			if at.State != correlate.AppHandled || at.Status != 200 {
				t.Errorf("%s is %+v", id, at)
			}
		}
	})
}

func TestACallbackIsTriedForThreeDaysAndThenGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.begins()
		began := time.Now()
		bad, behind, other := s.posts("a"), s.posts("a"), s.posts("b")
		s.app.answers(func(_ int, h hit) (*http.Response, error) {
			switch {
			case h.id != bad:
				return status(http.StatusNoContent)
			case time.Since(began) > 12*time.Hour: // so that a test of three days has some hundred attempts
				return status(http.StatusBadRequest, "Retry-After", "20000")
			}
			return status(http.StatusBadRequest)
		})
		s.start()
		time.Sleep(72*time.Hour - time.Second)
		is := s.at()
		if is[bad].State != correlate.AppWaiting || is[behind].State != correlate.AppWaiting || is[other].State != correlate.AppHandled {
			t.Errorf("just before three days: %+v", is)
		}
		// A restart neither forgets how often it was tried nor begins the three days anew.
		s.end()
		s.table.Close()
		s.openTable()
		s.start()
		time.Sleep(time.Minute)
		is = s.at()
		if is[bad].State != correlate.AppDead || is[bad].Status != 400 || is[behind].State != correlate.AppHandled {
			t.Errorf("after three days: %+v", is)
		}
		var gaps []time.Duration
		last := time.Time{}
		for _, h := range s.app.seen() {
			if h.id != bad {
				continue
			}
			if !last.IsZero() && h.at.Sub(began) < 12*time.Hour {
				gaps = append(gaps, h.at.Sub(last))
			}
			last = h.at
		}
		if d := last.Sub(began); d < 72*time.Hour || d > 72*time.Hour+time.Minute {
			t.Errorf("the last try was after %v", d)
		}
		if longest := slices.Max(gaps); longest > 10*time.Minute+time.Second || longest < 8*time.Minute {
			t.Errorf("the longest wait was %v", longest)
		}
		if shortest := slices.Min(gaps); shortest > time.Minute {
			t.Errorf("the shortest wait was %v, so there is no jitter", shortest)
		}
		if n := len(s.app.seen()) - 2; is[bad].Attempts != n || len(gaps) < 80 {
			t.Errorf("%d attempts are written down, and %d were made", is[bad].Attempts, n)
		}

		if r, err := s.table.Replay(context.Background(), correlate.Again{Dead: true, Who: "test"}); err != nil || r.Callbacks != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		s.app.answers(nil)
		time.Sleep(time.Minute)
		hits := s.app.seen()
		if h := hits[len(hits)-1]; h.id != bad || h.header.Get("hodi-replay") != "true" || s.at()[bad].State != correlate.AppHandled {
			t.Errorf("asked for again, it came as %+v and is %+v", h, s.at()[bad])
		}
	})
}

func TestAnAppMaySayWhenItWantsTheNext(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]struct {
		status int
		after  func() string
		want   time.Duration
		others bool // may come in the meantime
	}{
		"seconds":              {http.StatusServiceUnavailable, func() string { return "1000" }, 1000 * time.Second, false},
		"a date":               {http.StatusTooManyRequests, func() string { return time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat) }, 2 * time.Hour, false},
		"a year":               {http.StatusTooManyRequests, func() string { return "31536000" }, 6 * time.Hour, false},
		"of one callback only": {http.StatusInternalServerError, func() string { return "3600" }, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t)
				s.begins()
				s.posts("a")
				s.app.answers(func(n int, _ hit) (*http.Response, error) {
					if n == 1 {
						return status(is.status, "Retry-After", is.after())
					}
					return status(200)
				})
				s.start()
				synctest.Wait()
				s.posts("b")
				time.Sleep(24 * time.Hour)
				first := s.app.seen()[0].at
				for _, h := range s.app.seen()[1:] {
					waited := h.at.Sub(first)
					early := waited < is.want-time.Second
					if h.body == body("b") && early != is.others || h.body == body("a") && (early || waited > is.want+time.Second) {
						t.Errorf("%s came after %v", h.body, waited)
					}
				}
				if n := len(s.app.seen()); n != 3 {
					t.Errorf("%d requests were made, want 3", n)
				}
			})
		})
	}
}

func TestAnAppThatIsGoneIsLeftAloneUntilSomebodyResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.begins()
		one := s.posts("a")
		s.app.answers(func(int, hit) (*http.Response, error) { return status(http.StatusGone) })
		s.start()
		time.Sleep(time.Hour)
		two := s.posts("b")
		s.end()
		s.start() // and a restart does not make it forget
		time.Sleep(30 * 24 * time.Hour)
		if n := len(s.app.seen()); n != 1 {
			t.Errorf("an app that is gone was asked %d times", n)
		}
		f, err := s.table.Forwarding(context.Background())
		if err != nil || f.Paused.IsZero() || !strings.Contains(f.Why, "410") || f.Waiting != 2 {
			t.Errorf("%+v, %v", f, err)
		}
		// Its three days have not gone by meanwhile: whoever resumes too early has not lost what waited.
		s.app.answers(func(int, hit) (*http.Response, error) { return nil, errRefused })
		if err := s.on.Resume(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		s.end()
		s.start()
		time.Sleep(47 * time.Hour)
		if is := s.at(); is[one].State != correlate.AppWaiting || is[two].State != correlate.AppWaiting {
			t.Errorf("71 hours after it was resumed: %+v", is)
		}
		resumed := len(s.app.seen())
		s.app.answers(nil)
		time.Sleep(11 * time.Minute)
		if is := s.at(); is[one].State != correlate.AppHandled || is[two].State != correlate.AppHandled {
			t.Errorf("after it was resumed: %+v", is)
		}
		if err := s.on.Pause(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.posts("c")
		time.Sleep(time.Hour)
		if n := len(s.app.seen()) - resumed; n != 2 {
			t.Errorf("while it is paused the app was asked, %d times since it was back", n)
		}
	})
}

func TestWhatWaitedWhileThereWasNoAppIsNotGivenUpForThat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.begins()
		s.app.answers(func(int, hit) (*http.Response, error) { return nil, errRefused })
		one := s.posts("a")
		s.start()
		time.Sleep(time.Minute)
		nowhere := s.config
		nowhere.URL = ""
		s.on.Set(nowhere)
		time.Sleep(4 * 24 * time.Hour)
		s.on.Set(s.config) // before the app is up, which has its three days
		time.Sleep(time.Hour)
		s.end()
		s.start()
		time.Sleep(time.Hour)
		if is := s.at()[one]; is.State != correlate.AppWaiting {
			t.Errorf("two hours after there was an app again: %+v", is)
		}
		s.app.answers(nil)
		time.Sleep(11 * time.Minute)
		if is := s.at()[one]; is.State != correlate.AppHandled {
			t.Errorf("after it was up: %+v", is)
		}
	})
}
