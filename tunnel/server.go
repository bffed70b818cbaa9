package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Server is the edge's end. Its fields are set before Serve and left alone.
type Server struct {
	History History // required
	// Authorize says whose a certificate is that ClientCAs has signed for a client, at whatever time: when it ends, and
	// whether it was revoked, is for Authorize to judge. An error closes the link as unauthorised, one that is a *Refusal as
	// it says. Required.
	Authorize func(ctx context.Context, sidecar *x509.Certificate) (Endpoint, error)
	// Issue answers a *wire.Join, whose sender has no certificate (nil), or a *wire.Renew, whose sender's was verified as
	// for Authorize. An error is as one of Authorize. nil: nobody is given any.
	Issue func(ctx context.Context, remote string, sidecar *x509.Certificate, request wire.Frame) (*wire.Issued, error)
	// Admitted is told from where a sidecar was let in, before it hears Welcome. nil: nobody is.
	Admitted func(remote string)
	// Refused is told of those who were not let in: whose sidecar it was, if that is known, and why. nil: nobody is.
	Refused func(remote, endpoint string, why error)
	// Doubts is told how many callbacks the sidecar of an endpoint has not believed, when it says so: at the beginning of a
	// link, and when there are more. It must not wait. nil: nobody is.
	Doubts func(endpoint string, count uint64)
	// TLS has the certificate for wire.ServerName, and ClientCAs, which sign those of sidecars. Required.
	TLS *tls.Config
	// ResetKey makes the stateless resets by which sidecars notice at once that the edge was restarted. Kept over
	// restarts by the caller. nil: none are sent, and it takes sidecars some seconds.
	ResetKey *[32]byte
	// Logger is for what an operator should know. nil: nowhere.
	Logger *slog.Logger

	door    door
	mu      sync.Mutex
	hushes  map[turned]*hush
	seats   map[string]*seat // by endpoint; as many as were ever authorised
	buffers sync.Pool        // *[]byte, for frames on their way out
}

// Serve serves links on pc until ctx ends; then it tells the sidecars to move and gives what is in flight half a
// second. It returns nil then, and before that only if pc fails. All it started has ended when it returns. pc remains
// the caller's to close.
func (s *Server) Serve(ctx context.Context, pc net.PacketConn) error {
	if err := s.complete(); err != nil {
		return err
	}
	h := &hall{door: &s.door, log: s.log(), serve: func(c *quic.Conn) { s.accepted(ctx, c) }, full: s.turnedAway, waiters: make(map[*waiter]bool)}
	tr := &quic.Transport{
		Conn:              pc,
		StatelessResetKey: (*quic.StatelessResetKey)(s.ResetKey),
		ConnContext: func(conn context.Context, info *quic.ClientInfo) (context.Context, error) {
			return h.enter(ctx, conn, info.RemoteAddr)
		},
		VerifySourceAddress: s.door.crowded,
	}
	defer tr.Close()
	err := h.open(tr, s.tls(wire.ALPN))
	if err != nil {
		return fmt.Errorf("tunnel: serve: %w", err)
	}
	err = h.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("tunnel: serve: %w", err)
}

func (s *Server) complete() error {
	if s.History == nil || s.Authorize == nil || s.TLS == nil || s.TLS.ClientCAs == nil {
		return errors.New("tunnel: serve: a history, an authorizer, a certificate and a CA of those of sidecars are needed")
	}
	return nil
}

// accepted takes a connection whose handshake is finished to its end.
func (s *Server) accepted(ctx context.Context, c *quic.Conn) {
	hello, cancel := context.WithTimeout(ctx, helloWithin)
	stream, err := c.AcceptStream(hello)
	cancel()
	if err != nil {
		code := wire.CloseProtocol
		if ctx.Err() != nil {
			code = wire.CloseDraining
		}
		c.CloseWithError(quic.ApplicationErrorCode(code), code.String())
		return
	}
	s.serve(ctx, &quicConn{stream: stream, conn: c}, arrivalOf(c).known)
}

// serve takes a connection from its Hello to its end. It calls known as soon as it is known whose it is.
func (s *Server) serve(ctx context.Context, c conn, known func()) {
	l, life, err := s.greet(ctx, c)
	if err == nil && l != nil {
		known()
		err = l.run(ctx, life)
		l.seat.leave(l)
		l.oust(nil)
	}
	c.Close(closing(err))
	s.report(c, l, err)
}

// report logs the end of a link. What is normal is not worth an operator's eye.
func (s *Server) report(c conn, l *serverLink, err error) {
	if l == nil && err == nil {
		return // it was given a certificate
	}
	level := slog.LevelInfo
	if e, ok := errors.AsType[*ending](err); ok {
		switch e.code {
		case wire.CloseUnauthorized, wire.CloseVersion, wire.CloseProtocol, wire.CloseUnavailable, wire.CloseDuplicate, wire.CloseExpired:
			level = slog.LevelWarn
		}
	} else if errors.Is(err, wire.ErrProtocol) {
		level = slog.LevelWarn
	} else if e, ok := errors.AsType[*closedError](err); ok && l == nil && e.code == wire.CloseDone {
		level = slog.LevelDebug // a try that came second, or a visit
	}
	if l == nil {
		if refuses(err) {
			s.refused(c.Remote(), err)
		}
		facts := []any{"remote", c.Remote(), "err", err}
		untold, tell := s.hushed(err)
		if !tell {
			return
		}
		if untold > 0 {
			facts = append(facts, "untold", untold)
		}
		s.log().Log(context.Background(), level, "sidecar not let in", facts...)
		return
	}
	s.log().Log(context.Background(), level, "link ended", "endpoint", l.endpoint.Name, "generation", l.generation, "remote", c.Remote(), "acked", l.acked.Load(), "err", err)
}

