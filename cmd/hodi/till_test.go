package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestACashierOpensTheTillWithACode goes the whole way: an operator at a terminal, a cashier at a browser.
func TestACashierOpensTheTillWithACode(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	side := startDaemon(t, dir, "sidecar", "--data", filepath.Join(dir, "state"), "--listen", "127.0.0.1:0", "--accept-callbacks")
	base := side.says("url")
	hodi := func(args ...string) string {
		t.Helper()
		args = append(args, "--data", filepath.Join(dir, "state"))
		var out []byte
		eventually(t, strings.Join(args, " "), func() bool {
			var err error
			out, err = exec.Command("hodi", args...).CombinedOutput()
			return err == nil || !strings.Contains(string(out), "no sidecar answers")
		})
		return string(out)
	}
	invite := func() string {
		t.Helper()
		out := hodi("till", "invite", "Front desk")
		code, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(out, "code")), "\n")
		if len(code) != 9 || !strings.Contains(out, base+"/till") {
			t.Fatalf("hodi till invite printed %q", out)
		}
		return code
	}
	till := b.open(t, "till", base+"/till", 360, 740)
	visible := func(what, id string) {
		t.Helper()
		till.shows(what, fmt.Sprintf("document.querySelector('[data-testid=%s]')?.checkVisibility()", id))
	}
	types := func(code string) {
		t.Helper()
		till.do(evaluate(fmt.Sprintf(`{ const field = document.querySelector('[data-testid=code]'); field.value = %q; field.dispatchEvent(new Event('input', {bubbles: true})); }`, code)))
		till.click("[data-testid=enter-go]")
	}
	note := func(want string) {
		t.Helper()
		till.shows("the note "+want, fmt.Sprintf("document.querySelector('[data-testid=enter-note]').textContent.includes(%q)", want))
	}

	visible("the code's field", "code")
	till.picture()
	if text := till.text("main"); strings.Contains(text, "Today") || !strings.Contains(text, "Type the code") {
		t.Errorf("who is not let in sees %q", text)
	}
	types("BCD")
	note("eight letters")
	types("BCDF-GHJK")
	note("does not work")
	till.picture()
	types(strings.ToLower(invite()))
	visible("the day", "newest")
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	till.picture()
	if text := till.text("body"); !strings.Contains(text, "Today") || strings.Contains(text, "Type the code") {
		t.Errorf("who was let in sees %q", text)
	}
	till.do(refresh) // the browser remembers
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	till.shows("that no script sees the cookie", `document.cookie === ""`)

	if out := hodi("till", "list"); !strings.Contains(out, "Front desk") || !strings.Contains(out, "let in, open now") {
		t.Errorf("hodi till list printed %q", out)
	}
	// How many they are is not said: that of the page before the reload may not have ended.
	if out := hodi("till", "revoke", "1"); !strings.Contains(out, "till 1, Front desk, is revoked; ") || strings.Contains(out, "; 0 connections") {
		t.Errorf("hodi till revoke printed %q", out)
	}
	visible("that it is signed out", "code")
	till.shows("why", `document.querySelector('#enter-text').textContent.includes('was signed out')`)
	till.picture()
	types(invite())
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	if out := hodi("audit"); !strings.Contains(out, "till let in") || !strings.Contains(out, "till revoked") || !strings.Contains(out, "refused: wrong-code") {
		t.Errorf("hodi audit printed\n%s", out)
	}
}

// TestACashierAsksForAPayment: a customer whose phone was prompted enough is told to turn to the till, and there it works.
func TestACashierAsksForAPayment(t *testing.T) {
	b := newBrowser(t)
	s := deploy(t, "prompts-per-phone = 1", "prompts-per-till = 2")
	out := s.hodi("till", "invite", "Front desk")
	code, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(out, "code")), "\n")
	till := b.open(t, "till", s.sidecar+"/till", 360, 740)
	fill := func(id, text string) {
		t.Helper()
		till.do(evaluate(fmt.Sprintf(`{ const field = document.querySelector('[data-testid=%s]'); field.value = %q; field.dispatchEvent(new Event('input', {bubbles: true})); }`, id, text)))
	}
	note := func(want string) {
		t.Helper()
		till.shows("the note "+want, fmt.Sprintf("document.querySelector('[data-testid=sale-note]').textContent.includes(%q)", want))
	}
	open := func(yes bool) {
		t.Helper()
		till.shows(fmt.Sprintf("the form: %v", yes), fmt.Sprintf("document.querySelector('[data-testid=sale]').open === %v", yes))
	}
	newest := func(status, amount string) {
		t.Helper()
		till.shows(status+" of "+amount, fmt.Sprintf(`document.querySelector('[data-testid=newest]').dataset.status === %q && document.querySelector('[data-testid=newest-amount]').textContent === %q`, status, amount))
	}
	till.shows("the code's field", "document.querySelector('[data-testid=code]').checkVisibility()")
	till.shows("no way to ask", "!document.querySelector('[data-testid=sale-open]').checkVisibility()")
	fill("code", code)
	till.click("[data-testid=enter-go]")
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)

	page, _ := s.begin(100)
	s.answer(t, "cancel")
	eventually(t, "that it was cancelled", func() bool { return s.state(page)["status"] == "FAILED" })
	if status, problem := call(t, "POST", page+"/initiate", map[string]any{"phoneNumber": testPhone}); status != 429 || !strings.Contains(fmt.Sprint(problem["detail"]), "have the shop ask at its till") {
		t.Errorf("the customer is answered %d %v", status, problem)
	}

	till.click("[data-testid=sale-open]")
	open(true)
	till.picture()
	till.click("[data-testid=sale-go]")
	note("not a Kenyan mobile number")
	till.picture()
	fill("sale-phone", "0708 374 149")
	till.click("[data-testid=sale-go]")
	note("whole shillings")
	fill("sale-amount", "1,500")
	till.click("[data-testid=sale-go]")
	note("what the payment is for")
	fill("sale-reference", "TABLE <4>")
	till.click("[data-testid=sale-go]")
	note("letters, digits and spaces")
	fill("sale-reference", "TABLE 4")
	till.do(evaluate(`globalThis.online = globalThis.fetch; globalThis.fetch = () => Promise.reject(new TypeError("offline"))`))
	till.click("[data-testid=sale-go]")
	note("does not answer")
	till.do(evaluate(`globalThis.fetch = globalThis.online`))
	till.click("[data-testid=sale-go]")
	open(false)
	newest("PENDING", "1,500")
	till.picture()

	till.click("[data-testid=sale-open]")
	fill("sale-phone", "0708374149")
	fill("sale-amount", "20")
	fill("sale-reference", "TABLE 5")
	till.click("[data-testid=sale-go]")
	note("asked just now")
	till.click("[data-testid=sale-go]")
	note("asked too often")
	till.picture()
	till.click("[data-testid=sale-close]")
	open(false)
	s.answer(t, "approve")
	newest("SUCCESS", "1,500")
	if out := s.hodi("audit"); !strings.Contains(out, "till asks too often") || !strings.Contains(out, "Front desk") {
		t.Errorf("hodi audit printed\n%s", out)
	}
	s.hodi("till", "revoke", "1")
	till.shows("that it is signed out", "document.querySelector('[data-testid=code]').checkVisibility() && !document.querySelector('[data-testid=sale-open]').checkVisibility()")
}
