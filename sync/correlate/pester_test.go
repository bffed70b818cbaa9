package correlate_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
)

// prompts sends a prompt to a phone whose customer cancels it at once, and says what came of it.
func (s *shop) prompts(session, phone string) error {
	s.Helper()
	b, err := s.asks(session, phone, false)
	if err != nil {
		return err
	}
	if !b.Send {
		return errors.New("nothing was sent")
	}
	p := s.accept(b.Payment)
	s.comes(s.Ref(p.ID), failure(p, "1032"))
	return nil
}

func (s *shop) asks(session, phone string, byShop bool) (correlate.Begun, error) {
	r := request(session)
	r.Phone, r.Again, r.ByShop = phone, true, byShop
	return s.Begin(s.Context(), r)
}

func (s *shop) wantLimit(err error, session bool, wait time.Duration) {
	s.Helper()
	var limit *correlate.LimitError
	if !errors.As(err, &limit) || limit.Session != session || limit.RetryAfter != wait {
		s.Errorf("got %v (%+v), want a limit of %v", err, limit, wait)
	}
}

func TestNobodyIsPesteredFromWhateverSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Limits = correlate.Limits{PhoneHour: 3, PhoneDay: 5} })
		for i := range 10 {
			s.open(fmt.Sprint("s", i), 100_00)
		}
		for i := range 3 {
			if err := s.prompts(fmt.Sprint("s", i), phone); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		s.wantLimit(s.prompts("s4", phone), false, 30*time.Minute)
		if err := s.prompts("s4", "254700000002"); err != nil {
			t.Errorf("another phone: %v", err)
		}
		time.Sleep(30 * time.Minute)
		if err := s.prompts("s5", phone); err != nil {
			t.Errorf("an hour after the first: %v", err)
		}
		s.wantLimit(s.prompts("s6", phone), false, 10*time.Minute)
		time.Sleep(10 * time.Minute)
		if err := s.prompts("s6", phone); err != nil {
			t.Errorf("an hour after the second: %v", err)
		}
		time.Sleep(2 * time.Hour) // five were sent today
		s.wantLimit(s.prompts("s7", phone), false, 24*time.Hour-3*time.Hour-10*time.Minute)
	})
}

func TestWhoPaysIsNotPestered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Limits = correlate.Limits{PhoneHour: 2, SessionHour: 2} })
		for i := range 6 {
			p := s.pay(fmt.Sprint("s", i))
			s.comes(s.Ref(p.ID), success(p, "100", fmt.Sprintf("TIL7XK41%02d", i)))
		}
	})
}

// Or else whoever wants to keep somebody from paying has prompts sent to them until no more are.
func TestWhoIsPesteredCanStillPayAtTheShop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Limits = correlate.Limits{PhoneDay: 2, SessionHour: 3} })
		for _, session := range []string{"a", "b", "c"} {
			s.open(session, 100_00)
		}
		for range 2 {
			if err := s.prompts("a", phone); err != nil {
				t.Fatal(err)
			}
		}
		s.wantLimit(s.prompts("b", phone), false, 24*time.Hour)
		b, err := s.asks("b", phone, true)
		if err != nil || !b.Send {
			t.Fatalf("the shop asks: %+v, %v", b, err)
		}
		var live *correlate.PromptLiveError
		if _, err := s.asks("c", phone, true); !errors.As(err, &live) {
			t.Errorf("a second prompt beside a live one: %v", err)
		}
	})
}

func TestWhatDarajaRefusedWasNotAPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Limits = correlate.Limits{PhoneHour: 2, SessionHour: 4} })
		for _, session := range []string{"a", "b"} {
			s.open(session, 100_00)
		}
		for range 4 { // Daraja is busy
			b, err := s.asks("a", phone, false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Refused(t.Context(), b.Payment.ID, daraja.OutcomeBusy, "500.001.1001", "busy"); err != nil {
				t.Fatal(err)
			}
		}
		s.wantLimit(s.prompts("a", phone), true, time.Hour) // but it is asked no more often
		if err := s.prompts("b", phone); err != nil {
			t.Errorf("the phone has seen no prompt yet: %v", err)
		}
	})
}

func TestASessionIsNotAWayToPesterManyPhones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Limits = correlate.Limits{PhoneHour: 3, SessionHour: 4} })
		s.open("s", 100_00)
		s.open("other", 100_00)
		for i := range 4 {
			if err := s.prompts("s", fmt.Sprintf("25470000000%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		s.wantLimit(s.prompts("s", "254700000009"), true, time.Hour)
		if err := s.prompts("other", "254700000009"); err != nil {
			t.Errorf("another session: %v", err)
		}
		s.Table.Close()
		s.start() // and a restart forgets none of it
		s.wantLimit(s.prompts("s", "254700000008"), true, time.Hour)
	})
}

func TestASessionBeginsNothingAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.open("s", 100_00)
		time.Sleep(24*time.Hour - time.Second)
		if err := s.prompts("s", phone); err != nil {
			t.Errorf("within the day: %v", err)
		}
		time.Sleep(time.Second)
		if err := s.prompts("s", phone); !errors.Is(err, correlate.ErrExpired) {
			t.Errorf("after a day: %v", err)
		}
		if _, err := s.Session(t.Context(), "s"); err != nil {
			t.Errorf("and it can still be looked at: %v", err)
		}
	})
}
