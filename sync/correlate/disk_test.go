package correlate_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// exec does something to a file behind a Table's back.
func (s *shop) exec(statement string, args ...any) {
	s.Helper()
	db, err := sql.Open("sqlite", "file:"+s.cfg.Path)
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement, args...); err != nil {
		s.Fatal(err)
	}
}

// payBy is as pay, by the customer n.
func (s *shop) payBy(session string, n int) correlate.Payment {
	s.Helper()
	s.open(session, 100_00)
	r := request(session)
	r.Phone = fmt.Sprintf("254700000%03d", n)
	return s.accept(s.begin(r))
}

func lost(seq uint64, body string) wire.Entry {
	return wire.Entry{Seq: seq, Kind: wire.KindLost, Received: time.UnixMilli(0), Body: []byte(body)}
}

func TestACallbackThatTheEdgesDiskLostIsShownAndAskedAbout(t *testing.T) {
	s := open(t)
	open, paid := s.payBy("a", 1), s.payBy("b", 2)
	s.comes(s.Ref(paid.ID), success(paid, "100.00", today+"1"))
	if due := s.due(); len(due) != 0 {
		t.Fatalf("%v are asked about", due)
	}
	s.seq++
	cb := s.apply(lost(s.seq, ""))
	s.wantState(cb, correlate.StateUnparsed)
	if !strings.Contains(cb.Error, "disk lost") {
		t.Errorf("its error is %q", cb.Error)
	}
	if due := s.due(); len(due) != 1 || due[0] != open.ID {
		t.Errorf("%v are asked about, want %s", due, open.ID)
	}
	s.comes(s.Ref(open.ID), success(open, "100.00", today+"2")) // those behind it are not stopped
	s.wantCounts(map[string]int64{correlate.StateApplied: 2, correlate.StateUnparsed: 1})
}

// What the rest of the batch changes of the same payment must not bring back the time at which it was to be asked about.
func TestWhatIsAskedAboutAtALossStaysAskedAboutWhateverComesWithIt(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for _, lostFirst := range []bool{true, false} {
			s := open(t, func(c *correlate.Config) { c.Path = filepath.Join(dir, fmt.Sprint(lostFirst, ".db")) })
			p := s.pay("a")
			s.seq = 10
			if err := s.applyAt(nil, s.entry(s.Ref(p.ID), failure(p, "4998"))); err != nil { // a code that nobody knows
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if err := s.Asked(context.Background(), p.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if due := s.due(); len(due) != 0 {
				t.Fatalf("%v are asked about", due)
			}
			// Both of the backlog, which the first one had overtaken. Another unknown code before it changes only what is remembered.
			s.seq = 1
			batch := []wire.Entry{lost(1, ""), s.entry(s.Ref(p.ID), failure(p, "4997"))}
			if !lostFirst {
				batch[0], batch[1] = batch[1], batch[0]
				batch[0].Seq, batch[1].Seq = 1, 2
			}
			if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
				t.Fatal(err)
			}
			if due := s.due(); len(due) != 1 {
				t.Errorf("lost first %v: %v are asked about, want %s", lostFirst, due, p.ID)
			}
			s.comes(s.Ref(p.ID), failure(p, "4996")) // nor may what comes later
			if due := s.due(); len(due) != 1 {
				t.Errorf("lost first %v: after another callback %v are asked about, want %s", lostFirst, due, p.ID)
			}
			s.Table.Close()
		}
	})
}

func TestWhatTheEdgesDiskLostAndWeHaveIsNotLost(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1"))
	s.journal++ // the journal was salvaged
	if err := s.Welcome(context.Background(), wire.Welcome{Epoch: s.journal, Oldest: 1, Head: 2}); err != nil {
		t.Fatal(err)
	}
	s.apply(lost(1, "acknowledged"))
	s.wantCounts(map[string]int64{correlate.StateApplied: 1})
	s.apply(lost(2, "acknowledged")) // says the edge, but another disk of ours was acknowledging
	s.wantCounts(map[string]int64{correlate.StateApplied: 1, correlate.StateUnparsed: 1})
}

// panics is a logger that panics where a transaction says a certain thing.
type panics struct {
	slog.Handler
	at string
}

func (p panics) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, p.at) {
		panic("a mistake of ours")
	}
	return p.Handler.Handle(ctx, r)
}

func TestAnEntryThatMakesUsPanicIsSetAside(t *testing.T) {
	var log bytes.Buffer
	s := open(t, func(c *correlate.Config) {
		c.Logger = slog.New(panics{slog.NewTextHandler(&log, nil), "contradicts a payment"})
	})
	if err := s.Welcome(context.Background(), wire.Welcome{Epoch: s.journal, Oldest: 1}); err != nil {
		t.Fatal(err)
	}
	p, q := s.payBy("a", 1), s.payBy("b", 2)
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1"))
	s.published = nil
	batch := []wire.Entry{s.entry(s.Ref(p.ID), failure(p, "1032")), s.entry(s.Ref(q.ID), success(q, "100.00", today+"2"))}
	if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
		t.Fatal(err)
	}
	cb := s.callback(push.Cursor{Epoch: uint64(s.journal), Seq: 2})
	s.wantState(cb, correlate.StateUnparsed)
	if !strings.Contains(cb.Error, "a mistake of ours") {
		t.Errorf("its error is %q", cb.Error)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	if c, err := s.Cursor(context.Background()); err != nil || c.Seq != 3 {
		t.Errorf("the cursor is %v, %v", c, err)
	}
}

