package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// greet hears a Hello, finds out whose it is, gives the link its seat (which ends the one before it), agrees with the
// sidecar on a history, and says Welcome. Until it is known whose it is it reads one short frame and no more. Who asks for a
// certificate in place of a link is answered, and has neither link nor error.
func (s *Server) greet(ctx context.Context, c conn) (_ *serverLink, life context.Context, err error) {
	began := time.Now()
	stop := whenDone(ctx, func() { c.Close(wire.CloseDraining, wire.CloseDraining.String()) })
	defer stop()

	sidecar := &patient{conn: c}
	first := &io.LimitedReader{R: sidecar, N: wire.HeaderSize + wire.MaxHello}
	frames := wire.NewReaderSize(first, serverReadAhead)
	c.SetReadDeadline(began.Add(helloWithin))
	frame, err := frames.Read()
	if e, ok := errors.AsType[*closedError](err); ok && e.code == wire.CloseDone {
		return nil, nil, fmt.Errorf("tunnel: no hello: %w", err) // a try that came second
	}
	if err != nil {
		return nil, nil, endingf(wire.CloseProtocol, "tunnel: no hello: %w", err)
	}
	actx, cancel := context.WithDeadline(ctx, began.Add(helloWithin))
	defer cancel()
	hello, ok := frame.(*wire.Hello)
	if !ok {
		return nil, nil, s.issue(actx, c, frame)
	}
	peer := leafOf(c)
	if peer == nil {
		return nil, nil, endingf(wire.CloseUnauthorized, "tunnel: hello of a sidecar without a certificate")
	}
	if hello.Version != wire.Version {
		return nil, nil, otherVersion(hello.Version)
	}
	endpoint, err := s.Authorize(actx, peer)
	if err != nil {
		return nil, nil, refusal(err)
	}
	if s.Admitted != nil {
		s.Admitted(c.Remote())
	}
	first.N = math.MaxInt64
	if sidecar.idle = min(hello.Idle, wire.MaxIdle); sidecar.idle == 0 {
		sidecar.idle = wire.MaxIdle
	}

	life, oust := context.WithCancelCause(context.WithoutCancel(ctx))
	l := &serverLink{
		server: s, conn: c, frames: frames, endpoint: endpoint, instance: hello.Instance, since: time.Now(), expires: peer.NotAfter,
		seat: s.seatOf(endpoint.Name), oust: oust, flight: newFlight(), writing: newTurn(),
	}
	rival := l.seat.take(l)
	if rival {
		s.log().Warn("two machines use one identity", "endpoint", endpoint.Name, "remote", c.Remote(), "instance", fmt.Sprintf("%x", hello.Instance))
	}
	if _, err = s.Authorize(actx, peer); err != nil { // revoked meanwhile, when there was no link yet that could be cut
		err = refusal(err)
	} else {
		err = l.welcome(ctx, life, hello.Cursor)
	}
	if err != nil {
		l.seat.leave(l)
		oust(nil)
		return nil, nil, err
	}
	return l, life, nil
}

// otherVersion refuses who speaks another version, and tells both ends which of them is to be updated.
func otherVersion(theirs uint16) error {
	older := "edge"
	if theirs < wire.Version {
		older = "sidecar"
	}
	tell := fmt.Sprintf("the sidecar speaks version %d of the protocol, and the edge version %d: update the %s", theirs, wire.Version, older)
	return &ending{code: wire.CloseVersion, err: errors.New("tunnel: " + tell), tell: tell}
}

// patient reads from a conn for as long as the sidecar has asked for. The connection's own timeout begins anew with what
// we send, and on a WebSocket there is none.
type patient struct {
	conn conn
	idle time.Duration // 0: whoever reads sets the deadline
}

func (p *patient) Read(b []byte) (int, error) {
	if p.idle > 0 {
		if err := p.conn.SetReadDeadline(time.Now().Add(p.idle)); err != nil {
			return 0, err
		}
	}
	n, err := p.conn.Read(b)
	if p.idle > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("nothing heard for %v", p.idle)
	}
	return n, err
}

