package edge

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel"
)

// The operator's routes, on a socket that only the edge's own user may open:
//
//	POST   /endpoints/{name}/invite {"edge"?, "seconds"?}  makes a join code, and the endpoint if there is none: {"endpoint",
//	                                             "code", "expires", "edge", "callback", "new"}; the code is told once
//	DELETE /endpoints/{name}/invite              revokes it
//	DELETE /endpoints/{name}/sidecar             revokes the endpoint's sidecar
//	GET    /endpoints                            {"endpoints": [...], "mishaps": [...], "damaged": [...], "room", "settings",
//	                                             "certificateEnds", "version", "goroutines", "disk"}: and what the
//	                                             disk did to the journal in the last seven days (lines of the audit), databases
//	                                             that were moved aside, how much room there is, what came of reading the
//	                                             settings again, the public certificate's end, and why nothing can be stored, if so
//	POST   /endpoints/{name}/keys {"name"?}      adds a key
//	DELETE /endpoints/{name}/keys/{key-name}     retires one
//	GET    /links                                {"links": [...]}
//	GET    /audit?before=&limit=                 {"audit": [...]}: the newest lines, or those before one; oldest first
//	GET    /notify                               {"ways": [...]}: those by which a person is told, and how each is
//	POST   /notify/test                          tells a person that this is a test: {"answers": [{"way", "error"?}]}
//
// A request may say who asks, in the header Hodi-Operator: for the audit. Whoever reaches the socket is the operator.

func (e *Edge) adminServer() *server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /endpoints/{name}/invite", e.adminInvite)
	mux.HandleFunc("DELETE /endpoints/{name}/invite", e.adminUninvite)
	mux.HandleFunc("DELETE /endpoints/{name}/sidecar", e.adminRevoke)
	mux.HandleFunc("GET /endpoints", e.adminEndpoints)
	mux.HandleFunc("POST /endpoints/{name}/keys", e.adminAddKey)
	mux.HandleFunc("DELETE /endpoints/{name}/keys/{key}", e.adminRetireKey)
	mux.HandleFunc("GET /links", e.adminLinks)
	mux.HandleFunc("GET /audit", e.adminAudit)
	mux.HandleFunc("GET /notify", e.adminNotify)
	mux.HandleFunc("POST /notify/test", e.adminNotifyTest)
	return newServer(mux, e.log)
}

func (e *Edge) adminInvite(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Edge    string
		Seconds int64
	}
	if !read(w, r, &in) {
		return
	}
	life := time.Duration(min(max(in.Seconds, -1), int64(MaxInviteLife/time.Second)+1)) * time.Second
	invitation, err := e.Invite(r.Context(), console.Who(r), r.PathValue("name"), in.Edge, life)
	if err != nil {
		adminError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, http.StatusCreated, invitation)
}

