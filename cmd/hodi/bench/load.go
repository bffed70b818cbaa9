package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	atOnce     = 64   // connections of a closed loop
	maxAtOnce  = 1024 // connections of an open one
	answerTime = 30 * time.Second
)

// post is what became of one callback. Times are Unix nanoseconds; 0 is never.
type post struct {
	due      int64 // when it had to leave
	answered int64 // when a 200 was there
	status   int   // of another answer than 200
}

// load posts callbacks to their addresses. It costs as little as it can, since it shares the processors with what it
// measures: HTTP by hand, on connections that stay open, one request at a time on each.
//
// An open loop (rate > 0) posts each callback when its time has come, however the ones before it fare, and measures from
// then: what had to wait because Hodi was slow has waited. A closed loop (rate 0) posts as fast as answers come.
type load struct {
	host  string
	paths []string // of callback addresses, by number
	rate  int
	posts []post

	mu    sync.Mutex
	lines map[*line]bool
	idle  []*line       // newest last: few are used, and stay warm
	freed chan struct{} // has a token when a line came back

	next    atomic.Int64 // of a closed loop
	readers sync.WaitGroup
	pending sync.WaitGroup // requests without an answer
}

// line is one connection.
type line struct {
	conn net.Conn
	n    atomic.Int64 // whose answer is awaited; -1: nobody's
	out  []byte
	in   [2048]byte
}

func newLoad(addresses []string, rate int) (*load, error) {
	l := &load{rate: rate, paths: make([]string, len(addresses)), posts: make([]post, len(addresses)), lines: make(map[*line]bool), freed: make(chan struct{}, 1)}
	for i, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			return nil, err
		}
		l.host, l.paths[i] = u.Host, u.Path
	}
	return l, nil
}

// run posts them all and waits for the answers.
func (l *load) run(ctx context.Context) error {
	defer l.readers.Wait()
	defer l.hangUp()
	for range atOnce {
		c, err := l.dial(ctx)
		if err != nil {
			return fmt.Errorf("the edge is not reached: %w", err)
		}
		l.idle = append(l.idle, c)
	}
	var err error
	if l.rate > 0 {
		err = l.paced(ctx)
	} else {
		err = l.unpaced(ctx)
	}
	if err != nil {
		return err
	}
	all := make(chan struct{})
	go func() { l.pending.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(answerTime): // the ledger shows who is missing; hangUp ends the waiting
	case <-ctx.Done():
	}
	return ctx.Err()
}

// paced posts on time. The thread is its own, so that it can sleep exactly.
func (l *load) paced(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpen()
	begin := time.Now().Add(10 * time.Millisecond)
	for n := range l.posts {
		due := begin.Add(time.Duration(float64(n) * float64(time.Second) / float64(l.rate)))
		if wait := time.Until(due); wait > 0 {
			sleep(wait)
		}
		l.posts[n].due = due.UnixNano()
		c, err := l.line(ctx)
		if err != nil {
			return err
		}
		l.pending.Add(1)
		l.post(c, n)
	}
	return nil
}

// unpaced starts every line; each goes on by itself as answers come.
func (l *load) unpaced(ctx context.Context) error {
	l.pending.Add(len(l.posts))
	lines := l.idle
	l.idle = nil
	for _, c := range lines {
		l.more(c)
	}
	return ctx.Err()
}

// more posts the next callback of a closed loop, if there is one.
func (l *load) more(c *line) {
	if n := int(l.next.Add(1)) - 1; n < len(l.posts) {
		l.posts[n].due = time.Now().UnixNano()
		l.post(c, n)
	}
}

// line finds one that is free, and opens another where all are in use.
func (l *load) line(ctx context.Context) (*line, error) {
	for {
		l.mu.Lock()
		if i := len(l.idle) - 1; i >= 0 {
			c := l.idle[i]
			l.idle = l.idle[:i]
			l.mu.Unlock()
			return c, nil
		}
		room := len(l.lines) < maxAtOnce
		l.mu.Unlock()
		if room {
			return l.dial(ctx)
		}
		select {
		case <-l.freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *load) dial(ctx context.Context) (*line, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.host)
	if err != nil {
		return nil, err
	}
	c := &line{conn: conn}
	c.n.Store(-1)
	l.mu.Lock()
	l.lines[c] = true
	l.mu.Unlock()
	l.readers.Go(func() { l.listen(c) })
	return c, nil
}

func (l *load) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.lines {
		c.conn.Close()
	}
}

func (l *load) post(c *line, n int) {
	c.n.Store(int64(n))
	c.out = appendRequest(c.out[:0], l.host, l.paths[n], n)
	c.conn.Write(c.out) // that it failed, listen notices
}

// listen takes the answers of one line, until it ends.
func (l *load) listen(c *line) {
	defer c.conn.Close()
	for {
		status, err := c.answer()
		now := time.Now().UnixNano()
		n := c.n.Swap(-1)
		if err != nil {
			l.lost(c)
			if n >= 0 {
				l.pending.Done()
			}
			return
		}
		if status == 200 {
			l.posts[n].answered = now
		} else {
			l.posts[n].status = status
		}
		if l.rate > 0 {
			l.mu.Lock()
			l.idle = append(l.idle, c)
			l.mu.Unlock()
			select {
			case l.freed <- struct{}{}:
			default:
			}
		} else {
			l.more(c)
		}
		l.pending.Done()
	}
}

// lost takes a line that has ended out of the idle ones.
func (l *load) lost(c *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lines, c)
	for i, other := range l.idle {
		if other == c {
			l.idle = append(l.idle[:i], l.idle[i+1:]...)
			return
		}
	}
}

var errAnswer = errors.New("the edge's answer cannot be read")

// answer reads one answer, whole.
func (c *line) answer() (status int, err error) {
	have := 0
	for {
		n, err := c.conn.Read(c.in[have:])
		if have += n; err != nil {
			return 0, err
		}
		header, body, whole := bytes.Cut(c.in[:have], []byte("\r\n\r\n"))
		if !whole && have < len(c.in) {
			continue
		}
		_, length, ok := strings.Cut(string(header), "\r\nContent-Length: ")
		length, _, _ = strings.Cut(length, "\r\n")
		size, err := strconv.Atoi(length)
		if !ok || err != nil || len(header) < len("HTTP/1.1 200") || len(header)+4+size > len(c.in) {
			return 0, errAnswer
		}
		if len(body) >= size {
			return strconv.Atoi(string(header[9:12]))
		}
	}
}
