package edge

import (
	"context"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hodihq/hodi/daemon/metrics"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What Prometheus is shown of an edge. docs/monitoring has alerts and a dashboard made of it, and docs/operate.md says what to do.

// What became of a callback.
const (
	outcomeStored   = "stored"    // answered 200
	outcomeFull     = "full"      // answered 503: the endpoint holds as much as it may
	outcomeUnstored = "unstored"  // answered 503: the disk did not take it
	outcomeBroken   = "broken"    // answered 400: the body broke off
	outcomeTooLarge = "too_large" // answered 413
	outcomeTimedOut = "timed_out" // answered 408: the body stopped coming
)

// tally is what is counted on the way.
type tally struct {
	callbacks *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	nowhere   *prometheus.CounterVec
	seconds   prometheus.Histogram
}

func newTally() *tally {
	t := &tally{
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_edge_callbacks_total",
			Help: "Callbacks that came to an address of the endpoint, by what became of them: only those stored were answered 200, full and unstored 503."}, []string{"endpoint", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_edge_callback_bytes_total",
			Help: "Bytes of the bodies of callbacks that were stored."}, []string{"endpoint"}),
		nowhere: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_edge_unknown_address_total",
			Help: "Requests for a callback address that there is not, answered 404, by who asked: safaricom, or anybody else."}, []string{"from"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hodi_edge_callback_seconds",
			Help:    "From the head of a callback's request to its being stored, durably.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	for _, source := range []wire.Source{wire.SourceKnown, wire.SourceUnknown} { // so that the first is an increase
		t.nowhere.WithLabelValues(from(source))
	}
	return t
}

// came counts a callback that was answered, with the bytes of its body if it was stored.
func (t *tally) came(endpoint, outcome string, bytes int) {
	t.callbacks.WithLabelValues(endpoint, outcome).Inc()
	if outcome == outcomeStored {
		t.bytes.WithLabelValues(endpoint).Add(float64(bytes))
	}
}

// lost counts a request for an address that there is not.
func (t *tally) lost(source wire.Source) {
	t.nowhere.WithLabelValues(from(source)).Inc()
}

func from(source wire.Source) string {
	if source == wire.SourceKnown {
		return "safaricom"
	}
	return "other"
}

// begin makes the counters of an endpoint begin at 0: a first increase that nobody has seen the beginning of is none.
func (t *tally) begin(endpoint string) {
	for _, outcome := range []string{outcomeStored, outcomeFull, outcomeUnstored} {
		t.callbacks.WithLabelValues(endpoint, outcome)
	}
	t.bytes.WithLabelValues(endpoint)
}

// figures are what is read when somebody asks.
type figures struct {
	endpoints, connections, refused                           *metrics.Figure
	writable, free, size, database, damaged, certificate      *metrics.Figure
	connected, seen, transport, links, rival, sidecarEnds     *metrics.Figure
	delivering, canaryAge, canaryEvery                        *metrics.Figure
	undelivered, oldest, held, limit, unreadable, disbelieved *metrics.Figure
}

func newFigures() *figures {
	figure := metrics.NewFigure
	return &figures{
		endpoints:   figure("hodi_edge_endpoints", "How many endpoints there are."),
		connections: figure("hodi_edge_connections_total", "TCP connections that came, for callbacks and for sidecars without UDP."),
		refused:     figure("hodi_edge_connections_refused_total", "TCP connections that were turned away, before or in the handshake, for being too many from one address."),

		writable:    figure("hodi_edge_disk_writable", "Whether the journal can store: at 0 every callback is answered 503."),
		free:        figure("hodi_edge_disk_free_bytes", "Bytes that the edge may still write on the disk that its state is on."),
		size:        figure("hodi_edge_disk_size_bytes", "Bytes of that disk in all."),
		database:    figure("hodi_edge_database_bytes", "Bytes of the database, with its log."),
		damaged:     figure("hodi_edge_damaged_databases", "Databases that were found to be damaged and moved aside, and are still there."),
		certificate: figure("hodi_edge_certificate_end_timestamp_seconds", "When the public certificate ends, in Unix time."),

		connected:   figure("hodi_edge_sidecar_connected", "Whether the endpoint's sidecar is connected; absent where none has joined.", "endpoint"),
		seen:        figure("hodi_edge_sidecar_seen_timestamp_seconds", "When the endpoint's sidecar was last connected, in Unix time: now, if it is.", "endpoint"),
		transport:   figure("hodi_edge_sidecar_transport", "What carries the link of a connected sidecar: 1 for quic or websocket.", "endpoint", "transport"),
		links:       figure("hodi_edge_sidecar_links_total", "Links that the endpoint's sidecar has had since the edge was started.", "endpoint"),
		rival:       figure("hodi_edge_sidecar_rival_timestamp_seconds", "When two machines were last seen to use the endpoint's identity, in Unix time; 0 if never.", "endpoint"),
		sidecarEnds: figure("hodi_edge_sidecar_certificate_end_timestamp_seconds", "When the certificate of the endpoint's sidecar ends, in Unix time; it is renewed a month before, while it is connected.", "endpoint"),

		delivering:  figure("hodi_edge_sidecar_delivering", "Whether callbacks are known to get through to a connected sidecar.", "endpoint"),
		canaryAge:   figure("hodi_edge_canary_age_seconds", "How long ago a connected sidecar last acknowledged a callback or a canary.", "endpoint"),
		canaryEvery: figure("hodi_edge_canary_interval_seconds", "How far apart the canaries of a connected sidecar are; absent where it asked for none.", "endpoint"),

		undelivered: figure("hodi_edge_undelivered_callbacks", "Callbacks that are stored and not acknowledged by the endpoint's sidecar.", "endpoint"),
		oldest:      figure("hodi_edge_oldest_undelivered_age_seconds", "How long ago the oldest of these came; 0 if there is none.", "endpoint"),
		held:        figure("hodi_edge_journal_held_bytes", "Bytes of these.", "endpoint"),
		limit:       figure("hodi_edge_journal_limit_bytes", "And how many an endpoint may hold before its callbacks are answered 503."),
		disbelieved: figure("hodi_edge_sidecar_disbelieved_callbacks", "Callbacks that the endpoint's sidecar has not believed, as it said last; absent until it does.", "endpoint"),
		unreadable:  figure("hodi_edge_unreadable_callbacks", "Callbacks of the endpoint that the disk was found not to give back, since the edge was started.", "endpoint"),
	}
}

