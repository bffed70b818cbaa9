package edge_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/tunnel"
)

// said is what there is to say of endpoint duka, by kind.
func said(list []notify.Condition) map[notify.Kind]notify.Condition {
	all := make(map[notify.Kind]notify.Condition)
	for _, c := range list {
		all[c.Kind] = c
	}
	return all
}

func TestASidecarIsSilentTenMinutesAfterItWasLastKnownToGetCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := time.Now().Add(-24 * time.Hour)
		o := edge.NewOutlook()
		seen, never, revoked := edge.Endpoint{Name: "duka", Seen: before}, edge.Endpoint{Name: "never"}, edge.Endpoint{Name: "gone", Seen: before, Revoked: before}
		var sign []tunnel.Sign
		want := func(after time.Duration, phase notify.Phase, why string) notify.Condition {
			t.Helper()
			time.Sleep(after)
			list := o.Silence([]edge.Endpoint{seen, never, revoked}, sign)
			i := slices.IndexFunc(list, func(c notify.Condition) bool { return c.Subject == "duka" })
			switch {
			case slices.ContainsFunc(list, func(c notify.Condition) bool { return c.Subject == "never" }):
				t.Errorf("%s: of one that was never connected: %+v", why, list)
			case !slices.ContainsFunc(list, func(c notify.Condition) bool { return c.Subject == "gone" && c.Phase == notify.Moot }):
				t.Errorf("%s: one that was revoked is not moot: %+v", why, list)
			case i < 0 && phase >= 0, i >= 0 && list[i].Phase != phase:
				t.Errorf("%s: it says %+v, want the phase %d", why, list, phase)
			}
			if i < 0 {
				return notify.Condition{}
			}
			return list[i]
		}
		const well = notify.Phase(-1)

		want(0, notify.Unsure, "the edge has just begun")
		want(9*time.Minute+59*time.Second, notify.Unsure, "sidecars have ten minutes to come back")
		if c := want(time.Second, notify.Lasts, "ten minutes after the edge began"); !c.Since.Equal(before) {
			t.Errorf("it is silent since %v, and was last seen %v", c.Since, before)
		}

		sign = []tunnel.Sign{{Endpoint: "duka", Connected: true}}
		want(time.Second, well, "a sidecar that asks for no proof is connected")
		sign = []tunnel.Sign{{Endpoint: "duka", Left: time.Now()}}
		left := time.Now()
		want(9*time.Minute, notify.Unsure, "it has left")
		if c := want(time.Minute, notify.Lasts, "ten minutes after it left"); !c.Since.Equal(left) {
			t.Errorf("it is silent since %v, and left at %v", c.Since, left)
		}

		sign = []tunnel.Sign{{Endpoint: "duka", Connected: true, Canary: 30 * time.Second, Delivered: time.Now()}}
		want(time.Minute, well, "it acknowledges")
		proved := time.Now() // the last time that it was known
		want(time.Minute, notify.Unsure, "three canaries are not acknowledged")
		want(8*time.Minute, notify.Unsure, "it is not ten minutes yet")
		if c := want(time.Minute, notify.Lasts, "for ten minutes nothing was"); !c.Since.Equal(proved) {
			t.Errorf("it is silent since %v, and was last known to get callbacks at %v", c.Since, proved)
		}
		sign[0].Connected, sign[0].Left = false, time.Now()
		want(time.Second, notify.Lasts, "it comes and goes, and acknowledges nothing")
		sign[0].Delivered = time.Now()
		want(time.Second, notify.Unsure, "it came, acknowledged, and went, and nobody looked")
		sign[0].Connected = true
		want(time.Second, well, "it acknowledges again")
	})
}

func TestACertificateIsToldOfTwoWeeksBeforeItsEndAndAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := edge.NewOutlook()
		now := time.Now()
		duka := edge.Endpoint{Name: "duka", Seen: now, Expires: now.Add(15 * 24 * time.Hour)}
		never := edge.Endpoint{Name: "never", Expires: duka.Expires}
		phases := func(after time.Duration) (soon, over notify.Phase) {
			t.Helper()
			time.Sleep(after)
			o.Silence([]edge.Endpoint{duka, never}, nil)
			list := o.Certificates([]edge.Endpoint{duka, never})
			if slices.ContainsFunc(list, func(c notify.Condition) bool { return c.Subject != "duka" }) {
				t.Errorf("of others: %+v", list)
			}
			all := said(list)
			soon, over = -1, -1
			if c, ok := all[notify.Certificate]; ok {
				soon = c.Phase
			}
			if c, ok := all[notify.Ended]; ok {
				over = c.Phase
			}
			return soon, over
		}
		for _, step := range []struct {
			after      time.Duration
			soon, over notify.Phase
		}{
			{0, -1, -1},
			{24 * time.Hour, notify.Lasts, -1},
			{14*24*time.Hour - time.Second, notify.Lasts, -1},
			{time.Second, notify.Moot, notify.Lasts},
			{91 * 24 * time.Hour, notify.Moot, notify.Moot}, // it cannot be renewed any more
		} {
			if soon, over := phases(step.after); soon != step.soon || over != step.over {
				t.Errorf("%v later it ends soon %d, has ended %d; want %d, %d", step.after, soon, over, step.soon, step.over)
			}
		}
		duka.Revoked = time.Now()
		if soon, over := phases(0); soon != notify.Moot || over != notify.Moot {
			t.Errorf("of one that was revoked: %d, %d", soon, over)
		}
	})
}

