package sidecar

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hodihq/hodi/daemon/metrics"
	"github.com/hodihq/hodi/daemon/room"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/wire"
)

// What Prometheus is shown of a sidecar. docs/monitoring has alerts and a dashboard made of it, and docs/operate.md says what to do.

// What Daraja answers to a prompt.
const (
	promptAccepted  = "accepted"
	promptRefused   = "refused"
	promptAmbiguous = "ambiguous"
)

// tally is what is counted on the way.
type tally struct {
	pushed    prometheus.Histogram
	prompts   *prometheus.CounterVec
	questions *prometheus.CounterVec
	attempts  *prometheus.CounterVec
}

func newTally() *tally {
	t := &tally{
		pushed: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hodi_sidecar_push_seconds",
			Help:    "From the edge having stored a callback to what it did being committed here and its readers woken; by the edge's clock.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600}}),
		prompts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_sidecar_prompts_total",
			Help: "Prompts that Daraja was asked to send, by its answer: accepted, refused, or ambiguous, when nobody knows whether it was sent."}, []string{"shortcode", "outcome"}),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_sidecar_daraja_questions_total",
			Help: "Questions to Daraja about payments without news: answered, in_flight (not yet), refused, limited (it was asked too often), down."}, []string{"outcome"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hodi_sidecar_forward_attempts_total",
			Help: "Attempts to give the app a callback: handled, refused (it answered other than 2xx), gone (410: it wants no more), unreachable."}, []string{"outcome"}),
	}
	// So that the first of each is an increase.
	for _, outcome := range []string{"answered", "in_flight", "refused", "limited", "down"} {
		t.questions.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"handled", "refused", "gone", "unreachable"} {
		t.attempts.WithLabelValues(outcome)
	}
	return t
}

func (t *tally) prompted(shortcode, outcome string) {
	t.prompts.WithLabelValues(shortcode, outcome).Inc()
}
func (t *tally) asked(outcome string) { t.questions.WithLabelValues(outcome).Inc() }
func (t *tally) tried(outcome string) { t.attempts.WithLabelValues(outcome).Inc() }

// timed is a Sink that notes how long callbacks were on their way.
type timed struct {
	tunnel.Sink
	ahead func() time.Duration // the edge's clock
	tally *tally
}

func (s timed) Apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	if err := s.Sink.Apply(ctx, cursor, entries); err != nil {
		return err
	}
	now := time.Now().Add(s.ahead())
	for i := range entries {
		if e := &entries[i]; e.Kind != wire.KindCanary && e.Kind != wire.KindLost {
			s.tally.pushed.Observe(max(0, now.Sub(e.Received).Seconds()))
		}
	}
	return nil
}

// figures are what is read when somebody asks.
type figures struct {
	free, size, database                                                 *metrics.Figure
	writable, damaged, callbacks, events, subscribers                    *metrics.Figure
	up, since, transport, rtt, links, bytes, rival, undelivered          *metrics.Figure
	delivering, canaryAge, canaryEvery, skew, certificate                *metrics.Figure
	gaps, gapCallbacks, gapFound                                         *metrics.Figure
	forwardWaiting, forwardOldest, forwardDead, forwardPaused, forwarded *metrics.Figure
	darajaWaiting, darajaOutage                                          *metrics.Figure
}

