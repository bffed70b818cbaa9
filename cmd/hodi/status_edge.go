package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/tunnel/enrol"
)

// edgeHealth is how the edge on this machine is.
type edgeHealth struct {
	Data      string           `json:"data"`
	Running   bool             `json:"running"`
	Disk      string           `json:"disk,omitempty"` // why nothing can be stored
	Room      *room.State      `json:"room,omitempty"`
	Damaged   []string         `json:"damaged,omitempty"`  // databases that were moved aside
	Mishaps   []mishap         `json:"mishaps,omitempty"`  // what the disk did to the journal in the last week
	Settings  *reload.Outcome  `json:"settings,omitempty"` // what came of reading them again, if it was told to
	Endpoints []endpointHealth `json:"endpoints"`

	CertificateEnds time.Time `json:"certificateEnds,omitzero"` // the public one; zero: a proxy has it, or there is none yet

	Notify     []notify.WayState `json:"notify"` // by what ways a person is told
	version    string            // of what runs
	goroutines int
}

type endpointHealth struct {
	Name      string    `json:"name"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	Remote    string    `json:"remote,omitempty"`
	Transport string    `json:"transport,omitempty"`
	Rival     time.Time `json:"rival,omitzero"`   // when two machines were last seen to use its identity
	LastAck   time.Time `json:"lastAck,omitzero"` // when the sidecar last acknowledged a callback or a canary
	Deaf      bool      `json:"deaf,omitempty"`   // it is connected, and that was long ago
	Stored    uint64    `json:"stored"`           // how many callbacks there have been
	Delivered uint64    `json:"delivered"`        // of them the sidecar has acknowledged
	Waiting   uint64    `json:"waiting"`
	Held      int64     `json:"held"`           // bytes of those that wait
	Limit     int64     `json:"limit"`          // and how many there may be
	Lost      int       `json:"lost,omitempty"` // callbacks that the disk cannot give back

	OldestWaiting   time.Time `json:"oldestWaiting,omitzero"`   // when the oldest of those came
	CertificateEnds time.Time `json:"certificateEnds,omitzero"` // the sidecar's; zero: it has none
}

func askEdge(c *cli.Context, h *health) error {
	settings, _, err := loadFile(c, "edge")
	if err != nil { // as far as it could be read
		h.unread(err)
	}
	data := settings.Edge.Data
	over(c, "edge-data", &data)
	told := data != ""
	if data == "" {
		if data, err = stateDir("edge"); err != nil {
			return err
		}
	}
	if !told && !exists(filepath.Join(data, "edge.db")) {
		return nil
	}
	h.Edge = &edgeHealth{Data: data, Endpoints: []endpointHealth{}}
	var listed struct {
		Endpoints []endpoint
		Mishaps   []mishap
		Damaged   []string
		Room      *room.State
		Disk      string
		Settings  *reload.Outcome

		CertificateEnds time.Time

		Version    string
		Goroutines int
	}
	ctx, cancel := context.WithTimeout(c.Context, 10*time.Second)
	defer cancel()
	if err := askAdmin(ctx, data, http.MethodGet, "/endpoints", nil, &listed); err != nil {
		h.wrong("%v", err)
		return nil
	}
	var links struct{ Links []link }
	if err := askAdmin(ctx, data, http.MethodGet, "/links", nil, &links); err != nil {
		return err
	}
	h.Edge.Running, h.Edge.Disk, h.Edge.Damaged, h.Edge.Mishaps = true, listed.Disk, listed.Damaged, listed.Mishaps
	h.Edge.Room, h.Edge.Settings = listed.Room, listed.Settings
	h.settings("edge", listed.Settings)
	h.Edge.version, h.Edge.goroutines = listed.Version, listed.Goroutines
	h.Edge.CertificateEnds = listed.CertificateEnds
	h.public(listed.CertificateEnds, time.Now())
	h.room("edge", data, listed.Room)
	h.mishaps(listed.Mishaps)
	var tell struct{ Ways []notify.WayState }
	if askAdmin(ctx, data, http.MethodGet, "/notify", nil, &tell) == nil { // an edge from before tells nobody
		h.Edge.Notify = tell.Ways
		h.notified(tell.Ways)
	}
	if listed.Disk != "" {
		h.wrong("the edge cannot store, and answers 503 to Safaricom, which may not ask again: %s", listed.Disk)
	}
	if len(listed.Damaged) > 0 {
		h.asides("edge", data, listed.Damaged)
	}
	for _, e := range listed.Endpoints {
		n := endpointHealth{Name: e.Name, Stored: e.Stored, Delivered: e.Delivered, Waiting: e.Stored - min(e.Delivered, e.Stored), Held: e.Held, Limit: e.Limit, Lost: e.Lost}
		n.OldestWaiting, n.CertificateEnds = e.OldestUndelivered, e.Expires
		if e.Revoked.IsZero() {
			h.ending("the sidecar of endpoint "+e.Name, e.Expires, time.Now())
		}
		if e.Held > e.Limit/2 {
			h.wrong("endpoint %s holds %s that its sidecar has not fetched, and may hold %s: past that its callbacks are answered 503", e.Name, bytesText(e.Held), bytesText(e.Limit))
		}
		if e.Lost > 0 {
			h.wrong("the disk has lost %d callbacks of endpoint %s, and its sidecar was told: replace the disk", e.Lost, e.Name)
		}
		for _, l := range links.Links {
			if l.Endpoint != e.Name {
				continue
			}
			n.Connected, n.Since, n.Remote, n.Transport = true, l.Since, l.Remote, l.Transport
			if n.LastAck, n.Deaf = l.LastAck, l.deaf(); n.Deaf {
				h.wrong("the sidecar of endpoint %s is connected, and callbacks are not known to get through to it: hodi status there says more", e.Name)
			}
			if l.rival() {
				n.Rival = l.Rival
				h.wrong("two machines use the identity of endpoint %s, and take the link from each other: end the sidecar on one of them", e.Name)
			}
		}
		h.Edge.Endpoints = append(h.Edge.Endpoints, n)
	}
	return nil
}

// public tells of a certificate for Safaricom that nobody has renewed.
func (h *health) public(ends, now time.Time) {
	switch {
	case ends.IsZero() || ends.Sub(now) > enrol.Overdue:
	case ends.Before(now):
		h.wrong("the edge's public certificate ended on %s: Safaricom posts no callbacks to it. Renew it, with both files in their place it is taken within seconds; the edge's log says why ACME did not", ends.Format("2006-01-02"))
	default:
		h.wrong("the edge's public certificate ends on %s, and ought to have been renewed by now: past that Safaricom posts no callbacks to it. Its log says why not", ends.Format("2006-01-02"))
	}
}

func (p *edgeHealth) write(w io.Writer, now time.Time) {
	if !p.Running {
		item(w, "runs", "no")
		item(w, "data", p.Data)
		return
	}
	item(w, "runs", "on "+p.Data)
	if text, some := settingsItem(p.Settings); some {
		item(w, "settings", text)
	}
	if !p.CertificateEnds.IsZero() {
		item(w, "certificate", "the public one until "+p.CertificateEnds.Local().Format("2006-01-02"))
	}
	if p.Room != nil {
		item(w, "disk", roomText(p.Room))
	}
	if len(p.Notify) > 0 {
		item(w, "tells", tellsBy(p.Notify, now))
	}
	if len(p.Endpoints) == 0 {
		item(w, "endpoints", "none yet: hodi edge invite SHOP makes one")
	}
	shown, more := p.worth()
	for _, e := range shown {
		text := "away"
		if e.Connected {
			text = fmt.Sprintf("connected for %s, over %s", ago(now.Sub(e.Since)), cmp.Or(map[string]string{"quic": "QUIC", "websocket": "WebSocket"}[e.Transport], e.Transport))
		}
		if !e.Rival.IsZero() {
			text = "two machines use one identity; " + text
		}
		text = fmt.Sprintf("%s; %s stored, %s to be delivered", text, grouped(e.Stored), grouped(e.Waiting))
		if e.Waiting > 0 && !e.OldestWaiting.IsZero() {
			text += ", the oldest for " + ago(now.Sub(e.OldestWaiting))
		}
		item(w, e.Name, text)
	}
	if more > 0 {
		item(w, "", fmt.Sprintf("and %s more: hodi status --json has them all", plural(more, "endpoint")))
	}
}

// onScreen is how many endpoints have a place on it.
const onScreen = 8

// worth is the endpoints that are shown where there are many: those first that somebody may have to look after.
func (p *edgeHealth) worth() (shown []endpointHealth, more int) {
	if len(p.Endpoints) <= onScreen {
		return p.Endpoints, 0
	}
	shown = slices.Clone(p.Endpoints)
	rank := func(e endpointHealth) int {
		switch {
		case e.Deaf || e.Lost > 0 || !e.Rival.IsZero() || e.Held > e.Limit/2:
			return 0
		case !e.Connected && e.Waiting > 0:
			return 1
		case !e.Connected || e.Waiting > 0:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(shown, func(a, b endpointHealth) int { return rank(a) - rank(b) })
	return shown[:onScreen], len(shown) - onScreen
}
