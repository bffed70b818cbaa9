package correlate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// TestAnyHistoryOnTwoTables lives through random histories of a few payments twice: on a table that has an easy life, and
// on one with room for a single payment in its cache, that is closed and opened again at any moment, and to which
// callbacks come doubled and again. Both must tell the same and end the same; and what they tell must keep the rules.
func TestAnyHistoryOnTwoTables(t *testing.T) {
	t.Parallel()
	n := 0
	synctest.Test(t, func(t *testing.T) {
		// All of them begin with a copy of one new file, because making one is most of what a short history costs.
		made := open(t, inMemory(t))
		dir := filepath.Dir(made.cfg.Path)
		made.Close()
		blank, err := os.ReadFile(made.cfg.Path)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(bubbled{t}, func(r *rapid.T) {
			n++
			path := func(name string) string { return filepath.Join(dir, fmt.Sprint(n, name)) }
			for _, name := range []string{"easy", "hard"} {
				if err := os.WriteFile(path(name), blank, 0o600); err != nil {
					r.Fatal(err)
				}
			}
			trust := rapid.Bool().Draw(r, "trusting")
			easy := open(t, func(c *correlate.Config) { c.Path, c.Trusting = path("easy"), trust })
			hard := open(t, func(c *correlate.Config) { c.Path, c.Trusting, c.CacheSize = path("hard"), trust, 1 })
			easy.TB, hard.TB = fataler{t, r}, fataler{t, r}
			defer func() {
				easy.Close()
				hard.Close()
				for _, name := range []string{"easy", "hard"} {
					for _, suffix := range []string{"", "-wal", "-shm"} {
						os.Remove(path(name) + suffix)
					}
				}
			}()
			h := history{T: r, easy: easy, hard: hard}
			h.begin()
			for range rapid.IntRange(1, 25).Draw(r, "steps") {
				h.step()
			}
			h.compare()
		})
	})
}

// bubbled hides from rapid that there is a deadline, which must not be asked for in a bubble.
type bubbled struct{ rapid.TB }

// A fataler fails a check of rapid, and otherwise is the test around it.
type fataler struct {
	testing.TB
	r *rapid.T
}

func (f fataler) Fatal(args ...any)                 { f.r.Fatal(args...) }
func (f fataler) Fatalf(format string, args ...any) { f.r.Fatalf(format, args...) }
func (f fataler) Errorf(format string, args ...any) { f.r.Errorf(format, args...) }
func (f fataler) Helper()                           {}

type history struct {
	*rapid.T
	easy, hard *shop
	pairs      [][2]correlate.Payment // the same payment on both
	journal    []wire.Entry           // of hard
}

// begin makes payments of all sorts: reserved ones, those of the app, two in one session.
func (h *history) begin() {
	for i := range rapid.IntRange(1, 3).Draw(h.T, "payments") {
		session := rapid.SampledFrom([]string{"a", "b"}).Draw(h.T, "session")
		reg := correlate.Registration{Session: session, Amount: 100_00, Shortcode: "main"}
		if rapid.Bool().Draw(h.T, "registered with ids") {
			reg.MerchantRequestID, reg.CheckoutRequestID = ids(p0(fmt.Sprint(i)))
		}
		h.pairs = append(h.pairs, [2]correlate.Payment{h.register(h.easy, reg), h.register(h.hard, reg)})
	}
}

func (h *history) register(s *shop, r correlate.Registration) correlate.Payment {
	p, err := s.Register(context.Background(), r)
	if err != nil {
		h.Fatal(err)
	}
	return p
}

func (h *history) step() {
	i := rapid.IntRange(0, len(h.pairs)-1).Draw(h.T, "payment")
	what := rapid.SampledFrom([]string{"ack", "refused", "ambiguous", "callback", "callback", "callback", "no ref", "answer", "answer", "sleep", "restart", "again", "batch"}).Draw(h.T, "step")
	switch what {
	case "ack":
		h.both(i, func(s *shop, p correlate.Payment) {
			m, c := ids(p0(fmt.Sprint(i)))
			s.Accepted(context.Background(), p.ID, m, c)
		})
	case "refused":
		h.both(i, func(s *shop, p correlate.Payment) {
			s.Refused(context.Background(), p.ID, daraja.OutcomeRejected, "500.003.02", "busy")
		})
	case "ambiguous":
		h.both(i, func(s *shop, p correlate.Payment) { s.Ambiguous(context.Background(), p.ID, "timeout") })
	case "answer":
		code := rapid.SampledFrom([]string{"0", "1032", "1032", "1037", "4999"}).Draw(h.T, "code")
		h.both(i, func(s *shop, p correlate.Payment) {
			s.Answer(context.Background(), p.ID, daraja.Answer{ResultCode: code})
			s.Asked(context.Background(), p.ID)
		})
	case "sleep":
		time.Sleep(time.Duration(rapid.IntRange(1, 60).Draw(h.T, "seconds")) * time.Second)
		h.both(i, func(s *shop, p correlate.Payment) {
			if _, err := s.Silence(context.Background()); err != nil {
				h.Fatal(err)
			}
		})
	case "restart":
		h.hard.restart()
	case "again":
		if len(h.journal) > 0 {
			h.apply(h.hard, rapid.SampledFrom(h.journal).Draw(h.T, "entry"))
		}
	case "callback", "no ref", "batch":
		var easy, hard []wire.Entry
		for range map[bool]int{false: 1, true: 5}[what == "batch"] {
			body := h.body(i)
			ref := func(s *shop, p correlate.Payment) string {
				if what == "no ref" {
					return ""
				}
				return s.Ref(p.ID)
			}
			easy = append(easy, h.easy.entry(ref(h.easy, h.pairs[i][0]), body))
			for range rapid.IntRange(1, 2).Draw(h.T, "times") {
				hard = append(hard, h.hard.entry(ref(h.hard, h.pairs[i][1]), body))
			}
		}
		h.apply(h.easy, easy...)
		h.apply(h.hard, hard...)
		h.journal = append(h.journal, hard...)
	}
}

