package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hodihq/hodi/daemon/console"
	"github.com/hodihq/hodi/daemon/forward"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
)

// How the merchant's app gets its callbacks: package forward gives them to it. Here are the secrets that they are signed with,
// and what an operator sees and may do.

// ForwardSecret is the name of the file in Dir that requests to the app are signed with, unless Config names another.
const ForwardSecret = "forward.secret"

// prepareForward makes ready what gives callbacks to the app, and says how it is to do that: to nobody, where there is no app.
// s.reloading is held, or nobody knows of s yet.
func (s *Sidecar) prepareForward(ctx context.Context, set *settings) (app forward.Config, err error) {
	c := set.config
	if c.Forward == "" {
		return app, nil
	}
	u, err := forward.Address(c.Forward, c.ForwardInsecure)
	if err != nil {
		return app, err
	}
	if own := c.Listener.Addr().String(); u.Host == own {
		return app, fmt.Errorf("forward: %s is this sidecar itself: write your app's address", u.Host)
	}
	path := c.ForwardSecretFile
	if path == "" {
		path = filepath.Join(c.Dir, ForwardSecret)
		if err := makeSecret(path); err != nil {
			return app, err
		}
	}
	secrets, err := loadSecrets(path, s.log)
	if err != nil {
		return app, err
	}
	if _, err := s.table.Outbox(ctx); err != nil { // it begins here, before anything can come that would be from before it began
		return app, err
	}
	app = forward.Config{
		Table: s.table, URL: c.Forward, Secrets: secrets.get, AtOnce: c.ForwardAtOnce,
		Transport: c.ForwardHTTP, Logger: s.log, Tried: s.tally.tried,
	}
	if s.forwarder == nil {
		if s.forwarder, err = forward.New(app); err != nil {
			return app, err
		}
		s.forwards <- s.forwarder
	}
	set.forward = s.forwarder
	return app, nil
}

// makeSecret makes one where there is none.
func makeSecret(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var b [32]byte
	rand.Read(b[:])
	if err := salvage.WriteFile(path, []byte("whsec_"+base64.StdEncoding.EncodeToString(b[:])+"\n")); err != nil {
		return fmt.Errorf("make a secret: %w", err)
	}
	return nil
}

// secrets are the lines of a file, which is read again when it changes: while it has two, every request has a signature of each,
// and the app can change over from one to the other. What cannot be read leaves those in use that were.
type secrets struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	list   []string
	of     time.Time // when the file was changed
	looked time.Time
}

func loadSecrets(path string, log *slog.Logger) (*secrets, error) {
	s := &secrets{path: path, log: log, looked: time.Now()}
	if err := s.read(); err != nil {
		return nil, fmt.Errorf("the secret for the app: %w", err)
	}
	return s, nil
}

func (s *secrets) read() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	text, err := secret.Read(s.path)
	if err != nil {
		return err
	}
	list := strings.Fields(string(text))
	if len(list) == 0 {
		return fmt.Errorf("%s is empty", s.path)
	}
	for _, one := range list {
		if err := forward.CheckSecret(one); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	s.list, s.of = list, info.ModTime()
	return nil
}

func (s *secrets) get() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.looked).Abs() < lookEvery {
		return s.list
	}
	s.looked = now
	info, err := os.Stat(s.path)
	if err == nil && info.ModTime().Equal(s.of) {
		return s.list
	}
	if err == nil {
		err = s.read()
	}
	if err != nil {
		s.log.Warn("sidecar: the new secret for the app cannot be used, so callbacks are signed with the old one", "err", err)
	} else {
		s.log.Info("sidecar: callbacks are signed with other secrets", "secrets", len(s.list))
	}
	return s.list
}

// forwardView is how it stands with what the app is to be given.
type forwardView struct {
	URL     string     `json:"url"`
	Live    bool       `json:"live"` // real money
	Since   *push.Time `json:"since,omitempty"`
	Paused  *push.Time `json:"paused,omitempty"`
	Why     string     `json:"why,omitempty"`
	Waiting int        `json:"waiting"`              // not handled yet
	Oldest  *push.Time `json:"oldest,omitempty"`     // when the first of those came to the edge
	Dead    int        `json:"dead"`                 // given up
	Handled *push.Time `json:"handled,omitempty"`    // the last, since this sidecar was started
	Status  int        `json:"lastStatus,omitempty"` // the app's last answer
}

