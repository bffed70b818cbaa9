package edge

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Store puts something else in the journal's place, for callbacks only.
func (e *Edge) Store(f func(ctx context.Context, endpoint string, entry wire.Entry) (uint64, error)) {
	e.ingress.journal = appendFunc(f)
}

type appendFunc func(ctx context.Context, endpoint string, entry wire.Entry) (uint64, error)

func (f appendFunc) Append(ctx context.Context, endpoint string, e wire.Entry) (uint64, error) {
	return f(ctx, endpoint, e)
}

// Certificate is the tunnel's at a time.
func (e *Edge) Certificate(now time.Time) (*tls.Certificate, error) {
	return e.identity.certificate(now)
}

// Held is all that a sidecar would be sent.
func (e *Edge) Held(ctx context.Context, endpoint string) (all []wire.Entry, err error) {
	state, err := e.journal.State(ctx, endpoint)
	for after := state.Oldest - 1; err == nil && after < state.Head; after = all[len(all)-1].Seq {
		var some []wire.Entry
		if some, err = e.journal.Next(ctx, endpoint, after, 1<<20); err == nil {
			all = append(all, some...)
		}
	}
	return all, err
}

// Audit is the whole audit.
func (e *Edge) Audit(ctx context.Context) ([]AuditEntry, error) {
	return e.directory.audit.list(ctx, 0, 1<<20)
}

// Refuse writes down that somebody was refused.
func (e *Edge) Refuse(ctx context.Context, remote, subject, why string) {
	e.directory.audit.refused(ctx, remote, subject, why)
}

// Narrow makes the rooms of the TCP port smaller than they are, before anybody is in them.
func (e *Edge) Narrow(size, share int) {
	e.port.crowd.mu.Lock()
	defer e.port.crowd.mu.Unlock()
	e.port.crowd.size, e.port.crowd.share = size, share
}

// Crowd is how many connections the TCP port holds that have not said what they want.
func (e *Edge) Crowd() (friends, strangers int) { return e.port.crowd.count() }

// CrowdFrom is how many of the strangers have an address.
func (e *Edge) CrowdFrom(address string) int {
	c := e.port.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.from[netip.MustParseAddr(address)]; own != nil {
		return own.Len()
	}
	return 0
}

// Hasty has certificates renewed as soon as there are any.
func Hasty(a *ACME) *ACME {
	a.renewEvery, a.renewRatio = 200*time.Millisecond, 0.9999999
	return a
}

// Look has the files of the certificate looked at, as they are every few seconds.
func (e *Edge) Look() { e.keeper.(*fileKeeper).look(time.Now()) }

// Crowded is how many strangers there are.
func (e *Edge) Crowded() int {
	_, n := e.port.crowd.count()
	return n
}

// AdmitAt is Admit as of another time.
func (e *Edge) AdmitAt(ctx context.Context, endpoint string, request []byte, at time.Time) (*wire.Issued, error) {
	if _, err := e.SetEndpoint(ctx, endpoint); err != nil {
		return nil, err
	}
	parsed, device, err := enrol.ReadRequest(request, endpoint)
	if err != nil {
		return nil, err
	}
	der, err := enrol.Issue(e.identity.ca, e.identity.key, endpoint, parsed, at)
	if err != nil {
		return nil, err
	}
	if _, err := e.directory.admit(ctx, "test", endpoint, device, at.Add(enrol.Life), nil); err != nil {
		return nil, err
	}
	return &wire.Issued{Time: at, Certificate: der}, nil
}

// NewOutlook is what is remembered of who is silent, with nothing else of an edge.
func NewOutlook() *outlook { return newOutlook() }

// Silence is what it says now.
func (o *outlook) Silence(endpoints []Endpoint, signs []tunnel.Sign) []notify.Condition {
	return o.silence(endpoints, signs, time.Now())
}

// Certificates is what it says of those.
func (o *outlook) Certificates(endpoints []Endpoint) []notify.Condition {
	return o.certificates(endpoints, time.Now())
}
