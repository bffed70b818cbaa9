package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	probeWithin = time.Second // for a way that the edge answers on; a new link takes twice as many round trips
	maxMoves    = 8           // of one connection, which keeps the socket of every place it has been
)

// migrant is a conn that can change to another socket and remain what it is.
type migrant interface {
	migrate(ctx context.Context, socket net.PacketConn, bill *tally) error
}

// roam follows the machine. Where the link cannot come along it ends, and another is dialled at once; the alternative
// is to find out seconds later that it is dead.
func (l *clientLink) roam(living context.Context) error {
	c := l.client
	here := c.here()
	from := here.from // the address that the link began with
	for {
		select {
		case <-living.Done():
			return nil
		case <-here.left:
		}
		now := c.here()
		slept := now.slept != here.slept
		here = now
		switch {
		case slept:
			return errors.New("tunnel: the machine slept")
		case now.from == netip.Addr{}:
			// Nothing can be sent. If the same address is back soon enough the link is as good as it was.
		case now.from == from:
			l.heart.hurry()
		default:
			m, ok := l.conn.(migrant)
			if !ok {
				return fmt.Errorf("tunnel: our address is now %v", now.from)
			}
			socket, err := c.listen()
			if err == nil {
				err = m.migrate(living, socket, c.ledger())
			}
			if living.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("tunnel: move to %v: %w", now.from, err)
			}
			from = now.from
			c.log().Info("link moved", "edge", c.Edge, "from", from)
			l.heart.hurry()
		}
	}
}

// migrate goes on over another socket, once the edge has answered there. The socket is closed with the connection: also
// when it fails, which leaves the connection where it was.
func (q *quicConn) migrate(ctx context.Context, socket net.PacketConn, bill *tally) error {
	tr := &quic.Transport{Conn: withEar(socket, new(voice), bill)}
	release := func() {
		tr.Close()
		socket.Close()
	}
	q.mu.Lock()
	if q.closed || len(q.after) > maxMoves {
		q.mu.Unlock()
		release()
		return errors.New("moved too often")
	}
	q.after = append(q.after, release)
	q.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, probeWithin, errSilent)
	defer cancel()
	defer context.AfterFunc(q.conn.Context(), cancel)()
	path, err := q.conn.AddPath(tr)
	if err != nil {
		return err
	}
	if err := path.Probe(ctx); err != nil {
		return err
	}
	return path.Switch()
}
