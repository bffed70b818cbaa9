package correlate_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

// A crime is what a forger has to work with.
type crime struct {
	*shop
	victim correlate.Payment // PENDING, with a ref: what he wants to have paid
	paid   correlate.Payment // paid honestly
	bare   correlate.Payment // PENDING, of the app's own push, without a ref
	pushed correlate.Payment // with the ids of that push
	rival  *shop             // another shop, whose key he may know
}

// receipts that were used, and that are new.
var usedReceipt, newReceipt = today + "1AAAAAA", today + "1BBBBBB"

func scene(t testing.TB, change ...func(*correlate.Config)) *crime {
	c := &crime{shop: open(t, change...)}
	c.paid = c.pay("paid")
	c.comes(c.Ref(c.paid.ID), success(c.paid, "100.00", usedReceipt))
	c.open("victim", 100_00)
	r := request("victim")
	r.Phone = "254700000001"
	c.victim = c.accept(c.begin(r))
	c.pushed = p0("bare")
	c.bare = c.register("bare", c.pushed)
	c.published = nil
	return c
}

// TestNoForgedCallbackMakesAPaymentSuccess is the table of forgeries. They are posted to the right endpoint: whoever does not
// know its key is answered 404 by the edge, and was not stored at all. "Victim" has a ref; "bare" is a push that the app
// made itself and registered without one, for which both ids on the endpoint's key are enough.
func TestNoForgedCallbackMakesAPaymentSuccess(t *testing.T) {
	zeros := strings.Repeat("0", 32)
	for _, forgery := range []struct {
		name  string
		post  func(c *crime) wire.Entry
		state string
	}{
		{"a ref with a made-up code", func(c *crime) wire.Entry {
			return c.entry(c.victim.ID+zeros, success(c.victim, "100.00", newReceipt))
		}, "forged"},
		{"a ref with the code of another payment", func(c *crime) wire.Entry {
			return c.entry(c.victim.ID+c.Ref(c.paid.ID)[32:], success(c.victim, "100.00", newReceipt))
		}, "forged"},
		{"another shop's ref, made with that shop's key", func(c *crime) wire.Entry {
			return c.entry(c.rival.Ref(c.victim.ID), success(c.victim, "100.00", newReceipt))
		}, "forged"},
		{"another shop's ref, of a payment of that shop", func(c *crime) wire.Entry {
			return c.entry(c.rival.Ref(strings.Repeat("ab", 16)), success(c.victim, "100.00", newReceipt))
		}, "forged"},
		{"a forged ref around a body that is none", func(c *crime) wire.Entry {
			return c.entry(c.victim.ID+zeros, "<html>")
		}, "forged"},
		{"a ref that is cut short", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID)[:63], success(c.victim, "100.00", newReceipt))
		}, "suspect"},
		{"a ref in capitals", func(c *crime) wire.Entry {
			return c.entry(strings.ToUpper(c.Ref(c.victim.ID)), success(c.victim, "100.00", newReceipt))
		}, "suspect"},
		{"the payer himself, who holds session, both ids, amount and phone, without the ref", func(c *crime) wire.Entry {
			return c.entry("", success(c.victim, "100.00", newReceipt))
		}, "suspect"},
		{"the payer, with his session and his payment's id for a ref", func(c *crime) wire.Entry {
			return c.entry(c.victim.ID, success(c.victim, "100.00", newReceipt))
		}, "suspect"},
		{"a success of another payment, replayed to the victim's address", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.paid, "100.00", usedReceipt))
		}, "suspect"},
		{"the victim's ids, in the address of another payment", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.paid.ID), success(c.victim, "100.00", newReceipt))
		}, "suspect"},
		{"one id of the victim's and one that is not", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), strings.Replace(success(c.victim, "100.00", newReceipt), "ws_CO_", "ws_CO_x", 1))
		}, "suspect"},
		{"a raised amount", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.victim, "100.01", newReceipt))
		}, "suspect"},
		{"a lowered amount", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.victim, "1.00", newReceipt))
		}, "suspect"},
		{"an amount of another sign", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.victim, "-100.00", newReceipt))
		}, "suspect"},
		{"no amount at all", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), strings.Replace(success(c.victim, "100.00", newReceipt), `"Name":"Amount"`, `"Name":"Sum"`, 1))
		}, "suspect"},
		{"a receipt that was used", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.victim, "100.00", usedReceipt))
		}, "suspect"},
		{"a receipt that was used, in small letters", func(c *crime) wire.Entry {
			return c.entry(c.Ref(c.victim.ID), success(c.victim, "100.00", strings.ToLower(usedReceipt)))
		}, "suspect"},
		{"a receipt of a day that is not its own, from an address that is not Safaricom's", func(c *crime) wire.Entry {
			e := c.entry(c.Ref(c.victim.ID), success(c.victim, "100.00", "AAA1BBBBBB"))
			e.Source = wire.SourceUnknown
			return e
		}, "suspect"},
		{"an old success with its own date, from an address that is not Safaricom's", func(c *crime) wire.Entry {
			e := c.entry(c.Ref(c.victim.ID), ofDate("20231120110452", success(c.victim, "100.00", "RKK1BBBBBB")))
			e.Source = wire.SourceUnknown
			return e
		}, "suspect"},
		{"an address that the edge was told not to believe", func(c *crime) wire.Entry {
			e := c.entry(c.Ref(c.victim.ID), success(c.victim, "100.00", newReceipt))
			e.Source = wire.SourceEnforced
			return e
		}, "suspect"},
		{"ids that the body says twice, and differently", func(c *crime) wire.Entry {
			merchant, _ := ids(c.paid)
			return c.entry(c.Ref(c.victim.ID), strings.Replace(success(c.victim, "100.00", newReceipt), `"ResultCode"`, fmt.Sprintf(`"MerchantRequestID":%q,"ResultCode"`, merchant), 1))
		}, "unparsed"},

		// Without a ref: a guesser has to have both ids, the amount, and a receipt that could be one.
		{"bare: a guessed CheckoutRequestID alone", func(c *crime) wire.Entry {
			return c.entry("", strings.Replace(success(c.pushed, "100.00", newReceipt), "mr-", "guess-", 1))
		}, "unmatched"},
		{"bare: a guessed CheckoutRequestID that is wrong", func(c *crime) wire.Entry {
			return c.entry("", strings.Replace(success(c.pushed, "100.00", newReceipt), "ws_CO_", "ws_CO_2", 1))
		}, "suspect"},
		{"bare: a raised amount", func(c *crime) wire.Entry { return c.entry("", success(c.pushed, "1000.00", newReceipt)) }, "suspect"},
		{"bare: a lowered amount", func(c *crime) wire.Entry { return c.entry("", success(c.pushed, "1.00", newReceipt)) }, "suspect"},
		{"bare: a receipt that was used", func(c *crime) wire.Entry { return c.entry("", success(c.pushed, "100.00", usedReceipt)) }, "suspect"},
		{"bare: a receipt of a day that is not its own", func(c *crime) wire.Entry { return c.entry("", success(c.pushed, "100.00", "AAA1BBBBBB")) }, "suspect"},
		{"bare: an old success of somebody else, replayed with its own receipt and its own date", func(c *crime) wire.Entry {
			return c.entry("", ofDate("20231120110452", success(c.pushed, "100.00", "RKK1BBBBBB")))
		}, "suspect"},
		{"bare: the payer himself, with the receipt of what he bought a week ago elsewhere", func(c *crime) wire.Entry {
			week := began.AddDate(0, 0, -7)
			return c.entry("", ofDate(week.Format("20060102150405"), success(c.pushed, "100.00", daraja.ReceiptPrefix(week)+"1BBBBBB")))
		}, "suspect"},
		{"bare: the same, with the date of today", func(c *crime) wire.Entry {
			return c.entry("", success(c.pushed, "100.00", daraja.ReceiptPrefix(began.AddDate(0, 0, -7))+"1BBBBBB"))
		}, "suspect"},
		{"bare: a receipt of a week ago, and no date at all", func(c *crime) wire.Entry {
			return c.entry("", strings.Replace(success(c.pushed, "100.00", daraja.ReceiptPrefix(began.AddDate(0, 0, -7))+"1BBBBBB"), "TransactionDate", "Date", 1))
		}, "suspect"},
		{"bare: an address that the edge was told not to believe", func(c *crime) wire.Entry {
			e := c.entry("", success(c.pushed, "100.00", newReceipt))
			e.Source = wire.SourceEnforced
			return e
		}, "suspect"},
		{"a C2B notice of the amount, under the victim's reference", func(c *crime) wire.Entry { return c.entry("", moved(newReceipt, "100.00")) }, "recorded"},
	} {
		t.Run(forgery.name, func(t *testing.T) {
			c := scene(t)
			c.rival = open(t, func(cfg *correlate.Config) { cfg.Key = []byte("fedcba9876543210fedcba9876543210") })
			e := forgery.post(c)
			cb := c.apply(e)
			c.wantState(cb, forgery.state)
			for _, e := range c.published {
				if e.Message.Data.Status != push.Pending {
					t.Errorf("subscribers were told of %s", e.Message.Data.Status)
				}
			}
			c.restart()
			c.apply(e) // once more
			for _, p := range []correlate.Payment{c.victim, c.bare} {
				if got := c.get(p.ID); got.Status != push.Pending || got.Receipt != "" {
					t.Errorf("a payment is %s with receipt %q, want PENDING", got.Status, got.Receipt)
				}
			}
			if got := c.get(c.paid.ID); got.Status != push.Success || got.Receipt != usedReceipt || got.Doubt != "" {
				t.Errorf("the payment that was made is %s with receipt %q, doubt %q", got.Status, got.Receipt, got.Doubt)
			}
			if due := c.due(); forgery.state == "suspect" && cb.PaymentID != c.paid.ID && (len(due) != 1 || due[0] != cb.PaymentID) {
				t.Errorf("%v are to be asked about, want the payment that it was about", due)
			}
			// What is true is believed all the same.
			c.wantState(c.comes(c.Ref(c.victim.ID), success(c.victim, "100.00", newReceipt)), "applied")
			c.wantState(c.comes("", success(c.pushed, "100.00", today+"1CCCCCC")), "applied")
			for _, p := range []correlate.Payment{c.victim, c.bare} {
				if got := c.get(p.ID); got.Status != push.Success || got.Doubt != "" || !got.AmountChecked {
					t.Errorf("a payment that was made is %s, doubt %q", got.Status, got.Doubt)
				}
			}
		})
	}
}