func (h *history) body(i int) string {
	p := p0(fmt.Sprint(i))
	code := rapid.SampledFrom([]string{"0", "0 of another amount", "1032", "1037", "1", `"BW-JMS-100039"`, "{}"}).Draw(h.T, "says")
	switch code {
	case "0":
		return success(p, "100.00", today+"1AAAAAA")
	case "0 of another amount":
		return success(p, "1.00", today+"1AAAAAA")
	case "{}":
		return code
	}
	return failure(p, code)
}

func (h *history) both(i int, f func(*shop, correlate.Payment)) {
	f(h.easy, h.pairs[i][0])
	f(h.hard, h.pairs[i][1])
}

func (h *history) apply(s *shop, entries ...wire.Entry) {
	if err := s.Apply(context.Background(), behind(s.journal, entries), entries); err != nil {
		h.Fatal(err)
	}
}

// plain is a message without what may differ between two tables.
func plain(m push.Message, ids map[string]string) string {
	d := m.Data
	return fmt.Sprint(m.ID.Seq, " ", m.Type, " ", m.Session, " ", m.Final, " ", ids[d.PaymentID], " ", d.Status, " ", d.Outcome, " ", d.ResultCode, " ", d.MpesaReceiptNumber, " ",
		d.AmountChecked, " ", d.Amount, " ", d.MerchantRequestID, " ", d.Reason)
}

func (h *history) compare() {
	names := map[string]string{}
	for i, pair := range h.pairs {
		names[pair[0].ID], names[pair[1].ID] = fmt.Sprint(i), fmt.Sprint(i)
	}
	ctx := context.Background()

	// The journal once more, under another epoch, tells nothing.
	told := len(h.hard.published)
	h.hard.journal++
	if err := h.hard.Welcome(ctx, wire.Welcome{Epoch: h.hard.journal, Oldest: 1, Head: h.hard.seq}); err != nil {
		h.Fatal(err)
	}
	h.apply(h.hard, h.journal...)
	if len(h.hard.published) != told {
		h.Errorf("the same journal under another epoch told %d events", len(h.hard.published)-told)
	}

	var tales [2]string
	for i, s := range []*shop{h.easy, h.hard} {
		var tale []string
		for _, e := range s.published {
			tale = append(tale, plain(e.Message, names))
		}
		tales[i] = strings.Join(tale, "\n")
		rules(s, s)
	}
	if tales[0] != tales[1] {
		h.Errorf("one told\n%s\nand the other\n%s", tales[0], tales[1])
	}
	for _, pair := range h.pairs {
		a, b := h.easy.get(pair[0].ID), h.hard.get(pair[1].ID)
		if x, y := plain(push.Message{Data: a.Data()}, names), plain(push.Message{Data: b.Data()}, names); x != y {
			h.Errorf("the payment is\n%s on one table and\n%s on the other", x, y)
		}
	}
}

// rules checks what was published, against itself and against what is stored.
func rules(t testing.TB, s *shop) {
	ctx := context.Background()
	stored, err := s.Events(ctx, "", 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(s.published) {
		t.Fatalf("%d events are stored and %d were published", len(stored), len(s.published))
	}
	last := map[string]push.Data{}
	completions := map[string][]push.Status{}
	for i, e := range s.published {
		if e.Seq != uint64(i)+1 || stored[i].Seq != e.Seq || string(stored[i].Encoded) != string(e.Encoded) {
			t.Errorf("event %d is published as number %d, and stored as %d %s", i+1, e.Seq, stored[i].Seq, stored[i].Encoded)
		}
		d, id := e.Message.Data, e.Message.Data.PaymentID
		if last[id].Status == push.Success && d.Status != push.Success {
			t.Errorf("money was unsaid: %s after SUCCESS", d.Status)
		}
		if e.Message.Type == push.STKInitiated && d.Status != push.Pending {
			t.Errorf("STK_INITIATED with %s", d.Status)
		}
		if e.Message.Type == push.PaymentCompleted {
			completions[id] = append(completions[id], d.Status)
		}
		last[id] = d
	}
	for id, c := range completions {
		if len(c) > 2 || len(c) == 2 && c[1] != push.Success {
			t.Errorf("completions of one payment are %v", c)
		}
		if p := s.get(id); p.Status == push.Success && c[len(c)-1] != push.Success {
			t.Errorf("a success was not told as a completion: %v", c)
		}
	}
	for id, d := range last {
		now := s.get(id).Data()
		if now.Status != d.Status || now.ResultCode != d.ResultCode || now.MpesaReceiptNumber != d.MpesaReceiptNumber || now.Outcome != d.Outcome || now.Reason != d.Reason {
			t.Errorf("the payment is %+v, and what was told last is %+v", now, d)
		}
	}
}
