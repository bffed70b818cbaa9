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
	till.do(reload) // the browser remembers
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	till.shows("that no script sees the cookie", `document.cookie === ""`)

	if out := hodi("till", "list"); !strings.Contains(out, "Front desk") || !strings.Contains(out, "let in, open now") {
		t.Errorf("hodi till list printed %q", out)
	}
	if out := hodi("till", "revoke", "1"); !strings.Contains(out, "till 1, Front desk, is revoked; 1 connections were closed") {
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
