package correlate

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// The facts of the exhaustive test. Callbacks keep their place in the journal whatever the order they arrive in.
var facts = map[string]fact{
	"accepted":      {kind: factAccepted, merchant: "m", checkout: "c", ask: time.UnixMilli(1)},
	"refused":       {kind: factRefused, outcome: daraja.OutcomeBusy, code: "500.001.1001"},
	"ambiguous":     {kind: factAmbiguous},
	"silence":       {kind: factSilence},
	"paid":          callback("0", 5, "RKK1AAAAAA"),
	"paid again":    callback("0", 6, "RKK1AAAAAA"),
	"cancelled":     callback("1032", 1, ""),
	"timeout":       callback("1037", 2, ""),
	"cancelled dup": callback("1032", 4, ""),
	"odd":           callback("BW-JMS-100039", 3, ""),
	"answer paid":   answer("0"),
	"answer failed": answer("1032"),
	"answer same":   answer("1032"),
	"answer other":  answer("1037"),
}

func callback(code string, seq uint64, receipt string) fact {
	return fact{kind: factCallback, merchant: "m", checkout: "c", outcome: daraja.OutcomeOf(code), code: code, desc: "text of " + code,
		place: push.Cursor{Epoch: 1, Seq: seq}, receipt: receipt, amount: 100_00, completed: time.UnixMilli(5)}
}

func answer(code string) fact {
	return fact{kind: factAnswer, outcome: daraja.OutcomeOf(code), code: code}
}

// want is the rule of the design, said a second way: what a set of facts comes to, in whatever order.
func want(has func(name string) bool) (status push.Status, code string) {
	switch {
	case has("paid"), has("paid again"), has("answer paid"):
		return push.Success, "0"
	case has("timeout"): // the greatest place, where a repetition does not count
		if has("cancelled dup") && !has("cancelled") {
			return push.Failed, "1032"
		}
		return push.Failed, "1037"
	case has("cancelled"), has("cancelled dup"):
		return push.Failed, "1032"
	case has("refused") && (has("accepted") || has("odd")): // a refusal counts only where nothing showed that Daraja took it
		return "FAILED or not", ""
	case has("refused"), has("answer failed") && has("answer same") && !has("answer other"):
		return push.Failed, "*"
	case has("answer failed") && has("answer same"): // the other may stand between them
		return "FAILED or not", ""
	case has("silence"), has("ambiguous"), has("odd"):
		return push.Unknown, "*"
	}
	return push.Pending, ""
}

// TestEveryOrderOfFacts folds up to five facts in every order: money is never unsaid, at most two completions are told
// and the second is a success, and what it comes to does not depend on the order.
func TestEveryOrderOfFacts(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000).UTC()
	e := explorer{t, slices.Sorted(maps.Keys(facts)), 0}
	e.explore(Payment{ID: "p", Status: push.Pending, Amount: 100_00, Created: at, silentAt: at.Add(90 * time.Second)}, at, nil, nil)
	t.Logf("%d orders", e.orders)
}

type explorer struct {
	*testing.T
	names  []string
	orders int
}

// explore adds every fact that is not in order yet.
func (e *explorer) explore(p Payment, at time.Time, order []string, completions []push.Status) {
	e.orders++
	e.check(p, order, completions)
	if len(order) == 5 || e.Failed() {
		return
	}
	for _, name := range e.names {
		if slices.Contains(order, name) {
			continue
		}
		f := facts[name]
		f.at = at
		order := append(order[:len(order):len(order)], name)
		next, event := e.step(p, f, order)
		told := completions
		if event == push.PaymentCompleted {
			told = append(told[:len(told):len(told)], next.Status)
		}
		e.explore(next, at.Add(20*time.Second), order, told)
	}
}

func (e *explorer) fail(order []string, format string, args ...any) {
	e.Helper()
	e.Errorf("%s: %s", strings.Join(order, ", "), fmt.Sprintf(format, args...))
}

