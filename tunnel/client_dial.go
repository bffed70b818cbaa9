package tunnel

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// The redial schedule. A network that heals must not wait for us: a try that began while it was cut is worth little, so
// another one begins soon, and they race.
//
//	0        0.5       1.0       1.5       2.0       2.5
//	├─ try ──────────────────────┤ not a word: given up
//	         ├─ try ─────────────────────┤
//	                   ├─ try ───────────── the edge answers ─── handshake done: this one says Hello
//	                             ├─ try ────────────────┤ closed, it came second
//
// These are tries over QUIC. As soon as one of them has failed without a word, tries over WebSocket begin on the same
// schedule: behind the 1.5 s where UDP is dropped, and at once where it is refused. Where QUIC is answered they begin
// 2.5 s after that: an edge that is slow because many come at once would be slower still. Where the last link was over
// WebSocket they begin together. One over WebSocket that finishes has shown that the edge is there, and gives QUIC a last
// chance.
//
// An edge that is crowded asks a try to come again with a proof of where it is. Then one is enough, and it is given time:
// three from each sidecar would be three times the handshakes for an edge that has too many of them.
//
// Where a round trip takes longer than a try is given, none would ever succeed. So when as many as run at a time have
// ended without a word, one of the places is for tries that are given more, and the others make up for it.
const (
	trySoonest = 400 * time.Millisecond // from one try to the next
	tryLatest  = 600 * time.Millisecond
	tryAtOnce  = 3                       // tries at a time, of each kind
	tryWithin  = 1500 * time.Millisecond // for the edge's first packet; then until the handshake ends
	tryHope    = time.Second             // from the answer to a try to the next try
	tryLong    = 6 * time.Second         // for that of one try at a time, when others were silent
	tryShort   = time.Second             // for that of the others then

	tryAlone = 3 * time.Second // to the next one, from the answer of an edge that is crowded

	webAfter   = 2500 * time.Millisecond // from the answer to a try over QUIC: for networks that let first packets through and no others
	lastChance = 300 * time.Millisecond  // for QUIC to be answered, when it is not known to be blocked
	lastWait   = time.Second             // for its handshake, where it was

	slowAfter   = 10 * time.Minute // without a link the tries become rarer, and each gets more time
	slowSoonest = 2 * time.Second
	slowLatest  = 5 * time.Second
	slowWithin  = 5 * time.Second

	rareSoonest = 50 * time.Second // and rarer still where bytes cost, unless a callback is expected
	rareLatest  = 70 * time.Second

	untakenSoonest = 4 * time.Second // after the edge has refused who we are
	untakenLatest  = 6 * time.Second

	rivalWait = time.Minute // after another machine took our place

	foreignRare = 12 // tries that met another edge, or somebody in between; those that follow are as rare as where bytes cost
)

var (
	errSilent       = errors.New("the edge does not answer")
	errRefused      = errors.New("UDP is refused")
	errSpared       = errors.New("the edge is crowded, and another try goes on")
	errOtherVersion = errors.New("the edge speaks another version of the protocol: update the older of the two")

	errForeign = errors.New("who answers is not the edge that this sidecar has joined, by its certificate: if the edge was made anew, join again " +
		"(there hodi edge invite, here hodi join --replace); else somebody is in between")
)

// noProtocol is how TLS says that it knows no application protocol of those that are offered (RFC 9001, 4.8).
const noProtocol = quic.TransportErrorCode(0x100 + 120)

// lane is the tries of one kind, in one race.
type lane struct {
	try     func(ctx context.Context, v *voice, within time.Duration) (conn, error)
	begun   bool
	hoping  bool // a try has been answered: no other begins for a while
	alone   bool // and the others were given up
	due     *time.Timer
	next    <-chan time.Time // nil: not begun, or all places are taken
	running map[*attempt]bool
	silent  int   // tries that ended without a word, since one did not
	foreign int   // that were answered by another edge than ours, since one was not
	err     error // of the try that failed last
}

