package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/hodihq/hodi/tunnel/wire"
)

// kept is how many finished handshakes quic-go may keep until somebody takes them. It keeps 32, and refuses the next.
const kept = 16

// hall is where handshakes over QUIC end. One goroutine always waits there to take what comes of them. Where more are
// under way than quic-go would keep, as many more wait: a storm may finish them all while the machine looks elsewhere,
// and none must be refused for that. Who has taken a connection serves it to its end.
type hall struct {
	door     *door
	log      *slog.Logger
	serve    func(*quic.Conn)
	full     func(remote string) // somebody was turned away
	listener *quic.Listener

	mu      sync.Mutex
	coming  int // handshakes under way
	waiters map[*waiter]bool
	links   sync.WaitGroup
}

// waiter is one of those who wait because many come.
type waiter struct{ dismiss context.CancelFunc }

// arrival is what is to be called for a connection; its context has it.
type arrival struct {
	known func() // it is known whose it is
	taken func() // its handshake has ended, one way or another
}

type arrivalKey struct{}

func arrivalOf(c *quic.Conn) *arrival { return c.Context().Value(arrivalKey{}).(*arrival) }

// open begins to listen. The first connection may come before that has returned.
func (h *hall) open(tr *quic.Transport, conf *tls.Config) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener, err = tr.Listen(conf, serverQUIC())
	return err
}

// enter lets a new connection begin its handshake, or refuses it when too many stand at the door. ctx is the
// connection's, and serving that of the Server.
func (h *hall) enter(serving, ctx context.Context, from net.Addr) (context.Context, error) {
	leave, ok := h.door.open(from)
	if !ok {
		h.full(from.String())
		return nil, ErrCrowded
	}
	a := &arrival{known: leave, taken: sync.OnceFunc(h.gone)}
	h.come(serving)
	context.AfterFunc(ctx, func() {
		leave()
		a.taken()
		if e, ok := errors.AsType[*quic.TransportError](context.Cause(ctx)); ok && e.ErrorCode == quic.ConnectionRefused && serving.Err() == nil {
			h.log.Warn("handshake refused", "err", e)
		}
	})
	return context.WithValue(ctx, arrivalKey{}, a), nil
}

// come sees to it that somebody will take the connection.
func (h *hall) come(serving context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.coming++; len(h.waiters) >= h.coming-kept {
		return
	}
	ctx, dismiss := context.WithCancel(serving)
	w := &waiter{dismiss}
	h.waiters[w] = true
	h.links.Go(func() {
		c, err := h.listener.Accept(ctx)
		h.mu.Lock()
		delete(h.waiters, w)
		h.mu.Unlock()
		dismiss()
		if err == nil {
			h.take(c)
		}
	})
}

// gone dismisses somebody who has nothing to wait for.
func (h *hall) gone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.coming--
	for w := range h.waiters {
		if len(h.waiters) <= h.coming-kept {
			return
		}
		delete(h.waiters, w)
		w.dismiss()
	}
}

func (h *hall) take(c *quic.Conn) {
	arrivalOf(c).taken()
	h.serve(c)
}

// run takes connections until serving ends or the socket fails, and returns when all have been served.
func (h *hall) run(serving context.Context) error {
	var err error
	for {
		c, aerr := h.listener.Accept(serving)
		if aerr != nil {
			err = aerr
			break
		}
		h.links.Go(func() { h.take(c) })
	}
	h.listener.Close() // refuses handshakes that are under way; those that finished while we looked away are next
	for {
		c, err := h.listener.Accept(context.Background())
		if err != nil {
			break
		}
		c.CloseWithError(quic.ApplicationErrorCode(wire.CloseDraining), wire.CloseDraining.String())
	}
	h.links.Wait()
	return err
}
