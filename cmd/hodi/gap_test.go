package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestADestroyedJournalIsToldOfAtBothEnds takes the edge's database away while its sidecar is not there: three callbacks
// were answered 200 and are nowhere any more. Nothing can bring them back; everybody who looks is to know.
func TestADestroyedJournalIsToldOfAtBothEnds(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.register(0, 2)
	p.post(0, 2)
	p.wantPaid(0, 2)
	p.sidecar.end()
	p.post(2, 5)
	p.edge.kill()
	files, err := filepath.Glob(filepath.Join(p.dir, "edge", "edge.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	p.startEdge()
	p.startSidecar()
	p.register(5, 6)
	p.post(5, 6)
	p.wantPaid(5, 6)

	at := strings.TrimPrefix(p.url, "http://")
	out, ok := status(t, p.dir, "--listen", at, "--data", "sidecar", "--edge-data", "edge")
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"never came perhaps some callbacks, delivered between 20",
		"Not well: the edge's journal was lost: what Safaricom delivered between 20",
		"compare the rest with M-Pesa's statement of that time",
		"Not well: journal lost (20",
		"callbacks that no sidecar had fetched by then are lost",
	} {
		if ok || !strings.Contains(words, want) {
			t.Errorf("well: %v; it does not say %q:\n%s", ok, want, out)
		}
	}
	_, is := call(t, "GET", p.url+"/status", nil)
	if gaps, _ := is["gaps"].([]any); len(gaps) != 1 || gaps[0].(map[string]any)["from"] == nil || gaps[0].(map[string]any)["callbacks"] != nil {
		t.Errorf("the sidecar's gaps are %v", is["gaps"])
	}
	if out := p.hodi("edge", "--data", "edge", "audit"); !strings.Contains(out, "journal lost") {
		t.Errorf("the audit is\n%s", out)
	}
}

// TestATillTellsOfWhatNeverCameUntilSomebodyHasLookedAfterIt is the same, as a cashier sees it.
func TestATillTellsOfWhatNeverCameUntilSomebodyHasLookedAfterIt(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	d := startDev(t, dir, nil, quick...)
	before := d.house
	d.initiate(t, "sale-1", 50)
	d.answer(t, "approve")
	eventually(t, "the payment", func() bool {
		data, _ := d.session(t, "sale-1")["data"].(map[string]any)
		return data["status"] == "SUCCESS"
	})
	till := b.open(t, "till", d.Sidecar+"/till", 1280, 800)
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	till.shows("nothing missing", `document.querySelector('[data-testid=gap]').hidden`)
	d.kill(t)
	files, err := filepath.Glob(filepath.Join(dir, "edge", "edge.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	d = startDev(t, dir, &before, quick...)
	eventually(t, "the sidecar to know of it", func() bool {
		_, is := call(t, "GET", d.Sidecar+"/status", nil)
		gaps, _ := is["gaps"].([]any)
		return len(gaps) == 1
	})
	till.do(refresh)
	till.shows("what never came", `document.querySelector('[data-testid=gap]').checkVisibility()`)
	if text := till.text("[data-testid=gap]"); !strings.Contains(text, "between") || !strings.Contains(text, "statement") {
		t.Errorf("the till says %q", text)
	}
	till.picture()
	till.click("[data-testid=gap-seen]")
	till.shows("nothing missing", `document.querySelector('[data-testid=gap]').hidden`)
	till.do(refresh)
	till.shows("that it is live", `document.querySelector('[data-testid=fresh]')?.dataset.state === 'live'`)
	till.shows("nothing missing", `document.querySelector('[data-testid=gap]').hidden`)
}