func newFigures() *figures {
	figure := metrics.NewFigure
	return &figures{
		writable:    figure("hodi_sidecar_disk_writable", "Whether the database can be read and written: at 0 nothing is taken, and callbacks wait at the edge."),
		free:        figure("hodi_sidecar_disk_free_bytes", "Bytes that the sidecar may still write on the disk that its state is on."),
		size:        figure("hodi_sidecar_disk_size_bytes", "Bytes of that disk in all."),
		database:    figure("hodi_sidecar_database_bytes", "Bytes of the database, with its log."),
		damaged:     figure("hodi_sidecar_damaged_databases", "Databases that were found to be damaged and moved aside, and are still there."),
		callbacks:   figure("hodi_sidecar_callbacks", "Callbacks by what became of them: applied, repeated or overruled; or set aside as suspect, forged, unmatched, unparsed, held or recorded.", "state"),
		events:      figure("hodi_sidecar_events_total", "Events that were published to readers, since the database was made."),
		subscribers: figure("hodi_sidecar_subscribers", "Who follows events just now: pages, tills and apps."),

		up:          figure("hodi_sidecar_link_up", "Whether there is a link to the edge."),
		since:       figure("hodi_sidecar_link_since_timestamp_seconds", "Since when the link is up, or down, in Unix time; absent before the first."),
		transport:   figure("hodi_sidecar_link_transport", "What carries the link: 1 for quic or websocket; absent without one.", "transport"),
		rtt:         figure("hodi_sidecar_link_round_trip_seconds", "Round trip of the link's last ping; absent without one."),
		links:       figure("hodi_sidecar_links_total", "Links to the edge since the sidecar was started."),
		bytes:       figure("hodi_sidecar_link_bytes_total", "Bytes that the way to the edge has cost, with headers: in or out.", "direction"),
		rival:       figure("hodi_sidecar_rival_timestamp_seconds", "When another machine last took the link with the identity of this one, in Unix time; 0 if never."),
		undelivered: figure("hodi_sidecar_undelivered_callbacks", "Callbacks that the edge held when the link began and that have not come yet; absent where that is not known."),

		delivering:  figure("hodi_sidecar_delivering", "Whether callbacks are known to get through to the disk here."),
		canaryAge:   figure("hodi_sidecar_canary_age_seconds", "How long ago a callback or a canary was last committed, or since when none was; absent where the edge sends no canaries."),
		canaryEvery: figure("hodi_sidecar_canary_interval_seconds", "How far apart the edge's canaries are; absent where it sends none."),
		skew:        figure("hodi_sidecar_clock_skew_seconds", "How far the edge's clock is ahead of this machine's; less than 0 if it is behind."),
		certificate: figure("hodi_sidecar_certificate_end_timestamp_seconds", "When a certificate ends, in Unix time: that of the link, which renews itself a month before, or that of the pages.", "certificate"),

		gaps:         figure("hodi_sidecar_gaps", "Gaps: times at which the edge took callbacks that it cannot deliver any more."),
		gapCallbacks: figure("hodi_sidecar_gap_callbacks", "Callbacks that never came, as far as anybody knows how many."),
		gapFound:     figure("hodi_sidecar_gap_found_timestamp_seconds", "When the newest gap was found, in Unix time; 0 if there is none."),

		forwardWaiting: figure("hodi_sidecar_forward_waiting_callbacks", "Callbacks that the app has not handled; absent, as all of forward, where nothing is forwarded."),
		forwardOldest:  figure("hodi_sidecar_forward_oldest_waiting_age_seconds", "How long ago the oldest of these came to the edge; 0 if there is none."),
		forwardDead:    figure("hodi_sidecar_forward_dead_callbacks", "Callbacks that were given up: the app refused them for three days."),
		forwardPaused:  figure("hodi_sidecar_forward_paused", "Whether nothing is given to the app: somebody paused it, or it answered 410."),
		forwarded:      figure("hodi_sidecar_forward_handled_timestamp_seconds", "When the app last handled a callback, in Unix time; 0 before the first since the sidecar was started."),

		darajaWaiting: figure("hodi_sidecar_daraja_waiting_payments", "Payments without news that Daraja is due to be asked about."),
		darajaOutage:  figure("hodi_sidecar_daraja_outage_seconds", "How long Daraja has not answered questions about the shortcode's payments; 0 if it does.", "shortcode"),
	}
}

// registry is all of it.
func (s *Sidecar) registry() *prometheus.Registry {
	f, t := newFigures(), s.tally
	read := func(ctx context.Context, to metrics.Page) error {
		return errors.Join(s.readTable(ctx, f, to), s.readGaps(ctx, f, to), s.readForward(ctx, f, to), s.readDaraja(ctx, f, to), s.readLink(ctx, f, to))
	}
	return metrics.NewRegistry("sidecar", s.config.Version, t.pushed, t.questions, t.attempts, metrics.Reading(read))
}

var callbackStates = [...]string{
	correlate.StateApplied, correlate.StateRepeated, correlate.StateOverruled, correlate.StateSuspect, correlate.StateForged,
	correlate.StateUnmatched, correlate.StateUnparsed, correlate.StateHeld, correlate.StateRecorded,
}

