package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"
)

// BenchmarkPath measures what a cashier waits for: from the POST of a callback at the edge to the message at a WebSocket
// subscriber of the sidecar, through both disks, with edge and sidecar as processes of their own. The load is open
// loop: a callback leaves when its time has come, however the ones before it fare. Run it with
//
//	go test -run '^$' -bench Path -benchtime 5000x ./cmd/hodi
func BenchmarkPath(b *testing.B) {
	p := startPath(b)
	b.Logf("at rest: edge %.1f MB resident, sidecar %.1f MB", resident(b, p.edge), resident(b, p.sidecar))
	for _, rate := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%d_per_s", rate), func(b *testing.B) { p.carry(b, rate) })
	}
}

type path struct {
	edge, sidecar  *os.Process
	callback, base string
	client         *http.Client
	next           int
}

func startPath(b *testing.B) *path {
	dir := b.TempDir()
	start := func(args ...string) (*os.Process, func(field string) string) {
		cmd := exec.Command("hodi", append([]string{"--log-format", "json"}, args...)...)
		log := new(lockedBuffer)
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		})
		return cmd.Process, func(field string) string {
			for range 1000 {
				for line := range strings.Lines(log.String()) {
					var entry map[string]any
					if json.Unmarshal([]byte(line), &entry) == nil && entry[field] != nil {
						return entry[field].(string)
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			b.Fatalf("hodi %v did not say its %s:\n%s", args, field, log)
			return ""
		}
	}
	p := &path{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	var edge, sidecar func(string) string
	p.edge, edge = start("edge", "--data", filepath.Join(dir, "edge"), "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0")
	udp := edge("sidecars")
	shop := filepath.Join(dir, "shop")
	out, err := exec.Command("hodi", "edge", "add", "--data", filepath.Join(dir, "edge"), "--out", shop, "bench").CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(field, "http://") {
			p.callback = field
		}
	}
	p.sidecar, sidecar = start("sidecar", "--dev", "--data", filepath.Join(dir, "sidecar"), "--listen", "127.0.0.1:0",
		"--edge", udp, "--ca-file", filepath.Join(shop, "ca.crt"), "--token-file", filepath.Join(shop, "token"))
	p.base = sidecar("url")
	return p
}

func (p *path) post(ctx context.Context, address, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode >= 300 {
		return fmt.Errorf("%s: %d %s %w", address, response.StatusCode, text, err)
	}
	return nil
}

func (p *path) carry(b *testing.B, rate int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	first, n := p.next, b.N
	p.next += n
	ids := func(i int) (merchant, checkout string) {
		return fmt.Sprintf("bench-%d", first+i), fmt.Sprintf("ws_CO_0000000000000%09d708374149", first+i)
	}
	var register errgroup.Group
	register.SetLimit(32)
	for i := range n {
		register.Go(func() error {
			merchant, checkout := ids(i)
			return p.post(ctx, p.base+"/payments", fmt.Sprintf(`{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResponseCode":"0","session":"bench%d","amount":100,"accountReference":"BENCH"}`,
				merchant, checkout, first+i))
		})
	}
	if err := register.Wait(); err != nil {
		b.Fatal(err)
	}

	socket, _, err := websocket.Dial(ctx, strings.Replace(p.base, "http", "ws", 1)+"/events", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer socket.CloseNow()
	socket.SetReadLimit(1 << 20)
	sent, answered, seen := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	received := make(chan error, 1)
	go func() {
		received <- func() error {
			prefix := []byte(`"merchantRequestId":"bench-`)
			for missing := n; missing > 0; {
				_, message, err := socket.Read(ctx)
				if err != nil {
					return err
				}
				now := time.Now()
				if !bytes.Contains(message, []byte(`"PAYMENT_COMPLETED"`)) {
					continue
				}
				var number int
				fmt.Sscanf(string(message[bytes.Index(message, prefix)+len(prefix):]), "%d", &number)
				if i := number - first; i >= 0 && i < n && seen[i].IsZero() {
					seen[i] = now
					missing--
				}
			}
			return nil
		}()
	}()

	b.ResetTimer()
	var posts errgroup.Group
	begin := time.Now()
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		sent[i] = time.Now()
		posts.Go(func() error {
			merchant, checkout := ids(i)
			data := map[string]any{"merchantRequestId": merchant, "checkoutRequestId": checkout}
			err := p.post(ctx, p.callback, stkCallback(data, 0, "The service request is processed successfully.", fmt.Sprintf("UJ%08d", first+i), 100))
			answered[i] = time.Now()
			return err
		})
	}
	if err := posts.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := <-received; err != nil {
		b.Fatalf("not every callback reached the subscriber: %v", err)
	}
	b.StopTimer()

	report := func(what string, until []time.Time, shares ...float64) {
		took := make([]time.Duration, n)
		for i := range took {
			took[i] = until[i].Sub(sent[i])
		}
		slices.Sort(took)
		for _, share := range shares {
			b.ReportMetric(float64(took[int(share*float64(n-1))].Microseconds())/1000, fmt.Sprintf("%s-p%v-ms", what, share*100))
		}
	}
	report("200", answered, 0.5)
	report("seen", seen, 0.5, 0.99, 0.999)
	b.ReportMetric(0, "ns/op") // the rate is given: time per callback says nothing
}

// resident is the memory that a process holds, in megabytes.
func resident(b *testing.B, p *os.Process) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		b.Logf("resident memory is read from /proc: %v", err)
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); n == 1 {
			return kilobytes / 1000
		}
	}
	return 0
}