// forwarding says how forwarding is; nil if callbacks are not forwarded.
func (s *Sidecar) forwarding(ctx context.Context) (*forwardView, error) {
	set := s.settings.Load()
	if set.forward == nil {
		return nil, nil
	}
	f, err := s.table.Forwarding(ctx)
	if err != nil {
		return nil, err
	}
	handled, status := set.forward.Last()
	return &forwardView{
		URL: forward.Shown(set.config.Forward), Live: set.live(), Since: maybe(f.Began), Paused: maybe(f.Paused), Why: f.Why,
		Waiting: f.Waiting, Oldest: maybe(f.Oldest), Dead: f.Dead, Handled: maybe(handled), Status: status,
	}, nil
}

// maybe is a time, or nothing.
func maybe(t time.Time) *push.Time {
	if t.IsZero() {
		return nil
	}
	return &push.Time{Time: t}
}

func notForwarding() *problem {
	return problemf(http.StatusConflict, "not-forwarding", "callbacks are not forwarded: set forward to your app's address")
}

func (s *Sidecar) getForward(w http.ResponseWriter, r *http.Request) *problem {
	view, err := s.forwarding(r.Context())
	switch {
	case err != nil:
		return s.internal("see how forwarding is", err)
	case view == nil:
		return notForwarding()
	}
	reply(w, http.StatusOK, view)
	return nil
}

// pauseForward stops forwarding, or lets it go on.
func (s *Sidecar) pauseForward(pause bool) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		f := s.settings.Load().forward
		if f == nil {
			return notForwarding()
		}
		act := f.Resume
		if pause {
			act = f.Pause
		}
		if err := act(context.WithoutCancel(r.Context()), console.Who(r)); err != nil {
			return s.internal("pause forwarding, or resume it", err)
		}
		return s.getForward(w, r)
	}
}

// replayMost is how many callbacks can be named at a time.
const replayMost = 500

// replay gives callbacks to the app once more; with "only": true it says how many those would be.
func (s *Sidecar) replay(w http.ResponseWriter, r *http.Request) *problem {
	set := s.settings.Load()
	if set.forward == nil {
		return notForwarding()
	}
	var in struct {
		IDs  []string  `json:"ids"`
		From time.Time `json:"from"`
		To   time.Time `json:"to"`
		Dead bool      `json:"dead"`
		Only bool      `json:"only"`
	}
	if p := readJSON(w, r, &in); p != nil {
		return p
	}
	ways := 0
	for _, given := range []bool{len(in.IDs) > 0, !in.From.IsZero() || !in.To.IsZero(), in.Dead} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return badRequest("say which: ids, or from and to, or dead")
	case len(in.IDs) > replayMost:
		return badRequest("at most %d ids at a time", replayMost)
	case in.From.IsZero() != in.To.IsZero() || in.From.After(in.To):
		return badRequest("from and to are two times, in this order")
	}
	for _, id := range in.IDs {
		if _, err := push.ParseCursor(id); err != nil {
			return badRequest("an id has the form of 019a2b3c4d5e-0000000000000007: hodi callbacks lists them")
		}
	}
	ctx := context.WithoutCancel(r.Context())
	done, err := s.table.Replay(ctx, correlate.Again{IDs: in.IDs, From: in.From, To: in.To, Dead: in.Dead, Only: in.Only, Who: console.Who(r)})
	if err != nil {
		return s.internal("replay callbacks", err)
	}
	reply(w, http.StatusOK, struct {
		URL       string `json:"url"`
		Live      bool   `json:"live"`
		Callbacks int    `json:"callbacks"`
		Waiting   int    `json:"waiting"`
		Withheld  int    `json:"withheld"`
		Erased    int    `json:"erased"`
		Unknown   int    `json:"unknown"`
	}{forward.Shown(set.config.Forward), set.live(), done.Callbacks, done.Waiting, done.Withheld, done.Erased, done.Unknown})
	return nil
}

// appView is what became of a callback at the app.
type appView struct {
	State    string     `json:"state"` // waiting, handled, dead, withheld
	Handled  *push.Time `json:"handled,omitempty"`
	Attempts int        `json:"attempts"`
	Status   int        `json:"status,omitempty"` // its last answer
	Error    string     `json:"error,omitempty"`  // why there was none
	Last     *push.Time `json:"last,omitempty"`
	Next     *push.Time `json:"next,omitempty"`
	Replay   bool       `json:"replay,omitempty"`
}

func appViewOf(h correlate.Handling) *appView {
	if h.State == "" {
		return nil
	}
	v := &appView{State: h.State, Attempts: h.Attempts, Status: h.Status, Error: h.Error, Last: maybe(h.Last), Next: maybe(h.Due), Replay: h.Replay}
	if h.State == correlate.AppHandled {
		v.Handled = v.Last
	}
	return v
}