// TestNothingWithoutARightCodeEverPays tries sequences of callbacks, of queries that do not know, of silence and restarts: of
// payments that have a ref none may become SUCCESS, whatever order they come in.
func TestNothingWithoutARightCodeEverPays(t *testing.T) {
	t.Parallel()
	dir := inMemory(t)
	rapid.Check(t, func(r *rapid.T) {
		name := fmt.Sprintf("forged-%d.db", time.Now().UnixNano())
		s := open(fataler{t, r}, dir, func(c *correlate.Config) { c.Path = filepath.Join(filepath.Dir(c.Path), name) })
		rival := []byte("fedcba9876543210fedcba9876543210")
		r.Cleanup(func() { s.Table.Close() })
		reserved, err := s.Register(context.Background(), correlate.Registration{Session: "reserved", Amount: 100_00, Shortcode: "main"})
		if err != nil {
			r.Fatal(err)
		}
		payments := []correlate.Payment{s.pay("a"), reserved}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			p := rapid.SampledFrom(payments).Draw(r, "payment")
			other := rapid.SampledFrom(payments).Draw(r, "other")
			switch rapid.SampledFrom([]string{"callback", "callback", "callback", "ack", "failure", "silence", "restart", "query", "C2B"}).Draw(r, "step") {
			case "callback":
				right := s.Ref(p.ID)
				if rapid.Bool().Draw(r, "with the rival's key") {
					if err := s.SetKeys(rival); err != nil {
						r.Fatal(err)
					}
					right = s.Ref(p.ID)
					if err := s.SetKeys(key); err != nil {
						r.Fatal(err)
					}
				}
				ref := rapid.SampledFrom([]string{"", p.ID, p.ID + strings.Repeat("0", 32), p.ID + s.Ref(other.ID)[32:], right[:63], right + "0", strings.ToUpper(right), rapid.StringMatching("[0-9a-f]{64}").Draw(r, "drawn")}).Draw(r, "ref")
				if ref == s.Ref(p.ID) || ref == s.Ref(other.ID) {
					continue // as p is other
				}
				e := s.entry(ref, success(other, rapid.SampledFrom([]string{"100.00", "1", "100"}).Draw(r, "amount"), rapid.SampledFrom([]string{newReceipt, usedReceipt, ""}).Draw(r, "receipt")))
				e.Source = wire.Source(rapid.IntRange(0, 4).Draw(r, "source"))
				s.apply(e)
			case "C2B":
				s.comes("", moved(rapid.SampledFrom([]string{newReceipt, usedReceipt}).Draw(r, "receipt"), "100.00"))
			case "ack":
				s.accept(p)
			case "failure":
				s.comes(s.Ref(p.ID), failure(p, rapid.SampledFrom([]string{"1032", "1037", "17", "4321"}).Draw(r, "code")))
			case "silence":
				if _, err := s.Silence(context.Background()); err != nil {
					r.Fatal(err)
				}
			case "query":
				s.Answer(context.Background(), p.ID, answerOf(rapid.SampledFrom([]string{"1032", "4999"}).Draw(r, "answer")))
			case "restart":
				s.restart()
			}
		}
		for _, e := range s.published {
			if e.Message.Data.Status == push.Success {
				r.Fatalf("it was told as paid: %s", e.Encoded)
			}
		}
		for _, p := range payments {
			if got := s.get(p.ID); got.Status == push.Success || got.Receipt != "" {
				r.Fatalf("it is %s with receipt %q", got.Status, got.Receipt)
			}
		}
	})
}

// ofDate is a callback with another TransactionDate.
func ofDate(date, body string) string { return strings.Replace(body, moment, date, 1) }

// moved is a C2B confirmation.
func moved(receipt, amount string) string {
	return fmt.Sprintf(`{"TransactionType":"Pay Bill","TransID":%q,"TransTime":"%s","TransAmount":%q,"BusinessShortCode":"174379","BillRefNumber":"INV-1","OrgAccountBalance":"25.00","MSISDN":"25470****149","FirstName":"JOHN"}`, receipt, moment, amount)
}