// attempt is one try.
type attempt struct {
	lane  *lane
	long  bool
	voice voice
	spare context.CancelCauseFunc
	conn  conn
	err   error
}

// voice is whether anything came back.
type voice struct {
	heard   atomic.Bool
	crowded atomic.Bool   // it was a request to show where we are
	first   chan struct{} // is told of the first time; nil: nobody is
}

func (v *voice) hear() {
	if !v.heard.Load() && !v.heard.Swap(true) && v.first != nil {
		signal(v.first)
	}
}

func newLane(try func(context.Context, *voice, time.Duration) (conn, error)) *lane {
	return &lane{try: try, due: idleTimer(), running: make(map[*attempt]bool)}
}

func idleTimer() *time.Timer {
	t := time.NewTimer(0)
	t.Stop()
	return t
}

// begin makes the next try due now.
func (l *lane) begin() {
	l.begun, l.hoping = true, false
	l.due.Reset(0)
	l.next = l.due.C
}

// promising reports whether a try has been answered.
func (l *lane) promising() bool {
	for a := range l.running {
		if a.voice.heard.Load() {
			return true
		}
	}
	return false
}

func (l *lane) long() (n int) {
	for a := range l.running {
		if a.long {
			n++
		}
	}
	return n
}

// race is one search for a connection. Its fields are owned by run.
type race struct {
	client  *Client
	lost    time.Time // since when there is no link
	udp     *lane
	web     *lane
	results chan *attempt // with room for all that run, so none waits to be heard
	voices  chan struct{} // a try has been answered
	late    *time.Timer   // for WebSockets to be tried whatever QUIC does
	heard   bool          // QUIC was answered
	overdue bool          // late has come
	trying  context.Context
	giveUp  context.CancelFunc // all of them

	blocked  string      // why not QUIC, if that was known before
	spare    conn        // over WebSocket, while QUIC has its last chance
	patience *time.Timer // of spare
	waited   bool        // for the handshake of QUIC
}

// dial tries until a handshake is finished, and returns its connection. The only error is that of ctx. lost is since
// when there is no link.
func (c *Client) dial(ctx context.Context, lost time.Time) (conn, error) {
	r := &race{
		client: c, lost: lost, blocked: c.notQUIC(), patience: idleTimer(),
		udp: newLane(c.tryQUIC), web: newLane(c.tryWebSocket), results: make(chan *attempt, 2*tryAtOnce),
		voices: make(chan struct{}, 1), late: time.NewTimer(webAfter),
	}
	if c.Status().RTT > tryShort { // as it was on the last link
		r.udp.silent, r.web.silent = tryAtOnce, tryAtOnce
	}
	r.trying, r.giveUp = context.WithCancel(ctx)
	defer r.end()
	return r.run(ctx)
}

// run ends with the first that has finished. On another network, or after a sleep, it begins anew: what is under way was
// sent by a way that is no more.
func (r *race) run(ctx context.Context) (conn, error) {
	here := r.client.here()
	r.udp.begin()
	if r.blocked != "" {
		r.web.begin()
	}
	for {
		_, roused := r.client.metered().lively()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-roused:
			r.udp.begin()
			if r.web.begun {
				r.web.begin()
			}
		case a := <-r.results:
			delete(a.lane.running, a)
			if a.err != nil && ctx.Err() == nil && !errors.Is(a.err, errSpared) {
				r.failed(a)
			}
			if won := r.won(a); won != nil {
				return won, nil
			}
		case <-r.patience.C:
			if r.waited || !r.udp.promising() {
				return r.settle(), nil
			}
			r.waited = true
			r.patience.Reset(lastWait)
		case <-r.voices:
			r.hope(r.udp)
			r.hope(r.web)
		case <-r.late.C:
			r.overdue = true
			r.beginWeb()
		case <-here.left:
			here = r.client.here()
			if !here.from.IsValid() {
				continue
			}
			r.giveUp()
			r.trying, r.giveUp = context.WithCancel(ctx)
			r.lost = time.Now()
			r.udp.foreign, r.web.foreign = 0, 0
			r.udp.begin()
			if r.web.begun {
				r.web.begin()
			}
		case <-r.udp.next:
			r.start(r.udp)
		case <-r.web.next:
			r.start(r.web)
		}
	}
}

