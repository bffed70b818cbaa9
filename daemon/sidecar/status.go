package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"time"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel"
)

// getHealth says that the process serves.
func (s *Sidecar) getHealth(w http.ResponseWriter, _ *http.Request) *problem {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// Ready reports why this sidecar cannot do what is its own part: answer, and store what comes; nil if it can. To start it
// anew, or another one, may mend that.
func (s *Sidecar) Ready(ctx context.Context) error { return s.stores(ctx) }

// Linked reports why callbacks do not get here from the edge, as far as is known; nil if they do. No restart mends that.
func (s *Sidecar) Linked() error {
	if s.tunnel == nil {
		return nil
	}
	now := time.Now()
	switch t := s.tunnel.Status(); {
	case !t.Connected:
		return errors.New("the edge is not connected")
	case t.Delivering(now):
		return nil
	case t.Delivered.IsZero():
		return errors.New("the edge is connected, and nothing has come through to our disk yet")
	default:
		return fmt.Errorf("the edge is connected, and nothing has come through to our disk for %s", now.Sub(t.Delivered).Round(time.Second))
	}
}

// stores says why nothing can be stored; nil if it can.
func (s *Sidecar) stores(ctx context.Context) error {
	if _, err := s.table.Oldest(ctx); errors.Is(err, context.Canceled) { // whoever asked has gone
		return err
	} else if err != nil {
		s.log.Error("sidecar: the database cannot be read", "err", err)
		return errors.New("the database cannot be read")
	}
	if err := s.table.Probe(ctx); errors.Is(err, context.Canceled) {
		return err
	} else if err != nil {
		s.log.Error("sidecar: the database cannot be written", "err", err)
		return errors.New("the database cannot be written: is the disk full?")
	}
	return nil
}

func (s *Sidecar) getReady(w http.ResponseWriter, r *http.Request) *problem {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := s.Ready(ctx)
	if err == nil && r.URL.Query().Has("link") {
		err = s.Linked()
	}
	if err != nil {
		return problemf(http.StatusServiceUnavailable, "not-ready", "%v", err)
	}
	reply(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

// getStatus says how the sidecar is: to the till, which shows how fresh it is, and to whoever looks after it.
func (s *Sidecar) getStatus(w http.ResponseWriter, r *http.Request) *problem {
	type link struct {
		Connected bool       `json:"connected"`
		Since     *push.Time `json:"since,omitempty"`
		Edge      string     `json:"edge"`
		Remote    string     `json:"remote,omitempty"`
		Transport string     `json:"transport,omitempty"` // quic or websocket, when connected
		Why       string     `json:"why,omitempty"`       // it is not quic
		RTT       float64    `json:"rttMs,omitempty"`
		SkewMs    int64      `json:"skewMs,omitempty"`      // how far the edge's clock is ahead of ours
		Epoch     uint64     `json:"epoch,omitempty"`       // of the edge's journal
		Waiting   *uint64    `json:"undelivered,omitempty"` // of what the edge held when the link began
		Rival     *push.Time `json:"rival,omitempty"`       // when another machine last took the link: two use one identity
		Reached   *push.Time `json:"reached,omitempty"`     // when the edge took the newest callback before those: they are younger
		Bytes     bytesView  `json:"bytesToday"`
		Error     string     `json:"error,omitempty"`      // why there is no link, or why there was none before it
		Quiet     push.Time  `json:"noWordSince,omitzero"` // that long there is no link: what is known is of before

		Certificate *push.Time `json:"certificateEnds,omitempty"` // ours; it is renewed by itself when two thirds of its time are over

		Canary     float64    `json:"canarySeconds,omitempty"` // between two canaries of the edge; absent: it is older, and sends none
		Delivered  *push.Time `json:"delivered,omitempty"`     // when a callback or a canary was last committed
		Delivering bool       `json:"delivering"`              // there is a link, and that was not long ago
	}
	type shortcode struct {
		Name        string `json:"name"`
		Number      string `json:"number"`
		Kind        string `json:"kind"`
		Environment string `json:"environment"`
	}
	counts, err := s.table.Counts(r.Context())
	if err != nil {
		return s.internal("count callbacks", err)
	}
	status := struct {
		Version    string           `json:"version,omitempty"`
		Goroutines int              `json:"goroutines"`
		Dev        bool             `json:"dev"`
		Time       push.Time        `json:"time"`
		Started    push.Time        `json:"started"`
		Head       push.Cursor      `json:"head"` // of all events: what /events?after= may begin with
		Link       *link            `json:"link,omitempty"`
		Callback   string           `json:"callback,omitempty"` // the base of callback addresses
		Shortcodes []shortcode      `json:"shortcodes"`
		Disk       string           `json:"disk,omitempty"` // why nothing can be stored
		Room       *room.State      `json:"room,omitempty"` // absent: this system does not say
		Callbacks  map[string]int64 `json:"callbacks"`
		Held       *heldView        `json:"held,omitempty"`    // of them; absent: none
		Gaps       []gapView        `json:"gaps"`              // callbacks that the edge took and cannot deliver any more, the newest last
		Forward    *forwardView     `json:"forward,omitempty"` // what the app is to be given
		Asking     askingView       `json:"asking"`
		Clock      string           `json:"clock,omitempty"` // in what way this machine's is wrong
		Readers    int              `json:"subscribers"`
		Settings   *reload.Outcome  `json:"settings,omitempty"` // what came of reading them again, if they were
		Phone      string           `json:"phone,omitempty"`
		Edge       string           `json:"edge,omitempty"`
		Sandbox    string           `json:"sandbox,omitempty"`
	}{
		Version: s.config.Version, Goroutines: runtime.NumGoroutine(),
		Dev: s.config.Dev, Time: push.Time{Time: time.Now()}, Started: push.Time{Time: s.started}, Head: s.cursor(s.hub.Head()),
		Callback: s.callbackBase(), Shortcodes: []shortcode{}, Callbacks: counts, Readers: s.subscribers.count(), Settings: s.reloaded.Load(),
		Phone: s.config.PhoneURL, Edge: s.config.EdgeURL, Sandbox: s.config.SandboxURL,
	}
	if err := s.stores(r.Context()); err != nil {
		status.Disk = err.Error()
	}
	if there, err := room.StateOf(filepath.Join(s.config.Dir, databaseFile)); err == nil {
		status.Room = &there
	}
	if status.Held, err = s.held(r.Context()); err != nil {
		return s.internal("count callbacks that are held", err)
	}
	if status.Gaps, err = s.gaps(r.Context()); err != nil {
		return s.internal("list gaps", err)
	}
	if status.Forward, err = s.forwarding(r.Context()); err != nil {
		return s.internal("see how forwarding is", err)
	}
	if status.Asking, err = s.asking(r.Context()); err != nil {
		return s.internal("count payments to ask about", err)
	}
	for _, c := range s.settings.Load().config.Shortcodes {
		status.Shortcodes = append(status.Shortcodes, shortcode{c.Name, c.Number, c.Kind, c.Environment})
	}
	if s.tunnel != nil {
		t := s.tunnel.Status()
		status.Link = &link{Connected: t.Connected, Edge: s.config.Edge, Remote: t.Remote, Transport: t.Transport, Why: t.Why, RTT: float64(t.RTT.Microseconds()) / 1000, Error: t.LastError}
		if !t.Since.IsZero() {
			status.Link.Since = &push.Time{Time: t.Since}
		}
		status.Link.Bytes = s.bytesToday(t.Traffic)
		status.Link.Canary, status.Link.Delivering = t.Canary.Seconds(), t.Delivering(time.Now())
		if !t.Delivered.IsZero() {
			status.Link.Delivered = &push.Time{Time: t.Delivered}
		}
		if !t.Rival.IsZero() {
			status.Link.Rival = &push.Time{Time: t.Rival}
		}
		if leaf := s.identity.certificate().Leaf; leaf != nil {
			status.Link.Certificate = &push.Time{Time: leaf.NotAfter}
		}
		status.Link.Quiet, status.Clock = push.Time{Time: s.noWordSince()}, s.clockWrong()
		status.Link.SkewMs, status.Link.Epoch = t.Skew.Milliseconds(), uint64(t.Epoch)
		cursor, err := s.table.Cursor(r.Context())
		if err != nil {
			return s.internal("read the cursor", err)
		}
		if t.Connected && cursor.Epoch == t.Epoch {
			waiting := t.Head - min(cursor.Seq, t.Head)
			if status.Link.Waiting = &waiting; waiting > 0 {
				reached, err := s.table.Reached(r.Context())
				if err != nil {
					return s.internal("see how far the journal was read", err)
				}
				status.Link.Reached = maybe(reached)
			}
		}
	}
	reply(w, http.StatusOK, status)
	return nil
}

// bytesView is what the link has cost since midnight.
type bytesView struct {
	In     int64     `json:"in"`
	Out    int64     `json:"out"`
	Since  push.Time `json:"since"`            // midnight in Nairobi, or later, if this sidecar was started later
	Budget int64     `json:"budget,omitempty"` // of a metered one, for a day on which nothing happens
}

func (s *Sidecar) bytesToday(t tunnel.Traffic) bytesView {
	v := bytesView{In: t.TodayIn, Out: t.TodayOut, Since: push.Time{Time: t.Since}}
	if t.Since.IsZero() {
		v.Since.Time = s.started
	}
	if s.config.Metered {
		v.Budget = tunnel.MeteredBudget
	}
	return v
}

// heldView is callbacks that count when Daraja, or a person, agrees.
type heldView struct {
	Callbacks int       `json:"callbacks"`
	Oldest    push.Time `json:"oldest"` // when the first of them was stored here
}

func (s *Sidecar) held(ctx context.Context) (*heldView, error) {
	n, oldest, err := s.table.Held(ctx)
	if err != nil || n == 0 {
		return nil, err
	}
	return &heldView{n, push.Time{Time: oldest}}, nil
}

// A gapView is callbacks that never came.
type gapView struct {
	Callbacks uint64     `json:"callbacks,omitempty"` // how many; absent: nobody knows, and it may be none
	From      *push.Time `json:"from,omitempty"`      // between these two the edge took them
	To        push.Time  `json:"to"`
	Found     push.Time  `json:"found"`
}

func (s *Sidecar) gaps(ctx context.Context) ([]gapView, error) {
	gaps, err := s.table.Gaps(ctx)
	list := make([]gapView, len(gaps))
	for i, g := range gaps {
		list[i] = gapView{Callbacks: g.Callbacks, To: push.Time{Time: g.To}, Found: push.Time{Time: g.Found}}
		if !g.From.IsZero() {
			list[i].From = &push.Time{Time: g.From}
		}
	}
	return list, err
}

// getTillStatus is what a till needs of that: whether callbacks come, which never will, and what its amounts are. The rest, such as the base of
// callback addresses, is not for tills.
func (s *Sidecar) getTillStatus(w http.ResponseWriter, r *http.Request) *problem {
	type shortcode struct {
		Name        string `json:"name"`
		Number      string `json:"number"`
		Environment string `json:"environment"`
	}
	status := struct {
		Dev        bool        `json:"dev"`
		Time       push.Time   `json:"time"`
		Head       push.Cursor `json:"head"`
		Connected  *bool       `json:"connected,omitempty"`  // to the edge, if there is one
		Quiet      push.Time   `json:"noWordSince,omitzero"` // that long it is not
		Clock      string      `json:"clock,omitempty"`      // in what way this machine's is wrong
		Shortcodes []shortcode `json:"shortcodes"`
		Gaps       []gapView   `json:"gaps"`
	}{Dev: s.config.Dev, Time: push.Time{Time: time.Now()}, Head: s.cursor(s.hub.Head()), Shortcodes: []shortcode{}, Quiet: push.Time{Time: s.noWordSince()}, Clock: s.clockWrong()}
	var err error
	if status.Gaps, err = s.gaps(r.Context()); err != nil {
		return s.internal("list gaps", err)
	}
	if s.tunnel != nil {
		connected := s.tunnel.Status().Connected
		status.Connected = &connected
	}
	for _, c := range s.settings.Load().config.Shortcodes {
		status.Shortcodes = append(status.Shortcodes, shortcode{c.Name, c.Number, c.Environment})
	}
	reply(w, http.StatusOK, status)
	return nil
}
