package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/push"
)

// sidecarHealth is how the sidecar on this machine is.
type sidecarHealth struct {
	URL     string          `json:"url"`
	Data    string          `json:"data"`
	Running bool            `json:"running"`
	Damaged []string        `json:"damaged,omitempty"` // databases that were moved aside
	Status  json.RawMessage `json:"status,omitempty"`  // as GET /status says it
	is      sidecarStatus
}

// sidecarStatus is what is shown of a sidecar's own answer.
type sidecarStatus struct {
	Settings      *reload.Outcome
	Version       string
	Goroutines    int
	Dev           bool
	Time, Started time.Time
	Head          push.Cursor
	Disk          string
	Room          *room.State
	Callbacks     map[string]int64
	Held          *struct {
		Callbacks uint64
		Oldest    time.Time
	}
	Gaps        []sidecarGap
	Forward     *forwardState
	Asking      asking
	Clock       string
	Subscribers int
	Link        *struct {
		Connected                           bool
		Since, Rival                        time.Time
		Edge, Remote, Transport, Why, Error string
		RTTMs                               float64
		SkewMs                              int64
		NoWordSince                         time.Time
		Epoch                               uint64
		Undelivered                         *uint64
		Reached                             time.Time
		BytesToday                          *bytesToday // nil: of a sidecar that does not count them
		CanarySeconds                       float64
		Delivered, CertificateEnds          time.Time
		Delivering                          *bool // nil: of a sidecar from before there were canaries
	}
}

func askSidecar(c *cli.Context, h *health) error {
	settings, _, err := loadFile(c, "sidecar")
	if err != nil { // as far as it could be read
		h.unread(err)
	}
	s := settings.Sidecar
	over(c, "listen", &s.Listen)
	over(c, "data", &s.Data)
	told := c.IsSet("listen") || c.IsSet("data") || settings.Sidecar.Listen != "" || settings.Sidecar.Edge != ""
	if s.Data == "" {
		if s.Data, err = stateDir("sidecar/default"); err != nil {
			return err
		}
	}
	p := &sidecarHealth{URL: "http://" + reachable(s.Listen), Data: s.Data}
	err = p.ask(c.Context)
	if refused := new(net.OpError); errors.As(err, &refused) && refused.Op == "dial" {
		if !told && !exists(filepath.Join(s.Data, "sidecar.db")) {
			return nil
		}
		h.wrong("no sidecar answers at %s: start it (hodi sidecar), or say where it serves with --listen", reachable(s.Listen))
		h.Sidecar = p
		return nil
	}
	h.Sidecar = p
	if err != nil {
		h.wrong("the sidecar at %s: %v", reachable(s.Listen), err)
		return nil
	}
	p.Running = true
	if p.is.Disk != "" {
		h.wrong("the sidecar cannot store: %s", p.is.Disk)
	}
	h.settings("sidecar", p.is.Settings)
	h.room("sidecar", s.Data, p.is.Room)
	if p.Damaged = salvage.Found(filepath.Join(s.Data, "sidecar.db")); len(p.Damaged) > 0 {
		h.asides("sidecar", s.Data, p.Damaged)
	}
	h.gaps(p.is.Gaps, p.is.Time)
	h.forward(p.is.Forward, p.is.Time)
	h.asking(p.is.Asking, p.is.Time)
	if p.is.Clock != "" {
		h.wrong("%s: days in the books, today at the till, and how long things last go by it. Set it, and switch time synchronisation on (timedatectl set-ntp true)", plain(p.is.Clock))
	}
	if l := p.is.Link; l != nil {
		h.ending("this sidecar", l.CertificateEnds, p.is.Time)
		rival := !l.Rival.IsZero() && p.is.Time.Sub(l.Rival) < rivalFor
		switch {
		case rival:
			h.wrong("two machines use the identity of this sidecar, and take the link from each other: end the sidecar on one of them, or give it an endpoint of its own (hodi edge invite)")
		case !l.Connected:
			quiet := ""
			if !l.NoWordSince.IsZero() {
				quiet = ", and there is no word from it since " + l.NoWordSince.Local().Format("2006-01-02 15:04") + "; pages and apps are answered from what is here"
			}
			h.wrong("the sidecar has no link to its edge: callbacks wait there%s", quiet)
		case l.Delivering == nil || *l.Delivering || p.is.Time.Sub(l.Since) < unproved(l.CanarySeconds):
		case !l.Delivered.IsZero():
			h.wrong("the link is up, and nothing has come over it for %s: see whether the disk here, or the edge's, is full or stuck", ago(p.is.Time.Sub(l.Delivered)))
		default:
			h.wrong("the link is up, and nothing has come over it yet: see whether the disk here, or the edge's, is full or stuck")
		}
	}
	return nil
}

