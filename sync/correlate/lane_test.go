package correlate_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// applyAt applies entries with a cursor that is behind entry c, which may be none of them: nil is none yet.
func (s *shop) applyAt(c *wire.Entry, entries ...wire.Entry) error {
	at := wire.Cursor{Epoch: s.journal}
	if c != nil {
		at = behind(s.journal, []wire.Entry{*c})
	}
	return s.Apply(context.Background(), at, entries)
}

func (s *shop) welcome(oldest, head uint64) {
	s.Helper()
	if err := s.Welcome(context.Background(), wire.Welcome{Epoch: s.journal, Oldest: oldest, Head: head}); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) wantCursor(c wire.Cursor) {
	s.Helper()
	if got, err := s.Cursor(context.Background()); err != nil || got != c {
		s.Errorf("the cursor is %v, %v; want %v", got, err, c)
	}
}

func TestLiveCallbacksTakeEffectAheadOfTheCursorAndOnlyOnce(t *testing.T) {
	s := open(t)
	a, b, c := s.pay("a"), s.register("b", p0("b")), p0("c")
	one, two := s.entry(s.Ref(a.ID), failure(a, "1032")), s.entry("", "{}")
	three, four := s.entry("", success(p0("b"), "100.00", today+"1BBBBBB")), s.entry("", failure(c, "1"))
	s.welcome(1, 2)
	s.published = nil
	if err := s.applyAt(nil, three, four); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.wantCursor(wire.Cursor{Epoch: s.journal})
	counts := map[string]int64{"applied": 1, "unmatched": 1}
	s.wantCounts(counts)

	// The link breaks, and everything comes again, now as a backlog.
	s.restart()
	s.welcome(1, 4)
	if err := s.applyAt(&two, one, two); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("PAYMENT_COMPLETED FAILED cancelled")
	s.wantCursor(behind(s.journal, []wire.Entry{two}))
	if err := s.applyAt(&four, three, four); err != nil {
		t.Fatal(err)
	}
	s.wantEvents()
	s.wantCursor(behind(s.journal, []wire.Entry{four}))
	s.wantCounts(map[string]int64{"applied": 2, "unmatched": 1, "unparsed": 1})
	if p := s.get(b.ID); p.Receipt != today+"1BBBBBB" {
		t.Errorf("the payment has receipt %q", p.Receipt)
	}
	s.register("c", c) // what was parked from the lane is found
	if p := s.get(b.ID); p.Status != push.Success {
		t.Errorf("the payment is %s", p.Status)
	}
	s.wantCounts(map[string]int64{"applied": 3, "unparsed": 1})
}

func TestLiveCallbacksChangeNothingUnderANewEpoch(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	one, two, live := s.entry("", "{}"), s.entry("", "{}"), s.entry(s.Ref(p.ID), failure(p, "1032"))
	s.welcome(1, 2)
	if err := s.applyAt(&one, live, one); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("STK_INITIATED PENDING", "PAYMENT_COMPLETED FAILED cancelled")
	s.journal++ // before the backlog was whole
	s.welcome(1, 3)
	if err := s.applyAt(&live, one, two, live); err != nil {
		t.Fatal(err)
	}
	s.wantEvents()
	s.wantCounts(map[string]int64{"unparsed": 2, "applied": 1})
	s.wantCursor(behind(s.journal, []wire.Entry{live}))
	if err := s.applyAt(&one, one); err != nil { // an edge may go back further than it was asked to
		t.Fatal(err)
	}
	s.wantCursor(behind(s.journal, []wire.Entry{live}))
}

// Under a new epoch the edge shows the same entries by the same numbers, or entries of another journal. In which of them a
// failure came later, its number tells in one case and its epoch in the other.
func TestOfFailuresInTwoEpochsTheLaterOneStands(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = filepath.Join(dir, "hodi.db") })
		defer s.Table.Close()
		p, q := s.payBy("a", 1), s.payBy("b", 2)
		s.seq = 89
		backlog := s.entry(s.Ref(p.ID), failure(p, "1032"))
		time.Sleep(time.Second)
		s.seq = 99
		live := s.entry(s.Ref(p.ID), failure(p, "1037"))
		other := s.entry(s.Ref(q.ID), failure(q, "1032"))
		s.welcome(90, 98)
		if err := s.applyAt(nil, live, other); err != nil {
			t.Fatal(err)
		}
		s.published = nil
		s.journal++ // renewed
		s.welcome(90, 101)
		if err := s.applyAt(&other, backlog, live, other); err != nil {
			t.Fatal(err)
		}
		if p := s.get(p.ID); p.ResultCode != "1037" {
			t.Errorf("renewed: the payment has result code %s, want that of the later one, 1037", p.ResultCode)
		}
		s.wantEvents()

		time.Sleep(time.Second)
		s.journal++ // destroyed, and made anew
		s.seq = 0
		s.welcome(1, 0)
		s.comes(s.Ref(q.ID), failure(q, "1037"))
		if q := s.get(q.ID); q.ResultCode != "1037" {
			t.Errorf("made anew: the payment has result code %s, want that of the later one, 1037", q.ResultCode)
		}
	})
}