func (e *Edge) adminUninvite(w http.ResponseWriter, r *http.Request) {
	if err := e.Uninvite(r.Context(), console.Who(r), r.PathValue("name")); err != nil {
		adminError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (e *Edge) adminRevoke(w http.ResponseWriter, r *http.Request) {
	if err := e.Revoke(r.Context(), console.Who(r), r.PathValue("name")); err != nil {
		adminError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

type shownEndpoint struct {
	Endpoint
	Callback  string `json:"callback"`
	Connected bool   `json:"connected"`
	Oldest    uint64 `json:"oldest"`
	Head      uint64 `json:"head"`
	Acked     uint64 `json:"acked"`
	Stored    uint64 `json:"stored"`         // how many callbacks there have been: of the numbers up to head, without those of canaries
	Delivered uint64 `json:"delivered"`      // of them, up to acked
	Lost      int    `json:"lost,omitempty"` // entries that were found to be unreadable
	Held      int64  `json:"held"`           // bytes that the sidecar has not acknowledged
	Limit     int64  `json:"limit"`          // and how many there may be

	Undelivered time.Time `json:"oldestUndelivered,omitzero"` // when the oldest came that the sidecar has not acknowledged
}

// delivers reports whether callbacks are known to get through to every sidecar that is connected.
func (e *Edge) delivers() bool {
	now := time.Now()
	return !slices.ContainsFunc(e.tunnel.Links(), func(l tunnel.Link) bool { return !l.Delivering(now) })
}

// mishapFor is how long it is told what the disk did to the journal.
const mishapFor = 7 * 24 * time.Hour

func (e *Edge) adminEndpoints(w http.ResponseWriter, r *http.Request) {
	list, err := e.standing(r.Context())
	if err != nil {
		adminError(w, err)
		return
	}
	mishaps, err := e.directory.audit.mishaps(r.Context(), time.Now().Add(-mishapFor))
	if err != nil {
		adminError(w, err)
		return
	}
	all := map[string]any{"version": e.config.Version, "goroutines": runtime.NumGoroutine(), "endpoints": list, "mishaps": mishaps, "damaged": salvage.Found(filepath.Join(e.config.Dir, databaseFile))}
	if o := e.reloaded.Load(); o != nil {
		all["settings"] = o // what came of reading them again
	}
	if ends := e.certificateEnds(); !ends.IsZero() {
		all["certificateEnds"] = ends.UTC()
	}
	if there, err := room.StateOf(filepath.Join(e.config.Dir, databaseFile)); err == nil {
		all["room"] = there
	}
	if err := e.ingress.stores(r.Context()); err != nil {
		all["disk"] = err.Error()
	}
	answer(w, http.StatusOK, all)
}

func (e *Edge) adminAddKey(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name, Kind string }
	if !read(w, r, &in) {
		return
	}
	k, err := e.AddKey(r.Context(), console.Who(r), r.PathValue("name"), in.Name, in.Kind)
	if err != nil {
		adminError(w, err)
		return
	}
	answer(w, http.StatusCreated, k)
}

func (e *Edge) adminRetireKey(w http.ResponseWriter, r *http.Request) {
	if err := e.RetireKey(r.Context(), console.Who(r), r.PathValue("name"), r.PathValue("key")); err != nil {
		adminError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

type shownLink struct {
	Endpoint   string    `json:"endpoint"`
	Instance   string    `json:"instance"`
	Generation uint64    `json:"generation"`
	Remote     string    `json:"remote"`
	Since      time.Time `json:"since"`
	Acked      uint64    `json:"acked"`
	Transport  string    `json:"transport"`
	Rival      time.Time `json:"rival,omitzero"` // when two machines were last seen to use this endpoint's identity

	Canary     float64   `json:"canarySeconds,omitempty"` // between two canaries; absent: the sidecar is older, and asked for none
	LastAck    time.Time `json:"lastAck,omitzero"`        // when the sidecar last acknowledged a callback or a canary
	Delivering bool      `json:"delivering"`              // that was not long ago
}

func (e *Edge) adminLinks(w http.ResponseWriter, r *http.Request) {
	list, now := []shownLink{}, time.Now()
	for _, l := range e.tunnel.Links() {
		list = append(list, shownLink{l.Endpoint, hex.EncodeToString(l.Instance[:]), l.Generation, l.Remote, l.Since.UTC(), l.Acked, l.Transport, l.Rival.UTC(),
			l.Canary.Seconds(), l.Delivered.UTC(), l.Delivering(now)})
	}
	answer(w, http.StatusOK, map[string]any{"links": list})
}

const auditPage = 1000 // lines in one answer

func (e *Edge) adminAudit(w http.ResponseWriter, r *http.Request) {
	before, err := number(r, "before", 0)
	limit, lerr := number(r, "limit", auditPage)
	if err := errors.Join(err, lerr); err != nil {
		adminError(w, err)
		return
	}
	list, err := e.directory.audit.list(r.Context(), before, int(min(limit, auditPage)))
	if err != nil {
		adminError(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"audit": list})
}

func number(r *http.Request, name string, otherwise int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s is a number", errInvalid, name)
	}
	return n, nil
}

// read reads a small JSON object; none at all is an empty one.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && err != io.EOF {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("the body is not what is expected: %v", err))
		return false
	}
	return true
}

func adminError(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, errExists):
		status = http.StatusConflict
	case errors.Is(err, errUnknown):
		status = http.StatusNotFound
	case errors.Is(err, errInvalid):
		status = http.StatusBadRequest
	}
	refuse(w, status, err.Error())
}

func (e *Edge) adminNotify(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"ways": e.notifier.States()})
}

func (e *Edge) adminNotifyTest(w http.ResponseWriter, r *http.Request) {
	answers := e.notifier.Test(r.Context())
	for _, a := range answers {
		e.log.Info("a person was told that this is a test", "by", a.Way, "err", a.Error, "who", console.Who(r))
	}
	answer(w, http.StatusOK, map[string]any{"answers": answers})
}