// ask asks a sidecar, with the key in its folder. A sidecar in dev asks for none.
func (p *sidecarHealth) ask(ctx context.Context) error {
	key, err := os.ReadFile(filepath.Join(p.Data, "api.key"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/status", nil)
	if err != nil {
		return err
	}
	if len(key) > 0 {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	// Nothing stands between: no proxy, and no redirect takes the key elsewhere.
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusBadRequest && console.Ask(ctx, p.Data, operator(), http.MethodGet, "/status", nil, &p.Status) == nil: // it speaks TLS there, under a name that we do not know
		body = p.Status
	case response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("it wants a key, and that in %s is not the one: name its folder with --data", p.Data)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("it answers %s", response.Status)
	}
	p.Status = body
	if err := json.Unmarshal(body, &p.is); err != nil {
		p.Status = nil
		return errors.New("what answers there is no sidecar")
	}
	return nil
}

// reachable is where a daemon that listens on an address can be reached from its own machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (p *sidecarHealth) write(w io.Writer, now time.Time) {
	if !p.Running {
		item(w, "runs", "no, or not at "+p.URL)
		item(w, "data", p.Data)
		return
	}
	is := p.is
	runs := fmt.Sprintf("for %s, at %s", ago(now.Sub(is.Started)), p.URL)
	if is.Dev {
		runs += ", for development"
	}
	item(w, "runs", runs)
	if l := is.Link; l == nil {
		item(w, "link", "none: no edge is set")
	} else {
		state, since := "down", ""
		if l.Connected {
			state = "up"
		}
		if !l.Since.IsZero() {
			since = " for " + ago(now.Sub(l.Since))
		} else if !l.Connected {
			since = ": there was none yet"
		}
		to := l.Edge
		if l.Remote != "" && l.Remote != l.Edge {
			to += " (" + l.Remote + ")"
		}
		item(w, "link", state+since)
		item(w, "edge", to)
		if l.Connected {
			over := map[string]string{"quic": "QUIC", "websocket": "WebSocket"}[l.Transport]
			if over = cmp.Or(over, l.Transport); l.Why != "" {
				over += ", because " + l.Why
			}
			item(w, "transport", over)
			switch {
			case l.CanarySeconds == 0:
				item(w, "delivers", "not known: the edge is older, and sends no canaries")
			case !l.Delivered.IsZero():
				item(w, "delivers", fmt.Sprintf("last heard of %s ago", ago(now.Sub(l.Delivered))))
			default:
				item(w, "delivers", "nothing has come yet")
			}
			item(w, "round trip", fmt.Sprintf("%.1f ms", l.RTTMs))
			if is.Clock == "" {
				item(w, "clock", "within "+skewText(l.SkewMs)+" of the edge's")
			}
			if !l.CertificateEnds.IsZero() {
				item(w, "certificate", "until "+l.CertificateEnds.Local().Format("2006-01-02")+", and renewed before")
			}
		} else if l.Error != "" {
			item(w, "because", strings.TrimPrefix(l.Error, "tunnel: "))
		}
		if l.BytesToday != nil {
			item(w, "bytes today", l.BytesToday.text())
		}
	}
	if is.Clock != "" {
		item(w, "clock", "wrong: "+plain(is.Clock))
	}
	is.writeUndelivered(w, now)
	item(w, "callbacks", counted(is.Callbacks))
	writeGaps(w, is.Gaps)
	if is.Forward != nil {
		for _, l := range is.Forward.lines(now) {
			if l[0] != "not handled" { // which is said above
				item(w, l[0], l[1])
			}
		}
	}
	writeAsking(w, is.Asking)
	if is.Room != nil {
		item(w, "disk", roomText(is.Room))
	}
	if text, some := settingsItem(is.Settings); some {
		item(w, "settings", text)
	}
	item(w, "subscribers", strconv.Itoa(is.Subscribers))
	item(w, "history", fmt.Sprintf("began %s, %s events since", time.UnixMilli(int64(is.Head.Epoch)).Format("2006-01-02 15:04"), grouped(is.Head.Seq)))
}

// counted says how many callbacks there are, by what became of them.
func counted(by map[string]int64) string {
	var words []string
	for _, state := range []string{"applied", "unmatched", "unparsed", "recorded", "held", "suspect", "forged"} {
		if n := by[state]; n > 0 || state == "applied" {
			words = append(words, grouped(uint64(n))+" "+state)
		}
	}
	return strings.Join(words, ", ")
}