func TestALiveCallbackThatCannotBeAppliedLeavesTheCursorWithTheBacklog(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	db, err := sql.Open("sqlite", s.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TRIGGER poison BEFORE UPDATE ON payments WHEN new.code = '17' BEGIN SELECT raise(ABORT, 'poison'); END"); err != nil {
		t.Fatal(err)
	}
	one, two, three := s.entry("", "{}"), s.entry("", "{}"), s.entry(s.Ref(p.ID), failure(p, "17"))
	s.welcome(1, 2)
	if err := s.applyAt(&one, three, one); err != nil {
		t.Fatal(err)
	}
	s.wantCursor(behind(s.journal, []wire.Entry{one}))
	s.wantCounts(map[string]int64{"unparsed": 2})
	if err := s.applyAt(&three, two, three); err != nil {
		t.Fatal(err)
	}
	s.wantCursor(behind(s.journal, []wire.Entry{three}))
	s.wantCounts(map[string]int64{"unparsed": 3})
}

// An edge that is put back behind the live entries, and not behind the cursor, can show what the cursor is behind.
func TestAJournalThatKnowsAnotherEntryByALiveNumberIsAskedForThatEntry(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	one, two, live := s.entry("", "{}"), s.entry("", "{}"), s.entry("", failure(p0("b"), "1032"))
	s.welcome(1, 2)
	if err := s.applyAt(&one, live, one); err != nil {
		t.Fatal(err)
	}
	other := live
	other.Ref, other.Body = s.Ref(p.ID), []byte(success(p, "100.00", today+"1AAAAAA"))
	s.published = nil
	s.welcome(1, 3)
	if err := s.applyAt(&other, two, other); err == nil {
		t.Fatal("two entries of one number were applied")
	}
	s.wantEvents()
	s.wantCursor(behind(s.journal, []wire.Entry{live}))
	if err := s.Welcome(context.Background(), wire.Welcome{Epoch: s.journal, Oldest: 1, Head: 3}); err == nil {
		t.Error("an edge that would skip entry 2 was welcome")
	}
	s.wantCursor(behind(s.journal, []wire.Entry{one}))
	if err := s.applyAt(&other, two, other); err == nil {
		t.Fatal("two entries of one number were applied")
	}

	// It cannot show it, takes a new epoch and sends all it has.
	s.journal++
	s.welcome(1, 3)
	if err := s.applyAt(&other, one, two, other); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	s.wantCursor(behind(s.journal, []wire.Entry{other}))
	s.wantCounts(map[string]int64{"unparsed": 2, "unmatched": 1, "applied": 1})
}

func TestAGapIsOfWhatWasNeverAppliedAlsoNotLive(t *testing.T) {
	var log bytes.Buffer
	s := open(t, func(c *correlate.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	var all []wire.Entry
	for range 12 {
		all = append(all, s.entry("", "{}"))
	}
	s.welcome(1, 4)
	if err := s.applyAt(&all[1], all[0], all[4], all[5], all[1]); err != nil { // 5 and 6 live; the cursor behind 2
		t.Fatal(err)
	}
	s.welcome(1, 8)
	if err := s.applyAt(&all[1], all[8]); err != nil { // 9 live
		t.Fatal(err)
	}
	log.Reset()
	s.welcome(11, 12)
	var gaps []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "cannot show") {
			_, line, _ = strings.Cut(line, "first=")
			first, last, _ := strings.Cut(strings.TrimSpace(line), " last=")
			gaps = append(gaps, fmt.Sprint(mustCursor(t, first).Seq, "-", mustCursor(t, last).Seq))
		}
	}
	if want := []string{"3-4", "7-8", "10-10"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps are %v, want %v", gaps, want)
	}
	log.Reset()
	if s.welcome(11, 12); strings.Contains(log.String(), "cannot show") {
		t.Errorf("told again: %s", log.String())
	}
}

