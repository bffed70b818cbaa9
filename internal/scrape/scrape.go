// Package scrape is for tests: it reads the page of a daemon as Prometheus does.
package scrape

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Page is what a daemon shows.
type Page struct {
	t        testing.TB
	Text     string
	Families map[string]*dto.MetricFamily
}

// Of asks the daemon that shows its page at an address.
func Of(t testing.TB, address string) *Page {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err, string(b))
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return &Page{t, string(b), families}
}

// Value is that of a figure with these labels ("endpoint=duka"), and whether it is there. Of a histogram it is the count.
func (p *Page) Value(name string, labels ...string) (float64, bool) {
	for _, m := range p.Families[name].GetMetric() {
		var has []string
		for _, l := range m.Label {
			has = append(has, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(has)
		if !slices.Equal(has, slices.Sorted(slices.Values(labels))) {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue(), true
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount()), true
		}
		return m.Gauge.GetValue(), true
	}
	return 0, false
}

// Want holds a figure to a value.
func (p *Page) Want(value float64, name string, labels ...string) {
	p.t.Helper()
	if got, ok := p.Value(name, labels...); !ok || got != value {
		p.t.Errorf("%s%v is %v (there: %t), want %v", name, labels, got, ok, value)
	}
}

// WantBetween holds it to a range, of which the ends are in it.
func (p *Page) WantBetween(from, to float64, name string, labels ...string) {
	p.t.Helper()
	if got, ok := p.Value(name, labels...); !ok || got < from || got > to {
		p.t.Errorf("%s%v is %v (there: %t), want %v to %v", name, labels, got, ok, from, to)
	}
}

// WantNone holds a figure to not being there.
func (p *Page) WantNone(name string, labels ...string) {
	p.t.Helper()
	if got, ok := p.Value(name, labels...); ok {
		p.t.Errorf("%s%v is %v, and ought not to be there", name, labels, got)
	}
}

// WantWellNamed holds all names to what Prometheus wants of names.
func (p *Page) WantWellNamed() {
	p.t.Helper()
	problems, err := promlint.New(strings.NewReader(p.Text)).Lint()
	if err != nil || len(problems) > 0 {
		p.t.Error(problems, err)
	}
}

// WantSilentOf holds the page to having none of these words.
func (p *Page) WantSilentOf(words ...string) {
	p.t.Helper()
	for _, word := range words {
		text := regexp.QuoteMeta(word)
		if strings.Trim(word, "0123456789") == "" { // a figure of many digits may have those of a short number among them
			text = `(^|[^0-9.])` + text + `($|[^0-9])`
		}
		if regexp.MustCompile(text).MatchString(p.Text) {
			p.t.Errorf("%q is on the page", word)
		}
	}
}
