package correlate

import (
	"cmp"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// rules are what of Config may change while the table is open. A transaction has those with which it began.
type rules struct {
	queryAbove   map[string]push.Money
	limits       Limits
	unknownAfter time.Duration
	firstAsk     time.Duration
	keepBodies   time.Duration // 0: for ever
	keepPayments time.Duration // 0: for ever
	forwarding   bool
}

func rulesOf(c Config) *rules {
	r := &rules{
		queryAbove: c.QueryAbove, limits: c.Limits, unknownAfter: cmp.Or(c.UnknownAfter, 90*time.Second), firstAsk: cmp.Or(c.FirstAsk, 30*time.Second),
		keepBodies: max(c.KeepBodies, 0), keepPayments: max(c.KeepPayments, 0), forwarding: c.Forwarding,
	}
	if r.keepBodies > 0 {
		r.keepBodies = max(r.keepBodies, parkedFor)
	}
	return r
}

// SetRules changes QueryAbove, Limits, UnknownAfter, FirstAsk, KeepBodies, KeepPayments and Forwarding to what c says, for what
// begins from now on: a payment that is PENDING becomes UNKNOWN when it would have. The rest of c is not looked at.
func (t *Table) SetRules(c Config) {
	t.rules.Store(rulesOf(c))
	select {
	case t.ruled <- struct{}{}:
	default:
	}
}
