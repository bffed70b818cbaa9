package correlate_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/tunnel/wire"
)

// registered makes n payments, and the callback of each.
func registered(b *testing.B, s *shop, n int) []wire.Entry {
	b.Helper()
	entries := make([]wire.Entry, n)
	for i := range entries {
		p := correlate.Payment{ID: fmt.Sprintf("%032x", i)}
		merchant, checkout := ids(p)
		_, err := s.Register(context.Background(), correlate.Registration{MerchantRequestID: merchant, CheckoutRequestID: checkout,
			Phone: phone, Amount: 100_00, Shortcode: "main", Number: "174379", Environment: "sandbox"})
		if err != nil {
			b.Fatal(err)
		}
		entries[i] = wire.Entry{Seq: uint64(i) + 1, Received: time.Now(), Kind: wire.KindNotice, Remote: "196.201.212.69",
			Header: []byte("Content-Type: application/json;charset=UTF-8\r\nBusinessshortcode: 174379\r\n"), Body: []byte(success(p, "100.00", fmt.Sprintf("RKK%07d", i)))}
	}
	return entries
}

// BenchmarkApply is what a callback costs the sidecar up to the publication, on a disk that syncs, alone and in batches
// of those that had arrived meanwhile.
func BenchmarkApply(b *testing.B) {
	for _, batch := range []int{1, 16, 128, 512} {
		for _, cache := range []int{10_000, 1} {
			b.Run(fmt.Sprintf("batch=%d/cache=%d", batch, cache), func(b *testing.B) {
				s := open(b, func(c *correlate.Config) {
					c.CacheSize = cache
					c.Publish = func([]correlate.Event) {}
				})
				n := max(5000, b.N)
				entries := registered(b, s, n)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := processor()
				for i := 0; i < b.N; i += batch {
					some := entries[i:min(i+batch, b.N)]
					if err := s.Apply(context.Background(), behind(s.journal, some), some); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((processor()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// processor is the time that this process has had on a processor: unlike the clock it does not count waiting for a disk.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
