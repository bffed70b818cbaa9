package edge

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
)

// What a person is told of, as package notify has it: a sidecar that is silent, callbacks that one has not believed, a disk
// without room, a certificate that ends. The alert rules for Prometheus have the same limits; but
// HodiSidecarSilent goes by the connection alone, for HodiNotDelivering tells what does not get through over one.

const (
	notifyFile = "notify.json"

	silentAfter = 10 * time.Minute // also of the edge's own start: every sidecar has so long to come back
)

// outlook is what has to be remembered to know how long something is so.
type outlook struct {
	began time.Time
	mu    sync.Mutex
	good  map[string]passage
	doubt map[string]uint64 // callbacks that an endpoint's sidecar has not believed, as it said last
}

// passage is when callbacks were last known to get through to a sidecar.
type passage struct {
	at   time.Time
	seen bool // it was then; else that is when we began to wait for it
}

func newOutlook() *outlook {
	return &outlook{began: time.Now(), good: make(map[string]passage), doubt: make(map[string]uint64)}
}

// newNotifier makes who tells a person. It goes by what e has, once it runs.
func (e *Edge) newNotifier() *notify.Notifier {
	name := e.config.PublicURL
	if u, err := url.Parse(name); err == nil && u.Host != "" {
		name = u.Host
	}
	return notify.New(notify.Config{
		Look: e.conditions, Ways: e.settings.Load().config.Notify, File: filepath.Join(e.config.Dir, notifyFile), Edge: name, Logger: e.log,
	})
}

// doubted takes down what a sidecar has said that it does not believe.
func (e *Edge) doubted(endpoint string, count uint64) {
	e.outlook.mu.Lock()
	was := e.outlook.doubt[endpoint]
	e.outlook.doubt[endpoint] = count
	e.outlook.mu.Unlock()
	if was != count {
		e.notifier.Wake()
	}
}

// disbelieved is how many callbacks the sidecar of an endpoint has not believed, if it has said so.
func (o *outlook) disbelieved(endpoint string) (count uint64, said bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	count, said = o.doubt[endpoint]
	return count, said
}

// conditions is all that is so now.
func (e *Edge) conditions(ctx context.Context) []notify.Condition {
	now := time.Now()
	endpoints := e.Endpoints()
	all := slices.Concat(e.outlook.silence(endpoints, e.tunnel.Signs(), now), e.outlook.doubts(endpoints), e.outlook.certificates(endpoints, now))
	all = append(all, e.publicCertificate(now)...)
	for _, endpoint := range endpoints {
		if held, limit := e.disk.Held(endpoint.Name); limit > 0 {
			if c, ok := share(endpoint.Name, held, limit); ok {
				all = append(all, c)
			}
		}
	}
	return append(all, e.diskCondition(ctx)...)
}

