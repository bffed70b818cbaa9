package edge_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/internal/scrape"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

func metricsPort(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPrometheusSeesWhatBecomesOfCallbacks(t *testing.T) {
	l := metricsPort(t)
	w := start(t, edge.Config{Metrics: l, Version: "1.2.3", Limits: journal.Limits{MaxBytes: 4 << 10}})
	p := scrape.Of(t, l.Addr().String())
	p.Want(1, "hodi_edge_build_info", "version=1.2.3")
	p.Want(0, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=stored") // so that the first is an increase
	p.Want(0, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=full")
	p.Want(0, "hodi_edge_oldest_undelivered_age_seconds", "endpoint=duka")

	w.wantPost(w.callback, `{"PhoneNumber": 254708374149, "CheckoutRequestID": "ws_CO_191220191020363925"}`, 200)
	w.wantPost(w.callback+"/0123456789abcdef", strings.Repeat("x", 2<<10), 200)
	w.wantPost(w.callback, strings.Repeat("x", 2<<10), 503)
	// Only announced: a client that still writes when the edge has answered and closed may hear of that instead.
	if answer := w.raw("POST " + path(w.callback) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 413 ") {
		t.Errorf("too much is answered %q", answer)
	}
	w.wantPost("http://"+w.http+"/c/00000000000000000000000000000000", "{}", 404)

	p = scrape.Of(t, l.Addr().String())
	p.Want(2, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=stored")
	p.Want(1, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=full")
	p.Want(1, "hodi_edge_callbacks_total", "endpoint=duka", "outcome=too_large")
	p.Want(1, "hodi_edge_unknown_address_total", "from=other")
	p.Want(2, "hodi_edge_callback_seconds")
	p.Want(2, "hodi_edge_undelivered_callbacks", "endpoint=duka")
	p.Want(4<<10, "hodi_edge_journal_limit_bytes")
	p.Want(1, "hodi_edge_disk_writable")
	p.Want(1, "hodi_edge_endpoints")
	p.WantNone("hodi_edge_sidecar_connected", "endpoint=duka") // there is none yet: an alarm would be for nothing
	p.WantNone("hodi_edge_certificate_end_timestamp_seconds")
	if age, _ := p.Value("hodi_edge_oldest_undelivered_age_seconds", "endpoint=duka"); age <= 0 || age > 600 {
		t.Errorf("the oldest callback that waits is %v s old", age)
	}
	p.WantSilentOf("254708374149", "ws_CO_", "0123456789abcdef", path(w.callback)[len("/c/"):], "127.0.0.1")
}

func TestTheNamesOnThePageAreAsPrometheusWantsThem(t *testing.T) {
	l := metricsPort(t)
	w := start(t, edge.Config{Metrics: l})
	w.link(w.sidecar("duka"))
	w.eventually("a link", func() bool {
		_, ok := scrape.Of(t, l.Addr().String()).Value("hodi_edge_sidecar_delivering", "endpoint=duka")
		return ok
	})
	scrape.Of(t, l.Addr().String()).WantWellNamed()
}

// stuckSink commits nothing while it is told not to, as a disk that hangs.
type stuckSink struct {
	sink
	stuck atomic.Bool
	free  chan struct{}
}

func (s *stuckSink) Apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	if s.stuck.Load() {
		select {
		case <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.sink.Apply(ctx, cursor, entries)
}

func TestPrometheusSeesASidecarThatIsConnectedAndCommitsNothing(t *testing.T) {
	l := metricsPort(t)
	w := start(t, edge.Config{Metrics: l})
	s := &stuckSink{sink: sink{got: make(chan string, 10_000)}, free: make(chan struct{})}
	_, _, stop := w.link(w.sidecar("duka"), func(c *tunnel.Client) { c.Sink, c.Canary = s, wire.MinCanary })
	look := func() *scrape.Page { return scrape.Of(t, l.Addr().String()) }
	w.eventually("a canary is committed", func() bool {
		delivering, _ := look().Value("hodi_edge_sidecar_delivering", "endpoint=duka")
		return delivering == 1
	})
	p := look()
	p.Want(1, "hodi_edge_sidecar_connected", "endpoint=duka")
	p.Want(1, "hodi_edge_sidecar_transport", "endpoint=duka", "transport=quic")
	p.Want(wire.MinCanary.Seconds(), "hodi_edge_canary_interval_seconds", "endpoint=duka")
	if links, _ := p.Value("hodi_edge_sidecar_links_total", "endpoint=duka"); links < 1 {
		t.Errorf("%v links were counted", links)
	}
	if ends, _ := p.Value("hodi_edge_sidecar_certificate_end_timestamp_seconds", "endpoint=duka"); ends < float64(time.Now().Unix()) {
		t.Errorf("the sidecar's certificate ends at %v", ends)
	}

	s.stuck.Store(true)
	w.eventually("a canary waits", func() bool { head, acked := w.reached("duka"); return head > acked }) // it may have been stored before
	w.wantPost(w.callback, "behind the canary", 200)
	w.eventually("nothing was committed for long", func() bool {
		p := look()
		age, _ := p.Value("hodi_edge_canary_age_seconds", "endpoint=duka")
		delivering, linked := p.Value("hodi_edge_sidecar_delivering", "endpoint=duka")
		return age > 3*wire.MinCanary.Seconds() && linked && delivering == 0
	})
	p = look()
	p.Want(1, "hodi_edge_undelivered_callbacks", "endpoint=duka")
	if age, _ := p.Value("hodi_edge_oldest_undelivered_age_seconds", "endpoint=duka"); age <= 0 {
		t.Error("nobody sees the callback that waits behind a canary")
	}

	s.stuck.Store(false)
	close(s.free)
	w.eventually("all is delivered", func() bool {
		n, _ := look().Value("hodi_edge_undelivered_callbacks", "endpoint=duka")
		return n == 0
	})
	stop()
	w.eventually("it is away", func() bool {
		connected, known := look().Value("hodi_edge_sidecar_connected", "endpoint=duka")
		return known && connected == 0
	})
	p = look()
	p.WantNone("hodi_edge_sidecar_transport", "endpoint=duka", "transport=quic")
	p.WantNone("hodi_edge_canary_age_seconds", "endpoint=duka") // a shop that is away has an alarm of its own
	if seen, _ := p.Value("hodi_edge_sidecar_seen_timestamp_seconds", "endpoint=duka"); seen < float64(time.Now().Add(-time.Hour).Unix()) {
		t.Errorf("it was last seen at %v", seen)
	}
}

// reached is the newest number of an endpoint, and the last that its sidecar has acknowledged.
func (w *world) reached(endpoint string) (head, acked uint64) {
	w.Helper()
	var list struct {
		Endpoints []struct {
			Name        string
			Head, Acked uint64
		}
	}
	w.admin(http.MethodGet, "/endpoints", "", http.StatusOK, &list)
	for _, e := range list.Endpoints {
		if e.Name == endpoint {
			return e.Head, e.Acked
		}
	}
	w.Fatalf("there is no endpoint %s", endpoint)
	return 0, 0
}

func TestPrometheusSeesWhenThePublicCertificateEnds(t *testing.T) {
	dir, until := t.TempDir(), time.Now().Add(90*24*time.Hour).Truncate(time.Second)
	one := newPair(t, 1, until)
	certificate, key := filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
	for path, b := range map[string][]byte{certificate: one.certificate, key: one.key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := metricsPort(t)
	start(t, edge.Config{Metrics: l, CertificateFile: certificate, KeyFile: key, PublicURL: "https://" + publicName})
	scrape.Of(t, l.Addr().String()).Want(float64(until.Unix()), "hodi_edge_certificate_end_timestamp_seconds")
}

func TestNobodyElseIsShownThePage(t *testing.T) {
	l := metricsPort(t)
	w := start(t, edge.Config{Metrics: l})
	at := l.Addr().String()
	ask := func(method, host, path string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, c := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", at, "/metrics", 200},
		{"GET", "localhost:9464", "/metrics", 200},
		{"GET", "[::1]:9464", "/metrics", 200},
		{"GET", "rebound.attacker.example:9464", "/metrics", 421}, // by a page in a browser on this machine
		{"POST", at, "/metrics", 405},
		{"GET", at, "/", 404},
		{"GET", at, "/debug/pprof/", 404},
	} {
		if got := ask(c.method, c.host, c.path); got != c.want {
			t.Errorf("%s %s of %s is answered %d, want %d", c.method, c.path, c.host, got, c.want)
		}
	}
	if response, _ := w.do("GET", "http://"+w.http+"/metrics", nil); response.StatusCode != 404 {
		t.Errorf("the public port answers %d to /metrics", response.StatusCode)
	}
}
