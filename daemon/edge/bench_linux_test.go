package edge_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/journal"
)

// BenchmarkStored measures an edge from a POST to its 200, journal and fsync included, with nobody fetching: what it
// costs in processor time (with the poster, who is in the same process) and how long it takes.
func BenchmarkStored(b *testing.B) {
	for _, connections := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			var c edge.Config
			c.Dir, c.Limits = b.TempDir(), journal.Limits{MaxBytes: 1 << 40}
			var err error
			if c.HTTP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				b.Fatal(err)
			}
			if c.UDP, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
				b.Fatal(err)
			}
			e, err := edge.Open(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			registered, err := e.SetEndpoint(b.Context(), "duka")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ran := make(chan error, 1)
			go func() { ran <- e.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ran; err != nil {
					b.Error(err)
				}
				e.Close()
			}()

			post(b, c.HTTP.Addr().String(), path(registered.CallbackURL), connections)
		})
	}
}

// BenchmarkBare measures what net/http alone costs for the same requests: a server that reads them and answers 200, with the
// timeouts of an edge.
func BenchmarkBare(b *testing.B) {
	for _, connections := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.ReadFull(r.Body, make([]byte, r.ContentLength))
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, `{"ResultCode":0,"ResultDesc":"Accepted"}`)
			}))
			s.Config.ReadTimeout, s.Config.WriteTimeout, s.Config.IdleTimeout = 10*time.Second, 30*time.Second, 75*time.Second
			s.Start()
			defer s.Close()
			post(b, s.Listener.Addr().String(), "/c/bare", connections)
		})
	}
}

// post posts b.N callbacks to an address.
func post(b *testing.B, address, path string, connections int) {
	body := strings.Repeat("b", 420)
	request := fmt.Appendf(nil, "POST %s/%s HTTP/1.1\r\nHost: hooks.example\r\nUser-Agent: Apache-HttpClient/4.5.5 (Java/1.8.0_181)\r\nAccept-Encoding: gzip,deflate\r\n"+
		"Content-Type: application/json;charset=UTF-8\r\nBusinessShortCode: 174379\r\nContent-Length: %d\r\n\r\n%s", path, strings.Repeat("0", 64), len(body), body)
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	before := processorTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	for range connections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer conn.Close()
			var mine []time.Duration
			answer := make([]byte, 4<<10)
			for left.Add(-1) >= 0 {
				began := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				n, err := io.ReadAtLeast(conn, answer, len("HTTP/1.1 200"))
				if err != nil || string(answer[:12]) != "HTTP/1.1 200" {
					b.Errorf("answered %q, %v", answer[:n], err)
					return
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkScrape measures what it costs to be asked by Prometheus, with a thousand endpoints whose sidecars are away and for
// each of which a callback waits.
func BenchmarkScrape(b *testing.B) {
	const endpoints = 1000
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	c := edge.Config{Dir: b.TempDir(), HTTP: listen(), Metrics: listen()}
	var err error
	if c.UDP, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	e, err := edge.Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			b.Error(err)
		}
		e.Close()
	}()
	for n := range endpoints {
		registered, err := e.SetEndpoint(b.Context(), fmt.Sprintf("shop-%d", n))
		if err != nil {
			b.Fatal(err)
		}
		response, err := http.Post(registered.CallbackURL, "application/json", strings.NewReader("{}"))
		if err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response, err)
		}
		response.Body.Close()
	}
	size, before := int64(0), processorTime(b)
	for b.Loop() {
		response, err := http.Get("http://" + c.Metrics.Addr().String() + "/metrics")
		if err != nil {
			b.Fatal(err)
		}
		if size, err = io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response.Status, err)
		}
		response.Body.Close()
	}
	b.ReportMetric(float64(size), "bytes")
	b.ReportMetric(float64((processorTime(b)-before)/time.Microsecond)/float64(b.N), "cpu-us/op")
}