// told is a way that hands over what it is given.
type told chan notify.Message

func (told) Name() string { return "told" }

func (c told) Send(ctx context.Context, m notify.Message) error {
	select {
	case c <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait waits until a person is told of something. The disk of this machine may have little room, and that is told of, too.
func (c told) wait(t *testing.T, kind notify.Kind) (notify.Message, notify.Item) {
	t.Helper()
	patience := time.After(5 * time.Minute)
	for {
		select {
		case m := <-c:
			for _, i := range m.Items {
				if i.Kind == kind {
					return m, i
				}
			}
		case <-patience:
			t.Fatalf("nobody was told of %s", kind)
		}
	}
}

func TestAPersonIsToldOfCallbacksThatASidecarHasNotBelieved(t *testing.T) {
	hears := make(told)
	w := start(t, edge.Config{PublicURL: "https://hooks.example.co.ke", Notify: []notify.Way{hears}})
	s := &sink{got: make(chan string, 10)}
	var count atomic.Uint64
	client := &tunnel.Client{Edge: w.udp, TLS: w.sidecar("duka"), Sink: s, Doubts: count.Load}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	count.Store(3) // said with the next Ack, or with Hello, whichever is later
	w.wantPost("http://"+w.http+path(w.callback), "a forgery", 200)
	if m, item := hears.wait(t, notify.Suspect); m.Edge != "hooks.example.co.ke" || item.Subject != "duka" || item.Count != 3 || item.State != notify.Begun ||
		!strings.Contains(m.Text, "3 callbacks at duka are not believed") || strings.Contains(m.Text, "forgery") {
		t.Errorf("a person was told %+v", m)
	}
	var list struct{ Ways []notify.WayState }
	w.admin(http.MethodGet, "/notify", "", 200, &list)
	if len(list.Ways) != 1 || list.Ways[0].Way != "told" || !list.Ways[0].Fails.IsZero() {
		t.Errorf("the ways are %+v", list)
	}
	cancel()
	<-ended

	tested := make(chan notify.Message, 1)
	go func() { tested <- <-hears }()
	var test struct{ Answers []notify.Answer }
	w.admin(http.MethodPost, "/notify/test", "", 200, &test)
	if m := <-tested; len(test.Answers) != 1 || test.Answers[0] != (notify.Answer{Way: "told"}) || len(m.Items) != 0 {
		t.Errorf("a test says %+v, and is %+v", test, m)
	}
}

func TestTheWaysByWhichAPersonIsToldChangeWhileTheEdgeRuns(t *testing.T) {
	w := start(t, edge.Config{})
	for _, want := range []int{1, 0, 1} {
		var c edge.Config
		if want > 0 {
			c.Notify = []notify.Way{make(told, 16)}
		}
		if err := w.Reload(c); err != nil {
			t.Fatal(err)
		}
		var list struct{ Ways []notify.WayState }
		if w.admin(http.MethodGet, "/notify", "", 200, &list); len(list.Ways) != want {
			t.Errorf("there are %d ways, and were to be %d", len(list.Ways), want)
		}
	}
}

func TestAPersonIsToldOfThePublicCertificate(t *testing.T) {
	hears, dir := make(told), t.TempDir()
	ending := newPair(t, 1, time.Now().Add(13*24*time.Hour))
	certificate, key := filepath.Join(dir, "certificate"), filepath.Join(dir, "key")
	for path, b := range map[string][]byte{certificate: ending.certificate, key: ending.key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, edge.Config{CertificateFile: certificate, KeyFile: key, Notify: []notify.Way{hears}})
	if m, item := hears.wait(t, notify.Certificate); item.Subject != "" || !strings.Contains(m.Text, "the certificate of this edge ends on") {
		t.Errorf("a person was told %+v", m)
	}
}
