package sidecar_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

// BenchmarkScrape measures what it costs to be asked by Prometheus, with 100,000 payments of three years: when the app has handled
// all of their callbacks, and when it has handled none.
func BenchmarkScrape(b *testing.B) {
	for _, waiting := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) { benchmarkScrape(b, waiting) })
	}
}

func benchmarkScrape(b *testing.B, waiting int) {
	dir := b.TempDir()
	database := filepath.Join(dir, "sidecar.db")
	if err := correlate.Fill(b.Context(), database, 100_000); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "callback.key"), []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	page := listen()
	config := sidecar.Config{Dir: dir, Listener: listen(), Dev: true, Metrics: page, Forward: "http://127.0.0.1:1/", ForwardHTTP: nobody{}}
	s, err := sidecar.Open(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	if waiting > 0 {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		arrive(b, database, waiting)
		page = listen()
		config.Listener, config.Metrics = listen(), page
		if s, err = sidecar.Open(b.Context(), config); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			b.Error(err)
		}
		s.Close()
	}()
	var text []byte
	before := processor()
	for b.Loop() {
		response, err := http.Get("http://" + page.Addr().String() + "/metrics")
		if err != nil {
			b.Fatal(err)
		}
		if text, err = io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response.Status, err)
		}
		response.Body.Close()
	}
	b.ReportMetric(float64((processor()-before)/time.Microsecond)/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(len(text)), "bytes")
	if waits := fmt.Sprintf("hodi_sidecar_forward_waiting_callbacks %v\n", float64(waiting)); !strings.Contains(string(text), waits) {
		b.Errorf("there is no %s in\n%s", waits, text)
	}
}

// arrive has so many callbacks come to a table, of payments that it does not know.
func arrive(b *testing.B, database string, n int) {
	b.Helper()
	table, err := correlate.Open(b.Context(), correlate.Config{Path: database, Key: bytes.Repeat([]byte{0xab}, 32)})
	if err != nil {
		b.Fatal(err)
	}
	const epoch = 1_700_000_000_000
	if err := table.Welcome(b.Context(), wire.Welcome{Epoch: epoch, Oldest: 1, Head: uint64(n)}); err != nil {
		b.Fatal(err)
	}
	for from := 1; from <= n; from += 500 {
		var entries []wire.Entry
		for seq := from; seq < min(from+500, n+1); seq++ {
			entries = append(entries, wire.Entry{Seq: uint64(seq), Received: time.Now(), Kind: wire.KindNotice, Body: []byte(paid(seq, 100))})
		}
		last := &entries[len(entries)-1]
		if err := table.Apply(b.Context(), wire.Cursor{Epoch: epoch, Seq: last.Seq, Sum: last.Sum()}, entries); err != nil {
			b.Fatal(err)
		}
	}
	if err := table.Close(); err != nil {
		b.Fatal(err)
	}
}

// nobody is an app that is never there.
type nobody struct{}

func (nobody) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// processor is the time of it that this process has used, who asks included.
func processor() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