func (r *race) start(l *lane) {
	if len(l.running) == tryAtOnce {
		// The time of the next try has come, and its place has not: it begins when one is free.
		l.due.Reset(0)
		l.next = nil
		return
	}
	if l == r.web && r.udp.hoping && !r.overdue {
		l.due.Reset(tryLatest)
		return
	}
	if wait := r.client.proxyWait(); l == r.web && wait > 0 {
		l.due.Reset(wait)
		return
	}
	l.hoping, l.alone = false, false
	a := &attempt{lane: l, voice: voice{first: r.voices}}
	ctx, spare := context.WithCancelCause(r.trying)
	a.spare = spare
	within, wait := r.schedule(a)
	l.running[a] = true
	go func() {
		a.conn, a.err = l.try(ctx, &a.voice, within)
		spare(nil)
		r.results <- a
	}()
	l.due.Reset(wait)
}

// hope gives a lane of which a try has been answered time for that one: when an edge comes back to many sidecars, what it
// is busy with is handshakes, and each sidecar needs one.
func (r *race) hope(l *lane) {
	if l.calm() {
		l.due.Reset(tryAlone)
		l.next = l.due.C
		r.heard = true
		r.late.Reset(webAfter + tryAlone)
	}
	if l.hoping || !l.promising() {
		return
	}
	l.hoping = true
	l.due.Reset(tryHope)
	l.next = l.due.C
	if l == r.udp && !r.heard && !r.overdue {
		r.heard = true
		r.late.Reset(webAfter)
	}
}

// calm gives up all tries but one, the furthest, if the edge is crowded. It reports whether it has.
func (l *lane) calm() bool {
	var one *attempt
	crowded := false
	for a := range l.running {
		if a.voice.crowded.Load() {
			crowded = true
			one = cmp.Or(one, a)
		} else if a.voice.heard.Load() {
			one = a
		}
	}
	if !crowded || l.alone {
		return false
	}
	l.hoping, l.alone = true, true
	for a := range l.running {
		if a != one {
			a.spare(errSpared)
		}
	}
	return true
}

// schedule is how long the try may hear nothing, and when the next one begins.
func (r *race) schedule(a *attempt) (within, wait time.Duration) {
	within, wait = tryWithin, between(trySoonest, tryLatest)
	pace := r.client.metered()
	lively, _ := pace.lively()
	if a.lane.foreign > 0 {
		wait = a.lane.apart()
	}
	switch slow := time.Since(r.lost) > slowAfter; {
	case a.lane.foreign > 0:
		return within, wait
	case slow && !lively:
		return slowWithin, between(rareSoonest, rareLatest)
	case slow && pace == nil:
		return slowWithin, between(slowSoonest, slowLatest)
	case a.lane.silent >= tryAtOnce:
		within = tryShort
		if a.lane.long() == 0 {
			within, a.long = tryLong, true
		}
	}
	return within, wait
}

// apart is how far tries are apart that meet another edge. That passes when somebody joins anew, or a network's own page has
// been clicked away; on another network it begins anew.
func (l *lane) apart() time.Duration {
	if l.foreign >= foreignRare {
		return between(rareSoonest, rareLatest)
	}
	return between(slowSoonest, slowLatest)
}