// step folds one fact, and checks what may never happen.
func (e *explorer) step(p Payment, f fact, order []string) (Payment, string) {
	was := slices.Clone(p.notices) // the rest of p is a copy anyway
	next, changed, event := fold(p, f)
	again, _, repeated := fold(next, f)
	switch {
	case !slices.Equal(was, p.notices):
		e.fail(order, "the fold changed its argument")
	case !changed && (event != "" || !reflect.DeepEqual(next, p)):
		e.fail(order, "nothing changed, and %q is told of %+v", event, next)
	case event != "" && event != push.STKInitiated && next.Data() == p.Data():
		e.fail(order, "%s is told, and nothing that a subscriber sees is different", event)
	case repeated != "" || again.Data() != next.Data():
		e.fail(order, "said a second time it tells %q", repeated)
	case p.Status == push.Success && (next.Status != push.Success || next.ResultCode != "0" || p.Receipt != "" && next.Receipt != p.Receipt):
		e.fail(order, "money was unsaid")
	case p.Status != next.Status && event == "":
		e.fail(order, "%s became %s and nobody was told", p.Status, next.Status)
	case event == push.STKInitiated && next.Status != push.Pending:
		e.fail(order, "STK_INITIATED is told of %s", next.Status)
	case next.Status.Ended() && (!next.askAt.IsZero() || !next.silentAt.IsZero()):
		e.fail(order, "a clock still runs for a payment that ended")
	}
	switch p.Status + " → " + next.Status {
	case "PENDING → UNKNOWN", "PENDING → FAILED", "PENDING → SUCCESS", "UNKNOWN → FAILED", "UNKNOWN → SUCCESS", "FAILED → SUCCESS":
	default:
		if p.Status != next.Status {
			e.fail(order, "%s became %s", p.Status, next.Status)
		}
	}
	return next, event
}

// check compares what an order came to with what its facts, in whatever order, must come to.
func (e *explorer) check(p Payment, order []string, completions []push.Status) {
	has := func(name string) bool { return slices.Contains(order, name) }
	if len(completions) > 2 || len(completions) == 2 && completions[1] != push.Success {
		e.fail(order, "the completions are %v", completions)
	}
	if p.Status.Ended() && (len(completions) == 0 || completions[len(completions)-1] != p.Status) {
		e.fail(order, "it ended %s, and the completions are %v", p.Status, completions)
	}
	if (has("paid") || has("paid again")) && (p.Receipt == "" || !p.AmountChecked) {
		e.fail(order, "the receipt is lost")
	}
	status, code := want(has)
	if status != "FAILED or not" && (p.Status != status || code != "*" && p.ResultCode != code) {
		e.fail(order, "it comes to %s %q, want %s %q", p.Status, p.ResultCode, status, code)
	}
}

func TestTwoAnswersMakeAFailureOnlyIfTheyAgree(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000).UTC()
	for _, c := range []struct {
		say     string
		answers []string // "code@second"
		want    push.Status
	}{
		{"one answer is not enough", []string{"1032@30"}, push.Pending},
		{"two that agree, 15 s apart, are", []string{"1032@30", "1032@45"}, push.Failed},
		{"two within 15 s are one", []string{"1032@30", "1032@44"}, push.Pending},
		{"the first of several counts", []string{"1032@30", "1032@40", "1032@45"}, push.Failed},
		{"two that differ are not enough", []string{"1032@30", "1037@60"}, push.Pending},
		{"another one between them begins anew", []string{"1032@30", "1037@45", "1032@60"}, push.Pending},
		{"a code that is not known changes nothing", []string{"4999@30", "4999@60"}, push.Pending},
		{"a code that is not known does not disturb", []string{"1032@30", "4999@45", "1032@60"}, push.Failed},
		{"a success counts at once", []string{"0@30"}, push.Success},
		{"a success counts after a failure", []string{"1032@30", "1032@45", "0@60"}, push.Success},
		{"a failure after a success does not", []string{"0@30", "1032@45", "1032@60"}, push.Success},
		{"a clock that was set back begins anew", []string{"1032@90", "1032@30", "1032@40"}, push.Pending},
	} {
		p := Payment{Status: push.Pending, MerchantRequestID: "m", CheckoutRequestID: "c", Created: start}
		for _, a := range c.answers {
			var code string
			var second int
			fmt.Sscanf(strings.Replace(a, "@", " ", 1), "%s %d", &code, &second)
			f := answer(code)
			f.at = start.Add(time.Duration(second) * time.Second)
			p, _, _ = fold(p, f)
		}
		if p.Status != c.want {
			t.Errorf("%s: the payment is %s, want %s", c.say, p.Status, c.want)
		}
	}
}
