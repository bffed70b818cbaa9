package sidecar

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// sessionEvents is GET /sessions/{session}/events.
func (s *Sidecar) sessionEvents(life context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.ask(r, s.checkCaller, checkSessionID)
		if p == nil {
			_, p = s.knownSession(r.Context(), r.PathValue("session"))
		}
		if upgrades(r) {
			s.serveSocket(life, w, r, r.PathValue("session"), p, func() {})
			return
		}
		if p == nil {
			p = s.serveEvents(life, w, r, r.PathValue("session"))
		}
		if p != nil {
			p.write(w)
		}
	}
}

// allEvents is GET /events: a WebSocket if one is asked for, else server-sent events.
func (s *Sidecar) allEvents(life context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var till *correlate.Till
		p := s.ask(r, s.checkCaller, func(r *http.Request) (p *problem) {
			till, p = s.admit(r)
			return p
		})
		life, left := life, func() {}
		if till != nil {
			life, left = s.tills.open(life, till.ID)
		}
		if upgrades(r) {
			s.serveSocket(life, w, r, "", p, left)
			return
		}
		defer left()
		if p == nil {
			p = s.serveEvents(life, w, r, "")
		}
		if p != nil {
			p.write(w)
		}
	}
}

// serveEvents follows the history as server-sent events. A browser that reconnects says by itself where it was.
func (s *Sidecar) serveEvents(life context.Context, w http.ResponseWriter, r *http.Request, session string) *problem {
	if p := s.subscribers.enter(session); p != nil {
		return p
	}
	defer s.subscribers.leave(session)
	after := r.Header.Get("Last-Event-ID") // newer than what is in the address
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	f, err := s.feed(r.Context(), session, after)
	if err != nil {
		return s.internal("find a reader's place", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies are not to collect it
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := contextOver(r.Context(), life)
	defer cancel()
	_ = s.follow(ctx, f, eventTransport(w)) // whatever ends it, the reader comes back to where it was
	return nil
}

// eventTransport writes server-sent events. They have no names, so that onmessage gets them all; the type is in the data.
func eventTransport(w http.ResponseWriter) transport {
	control := http.NewResponseController(w)
	var b bytes.Buffer
	flush := func() error {
		defer b.Reset()
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		return control.Flush()
	}
	field := func(name string, value []byte) {
		b.WriteString(name)
		b.WriteString(": ")
		b.Write(value)
		b.WriteByte('\n')
	}
	event := func(id push.Cursor, message []byte) error {
		field("id", []byte(id.String()))
		field("data", message)
		b.WriteByte('\n')
		return flush()
	}
	// An id without data is no event, but the browser keeps it: even a reader who was told nothing yet can resume.
	beat := func(after push.Cursor) error {
		field("id", []byte(after.String()))
		b.WriteByte('\n')
		return flush()
	}
	return transport{
		event: event,
		beat:  beat,
		greet: func(after, id push.Cursor, message []byte) error {
			field("retry", []byte("500"))
			if message != nil {
				field("id", []byte(id.String()))
				field("data", message)
				b.WriteByte('\n')
			}
			return beat(after)
		},
	}
}
