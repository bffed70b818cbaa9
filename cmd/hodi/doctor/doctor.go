// Package doctor looks for what keeps a sidecar from its edge, or an edge from its shops and from Safaricom, and says what to
// do about it. It is for people who are no experts, on a machine where a daemon runs, or does not: it changes nothing,
// takes nothing from a daemon, and prints no secret.
package doctor

import (
	"context"
	"regexp"
	"strings"
	"sync"

	"github.com/hodihq/hodi/sync/daraja"
)

// Verdict is what a check comes to.
type Verdict string

const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // it works, and will not in bad weather
	Fail Verdict = "fail" // it does not work
	Skip Verdict = "skip" // there was no sense in it, and Found says why
)

// Finding is what one check has found.
type Finding struct {
	Check    string             `json:"check"`
	Verdict  Verdict            `json:"verdict"`
	Found    string             `json:"found"`
	Figures  map[string]float64 `json:"figures,omitempty"`
	Do       string             `json:"do,omitempty"`       // what to do, in a sentence; never empty for Warn and Fail
	Commands []string           `json:"commands,omitempty"` // that do it, as one types them
}

// check is one or more findings, of which the later may need the earlier.
type check func(ctx context.Context, say func(Finding))

// examine makes all checks at once, and tells what they say in their order, as soon as it is known.
func examine(ctx context.Context, tell func(Finding), checks ...check) {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make([]chan Finding, len(checks))
	for i, c := range checks {
		said[i] = make(chan Finding, 64) // more than any check says: none waits to be heard
		all.Go(func() {
			defer close(said[i])
			c(ctx, func(f Finding) { said[i] <- f })
		})
	}
	for _, findings := range said {
		for f := range findings {
			tell(f.clean())
		}
	}
}

// credentials is name and password in an address.
var credentials = regexp.MustCompile(`://[^\s/"]*@`)

// clean hides what no check says: an error of somebody else's may have in it what we did not put there.
func (f Finding) clean() Finding {
	f.Found, f.Do = clean(f.Found), clean(f.Do)
	return f
}

func clean(s string) string {
	return credentials.ReplaceAllString(daraja.Scrub(strings.Join(strings.Fields(s), " ")), "://***@")
}

func skipped(name, because string) Finding {
	return Finding{Check: name, Verdict: Skip, Found: "skipped, because " + because}
}