// welcome finds where the link begins and tells the sidecar.
func (l *serverLink) welcome(ctx, life context.Context, cursor wire.Cursor) error {
	bctx, cancel := context.WithTimeout(ctx, welcomeWithin)
	defer cancel()
	select {
	case l.seat.beginning <- struct{}{}:
	case <-life.Done():
		return context.Cause(life)
	case <-bctx.Done():
		return endingf(wire.CloseUnavailable, "tunnel: history of %s: %w", l.endpoint.Name, bctx.Err())
	}
	if !l.seat.holds(l) {
		<-l.seat.beginning
		return context.Cause(life)
	}
	state, after, renewed, err := l.server.begin(bctx, l.endpoint.Name, cursor)
	<-l.seat.beginning
	if err == nil {
		l.head, err = l.server.stale(bctx, l.endpoint.Name, after, state.Head)
	}
	if err != nil {
		return endingf(wire.CloseUnavailable, "tunnel: history of %s: %w", l.endpoint.Name, err)
	}
	l.epoch = state.Epoch
	l.backlog, l.live, l.newest, l.after = after, l.head, state.Head, after
	l.sent.Store(after)
	l.flight.begin(after, l.head)
	if after > state.Acked && cursor.Epoch == state.Epoch && cursor.Seq == after {
		// The sidecar has shown that it committed this very entry: its Ack was lost with the link before.
		l.acked.Store(after)
	}
	frame := wire.Append(nil, &wire.Welcome{
		Epoch: state.Epoch, Oldest: state.Oldest, Head: l.head, Time: time.Now(), Callback: l.endpoint.Callback,
	})
	if err := l.write(frame); err != nil {
		return fmt.Errorf("tunnel: welcome: %w", err)
	}
	log := l.server.log().With("endpoint", l.endpoint.Name, "generation", l.generation, "remote", l.conn.Remote())
	if renewed != "" {
		log.Warn("history renewed: all that is held is sent again", "why", renewed, "epoch", state.Epoch)
	}
	log.Info("link up", "epoch", state.Epoch, "after", after, "head", l.head, "newest", state.Head)
	return nil
}

// begin decides from where a sidecar with this cursor is sent entries. It goes on behind the cursor if the history
// holds the very entry that the cursor is behind. Otherwise it begins with the oldest, and if the history is the older
// of the two (it was put back from a copy) under a new epoch: what it numbers from now on is not what the sidecar knows
// by these numbers.
func (s *Server) begin(ctx context.Context, endpoint string, cursor wire.Cursor) (state wire.State, after uint64, renewed string, err error) {
	state, err = s.History.State(ctx, endpoint)
	if err != nil {
		return state, 0, "", err
	}
	switch {
	case cursor.Epoch > state.Epoch:
		renewed = "the sidecar knows a newer epoch"
	case cursor.Epoch < state.Epoch || cursor.Seq == 0:
		// a sidecar that has seen nothing of this history
	case cursor.Seq > state.Head:
		renewed = "the sidecar is ahead of it"
	case cursor.Seq < state.Oldest:
		// The sidecar is behind what is still held. It sees the gap in Welcome.
	default:
		entry, err := s.History.Entry(ctx, endpoint, cursor.Seq)
		if err != nil {
			return state, 0, "", err
		}
		if entry.Sum() == cursor.Sum {
			return state, cursor.Seq, "", nil
		}
		renewed = "the sidecar knows another entry by that number"
	}
	if renewed != "" {
		if state, err = s.History.Renew(ctx, endpoint, cursor.Epoch); err != nil {
			return state, 0, "", err
		}
	}
	return state, max(state.Oldest, 1) - 1, renewed, nil
}

// seat is the one place that an endpoint has for a link. Every link that takes it gets a greater generation and sends
// away the one before it.
type seat struct {
	// beginning is held by a link while it agrees on a history, so that a link that was displaced meanwhile does not
	// renew the history under the newer one, whose Acks would then all be refused.
	beginning chan struct{}

	mu         sync.Mutex
	generation uint64
	link       *serverLink // whose generation that is; nil when it has ended
	out        [16]byte    // the instance that was last sent away by another one
	rival      time.Time   // when the two were last seen to live both
	left       time.Time   // when the last link ended
	canary     canary
}

func (s *Server) seatOf(endpoint string) *seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.seats[endpoint]
	if st == nil {
		if s.seats == nil {
			s.seats = make(map[string]*seat)
		}
		st = &seat{beginning: make(chan struct{}, 1)}
		s.seats[endpoint] = st
	}
	return st
}

// take gives the seat to l. rival reports that l's instance had been sent away by the one that it now sends away: both
// live.
func (st *seat) take(l *serverLink) (rival bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.generation++
	l.generation = st.generation
	old := st.link
	st.link = l
	if old == nil {
		return false
	}
	if old.instance == l.instance {
		old.oust(endingf(wire.CloseDisplaced, "tunnel: displaced by a newer link from %s", l.conn.Remote()))
		return false
	}
	if rival = st.out == l.instance; rival {
		st.rival = l.since
	}
	st.out = old.instance
	old.oust(endingf(wire.CloseDuplicate, "tunnel: displaced by another machine, at %s", l.conn.Remote()))
	return rival
}

// holds reports whether l still has the seat.
func (st *seat) holds(l *serverLink) bool { return st.present() == l }

func (st *seat) present() *serverLink {
	l, _, _ := st.look()
	return l
}

func (st *seat) look() (present *serverLink, rival, delivered time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.link, st.rival, st.canary.delivered
}

// leave empties the seat if it is still l's.
func (st *seat) leave(l *serverLink) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.link == l {
		st.link, st.left = nil, time.Now()
	}
}
