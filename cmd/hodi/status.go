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
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/push"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "how the sidecar and the edge on this machine are: one screen, and 0 or 1",
		Description: "Ends with 0 if all is well, and with 1 and the reason if not: a daemon that has its state here and does not " +
			"answer, a sidecar without its link, two machines with one identity.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8787", Usage: "ask the sidecar at `ADDRESS`", EnvVars: []string{"HODI_SIDECAR_LISTEN"}},
			&cli.StringFlag{Name: "data", Usage: "whose state is in `DIR`, with the key that it is asked with", EnvVars: []string{"HODI_SIDECAR_DATA"}},
			&cli.StringFlag{Name: "edge-data", Usage: "ask the edge whose state is in `DIR`", EnvVars: []string{"HODI_EDGE_DATA"}},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"},
		},
		Action: showStatus,
	}
}

// rivalFor is how long two machines with one identity are told of: each of them waits a minute before it tries again.
const rivalFor = 3 * time.Minute

// health is what hodi status says. A daemon that is not there, and of which there is no state, is left out.
type health struct {
	Healthy  bool           `json:"healthy"`
	Problems []string       `json:"problems"`
	Sidecar  *sidecarHealth `json:"sidecar,omitempty"`
	Edge     *edgeHealth    `json:"edge,omitempty"`
}

func (h *health) wrong(format string, args ...any) {
	h.Problems = append(h.Problems, fmt.Sprintf(format, args...))
}

// endsSoon is how long before its end a certificate ought to have been renewed: that is tried for a month.
const endsSoon = 14 * 24 * time.Hour

// ending tells of a certificate that nobody has renewed.
func (h *health) ending(whose string, ends, now time.Time) {
	switch {
	case ends.IsZero() || ends.Sub(now) > endsSoon:
	case ends.Before(now):
		h.wrong("the certificate of %s ended on %s: it renews it by itself when it reaches the edge, for 90 days from then; after that, hodi edge invite", whose, ends.Format("2006-01-02"))
	default:
		h.wrong("the certificate of %s ends on %s, and ought to have been renewed by now: its log says why not", whose, ends.Format("2006-01-02"))
	}
}

// asides tells of databases that were damaged, for as long as they lie there.
func (h *health) asides(of, data string, names []string) {
	h.wrong("the %s's disk has damaged its database, which lies in %s as %s: the log says what became of it. When it is of no more use, move it elsewhere", of, data, strings.Join(names, ", "))
}

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
	Dev           bool
	Time, Started time.Time
	Head          push.Cursor
	Disk          string
	Callbacks     map[string]int64
	Gaps          []sidecarGap
	Forward       *forwardState
	Asking        asking
	Clock         string
	Subscribers   int
	Link          *struct {
		Connected                           bool
		Since, Rival                        time.Time
		Edge, Remote, Transport, Why, Error string
		RTTMs                               float64
		SkewMs                              int64
		NoWordSince                         time.Time
		Epoch                               uint64
		Undelivered                         *uint64
		CanarySeconds                       float64
		Delivered, CertificateEnds          time.Time
		Delivering                          *bool // nil: of a sidecar from before there were canaries
	}
}

type edgeHealth struct {
	Data      string           `json:"data"`
	Running   bool             `json:"running"`
	Disk      string           `json:"disk,omitempty"`    // why nothing can be stored
	Damaged   []string         `json:"damaged,omitempty"` // databases that were moved aside
	Mishaps   []mishap         `json:"mishaps,omitempty"` // what the disk did to the journal in the last week
	Endpoints []endpointHealth `json:"endpoints"`
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

func showStatus(c *cli.Context) error {
	h := &health{Problems: []string{}}
	if err := askSidecar(c, h); err != nil {
		return err
	}
	if err := askEdge(c, h); err != nil {
		return err
	}
	if h.Sidecar == nil && h.Edge == nil {
		h.wrong("neither a sidecar nor an edge runs here, as far as the settings say. Start one (hodi sidecar, hodi edge), or say where it is: --listen and --data, --edge-data")
	}
	h.Healthy = len(h.Problems) == 0
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		if err := e.Encode(h); err != nil {
			return err
		}
	} else {
		h.write(c.App.Writer, time.Now())
	}
	if !h.Healthy {
		return errSaid
	}
	return nil
}

func askSidecar(c *cli.Context, h *health) error {
	settings, _, err := loadFile(c, "sidecar")
	if err != nil {
		return err
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

func askEdge(c *cli.Context, h *health) error {
	settings, _, err := loadFile(c, "edge")
	if err != nil {
		return err
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
		Disk      string
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
	h.mishaps(listed.Mishaps)
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// write writes it for people, within the width of a terminal.
func (h *health) write(w io.Writer, now time.Time) {
	if p := h.Sidecar; p != nil {
		fmt.Fprintln(w, "sidecar")
		p.write(w, now)
		fmt.Fprintln(w)
	}
	if p := h.Edge; p != nil {
		fmt.Fprintln(w, "edge")
		p.write(w, now)
		fmt.Fprintln(w)
	}
	if h.Healthy {
		fmt.Fprintln(w, "All is well.")
	}
	for _, problem := range h.Problems {
		paragraph(w, "Not well: "+problem+".")
	}
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
			item(w, "round trip", fmt.Sprintf("%.3g ms", l.RTTMs))
			if !l.CertificateEnds.IsZero() {
				item(w, "certificate", "until "+l.CertificateEnds.Local().Format("2006-01-02")+", and renewed before")
			}
		} else if l.Error != "" {
			item(w, "because", strings.TrimPrefix(l.Error, "tunnel: "))
		}
		switch {
		case l.Undelivered == nil:
			item(w, "undelivered", "not known without a link")
		case *l.Undelivered == 0:
			item(w, "undelivered", "nothing")
		default:
			item(w, "undelivered", grouped(*l.Undelivered)+" callbacks of before the link are still to come")
		}
	}
	item(w, "callbacks", counted(is.Callbacks))
	writeGaps(w, is.Gaps)
	if is.Forward != nil {
		for _, l := range is.Forward.lines(now) {
			item(w, l[0], l[1])
		}
	}
	writeAsking(w, is.Asking)
	if is.Clock != "" {
		item(w, "clock", "wrong: "+plain(is.Clock))
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

func (p *edgeHealth) write(w io.Writer, now time.Time) {
	if !p.Running {
		item(w, "runs", "no")
		item(w, "data", p.Data)
		return
	}
	item(w, "runs", "on "+p.Data)
	if len(p.Endpoints) == 0 {
		item(w, "endpoints", "none yet: hodi edge invite SHOP makes one")
	}
	for _, e := range p.Endpoints {
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
}

// item writes a line of what is known, wrapped.
func item(w io.Writer, name, text string) {
	const first = 13
	if len(name) > first {
		fmt.Fprintf(w, "  %s\n", name)
		name = ""
	}
	for _, line := range wrap(text, width-first-4) {
		fmt.Fprintf(w, "  %-*s  %s\n", first, name, line)
		name = ""
	}
}

// grouped writes a number as people read it: 1,204.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