// TestAnyOrderOfArrivalEndsAsTheJournalDoes brings journals to one table in their order, and to another as links do that
// break anywhere: each with a backlog, overtaken by what is appended while it lasts.
func TestAnyOrderOfArrivalEndsAsTheJournalDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inOrder, byLinks, n := open(t, inMemory(t)), open(t, inMemory(t)), 0
		rapid.Check(bubbled{t}, func(r *rapid.T) {
			n++
			shops := []*shop{inOrder, byLinks}
			for _, s := range shops {
				s.TB, s.seq = fataler{t, r}, 0
				s.journal++
			}
			payment := func(i int) correlate.Payment { return p0(fmt.Sprint(n, "-", i)) }
			register := func(from, to int) {
				for i := from; i < to; i++ {
					for _, s := range shops {
						s.register(payment(i).ID, payment(i))
					}
				}
			}
			known := rapid.IntRange(0, 3).Draw(r, "payments known at first")
			register(0, known)
			journal := drawJournal(r, inOrder, payment)
			inOrder.welcome(1, 0)
			if err := inOrder.applyAt(&journal[len(journal)-1], journal...); err != nil {
				r.Fatal(err)
			}
			overLinks(r, byLinks, journal)
			register(known, 3)

			for i := range 3 {
				merchant, _ := ids(payment(i))
				x, y := inOrder.get(merchant), byLinks.get(merchant)
				a, b := x.Data(), y.Data()
				a.PaymentID, b.PaymentID = "", ""
				if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
					r.Errorf("in the journal's order the payment is\n%+v, and by links\n%+v", a, b)
				}
				// Which of two that say the same of money changed the payment is a matter of arrival.
				if x.Callback != y.Callback && x.Status != push.Success {
					r.Errorf("in the journal's order the payment was changed by %s, and by links by %s", x.Callback, y.Callback)
				}
			}
			byLinks.wantCursor(behind(byLinks.journal, journal))
			for _, e := range journal {
				if cb := byLinks.callback(push.Cursor{Epoch: uint64(byLinks.journal), Seq: e.Seq}); cb.ID == "" || string(cb.Body) != string(e.Body) {
					r.Errorf("callback %d is kept as %+v", e.Seq, cb)
				}
			}
			a, _ := inOrder.Counts(context.Background())
			b, _ := byLinks.Counts(context.Background())
			if total(a) != total(b) {
				r.Errorf("%d callbacks are counted in the journal's order, and %d by links", total(a), total(b))
			}
		})
		byLinks.TB = t
		rules(t, byLinks)
	})
}

func total(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// drawJournal makes up what Daraja says of three payments, whatever that is; but it says of one money once.
func drawJournal(r *rapid.T, s *shop, payment func(int) correlate.Payment) []wire.Entry {
	var journal []wire.Entry
	for range rapid.IntRange(1, 14).Draw(r, "entries") {
		p := payment(rapid.IntRange(0, 2).Draw(r, "payment"))
		var body string
		switch code := rapid.SampledFrom([]string{"0", "1032", "1037", "1032", "1", `"BW-JMS-100039"`, "{}"}).Draw(r, "says"); code {
		case "0":
			body = success(p, "100.00", today+""+p.ID)
		case "{}":
			body = code
		default:
			body = failure(p, code)
		}
		time.Sleep(time.Second)
		journal = append(journal, s.entry("", body))
	}
	return journal
}

// overLinks brings a journal as links do. What a link has brought when it breaks is the beginnings of two parts of the
// journal: of the backlog that there was when it began, and of what was appended since.
func overLinks(r *rapid.T, s *shop, journal []wire.Entry) {
	end := func(n uint64) *wire.Entry {
		if n == 0 {
			return nil
		}
		return &journal[n-1]
	}
	all := uint64(len(journal))
	cursor, head := uint64(0), uint64(0)
	for range rapid.IntRange(1, 5).Draw(r, "links that break") {
		head = min(all, head+rapid.Uint64Range(0, all).Draw(r, "appended before the link"))
		s.welcome(1, head)
		old, live, last := cursor, head, head
		for range rapid.IntRange(1, 6).Draw(r, "batches") {
			last = min(all, last+rapid.Uint64Range(0, 3).Draw(r, "appended meanwhile"))
			var batch []wire.Entry
			for range rapid.IntRange(1, 5).Draw(r, "in a batch") {
				switch fresh := rapid.Bool().Draw(r, "live"); {
				case fresh && live < last:
					batch = append(batch, journal[live])
					live++
				case old < head:
					batch = append(batch, journal[old])
					old++
				}
			}
			if len(batch) == 0 {
				continue
			}
			if cursor = old; old == head {
				cursor = live
			}
			if err := s.applyAt(end(cursor), batch...); err != nil {
				r.Fatal(err)
			}
		}
		head = last
		if rapid.Bool().Draw(r, "restart") {
			s.restart()
		}
	}
	s.welcome(1, all)
	if rest := journal[cursor:]; len(rest) > 0 {
		if err := s.applyAt(end(all), rest...); err != nil {
			r.Fatal(err)
		}
	}
}