// silence is the sidecars to which callbacks do not get through: those that are not connected, and those that are, or come and
// go, and acknowledge nothing. Whether one is, is known of those that were connected once.
func (o *outlook) silence(endpoints []Endpoint, signs []tunnel.Sign, now time.Time) (list []notify.Condition) {
	by := make(map[string]tunnel.Sign, len(signs))
	for _, s := range signs {
		by[s.Endpoint] = s
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, endpoint := range endpoints {
		sign, here := by[endpoint.Name]
		if !here && endpoint.Seen.IsZero() {
			continue
		}
		if !endpoint.Revoked.IsZero() {
			list = append(list, notify.Condition{Kind: notify.Silent, Subject: endpoint.Name, Phase: notify.Moot})
			delete(o.good, endpoint.Name)
			continue
		}
		good, known := o.good[endpoint.Name]
		if !known {
			good.at = now
		}
		well := here && sign.Delivering(now)
		last := sign.Delivered
		switch {
		case well:
			last = now
		case sign.Canary == 0: // nobody asked for a proof, so to be connected was to be well
			last = sign.Left
		}
		if last.After(good.at) || !last.IsZero() && !good.seen {
			good = passage{last, true}
		}
		o.good[endpoint.Name] = good
		if well {
			continue
		}
		c := notify.Condition{Kind: notify.Silent, Subject: endpoint.Name, Phase: notify.Unsure, Since: good.at, Detail: "Its sidecar is not connected"}
		if sign.Connected {
			c.Detail = "Its sidecar is connected, and does not acknowledge what it is sent: its disk may be full, or stuck"
		}
		if !good.seen && !endpoint.Seen.IsZero() && endpoint.Seen.Before(good.at) {
			c.Since = endpoint.Seen
		}
		if now.Sub(good.at) >= silentAfter && now.Sub(o.began) >= silentAfter {
			c.Phase = notify.Lasts
		}
		list = append(list, c)
	}
	return list
}

// doubts is the callbacks that sidecars have not believed.
func (o *outlook) doubts(endpoints []Endpoint) (list []notify.Condition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, endpoint := range endpoints {
		if n, said := o.doubt[endpoint.Name]; said && endpoint.Revoked.IsZero() {
			list = append(list, notify.Condition{Kind: notify.Suspect, Subject: endpoint.Name, Count: n})
		}
	}
	return list
}

// certificates is those of sidecars that nobody has renewed. One that was never connected is no shop yet; one that may
// not even be renewed any more is none by now.
func (o *outlook) certificates(endpoints []Endpoint, now time.Time) (list []notify.Condition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, endpoint := range endpoints {
		if _, connected := o.good[endpoint.Name]; !connected && endpoint.Revoked.IsZero() || endpoint.Expires.IsZero() {
			continue
		}
		list = append(list, certificate(endpoint.Name, endpoint.Expires, !endpoint.Revoked.IsZero() || now.Sub(endpoint.Expires) > enrol.Grace, now)...)
	}
	return list
}

// certificate is what there is to say of one. Nobody wants to hear of one that is moot.
func certificate(of string, ends time.Time, moot bool, now time.Time) []notify.Condition {
	soon := notify.Condition{Kind: notify.Certificate, Subject: of, Ends: ends, Since: ends.Add(-enrol.Overdue)}
	over := notify.Condition{Kind: notify.Ended, Subject: of, Ends: ends, Since: ends}
	switch {
	case moot:
		soon.Phase, over.Phase = notify.Moot, notify.Moot
		return []notify.Condition{soon, over}
	case !now.Before(ends):
		soon.Phase = notify.Moot // it is more than that by now
		return []notify.Condition{soon, over}
	case ends.Sub(now) <= enrol.Overdue:
		return []notify.Condition{soon}
	}
	return nil
}

// publicCertificate is that which Safaricom asks for. Where there is none of ours, a proxy has it.
func (e *Edge) publicCertificate(now time.Time) []notify.Condition {
	ends := e.certificateEnds()
	if !ends.IsZero() {
		return certificate("", ends, false, now)
	}
	if e.config.ACME == nil {
		return nil
	}
	none := notify.Condition{Kind: notify.Ended, Phase: notify.Unsure, Since: e.outlook.began, Detail: "There is none yet"}
	if now.Sub(e.outlook.began) >= silentAfter {
		none.Phase = notify.Lasts
	}
	return []notify.Condition{none}
}

// share is what waits for a sidecar, where that is much of what may. It is no reason to say that it is less when it is little less.
func share(endpoint string, held, limit int64) (c notify.Condition, is bool) {
	percent := held * 100 / limit
	c = notify.Condition{Kind: notify.Full, Subject: endpoint, Detail: fmt.Sprintf("%d %% of the room for what it has not fetched is taken", percent)}
	if percent < 50 {
		c.Phase = notify.Unsure
	}
	return c, percent >= 40
}

// diskCondition is that the edge cannot store, or soon cannot.
func (e *Edge) diskCondition(ctx context.Context) []notify.Condition {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	c := notify.Condition{Kind: notify.Disk}
	if err := e.disk.Probe(ctx); err != nil {
		c.Detail = "Nothing can be stored: " + strings.TrimSuffix(err.Error(), ".")
		return []notify.Condition{c}
	}
	there, err := room.Of(e.config.Dir)
	if err != nil {
		return nil
	}
	if c.Detail = fmt.Sprintf("%d MB of %d MB are left", there.Free>>20, there.Size>>20); there.Low() {
		return []notify.Condition{c}
	}
	if there.Free = there.Free / 5 * 4; there.Low() { // little more is no reason to say that there is enough again
		c.Phase = notify.Unsure
		return []notify.Condition{c}
	}
	return nil
}