// registry is all of it.
func (e *Edge) registry() *prometheus.Registry {
	f := newFigures()
	r := metrics.NewRegistry("edge", e.config.Version, e.tally.nowhere, e.tally.seconds)
	r.MustRegister(metrics.Reading(func(ctx context.Context, to metrics.Page) error { return e.read(ctx, f, to) }))
	return r
}

func (e *Edge) read(ctx context.Context, f *figures, to metrics.Page) error {
	now := time.Now()
	list, err := e.standing(ctx)
	for _, endpoint := range list {
		f.endpoint(to, endpoint, now)
		e.tally.begin(endpoint.Name)
		if n, said := e.outlook.disbelieved(endpoint.Name); said {
			to.Gauge(f.disbelieved, float64(n), endpoint.Name)
		}
		to.Counter(f.links, float64(e.tunnel.Generation(endpoint.Name)), endpoint.Name)
	}
	e.tally.callbacks.Collect(to)
	e.tally.bytes.Collect(to)
	for _, l := range e.tunnel.Links() {
		f.link(to, l, now)
	}
	to.Gauge(f.endpoints, float64(len(e.Endpoints())))
	to.Counter(f.connections, float64(e.port.accepted.Load()))
	to.Counter(f.refused, float64(e.port.refused.Load()))
	to.Whether(f.writable, e.disk.Probe(ctx) == nil)
	path := filepath.Join(e.config.Dir, databaseFile)
	to.Gauge(f.damaged, float64(len(salvage.Found(path))))
	to.Gauge(f.database, float64(room.Used(path)))
	if r, err := room.Of(e.config.Dir); err == nil {
		to.Gauge(f.free, float64(r.Free))
		to.Gauge(f.size, float64(r.Size))
	}
	to.Time(f.certificate, e.certificateEnds())
	_, limit := e.disk.Held("")
	to.Gauge(f.limit, float64(limit))
	return err
}

func (f *figures) endpoint(to metrics.Page, e shownEndpoint, now time.Time) {
	if !e.Joined.IsZero() && e.Revoked.IsZero() {
		to.Whether(f.connected, e.Connected, e.Name)
		to.Time(f.seen, e.Seen, e.Name)
		to.Time(f.sidecarEnds, e.Expires, e.Name)
	}
	to.Gauge(f.undelivered, float64(e.Stored-min(e.Delivered, e.Stored)), e.Name)
	to.Age(f.oldest, e.Undelivered, now, e.Name)
	to.Gauge(f.held, float64(e.Held), e.Name)
	to.Gauge(f.unreadable, float64(e.Lost), e.Name)
}

func (f *figures) link(to metrics.Page, l tunnel.Link, now time.Time) {
	to.Gauge(f.transport, 1, l.Endpoint, l.Transport)
	to.Last(f.rival, l.Rival, l.Endpoint)
	to.Whether(f.delivering, l.Delivering(now), l.Endpoint)
	if l.Canary == 0 {
		return
	}
	since := l.Delivered
	if since.IsZero() { // nothing yet, and that since it came
		since = l.Since
	}
	to.Age(f.canaryAge, since, now, l.Endpoint)
	to.Gauge(f.canaryEvery, l.Canary.Seconds(), l.Endpoint)
}
