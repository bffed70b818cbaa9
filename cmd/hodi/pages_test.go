package main

import (
	"fmt"
	"strings"
	"testing"
)

// shop is the three screens of one sale: the customer's checkout and phone, and the till.
type shop struct {
	*dev
	checkout, phone, till *tab
}

func openShop(t *testing.T, session string, flags ...string) *shop {
	t.Helper()
	b := newBrowser(t)
	d := startDev(t, t.TempDir(), nil, append(append([]string{}, quick...), flags...)...)
	s := &shop{dev: d}
	s.till = b.open(t, "till", d.Sidecar+"/till", 1280, 800)
	s.phone = b.open(t, "phone", d.Sandbox+"/phone", 400, 800)
	s.checkout = b.open(t, "checkout", d.Sidecar+"/pay/"+session, 390, 844)
	s.till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	return s
}

// pay fills in the checkout and presses Pay.
func (s *shop) pay(amount int) {
	s.checkout.t.Helper()
	s.checkout.shows("the pay button", `document.querySelector('[data-testid=pay]')`)
	s.checkout.do(evaluate(fmt.Sprintf(`{
		const fill = (name, value) => {
			const field = document.querySelector('[data-testid=' + name + ']');
			if (!field || field.disabled || field.readOnly) return;
			field.value = value;
			field.dispatchEvent(new Event('input', {bubbles: true}));
			field.dispatchEvent(new Event('change', {bubbles: true}));
		};
		fill('phone', '0708 374 149');
		fill('amount', '%d');
	}`, amount)))
	s.checkout.click("[data-testid=pay]")
}

func (s *shop) typePIN(pin string) {
	s.phone.t.Helper()
	s.phone.shows("the prompt", `document.querySelector('[data-testid=prompt]')?.checkVisibility()`)
	for _, digit := range pin {
		s.phone.click(fmt.Sprintf("[data-testid=pin-%c]", digit))
	}
	s.phone.click("[data-testid=pin-send]")
}

func (s *shop) checkoutIs(state string) {
	s.checkout.t.Helper()
	s.checkout.shows("state "+state, fmt.Sprintf(`document.querySelector('[data-testid=state]')?.dataset.state === %q`, state))
}

func (s *shop) tillIs(status string) {
	s.till.t.Helper()
	s.till.shows("newest payment "+status, fmt.Sprintf(`document.querySelector('[data-testid=newest]')?.dataset.status === %q`, status))
}

func TestACustomerPaysAndEveryScreenSaysSo(t *testing.T) {
	s := openShop(t, "sale-1")
	s.pay(1234)
	s.checkoutIs("waiting")
	s.tillIs("PENDING")
	s.typePIN("2580")
	s.checkoutIs("paid")
	s.tillIs("SUCCESS")
	receipt := s.checkout.text("[data-testid=receipt]")
	if len(receipt) < 10 {
		t.Errorf("the checkout shows receipt %q", receipt)
	}
	if newest := s.till.text("[data-testid=newest]"); !strings.Contains(strings.ReplaceAll(newest, " ", ""), strings.ReplaceAll(receipt, " ", "")) || !strings.Contains(newest, "1,234") {
		t.Errorf("the till shows %q, want the receipt %s and the amount", newest, receipt)
	}
	s.checkout.picture()
	s.till.picture()
	s.phone.picture()

	// The same answer is there after a reload, and the till that is opened afterwards knows the sale too.
	s.checkout.do(refresh)
	s.checkoutIs("paid")
	s.till.do(refresh)
	s.tillIs("SUCCESS")
}

func TestTheTillAsksWhetherACustomerHasPaidTwice(t *testing.T) {
	s := openShop(t, "sale-twice")
	s.pay(1234)
	s.typePIN("2580")
	s.tillIs("SUCCESS")
	data := s.session(t, "sale-twice")["data"].(map[string]any)
	if status, answer := call(t, "POST", s.Callback, stkCallback(data, 0, "ok", today+"AB12CD8", 1234)); status != 200 {
		t.Fatalf("the edge answered %d %v", status, answer)
	}
	s.till.shows("the doubt", `document.querySelector('[data-testid=newest]')?.dataset.doubt === 'paid_twice'`)
	for _, words := range []string{"Paid twice?", "two receipts"} {
		if newest := s.till.text("[data-testid=newest]"); !strings.Contains(newest, words) {
			t.Errorf("the till shows %q, want it to say %q", newest, words)
		}
	}
	if row := s.till.text("[data-testid=row]"); !strings.Contains(row, "Paid twice?") {
		t.Errorf("its list shows %q", row)
	}
	s.till.picture()
}

func TestACustomerCancelsAndPaysAgainOnTheSamePage(t *testing.T) {
	s := openShop(t, "sale-2")
	s.pay(50)
	s.phone.shows("the prompt", `document.querySelector('[data-testid=prompt]')?.checkVisibility()`)
	s.phone.click("[data-testid=pin-cancel]")
	s.checkoutIs("failed")
	s.tillIs("FAILED")
	if reason := s.checkout.text("[data-testid=reason]"); reason == "" {
		t.Error("the checkout does not say why")
	}
	s.checkout.picture()

	s.checkout.click("[data-testid=pay-again]")
	s.checkout.click("[data-testid=pay]") // the number is still there
	s.typePIN("1111")
	s.checkoutIs("paid")
	s.tillIs("SUCCESS")
}

