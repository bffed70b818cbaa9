package pages_test

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/sidecar/pages"
)

// The pages' own tests are written in their own language; this lets `go test` run them.
func TestInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("SKIPPED: the modules of the pages are not tested, because there is no node on this machine")
	}
	out, err := exec.Command(node, "--test", "testdata/").CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func eachFile(t *testing.T, do func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(pages.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(pages.Files, name)
		do(name, string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsLoadedFromElsewhereAndNothingIsInline(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+\s*=\s*"|javascript:`)
	elsewhere := regexp.MustCompile(`https?://[^\s"'` + "`" + `)]+`)
	eachFile(t, func(name, text string) {
		if strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".svg") {
			for _, found := range inline.FindAllString(text, -1) {
				t.Errorf("%s: %q would not pass the pages' policy", name, found)
			}
		}
		if strings.HasSuffix(name, ".js") && regexp.MustCompile(`\.style\b|innerHTML|insertAdjacentHTML|\beval\(`).MatchString(text) {
			t.Errorf("%s sets a style or markup: use classes and nodes", name)
		}
		for _, found := range elsewhere.FindAllString(text, -1) {
			if !strings.HasPrefix(found, "http://www.w3.org/") && !strings.HasPrefix(found, "http://127.0.0.1:") {
				t.Errorf("%s: %s is somewhere else", name, found)
			}
		}
	})
}

func TestWhatThePagesNameIsThere(t *testing.T) {
	names := regexp.MustCompile(`"(?:\.|/assets)/([a-z]+\.(?:js|css|svg))"`)
	eachFile(t, func(name, text string) {
		for _, found := range names.FindAllStringSubmatch(text, -1) {
			if _, err := fs.Stat(pages.Files, path.Join("assets", found[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestThePolicyFramesNobodyButThePhone(t *testing.T) {
	if policy := pages.Policy(""); !strings.HasSuffix(policy, "frame-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	if policy := pages.Policy("http://127.0.0.1:8789"); !strings.HasSuffix(policy, "frame-src 'self' http://127.0.0.1:8789") {
		t.Errorf("the policy in dev is %q", policy)
	}
}

// Every text has a contrast of 4.5 on what is behind it, and of 7 on the till, which is read from two metres.
func TestContrast(t *testing.T) {
	content, err := fs.ReadFile(pages.Files, "assets/hodi.css")
	if err != nil {
		t.Fatal(err)
	}
	css := string(content)
	light := tokens(block(t, css, ":root {"))
	dark := over(light, tokens(block(t, css, "@media (prefers-color-scheme: dark) {\n  :root {")))
	tillLight := over(light, tokens(block(t, css, "\n.till {")))
	tillDark := over(dark, tokens(block(t, css, "@media (prefers-color-scheme: dark) {\n  .till {")))

	texts := []string{"ink", "faint", "accent", "paid", "unknown", "failed"}
	for _, page := range []struct {
		name   string
		tokens map[string]string
		behind []string
		least  float64
	}{
		{"the pages in the light", light, []string{"paper", "sheet", "well"}, 4.5},
		{"the pages in the dark", dark, []string{"paper", "sheet", "well"}, 4.5},
		{"the till in the light", tillLight, []string{"paper"}, 7},
		{"the till in the dark", tillDark, []string{"paper"}, 7},
	} {
		for _, text := range texts {
			for _, behind := range page.behind {
				if behind == "well" && (text == "paid" || text == "unknown" || text == "failed") {
					continue // states are never written there
				}
				atLeast(t, fmt.Sprintf("%s: %s on %s", page.name, text, behind), page.tokens[text], page.tokens[behind], page.least)
			}
		}
		atLeast(t, page.name+": a button", page.tokens["on-accent"], page.tokens["accent"], 4.5)
	}

	// The field of the newest payment, in each state.
	fields := regexp.MustCompile(`\n( *)\.newest(?::is\()?\[data-status="([A-Z]+)"\](?:, \[data-doubt\]\))? \{ (--field[^}]*)\}`).FindAllStringSubmatch(css, -1)
	if len(fields) != 8 {
		t.Fatalf("found %d states of the till's newest payment, want four in each scheme", len(fields))
	}
	for _, found := range fields {
		base := tillLight
		if found[1] != "" {
			base = tillDark
		}
		field := over(base, tokens(found[3]))
		for _, text := range []string{"ink", "word"} {
			atLeast(t, fmt.Sprintf("the till: %s of %s (indent %q)", text, found[2], found[1]), resolve(field, field[text]), field["field"], 7)
		}
	}
}

func block(t *testing.T, css, start string) string {
	t.Helper()
	_, rest, ok := strings.Cut(css, start)
	if !ok {
		t.Fatalf("no %q in the stylesheet", start)
	}
	rest, _, _ = strings.Cut(rest, "}")
	return rest
}

func tokens(block string) map[string]string {
	found := map[string]string{}
	for _, one := range regexp.MustCompile(`--([a-z-]+): ([^;]+);`).FindAllStringSubmatch(block, -1) {
		found[one[1]] = one[2]
	}
	return found
}

func over(base, more map[string]string) map[string]string {
	both := map[string]string{}
	for _, m := range []map[string]string{base, more} {
		for k, v := range m {
			both[k] = v
		}
	}
	return both
}

func resolve(tokens map[string]string, value string) string {
	if name, ok := strings.CutPrefix(value, "var(--"); ok {
		return tokens[strings.TrimSuffix(name, ")")]
	}
	return value
}

func atLeast(t *testing.T, what, text, behind string, least float64) {
	t.Helper()
	a, b := luminance(t, text), luminance(t, behind)
	if contrast := (max(a, b) + 0.05) / (min(a, b) + 0.05); contrast < least {
		t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", what, text, behind, contrast, least)
	}
}

// luminance is WCAG's relative luminance.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil || len(colour) != 7 {
		t.Fatalf("%q is not a colour", colour)
	}
	part := func(shift uint) float64 {
		c := float64(n>>shift&255) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}
