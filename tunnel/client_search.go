package tunnel

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// A network that begins to swallow UDP takes the link with it, and to be sure of that takes seconds: there are paths on
// which a Pong is late and nothing is wrong. So when one is late a way over WebSocket is looked for while the link still
// lives, and the link moves there only if it is silent to the last, and QUIC too:
//
//	0         0.3    0.5   0.6
//	├ Ping    ├ Ping ├ Ping
//	                 ├─ try over QUIC ─────── not a word
//	                       ├─ try over WebSocket ─┤ answered: one more Ping
//	                                       ├─ handshake done, and no Pong: the link ends, this one says Hello
//
// One try over each is all there is: when it is the edge that is slow, all its sidecars doubt at the same time. If QUIC is
// answered, the network swallows nothing, and whether the edge is stuck is found out in as much time as that takes.
const (
	doubtAfter = 500 * time.Millisecond // past a Ping, with not a byte heard, or four round trips; the link is dead much later
	doubtRest  = 10 * time.Second       // after a doubt that was wrong, to the next
	webBehind  = 100 * time.Millisecond // for QUIC to be answered, or a round trip and a quarter
	lastWord   = 150 * time.Millisecond // for a Pong, when a try is answered, or two round trips and a quarter: it stands behind what was lost
)

// doubtful is how long a Ping may be without an answer until another way is looked for.
func (h *heart) doubtful() time.Duration { return max(doubtAfter, 4*h.rtt()) }

// doubt reports whether to look for another way. It is for beat.
func (h *heart) doubt(asked, now time.Duration) bool {
	if h.search == nil || now-asked < h.doubtful() || now < h.trust || h.deaf() {
		return false
	}
	lively, _ := h.pace.lively() // a link that pays for every byte has more time, except while a callback is expected
	return lively
}

// alive reports whether the edge was heard since.
func (h *heart) alive(since time.Duration) bool { return time.Duration(h.heard.Load()) >= since }

// search looks for another way until doubting ends, and has the link move there if nothing was heard since asked. The
// link then ends as soon as nothing is in hand.
func (l *clientLink) search(on, doubting context.Context, asked time.Duration, move context.CancelCauseFunc) {
	c, here := l.client, l.client.here()
	if on.Err() != nil || !here.from.IsValid() {
		return // it moves already, or there is no way at all
	}
	trying, giveUp := context.WithCancel(doubting)
	defer giveUp()
	defer whenDone(on, giveUp)()
	s := &search{client: c, heart: l.heart, trying: trying, results: make(chan *attempt, 2), voices: make(chan struct{}, 1)}
	silent := s.run(here)
	giveUp()
	s.end()
	switch {
	case s.found == nil:
	case !silent || on.Err() != nil || l.heart.alive(asked):
		s.found.Close(wire.CloseDone, cameSecond)
	default:
		c.log().Info("nothing comes over QUIC any more: the link moves to WebSocket", "edge", c.Edge)
		l.next = s.found
		move(errMoved)
	}
}

// search is one search for another way, beside a link. Its fields are owned by run.
type search struct {
	client   *Client
	heart    *heart
	trying   context.Context
	udp, web *attempt // nil: not begun
	running  int
	results  chan *attempt // with room for both, so none waits to be heard
	voices   chan struct{} // a try has been answered
	found    conn          // over WebSocket
	err      error         // of the try over QUIC
}

// run reports whether a way was found, QUIC is silent, and the link has had its last word and did not say it.
func (s *search) run(here *spot) (silent bool) {
	s.udp = s.begin(s.client.tryQUIC)
	trip := s.heart.rtt()
	behind, word := time.NewTimer(max(webBehind, trip*5/4)), idleTimer()
	defer behind.Stop()
	defer word.Stop()
	asked := false
	for s.running > 0 && s.found == nil || s.found != nil && !silent {
		select {
		case <-s.trying.Done():
			return false
		case <-here.left: // what is under way was sent by a way that is no more
			return false
		case <-behind.C:
			s.beginWeb()
		case <-s.voices:
			if s.udp.voice.heard.Load() {
				return false
			}
			if !asked {
				asked = true
				word.Reset(max(lastWord, trip*9/4))
				if s.heart.ping(0) != nil {
					return false
				}
			}
		case <-word.C:
			silent = true
		case a := <-s.results:
			s.finished(a)
		}
	}
	return silent
}

func (s *search) begin(try func(context.Context, *voice, time.Duration) (conn, error)) *attempt {
	a := &attempt{voice: voice{first: s.voices}}
	s.running++
	go func() {
		a.conn, a.err = try(s.trying, &a.voice, tryWithin)
		s.results <- a
	}()
	return a
}

func (s *search) beginWeb() {
	if s.web == nil && s.client.proxyWait() <= 0 {
		s.web = s.begin(s.client.tryWebSocket)
	}
}

func (s *search) finished(a *attempt) {
	s.running--
	switch {
	case a == s.udp && a.err == nil:
		a.conn.Close(wire.CloseDone, cameSecond)
	case a == s.udp:
		s.err = a.err
		if s.trying.Err() == nil {
			s.beginWeb()
		}
	case a.err == nil:
		s.found = a.conn
		s.found.(*websocketConn).why = s.client.whyNot(cmp.Or(s.err, errSilent))
	case errors.Is(a.err, errStranger):
		s.client.strange()
	}
}

// end waits for what still runs.
func (s *search) end() {
	for s.running > 0 {
		s.finished(<-s.results)
	}
}