// refuses reports whether a connection that ended before it was a link was refused, rather than given up.
func refuses(err error) bool {
	if e, ok := errors.AsType[*ending](err); ok {
		switch e.code {
		case wire.CloseUnauthorized, wire.CloseExpired, wire.CloseVersion:
			return true
		}
	}
	return errors.Is(err, wire.ErrProtocol)
}

// hush bounds what is logged about those who may come as often as they like: so many lines in a while, and the next one says
// how many there would have been besides.
type hush struct {
	until  time.Time
	told   int
	untold int
}

// Strangers are all one. A sidecar that is refused, and so has a certificate of ours or a join code, comes every few seconds
// until somebody goes there: it is told of at once, and by the hour.
const (
	hushLines = 10
	hushFor   = 10 * time.Second
	ourLines  = 1
	ourHush   = time.Hour
)

func (h *hush) tell(now time.Time, lines int, every time.Duration) (untold int, tell bool) {
	if !now.Before(h.until) {
		h.until, h.told = now.Add(every), 0
	}
	if h.told >= lines {
		h.untold++
		return 0, false
	}
	h.told++
	untold, h.untold = h.untold, 0
	return untold, true
}

// turned is whose sidecar was refused, and with what code: of few that there can be. The zero turned is strangers.
type turned struct {
	endpoint string
	code     wire.CloseCode
}

// hushed says whether to log that somebody was not let in, and how often that was not logged before.
func (s *Server) hushed(err error) (untold int, tell bool) {
	var who turned
	lines, every := hushLines, hushFor
	if r, ok := errors.AsType[*Refusal](err); ok && r.Endpoint != "" {
		who = turned{r.Endpoint, reason(err)}
		lines, every = ourLines, ourHush
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hushes[who]
	if h == nil {
		if s.hushes == nil {
			s.hushes = make(map[turned]*hush)
		}
		h = new(hush)
		s.hushes[who] = h
	}
	return h.tell(time.Now(), lines, every)
}

func (s *Server) turnedAway(remote string) { s.refused(remote, ErrCrowded) }

func (s *Server) refused(remote string, err error) {
	if s.Refused == nil {
		return
	}
	endpoint := ""
	if r, ok := errors.AsType[*Refusal](err); ok {
		endpoint = r.Endpoint
	}
	s.Refused(remote, endpoint, err)
}

// Cut ends the link of an endpoint, if it has one: Authorize lets its sidecar in no more, for this reason.
func (s *Server) Cut(why *Refusal) {
	s.mu.Lock()
	st := s.seats[why.Endpoint]
	s.mu.Unlock()
	if st == nil {
		return
	}
	if l := st.present(); l != nil {
		l.oust(refusal(why))
	}
}

// Seen is when an endpoint's last link ended; the zero time if none has, since this Server began.
func (s *Server) Seen(endpoint string) time.Time {
	s.mu.Lock()
	st := s.seats[endpoint]
	s.mu.Unlock()
	if st == nil {
		return time.Time{}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.left
}

// Sign is what a Server knows of an endpoint's sidecar, whether it is connected or not.
type Sign struct {
	Endpoint  string
	Connected bool
	Left      time.Time     // when its last link ended; zero: none has
	Canary    time.Duration // as in Link, of the present link or the last
	Delivered time.Time     // as in Link
}

// Signs says of every endpoint whose sidecar was here since this Server began how it is, in no order.
func (s *Server) Signs() []Sign {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Sign, 0, len(s.seats))
	for name, st := range s.seats {
		st.mu.Lock()
		list = append(list, Sign{Endpoint: name, Connected: st.link != nil, Left: st.left, Canary: st.canary.every, Delivered: st.canary.delivered})
		st.mu.Unlock()
	}
	return list
}

// Generation is how many links an endpoint has had since this Server began.
func (s *Server) Generation(endpoint string) uint64 {
	s.mu.Lock()
	st := s.seats[endpoint]
	s.mu.Unlock()
	if st == nil {
		return 0
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.generation
}

// Links lists the present links, for display, by endpoint.
func (s *Server) Links() []Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Link
	for _, seat := range s.seats {
		if l, rival, delivered := seat.look(); l != nil {
			over, _ := l.conn.Transport()
			list = append(list, Link{
				Endpoint: l.endpoint.Name, Instance: l.instance, Generation: l.generation, Remote: l.conn.Remote(),
				Since: l.since, Expires: l.expires, Sent: l.sent.Load(), Acked: l.acked.Load(), Transport: over, Rival: rival,
				Canary: time.Duration(l.every.Load()), Delivered: delivered,
			})
		}
	}
	slices.SortFunc(list, func(a, b Link) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return list
}

func (s *Server) log() *slog.Logger { return logger(s.Logger) }

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
