package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/sync/push"
)

const (
	dialTime   = 10 * time.Second
	silence    = 20 * time.Second // a live sidecar pings every 15 s; after so long without a word it is asked
	pongTime   = 10 * time.Second // and so long it has to answer
	parting    = 500 * time.Millisecond
	maxMessage = 1 << 20
	ahead      = 64 // messages read ahead of the loop, so that a slow body does not keep pings from being answered
)

// busy is a sidecar that asks not to be asked for a while.
type busy struct {
	rest time.Duration
	err  error
}

func (b *busy) Error() string { return b.err.Error() }
func (b *busy) Unwrap() error { return b.err }

// connect is one connection: it gives messages until the connection ends, and reports whether it was a good one, which
// brought news or lasted.
func (c *Client) connect(ctx context.Context, root, path string, at *place, all bool, yield func(push.Message, error) bool) (good bool, err error) {
	header, err := c.header(ctx)
	if err != nil {
		return false, err
	}
	if all && at.after == "" {
		// The stream of all events does not say where it begins. If it is cut before the first event, only the head can
		// tell what was missed.
		if at.after, err = c.head(ctx, root, header); err != nil {
			return false, err
		}
	}
	address := root + path
	if at.after != "" {
		address += "?after=" + url.QueryEscape(at.after)
	}
	l, err := c.dial(ctx, address, header)
	if err != nil {
		return false, err
	}
	defer l.end()
	began := time.Now()
	for {
		select {
		case m, ok := <-l.messages:
			if !ok {
				return good || time.Since(began) >= settled, refusal(l.err)
			}
			if at.take(m) {
				good = true
				if !yield(m, nil) {
					return good, errEnough
				}
			}
			if ctx.Err() != nil {
				return good, ctx.Err()
			}
		case <-ctx.Done():
			return good, ctx.Err()
		}
	}
}

// header carries the key, asked for anew.
func (c *Client) header(ctx context.Context) (http.Header, error) {
	h := http.Header{}
	if c.key != nil {
		key, err := c.key(ctx)
		if err != nil {
			return nil, fmt.Errorf("client: get the key: %w", err)
		}
		if key != "" {
			h.Set("Authorization", "Bearer "+key)
		}
	}
	return h, nil
}

// head asks for the cursor of the newest event. A sidecar that answers, but not with that, is listened to without: "".
func (c *Client) head(ctx context.Context, root string, header http.Header) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, root+"/payments?limit=1", nil)
	if err != nil {
		return "", err
	}
	r.Header = header.Clone()
	response, err := c.http.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests {
		return "", answered(response, fmt.Errorf("client: the sidecar answers %s", response.Status))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxMessage))
	if err != nil {
		return "", err
	}
	var list struct{ Head push.Cursor }
	if response.StatusCode != http.StatusOK || json.Unmarshal(body, &list) != nil || list.Head.IsZero() {
		return "", nil
	}
	return list.Head.String(), nil
}

// line is one WebSocket. Two goroutines serve it, one that reads and one that listens for silence; end waits for both.
type line struct {
	conn     *websocket.Conn
	messages chan push.Message // closed at the end, when err may be read
	err      error
	heard    atomic.Int64 // when something was last heard, in nanoseconds since began
	began    time.Time
	done     chan struct{} // nobody takes messages any more
	cut      context.CancelFunc
	own      sync.WaitGroup
}

func (c *Client) dial(ctx context.Context, address string, header http.Header) (*line, error) {
	l := &line{messages: make(chan push.Message, ahead), done: make(chan struct{}), began: time.Now()}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, response, err := websocket.Dial(dialing, address, &websocket.DialOptions{
		HTTPClient:     c.http,
		HTTPHeader:     header,
		OnPingReceived: func(context.Context, []byte) bool { l.hear(); return true },
		OnPongReceived: func(context.Context, []byte) { l.hear() },
	})
	if err != nil {
		if response != nil {
			return nil, answered(response, err)
		}
		return nil, err
	}
	conn.SetReadLimit(maxMessage)
	l.conn = conn
	// What ctx ends is the loop; the connection lives until end has said goodbye.
	var alive context.Context
	alive, l.cut = context.WithCancel(context.WithoutCancel(ctx))
	l.own.Go(func() { defer l.cut(); l.read(alive) })
	l.own.Go(func() { l.listen(alive) })
	return l, nil
}

func (l *line) hear() { l.heard.Store(int64(time.Since(l.began))) }

// read takes messages off the wire, and with them answers pings.
func (l *line) read(alive context.Context) {
	defer close(l.messages)
	l.hear()
	for {
		_, b, err := l.conn.Read(alive)
		switch {
		case errors.Is(err, websocket.ErrMessageTooBig): // and would be again
			l.err = &Error{Reason: "a message is too large: it has more than " + strconv.Itoa(maxMessage) + " bytes"}
			return
		case err != nil:
			l.err = err
			return
		}
		l.hear()
		var m push.Message
		if err := json.Unmarshal(b, &m); err != nil {
			l.err = &Error{Reason: "a message cannot be read: " + err.Error()}
			_ = l.conn.CloseNow()
			return
		}
		select {
		case l.messages <- m:
		case <-l.done: // go on for the sake of the goodbye
		}
	}
}

// listen asks a sidecar that has gone silent, and cuts the line of one that does not answer. While the loop is so far
// behind that nothing is read, nobody is listening, so silence proves nothing.
func (l *line) listen(alive context.Context) {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-alive.Done():
			return
		}
		idle := time.Since(l.began) - time.Duration(l.heard.Load())
		if idle < silence || len(l.messages) == ahead {
			timer.Reset(max(silence-idle, time.Second))
			continue
		}
		asking, cancel := context.WithTimeout(alive, pongTime)
		err := l.conn.Ping(asking)
		cancel()
		if err != nil && len(l.messages) < ahead {
			l.cut()
			return
		}
		timer.Reset(silence)
	}
}

// end says goodbye, briefly, and waits for what the line has started. A line that is dead is cut after parting, by way of read,
// which waits on it; where read was just handing a message on, Close may come to wait in its place, and then nothing but the
// library's own five seconds ends that.
func (l *line) end() {
	close(l.done)
	impatient := time.AfterFunc(parting, l.cut)
	_ = l.conn.Close(websocket.StatusNormalClosure, "")
	impatient.Stop()
	l.cut()
	l.own.Wait()
}

// refusal turns the end of a line into an *Error if it is one for good.
func refusal(err error) error {
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return err
	}
	switch closed.Code {
	case 4400, 4401, 4403, 4404:
		return &Error{Status: int(closed.Code) - 4000, Reason: closed.Reason}
	case websocket.StatusTryAgainLater, 4429:
		return &busy{rest: time.Second, err: err}
	}
	return err
}

// answered is an answer that is no WebSocket.
func answered(response *http.Response, err error) error {
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		var problem struct{ Detail string }
		_ = json.NewDecoder(io.LimitReader(response.Body, 1<<10)).Decode(&problem)
		if problem.Detail == "" {
			problem.Detail = "the sidecar refuses"
		}
		return &Error{Status: response.StatusCode, Reason: problem.Detail}
	case http.StatusMovedPermanently, http.StatusPermanentRedirect:
		to := "another address"
		if u, err := response.Location(); err == nil {
			to = u.Scheme + "://" + u.Host // the rest may name a session
		}
		return &Error{Status: response.StatusCode, Reason: "the sidecar has moved to " + to}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
		return &busy{rest: time.Duration(seconds) * time.Second, err: err}
	}
	return err
}
