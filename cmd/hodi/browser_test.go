package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium of this test's own.
type browser struct{ ctx context.Context }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if underCI() {
			t.Fatal("no Chromium in $PATH: under CI the pages must be tested")
		}
		t.Skip("SKIPPED, AND WITH IT EVERY TEST OF THE PAGES: no Chromium in $PATH (Debian: apt install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true),
		// Tabs that nobody looks at must not be put to sleep: the till stands behind the checkout here.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { chromedp.Cancel(ctx); cancel() })
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	return &browser{ctx}
}

// tab is one page, looked at as a person does: by what it shows.
type tab struct {
	t    *testing.T
	name string
	ctx  context.Context
}

func (b *browser) open(t *testing.T, name, address string, width, height int64) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(func() { cancel() })
	p := &tab{t, name, ctx}
	// The first command makes the tab, which lives as long as the context that it was made with.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(address))
	return p
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.picture()
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// evaluated is the value of a JavaScript expression about a page that is not on its way to another.
func evaluated[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return v
}

// shows waits until a JavaScript expression about the page is true. A page on its way to another can be asked nothing for a
// moment, so it is asked again.
func (p *tab) shows(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		shown, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if shown && err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.picture()
			p.t.Errorf("%s does not show %s: %v", p.name, what, err)
			p.t.Fatalf("it shows: %s", p.text("body"))
		}
	}
}

func (p *tab) text(selector string) string {
	p.t.Helper()
	return evaluated[string](p, fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '').trim()", selector))
}

// click presses what a finger could press: it is there, lets itself be pressed, and nothing lies over it. All that is found
// and done in one step of the page, which may draw anew, or move what is pressed, between any two.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.shows(selector+", and lets it be pressed", fmt.Sprintf(`(() => {
		const what = document.querySelector(%q);
		if (!what || what.disabled || !what.checkVisibility()) return false;
		what.scrollIntoView({block: 'nearest', behavior: 'instant'});
		const place = what.getBoundingClientRect();
		if (!what.contains(document.elementFromPoint(place.x + place.width / 2, place.y + place.height / 2))) return false;
		what.click();
		return true;
	})()`, selector))
}

// picture keeps a screenshot when $HODI_PICTURES names a folder: of a failure, or wherever a test wants one.
func (p *tab) picture() {
	dir := os.Getenv("HODI_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot()); err == nil {
		os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.png", p.name, time.Now().UnixNano())), png, 0o600)
	}
}

var refresh = chromedp.Steps(chromedp.Reload())

func evaluate(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](script)
}