func (r *race) failed(a *attempt) {
	c, l := r.client, a.lane
	foreign := errors.As(a.err, new(x509.UnknownAuthorityError))
	if foreign {
		a.err = fmt.Errorf("tunnel: %w: %w", errForeign, a.err)
	} else if e, ok := errors.AsType[*quic.TransportError](a.err); ok && e.ErrorCode == noProtocol {
		a.err = fmt.Errorf("tunnel: %w: %w", errOtherVersion, a.err)
	}
	if l.err == nil || withoutOurPort(l.err) != withoutOurPort(a.err) {
		level := slog.LevelInfo
		if foreign {
			level = slog.LevelWarn
		}
		c.log().Log(context.Background(), level, "edge not reached", "edge", c.Edge, "err", a.err)
	}
	l.err = a.err
	if errors.Is(a.err, errStranger) {
		c.strange()
	}
	if errors.Is(a.err, errUntaken) {
		c.untaken()
	}
	c.down(r.reason())
	if l.silent++; !errors.Is(a.err, errSilent) {
		l.silent = 0
	}
	l.next = l.due.C
	if l.hoping && !l.promising() {
		l.hoping, l.alone = false, false
		l.due.Reset(between(trySoonest, tryLatest))
	}
	if foreign {
		l.foreign++
		l.due.Reset(l.apart())
	} else {
		l.foreign = 0
	}
	if !a.voice.heard.Load() && !r.udp.promising() {
		r.beginWeb()
	}
}

// reason is why there is no link: what the last try of each kind has met, for either may be what somebody can mend.
func (r *race) reason() error {
	if r.udp.err == nil || r.web.err == nil {
		return cmp.Or(r.udp.err, r.web.err)
	}
	bare := func(err error) string { return strings.TrimPrefix(err.Error(), "tunnel: ") }
	return fmt.Errorf("tunnel: QUIC: %s; and %s", bare(r.udp.err), bare(r.web.err))
}

// withoutOurPort is what an error says, but for the port that the system gave to this try ("192.0.2.7:51234->..."): by it
// no two tries would fail for the same reason.
func withoutOurPort(err error) string {
	parts := strings.SplitAfter(err.Error(), "->")
	for i, part := range parts {
		if before, ok := strings.CutSuffix(part, "->"); ok {
			parts[i] = strings.TrimRight(before, "0123456789") + "->"
		}
	}
	return strings.Join(parts, "")
}

func (r *race) beginWeb() {
	if !r.web.begun && r.spare == nil {
		r.web.begin()
	}
}

// won is the connection that the race has ended with, if a has ended it.
func (r *race) won(a *attempt) conn {
	switch {
	case a.err != nil:
		if r.spare != nil && len(r.udp.running) == 0 {
			return r.settle()
		}
		return nil
	case a.lane == r.udp:
		return a.conn
	case r.spare != nil:
		a.conn.Close(wire.CloseDone, cameSecond)
		return nil
	}
	r.spare = a.conn
	if r.blocked != "" && !r.udp.promising() || r.heard && r.overdue {
		return r.settle()
	}
	r.web.due.Stop()
	r.web.next = nil
	if !r.udp.promising() {
		r.udp.begin()
	}
	r.patience.Reset(lastChance)
	return nil
}

// settle takes the connection over WebSocket.
func (r *race) settle() conn {
	c, w := r.client, r.spare
	r.spare = nil
	w.(*websocketConn).why = cmp.Or(c.whyNot(r.udp.err), r.blocked, c.whyNot(errSilent))
	return w
}

// end gives up what still runs, and waits for it.
func (r *race) end() {
	r.giveUp()
	for _, t := range []*time.Timer{r.udp.due, r.web.due, r.patience, r.late} {
		t.Stop()
	}
	for n := len(r.udp.running) + len(r.web.running); n > 0; n-- {
		if a := <-r.results; a.err == nil {
			a.conn.Close(wire.CloseDone, cameSecond)
		}
	}
	if r.spare != nil {
		r.spare.Close(wire.CloseDone, cameSecond)
	}
}

const cameSecond = "came second"

// patiently bounds a try: it is given up when nothing was heard in time.
func patiently(ctx context.Context, v *voice, within time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	patience := time.AfterFunc(within, func() {
		if !v.heard.Load() {
			cancel(errSilent)
		}
	})
	return ctx, func() {
		patience.Stop()
		cancel(nil)
	}
}
