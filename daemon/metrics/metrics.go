// Package metrics is the page that Prometheus reads, the same in both daemons.
//
// Most of what is on it a daemon knows anyway, and tells when it is asked: a Reading. Counted on the way is only what nobody
// would know afterwards. Nothing on it names a payment, a customer or an address: labels are endpoints, shortcodes and words
// of ours, of which there are as many as the operator has made.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readWithin   = 5 * time.Second  // what is read for one page: Prometheus gives up after 10 seconds, unless told otherwise
	answerWithin = 30 * time.Second // with the writing of it
	atOnce       = 4                // who may ask
	drain        = time.Second
)

// NewRegistry makes the registry of one daemon ("edge", "sidecar"): with its version, and what is true of any Go process.
func NewRegistry(daemon, version string, more ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	if version == "" {
		version = "unknown"
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hodi_" + daemon + "_build_info", Help: "Which version of Hodi this is: always 1.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(more...)
	return r
}

// Serve answers GET /metrics on l until ctx ends, and has closed l when it returns. A page that cannot be served is no reason to
// take no callbacks: it says so in the log, and waits for ctx all the same.
func Serve(ctx context.Context, l net.Listener, r *prometheus.Registry, log *slog.Logger) {
	page := promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandling:       promhttp.ContinueOnError, // what cannot be read is left out, and counted
		Registry:            r,
		MaxRequestsInFlight: atOnce,
		CoalesceGather:      true,
	})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", page)
	server := &http.Server{
		Handler: hosts(l.Addr(), mux), ReadTimeout: answerWithin, WriteTimeout: answerWithin, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		if server.Shutdown(patience) != nil {
			_ = server.Close()
		}
	})
	log.Info("metrics are served", "metrics", "http://"+l.Addr().String()+"/metrics")
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("metrics are not served any more", "err", err)
	}
	<-ctx.Done()
	<-stopped
}

// hosts lets nobody in by a name that somebody else has led to this machine's loopback: a page in a browser on it, say.
func hosts(own net.Addr, h http.Handler) http.Handler {
	if !onLoopback(own.String()) {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && !strings.EqualFold(host, "localhost") {
			http.Error(w, "ask for localhost, or by an address", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// CheckAddress says what is wrong with where metrics are to be served. They are nobody's secret, and everybody's business
// neither: how much a shop sells is in them.
func CheckAddress(address string, anywhere bool) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("metrics %q: write an address and a port, as in 127.0.0.1:9464", address)
	}
	if !anywhere && !onLoopback(address) {
		return fmt.Errorf("metrics %s can be read from other machines, and nobody is asked for a key: listen on 127.0.0.1, or say metrics-insecure where nobody else is on that network", address)
	}
	return nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// A Reading is figures that are read when somebody asks. It is called with a context that ends before who asks gives up. What
// it has shown before it returns an error is shown.
type Reading func(ctx context.Context, to Page) error

// Page is where a Reading shows what it reads.
type Page chan<- prometheus.Metric

// Describe describes nothing: which figures there are depends on the settings.
func (Reading) Describe(chan<- *prometheus.Desc) {}

// Collect reads.
func (read Reading) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	if err := read(ctx, to); err != nil {
		to <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
}

// A Figure is what something is called, with its labels.
type Figure = prometheus.Desc

// NewFigure names one. Help is a sentence.
func NewFigure(name, help string, labels ...string) *Figure {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Gauge shows what goes up and down.
func (to Page) Gauge(f *Figure, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(f, prometheus.GaugeValue, value, labels...)
}

// Counter shows what only grows.
func (to Page) Counter(f *Figure, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(f, prometheus.CounterValue, value, labels...)
}

// Whether shows 1 or 0.
func (to Page) Whether(f *Figure, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	to.Gauge(f, value, labels...)
}

// Time shows a time, in Unix seconds; nothing for the zero one.
func (to Page) Time(f *Figure, t time.Time, labels ...string) {
	if !t.IsZero() {
		to.Last(f, t, labels...)
	}
}

// Last shows when something last was, in Unix seconds; 0 if it never was.
func (to Page) Last(f *Figure, t time.Time, labels ...string) {
	at := 0.0
	if !t.IsZero() {
		at = float64(t.UnixMilli()) / 1000
	}
	to.Gauge(f, at, labels...)
}

// Age shows how long ago something was, in seconds; 0 for the zero time, and for what is yet to come.
func (to Page) Age(f *Figure, since, now time.Time, labels ...string) {
	age := 0.0
	if !since.IsZero() {
		age = max(0, now.Sub(since).Seconds())
	}
	to.Gauge(f, age, labels...)
}