func (s *Sidecar) readTable(ctx context.Context, f *figures, to metrics.Page) error {
	to.Whether(f.writable, s.stores(ctx) == nil)
	path := filepath.Join(s.config.Dir, databaseFile)
	to.Gauge(f.damaged, float64(len(salvage.Found(path))))
	to.Gauge(f.database, float64(room.Used(path)))
	if r, err := room.Of(s.config.Dir); err == nil {
		to.Gauge(f.free, float64(r.Free))
		to.Gauge(f.size, float64(r.Size))
	}
	to.Counter(f.events, float64(s.hub.Head()))
	to.Gauge(f.subscribers, float64(s.subscribers.count()))
	counts, err := s.table.Counts(ctx)
	if err != nil {
		return err
	}
	for _, state := range callbackStates {
		to.Gauge(f.callbacks, float64(max(0, counts[state])), state)
	}
	return nil
}

func (s *Sidecar) readGaps(ctx context.Context, f *figures, to metrics.Page) error {
	gaps, err := s.table.Gaps(ctx)
	if err != nil {
		return err
	}
	var n uint64
	var newest time.Time
	for _, g := range gaps {
		n += g.Callbacks
		if g.Found.After(newest) {
			newest = g.Found
		}
	}
	to.Gauge(f.gaps, float64(len(gaps)))
	to.Gauge(f.gapCallbacks, float64(n))
	to.Last(f.gapFound, newest)
	return nil
}

func (s *Sidecar) readForward(ctx context.Context, f *figures, to metrics.Page) error {
	forwarder := s.settings.Load().forward
	if forwarder == nil {
		return nil
	}
	how, err := s.table.Forwarding(ctx)
	if err != nil {
		return err
	}
	to.Gauge(f.forwardWaiting, float64(how.Waiting))
	to.Age(f.forwardOldest, how.Oldest, time.Now())
	to.Gauge(f.forwardDead, float64(how.Dead))
	to.Whether(f.forwardPaused, !how.Paused.IsZero())
	handled, _ := forwarder.Last()
	to.Last(f.forwarded, handled)
	return nil
}

func (s *Sidecar) readDaraja(ctx context.Context, f *figures, to metrics.Page) error {
	set, now := s.settings.Load(), time.Now()
	silent := map[string]time.Time{}
	for _, st := range set.watch.Status() {
		for _, name := range st.Shortcodes {
			silent[name] = st.Since
		}
	}
	for _, code := range set.config.Shortcodes {
		to.Age(f.darajaOutage, silent[code.Name], now, code.Name)
		for _, outcome := range []string{promptAccepted, promptRefused, promptAmbiguous} { // so that the first is an increase
			s.tally.prompts.WithLabelValues(code.Name, outcome)
		}
	}
	s.tally.prompts.Collect(to)
	waiting, err := s.table.Waiting(ctx)
	if err != nil {
		return err
	}
	to.Gauge(f.darajaWaiting, float64(waiting))
	return nil
}

func (s *Sidecar) readLink(ctx context.Context, f *figures, to metrics.Page) error {
	if s.certificate != nil {
		to.Time(f.certificate, s.certificate.ends(), "pages")
	}
	if s.tunnel == nil {
		return nil
	}
	t, now := s.tunnel.Status(), time.Now()
	to.Whether(f.up, t.Connected)
	to.Time(f.since, t.Since)
	to.Counter(f.links, float64(t.Links))
	to.Counter(f.bytes, float64(t.Traffic.In), "in")
	to.Counter(f.bytes, float64(t.Traffic.Out), "out")
	to.Last(f.rival, t.Rival)
	to.Gauge(f.skew, t.Skew.Seconds())
	to.Whether(f.delivering, t.Delivering(now))
	if leaf := s.identity.certificate().Leaf; leaf != nil {
		to.Time(f.certificate, leaf.NotAfter, "link")
	}
	if t.Canary > 0 {
		since := t.Delivered
		if since.IsZero() { // nothing yet, and that since we began
			since = s.started
		}
		to.Age(f.canaryAge, since, now)
		to.Gauge(f.canaryEvery, t.Canary.Seconds())
	}
	if !t.Connected {
		return nil
	}
	to.Gauge(f.transport, 1, t.Transport)
	to.Gauge(f.rtt, t.RTT.Seconds())
	cursor, err := s.table.Cursor(ctx)
	if err == nil && cursor.Epoch == t.Epoch {
		to.Gauge(f.undelivered, float64(t.Head-min(cursor.Seq, t.Head)))
	}
	return err
}
