package correlate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// ledger reads the books, so many lines at a time.
func (s *shop) ledger(f correlate.LedgerFilter, page int) (lines []correlate.Line) {
	s.Helper()
	for after := ""; ; {
		some, next, err := s.Ledger(context.Background(), f, after, page)
		if err != nil {
			s.Fatal(err)
		}
		if len(some) > page {
			s.Fatalf("a page of %d has %d lines", page, len(some))
		}
		lines = append(lines, some...)
		if next == "" {
			return lines
		}
		after = next
	}
}

func told(lines []correlate.Line) (list []string) {
	for _, l := range lines {
		kind := "payment"
		if l.PaymentID == "" {
			kind = "other"
		}
		list = append(list, fmt.Sprintf("%s %s %s %s", kind, l.Receipt, l.Amount, l.Status))
	}
	slices.Sort(list)
	return list
}

// paidNow is a success whose M-Pesa time is now, and dated is a receipt of today.
func paidNow(p correlate.Payment, receipt string) string {
	return strings.Replace(success(p, "100.00", receipt), moment, time.Now().In(daraja.Nairobi).Format("20060102150405"), 1)
}

func dated(rest string) string { return daraja.ReceiptPrefix(time.Now()) + rest }

func movedNow(receipt, amount string) string {
	return strings.Replace(moved(receipt, amount), moment, time.Now().In(daraja.Nairobi).Format("20060102150405"), 1)
}

func TestTheBooksHaveEachMoneyOnceOnTheDayItMoved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *correlate.Config) { c.Path = dir + "/hodi.db" })
		defer s.Close()
		if first, last, err := s.LedgerDays(context.Background()); err != nil || !first.IsZero() || !last.IsZero() {
			t.Errorf("empty books reach from %v to %v, %v", first, last, err)
		}
		midnight := func() time.Time {
			y, m, d := time.Now().In(daraja.Nairobi).Date()
			return time.Date(y, m, d, 0, 0, 0, 0, daraja.Nairobi)
		}
		time.Sleep(time.Until(midnight().AddDate(0, 0, 1).Add(-10 * time.Second))) // ten seconds before a day ends
		first := midnight()
		yesterday, today := dated("1AAAAAA"), ""

		early := s.pay("a")
		s.comes(s.Ref(early.ID), paidNow(early, yesterday))
		s.comes("", movedNow(yesterday, "100.00")) // the same money
		overMidnight := s.begin(func() correlate.Request { r := request("b"); r.Phone = "254700000001"; s.open("b", 100_00); return r }())
		s.accept(overMidnight)
		time.Sleep(20 * time.Second)
		second := midnight()
		today = dated("1BBBBBB")
		s.comes(s.Ref(overMidnight.ID), paidNow(overMidnight, today))
		alone := dated("1CCCCCC")
		s.comes("", movedNow(alone, "40.50")) // nobody asked for it
		unpaid := s.pay("c")
		s.comes(s.Ref(unpaid.ID), failure(unpaid, "1032"))
		byPerson := s.begin(func() correlate.Request { r := request("d"); r.Phone = "254700000002"; s.open("d", 100_00); return r }())
		time.Sleep(72 * time.Hour)
		if _, err := s.Confirm(context.Background(), byPerson.ID, correlate.Decision{Who: "amina", Reason: "statement", Receipt: dated("1DDDDDD")}); err != nil {
			t.Fatal(err)
		}
		late := dated("1DDDDDD")

		want := func(name string, f correlate.LedgerFilter, want ...string) {
			t.Helper()
			slices.Sort(want)
			for _, page := range []int{1, 2, 3, 1000} {
				if got := told(s.ledger(f, page)); !slices.Equal(got, want) {
					t.Errorf("%s, in pages of %d:\n%s\nwant\n%s", name, page, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
		day := func(at time.Time) correlate.LedgerFilter {
			return correlate.LedgerFilter{From: at, To: at.AddDate(0, 0, 1)}
		}
		want("the first day", day(first), "payment "+yesterday+" 100 SUCCESS")
		want("the second day", day(second), "payment "+today+" 100 SUCCESS", "other "+alone+" 40.5 SUCCESS")
		want("the day of the decision", day(midnight()), "payment "+late+" 100 SUCCESS")
		want("all", correlate.LedgerFilter{}, "payment "+yesterday+" 100 SUCCESS", "payment "+today+" 100 SUCCESS", "other "+alone+" 40.5 SUCCESS", "payment "+late+" 100 SUCCESS")
		want("what was not paid", correlate.LedgerFilter{Unpaid: true}, "payment  100 FAILED")

		from, to, err := s.LedgerDays(context.Background())
		if err != nil || from.After(s.get(early.ID).CompletedAt) || !to.After(s.get(byPerson.ID).CompletedAt) {
			t.Errorf("the books reach from %v to %v, %v", from, to, err)
		}
		found, err := s.LedgerOf(context.Background(), []string{strings.ToLower(late) + " ", alone, "NOSUCHONE1"})
		if err != nil || len(found) != 2 {
			t.Errorf("by receipt: %v, %v", found, err)
		}
		if _, _, err := s.Ledger(context.Background(), correlate.LedgerFilter{}, "c.x", 10); err == nil {
			t.Error("a place that is none is taken")
		}
	})
}

func TestTheBooksGoOnWhilePaymentsComeIn(t *testing.T) {
	s := open(t, inMemory(t))
	pay := func(i int) {
		if _, err := s.Register(context.Background(), correlate.Registration{MerchantRequestID: fmt.Sprintf("m%d", i), CheckoutRequestID: fmt.Sprintf("c%d", i), Amount: push.Money(i + 1), Shortcode: "main"}); err != nil {
			t.Fatal(err)
		}
	}
	const n = 200
	for i := range n {
		pay(i)
	}
	seen, after := map[string]int{}, ""
	for page := 0; ; page++ {
		lines, next, err := s.Ledger(context.Background(), correlate.LedgerFilter{Unpaid: true}, after, 17)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			seen[l.PaymentID]++
		}
		if next == "" {
			break
		}
		if after = next; page < 5 {
			pay(n + page)
		}
	}
	if len(seen) != n+5 {
		t.Errorf("the books have %d payments, want %d", len(seen), n+5)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("payment %s is in the books %d times", id, times)
		}
	}
}
