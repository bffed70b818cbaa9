package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// The processes besides edge and sidecar, all of them hodi itself. A helper is told what to do on standard input, in one
// line, because keys have no place on a command line; it writes a line when it is ready, and ends when its input does.

// task is what a helper is told.
type task struct {
	Host   string   `json:"host"`             // to dial
	Key    string   `json:"key,omitempty"`    // of the app
	Expect int      `json:"expect,omitempty"` // callbacks, of the subscriber
	Paths  []string `json:"paths,omitempty"`  // of WebSockets
	Papers []Papers `json:"papers,omitempty"` // of sidecars
}

// Help does the work of a helper: subscriber, subscribers or sidecars.
func Help(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("bench: %s: this is started by hodi bench, not by hand", role)
	}
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return fmt.Errorf("bench: %s: %w", role, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, lines)
		cancel()
	}()
	switch role {
	case "subscriber":
		err = t.subscribe(ctx, out)
	case "subscribers":
		err = t.subscribers(ctx, out)
	case "sidecars":
		err = t.sidecars(ctx, out)
	default:
		err = errors.New("there is no such helper")
	}
	if err != nil {
		return fmt.Errorf("bench: %s: %w", role, err)
	}
	return nil
}

func ready(out io.Writer) error {
	_, err := fmt.Fprintln(out, "ready")
	return err
}

// sighting is a message seen by the subscriber: of which callback, and when (Unix nanoseconds).
type sighting struct {
	number int
	at     int64
}

func appendSighting(b []byte, s sighting) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(s.number))
	return binary.LittleEndian.AppendUint64(b, uint64(s.at))
}

func parseSighting(b [16]byte) sighting {
	return sighting{int(binary.LittleEndian.Uint64(b[:])), int64(binary.LittleEndian.Uint64(b[8:]))}
}

const linger = 300 * time.Millisecond // once all are there, for repetitions

// subscribe follows all events as a till does, notes which payments ended when, and writes that down once every expected
// one was seen or its input ends.
func (t *task) subscribe(ctx context.Context, out io.Writer) error {
	s, err := dialSocket(ctx, t.Host, "/events", t.Key, 256<<10)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if err := ready(out); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.conn.SetReadDeadline(time.Now()) })()
	sightings := make([]sighting, 0, t.Expect+t.Expect/100)
	seen, missing := make([]bool, t.Expect), t.Expect
	for {
		message, err := s.next()
		if err != nil {
			break // the end, or the sidecar's: the ledger shows what is missing
		}
		n := numberIn(message)
		if n < 0 || n >= t.Expect {
			continue
		}
		sightings = append(sightings, sighting{n, time.Now().UnixNano()})
		if seen[n] {
			continue
		}
		seen[n] = true
		if missing--; missing == 0 {
			s.conn.SetReadDeadline(time.Now().Add(linger))
		}
	}
	written := []byte{'\n'} // the first byte says that all were seen; the rest may take its time
	for _, s := range sightings {
		written = appendSighting(written, s)
	}
	_, err = out.Write(written)
	return err
}

// subscribers are checkout pages that wait, each for its own session.
func (t *task) subscribers(ctx context.Context, out io.Writer) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, path := range t.Paths {
		s, err := dialSocket(ctx, t.Host, path, "", 1<<10)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { s.conn.Close() })
		reading.Go(func() {
			for {
				if _, err := s.next(); err != nil {
					return
				}
			}
		})
	}
	if err := ready(out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// dialling is how many sidecars are on their way to the edge at a time.
const dialling = 16

// sidecars are links to endpoints to which nobody posts.
func (t *task) sidecars(ctx context.Context, out io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	clients := make([]*tunnel.Client, len(t.Papers))
	connected := func(c *tunnel.Client) {
		for !c.Status().Connected && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for i, papers := range t.Papers {
		if i >= dialling { // not a storm: that is another measurement
			connected(clients[i-dialling])
		}
		conf, err := papers.TLS()
		if err != nil {
			return err
		}
		c := &tunnel.Client{Edge: t.Host, TLS: conf, Sink: idle{}}
		binary.BigEndian.PutUint64(c.Instance[:], uint64(i)+1)
		clients[i] = c
		group.Go(func() error { return c.Run(ctx) })
	}
	for _, c := range clients {
		connected(c)
	}
	if err := ready(out); err != nil {
		return err
	}
	return group.Wait()
}

// idle is a sink to which nothing comes.
type idle struct{}

func (idle) Cursor(context.Context) (wire.Cursor, error)            { return wire.Cursor{}, nil }
func (idle) Welcome(context.Context, wire.Welcome) error            { return nil }
func (idle) Apply(context.Context, wire.Cursor, []wire.Entry) error { return nil }