// It may have been the success that the customer waits for.
func TestDarajaIsAskedAboutThePaymentOfAnEntryThatWasSetAside(t *testing.T) {
	s := open(t, func(c *correlate.Config) {
		c.Logger = slog.New(panics{slog.NewTextHandler(io.Discard, nil), "is not believed"})
	})
	p, q := s.payBy("a", 1), s.register("b", p0("b"))
	for _, cb := range []correlate.Callback{
		s.comes(s.Ref(p.ID), success(p, "1.00", today+"1")),
		s.comes("", success(p0("b"), "1.00", today+"2")),
	} {
		s.wantState(cb, correlate.StateUnparsed)
		if cb.PaymentID == "" || !strings.Contains(cb.Error, "a mistake of ours") {
			t.Errorf("it is of payment %q, and its error is %q", cb.PaymentID, cb.Error)
		}
	}
	if due := s.due(); len(due) != 2 {
		t.Errorf("%v are asked about, want %s and %s", due, p.ID, q.ID)
	}
}

// A payment that cannot be stored stops nobody either.
func TestAnEntryWhosePaymentCannotBeStoredIsSetAside(t *testing.T) {
	s := open(t)
	p, q := s.payBy("a", 1), s.payBy("b", 2)
	s.exec("CREATE TRIGGER broken BEFORE UPDATE ON payments WHEN OLD.id = '" + p.ID + "' BEGIN SELECT RAISE(ABORT, 'a mistake of ours'); END")
	s.published = nil
	batch := []wire.Entry{s.entry(s.Ref(p.ID), success(p, "100.00", today+"1")), s.entry(s.Ref(q.ID), success(q, "100.00", today+"2"))}
	if err := s.Apply(context.Background(), behind(s.journal, batch), batch); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.wantCounts(map[string]int64{correlate.StateApplied: 1, correlate.StateUnparsed: 1})
}

// A clock that was ahead when a payment began has set everything that is due as far ahead.
func TestAClockThatIsSetBackKeepsNoCustomerWaiting(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = filepath.Join(dir, "hodi.db") })
		defer s.Table.Close()
		p := s.pay("a")
		if next, err := s.Silence(context.Background()); err != nil || time.Until(next) > 90*time.Second {
			t.Fatalf("silence is next looked for at %v, %v", next, err)
		}
		const hours = int64(5 * time.Hour / time.Millisecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.exec("UPDATE payments SET created = created + ?, silent_at = silent_at + ?, ask_at = ask_at + ?", hours, hours, hours)
		s.start()
		s.published = nil
		next, err := s.Silence(context.Background())
		if err != nil || time.Until(next) > 90*time.Second {
			t.Errorf("silence is next looked for at %v, %v", next, err)
		}
		time.Sleep(31 * time.Second)
		if due := s.due(); len(due) != 1 {
			t.Errorf("%v are asked about, want %s", due, p.ID)
		}
		time.Sleep(time.Minute)
		if _, err := s.Silence(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.wantEvents("PAYMENT_UPDATE UNKNOWN unknown")
	})
}

func TestSchedulesThatAreRightAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := open(t, func(c *correlate.Config) {
			c.Path, c.Logger = filepath.Join(dir, "hodi.db"), slog.New(slog.NewTextHandler(&log, nil))
		})
		defer s.Table.Close()
		p := s.pay("a")
		for range 60 { // ever more sparsely, for two days
			if _, err := s.Silence(context.Background()); err != nil {
				t.Fatal(err)
			}
			_, next, err := s.Due(context.Background(), correlate.Among{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !next.IsZero() {
				time.Sleep(time.Until(next))
			}
			if err := s.Asked(context.Background(), p.ID); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(log.String(), "set back") {
			t.Errorf("the log says\n%s", &log)
		}
	})
}

func TestDamageIsToldOnce(t *testing.T) {
	var told []error
	s := open(t, func(c *correlate.Config) { c.Damaged = func(err error) { told = append(told, err) } })
	for i := range 200 {
		s.payBy(fmt.Sprint("s", i), i)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4096; at+4096 <= len(b); at += 4096 { // in the index of phones
		if b[at] == 0x0a && bytes.Contains(b[at:at+4096], []byte("254700000050")) {
			b[at] = 0x77
		}
	}
	if err := os.WriteFile(s.cfg.Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	failures := 0
	for i := range 5 {
		r := request(fmt.Sprint("z", i))
		s.open(r.Session, 100_00)
		r.Phone = "254700000050"
		if _, err := s.Begin(context.Background(), r); err != nil {
			failures++
		}
	}
	if failures != 5 || len(told) != 1 {
		t.Errorf("%d of 5 payments could not begin, and the owner was told %v", failures, told)
	}
}
