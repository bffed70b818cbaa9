package daraja_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/hodihq/hodi/sync/daraja"
)

var outcomes = []daraja.Outcome{
	daraja.OutcomePaid, daraja.OutcomeInsufficientFunds, daraja.OutcomeCancelled, daraja.OutcomeUnreachable, daraja.OutcomeExpired,
	daraja.OutcomeWrongPIN, daraja.OutcomeBlocked, daraja.OutcomeLimit, daraja.OutcomeBusy, daraja.OutcomeRejected, daraja.OutcomeUnknown,
	daraja.OutcomeNotSent, daraja.OutcomeDenied,
}

func TestEveryCodeHasItsOutcomeAndAllOthersAreUnknown(t *testing.T) {
	for code, want := range map[string]daraja.Outcome{
		"0": "paid", "1": "insufficient_funds", "1031": "cancelled", "1032": "cancelled", "1036": "unreachable", "1037": "unreachable",
		"1019": "expired", "2026": "expired", "2001": "wrong_pin", "8006": "blocked", "17": "limit", "26": "busy", "1001": "busy",
		"1025": "rejected", "2006": "rejected", "2028": "rejected", "2032": "rejected", "9999": "rejected",
		"4999": "unknown", "BW-JMS-100039": "unknown", "": "unknown", "00": "unknown", "0.0": "unknown", " 0": "unknown", "500.001.1001": "unknown", "-1": "unknown", "3": "unknown",
	} {
		if got := daraja.OutcomeOf(code); got != want {
			t.Errorf("code %q is %s, want %s", code, got, want)
		}
	}
}

func TestOnlyDefiniteFailuresHaveFailed(t *testing.T) {
	for _, o := range append(outcomes, "", "something new") {
		want := o != daraja.OutcomePaid && o != daraja.OutcomeUnknown && o != "" && o != "something new"
		if o.Failed() != want {
			t.Errorf("%q has failed: %v", o, o.Failed())
		}
	}
}

func TestSentencesAreSomethingACashierCanReadAloud(t *testing.T) {
	said := map[string]bool{}
	for name, s := range sentences() {
		for _, text := range []string{s.En, s.Sw} {
			if text == "" || !strings.HasSuffix(text, ".") || strings.Count(text, ".") != 1 || !unicode.IsUpper(rune(text[0])) {
				t.Errorf("%s: %q is not one sentence", name, text)
			}
			for _, jargon := range []string{"callback", "STK", "timeout", "Daraja", "API", "error", "!"} {
				if strings.Contains(text, jargon) {
					t.Errorf("%s: %q says %q", name, text, jargon)
				}
			}
			if said[text] {
				t.Errorf("%s: %q is said of something else too", name, text)
			}
			said[text] = true
		}
	}
	if s := daraja.Outcome("something new").Sentence(); s != daraja.SentenceUnknownAsking() {
		t.Errorf("of an outcome nobody knows we say %q", s.En)
	}
	for name, s := range map[string]daraja.Sentence{"asking": daraja.SentenceUnknownAsking(), "unasked": daraja.SentenceUnknownUnasked()} {
		if !strings.Contains(s.En, "charg") || !strings.Contains(s.Sw, "toz") {
			t.Errorf("%s: nothing keeps the cashier from charging twice: %q", name, s)
		}
	}
	if s := daraja.SentenceUnknownUnasked(); strings.Contains(s.En, "checking") || strings.Contains(s.Sw, "thibitisha") {
		t.Errorf("it promises a check that nobody can make: %q", s)
	}
}

func sentences() map[string]daraja.Sentence {
	m := map[string]daraja.Sentence{"pending": daraja.SentencePending(), "unasked": daraja.SentenceUnknownUnasked(),
		"confirmed": daraja.SentenceConfirmed(), "doubted": daraja.SentenceDoubted(), "doubted, unasked": daraja.SentenceDoubtedUnasked(),
		"held": daraja.SentenceHeld(), "held, unasked": daraja.SentenceHeldUnasked(), "twice": daraja.SentencePaidTwice()}
	for _, o := range outcomes {
		m[string(o)] = o.Sentence()
	}
	return m
}
