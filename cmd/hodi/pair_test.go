package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/sync/push"
)

// pair is an edge and a sidecar, each a process of its own in a folder of its own, and what a subscriber saw.
type pair struct {
	*testing.T
	dir                 string
	edge, sidecar       *daemon
	callbacks, sidecars string      // the edge's addresses
	known               string      // the one that the sidecar knows
	address             string      // of callbacks
	more                [2][]string // flags of the edge and of the sidecar besides
	canary              string      // how often the sidecar wants one; "": as if it had not said
	url                 string      // of the sidecar

	mu   sync.Mutex
	paid map[string]int // how often a subscriber was told, by MerchantRequestID
	seen push.Cursor    // the newest event
}

func newPair(t *testing.T) *pair {
	return newPairBy(t, func(s *pair) string { return s.sidecars })
}

// newPairBy is a pair whose sidecar knows the edge by the address that by says.
func newPairBy(t *testing.T, by func(s *pair) string) *pair {
	return newPairOf(t, by, [2][]string{})
}

// newPairWith is a pair of which each has other flags besides.
func newPairWith(t *testing.T, edge, sidecar []string) *pair {
	return newPairOf(t, func(s *pair) string { return s.sidecars }, [2][]string{edge, sidecar})
}

func newPairOf(t *testing.T, by func(s *pair) string, more [2][]string) *pair {
	s := &pair{more: more, T: t, dir: t.TempDir(), callbacks: loopback.Address(t), sidecars: loopback.Address(t), url: "http://" + loopback.Address(t), paid: map[string]int{}}
	s.startEdge()
	s.known = by(s)
	s.address = joinShop(t, s.dir, "edge", "duka", "sidecar")
	s.startSidecar()
	return s
}

func (s *pair) startEdge() {
	s.Helper()
	s.edge = startDaemon(s.T, s.dir, append([]string{"edge", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars}, s.more[0]...)...)
	s.callbacks, s.sidecars = s.edge.says("callbacks"), s.edge.says("sidecars")
}

func (s *pair) startSidecar() {
	s.Helper()
	s.sidecar = startDaemon(s.T, s.dir, append([]string{"sidecar", "--dev", "--data", "sidecar", "--listen", strings.TrimPrefix(s.url, "http://"),
		"--edge", s.known, "--canary", cmp.Or(s.canary, "30s")}, s.more[1]...)...)
	s.url = s.sidecar.says("url")
}

// joinShop gives the sidecar in a data folder the endpoint of that name, as an operator and a shopkeeper do, and returns the
// endpoint's address.
func joinShop(t *testing.T, dir, edge, name, data string, flags ...string) (address string) {
	t.Helper()
	invite := exec.Command("hodi", "edge", "invite", "--data", edge, name)
	invite.Dir = dir
	code, err := invite.Output()
	if err != nil {
		t.Fatalf("hodi edge invite: %v", err)
	}
	join := exec.Command("hodi", append([]string{"join", "--data", data}, flags...)...)
	join.Dir, join.Stdin = dir, bytes.NewReader(code)
	out, err := join.CombinedOutput()
	if err != nil {
		t.Fatalf("hodi join: %v\n%s", err, out)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(field, "http://") || strings.HasPrefix(field, "https://") {
			address = field
		}
	}
	return address
}

// hodi runs a command that is to succeed, and returns what it prints.
func (s *pair) hodi(args ...string) string {
	s.Helper()
	return runHodi(s.T, s.dir, args...)
}

// runHodi runs a command in a folder, which is to succeed, and returns what it prints.
func runHodi(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("hodi", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("hodi %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// refuses runs a command that is to fail, and to say so.
func (s *pair) refuses(want string, args ...string) {
	s.Helper()
	cmd := exec.Command("hodi", args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		s.Errorf("hodi %v: %v\n%s\nwant it to say %q", args, err, out, want)
	}
}

// subscribe follows all events until the test ends.
func (s *pair) subscribe() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	s.Cleanup(reader.Wait)
	s.Cleanup(cancel)
	_, status := call(s.T, "GET", s.url+"/status", nil)
	reader.Go(func() {
		for m, err := range client.New(s.url).Events(ctx, status["head"].(string)) {
			if err != nil {
				s.Error(err)
				return
			}
			s.mu.Lock()
			s.seen = m.ID
			if m.Type == push.PaymentCompleted {
				s.paid[m.Data.MerchantRequestID]++
			}
			s.mu.Unlock()
		}
	})
}

func (s *pair) register(from, to int) {
	s.Helper()
	for i := from; i < to; i++ {
		push := map[string]any{"MerchantRequestID": fmt.Sprintf("m-%d", i), "CheckoutRequestID": fmt.Sprintf("ws_CO_%d", i), "ResponseCode": "0",
			"session": fmt.Sprintf("s%d", i), "amount": 100}
		if status, answer := call(s.T, "POST", s.url+"/payments", push); status != 201 {
			s.Fatalf("the push was answered %d %v", status, answer)
		}
	}
}

func (s *pair) post(from, to int) {
	s.Helper()
	for i := from; i < to; i++ {
		ids := map[string]any{"merchantRequestId": fmt.Sprintf("m-%d", i), "checkoutRequestId": fmt.Sprintf("ws_CO_%d", i)}
		if status, answer := call(s.T, "POST", s.address, stkCallback(ids, 0, "ok", fmt.Sprintf(today+"AB%05d", i), 100)); status != 200 {
			s.Fatalf("the edge answered %d %v", status, answer)
		}
	}
}

// wantPaid waits until the payments are paid, for the sidecar.
func (s *pair) wantPaid(from, to int) {
	s.Helper()
	for i := from; i < to; i++ {
		eventually(s.T, fmt.Sprintf("payment %d", i), func() bool {
			_, message := call(s.T, "GET", fmt.Sprintf("%s/sessions/s%d", s.url, i), nil)
			data, _ := message["data"].(map[string]any)
			return data["status"] == "SUCCESS" && data["mpesaReceiptNumber"] == fmt.Sprintf(today+"AB%05d", i)
		})
	}
}

// wantTold waits until the subscriber was told of payments, each of them once.
func (s *pair) wantTold(from, to int) {
	s.Helper()
	for i := from; i < to; i++ {
		times := 0
		eventually(s.T, fmt.Sprintf("the subscriber to be told of payment %d", i), func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			times = s.paid[fmt.Sprintf("m-%d", i)]
			return times > 0
		})
		if times != 1 {
			s.Errorf("the subscriber was told of payment %d %d times", i, times)
		}
	}
}

// applied is how many callbacks the sidecar says it has applied; a repetition would count.
func (s *pair) applied() float64 {
	s.Helper()
	_, status := call(s.T, "GET", s.url+"/status", nil)
	counts := status["callbacks"].(map[string]any)
	n := 0.0
	for _, state := range counts {
		n += state.(float64)
	}
	return n
}

// wantApplied waits until the sidecar has so many callbacks.
func (s *pair) wantApplied(n float64) {
	s.Helper()
	eventually(s.T, fmt.Sprintf("the sidecar to have %v callbacks", n), func() bool { return s.applied() == n })
}