func TestACustomerLetsThePromptLapse(t *testing.T) {
	s := openShop(t, "sale-3", "--prompt-timeout=1s")
	s.pay(50)
	s.checkoutIs("failed")
	s.tillIs("FAILED")
}

func TestACallbackThatNeverComesIsAskedFor(t *testing.T) {
	s := openShop(t, "sale-4", "--first-ask=2s", "--queries-per-minute=600")
	s.behave(t, map[string]string{"callback": "never"})
	s.pay(75)
	s.typePIN("2580")
	s.checkoutIs("paid")
	s.tillIs("SUCCESS")
}

func TestACallbackThatNeverComesAndNoAnswerEitherIsUnknownAndNeverFailed(t *testing.T) {
	s := openShop(t, "sale-5", "--first-ask=1s", "--unknown-after=3s", "--queries-per-minute=600")
	s.behave(t, map[string]string{"callback": "never_silent"})
	s.pay(75)
	s.typePIN("2580")
	s.checkoutIs("unknown")
	s.tillIs("UNKNOWN")
	if words := strings.ToLower(s.till.text("[data-testid=newest]")); !strings.Contains(words, "do not charge again") {
		t.Errorf("the till shows %q, want it to say that the cashier must not charge again", words)
	}
	s.checkout.picture()
	s.till.picture()
}

// TestTheDeskShowsAWholeSale is what the README promises of the first address: the checkout, the phone and the till
// side by side, in frames that their policies allow, and all of it on one page.
func TestTheDeskShowsAWholeSale(t *testing.T) {
	b := newBrowser(t)
	d := startDev(t, t.TempDir(), nil, quick...)
	desk := b.open(t, "desk", d.Sidecar+"/", 1440, 900)
	inFrame := func(frame, what, expression string) {
		t.Helper()
		desk.shows(what+" in the frame of the "+frame, fmt.Sprintf(`document.querySelector('[data-testid=frame-%s]')?.contentDocument?.querySelector(%s`, frame, expression))
	}
	inFrame("checkout", "the pay button", `'[data-testid=pay]') && !document.querySelector('[data-testid=frame-checkout]').contentDocument.querySelector('[data-testid=pay]').disabled`)
	inFrame("till", "that it is live", `'[data-testid=fresh]')?.dataset.state === 'live'`)
	desk.shows("that it runs", `document.querySelector('[data-testid=health]').dataset.state === 'live'`)
	// The phone is of another origin, so its frame cannot be looked into: that it is there shows in what it asks for.
	desk.shows("the phone", fmt.Sprintf(`document.querySelector('[data-testid=frame-phone]').src === %q && document.querySelector('[data-testid=frame-phone]').contentDocument === null`, d.Sandbox+"/phone"))

	desk.do(evaluate(`document.querySelector('[data-testid=frame-checkout]').contentDocument.querySelector('[data-testid=pay]').click()`))
	inFrame("checkout", "that it waits", `'[data-testid=state]')?.dataset.state === 'waiting'`)
	inFrame("till", "the sale", `'[data-testid=newest]')?.dataset.status === 'PENDING'`)
	d.answer(t, "approve")
	inFrame("checkout", "that it is paid", `'[data-testid=state]')?.dataset.state === 'paid'`)
	inFrame("till", "that it is paid", `'[data-testid=newest]')?.dataset.status === 'SUCCESS'`)
	desk.picture()
}

func TestTheScreensOfAHouseStartedAgainShowWhatItHad(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	d := startDev(t, dir, nil, quick...)
	d.initiate(t, "sale-6", 4321)
	d.answer(t, "approve")
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "sale-6")["data"].(map[string]any)
		return data["status"] == "SUCCESS"
	})
	till := b.open(t, "till", d.Sidecar+"/till", 1280, 800)
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	d.kill(t)
	till.shows("that it is not live", `document.querySelector('[data-testid=fresh]')?.dataset.state !== 'live'`)

	d = startDev(t, dir, &d.house, quick...)
	till.shows("by itself that it is live again", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	late := b.open(t, "late till", d.Sidecar+"/till", 1280, 800)
	for _, p := range []*tab{till, late} {
		p.shows("the payment of before", `document.querySelector('[data-testid=newest]')?.dataset.status === 'SUCCESS'`)
		if text := p.text("[data-testid=newest]"); !strings.Contains(text, "4,321") {
			t.Errorf("%s shows %q, want the amount of before", p.name, text)
		}
	}
	checkout := b.open(t, "checkout", d.Sidecar+"/pay/sale-6", 390, 844)
	checkout.shows("that it is paid", `document.querySelector('[data-testid=state]')?.dataset.state === 'paid'`)
}
