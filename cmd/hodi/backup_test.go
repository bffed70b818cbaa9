package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/journal"
)

// pair is an edge and a sidecar, each a process of its own in a folder of its own, and what a subscriber saw.
type pair struct {
	*testing.T
	dir                 string
	edge, sidecar       *daemon
	callbacks, sidecars string // the edge's addresses
	address             string // of callbacks
	url                 string // of the sidecar

	mu   sync.Mutex
	paid map[string]int // how often a subscriber was told, by MerchantRequestID
	seen push.Cursor    // the newest event
}

func newPair(t *testing.T) *pair {
	s := &pair{T: t, dir: t.TempDir(), callbacks: "127.0.0.1:0", sidecars: "127.0.0.1:0", url: "http://127.0.0.1:0", paid: map[string]int{}}
	s.startEdge()
	out := s.hodi("edge", "add", "--data", "edge", "--out", "shop", "duka")
	for field := range strings.FieldsSeq(out) {
		if strings.HasPrefix(field, "http://") {
			s.address = field
		}
	}
	s.startSidecar()
	return s
}

func (s *pair) startEdge() {
	s.Helper()
	s.edge = startDaemon(s.T, s.dir, "edge", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars)
	s.callbacks, s.sidecars = s.edge.says("callbacks"), s.edge.says("sidecars")
}

func (s *pair) startSidecar() {
	s.Helper()
	s.sidecar = startDaemon(s.T, s.dir, "sidecar", "--dev", "--data", "sidecar", "--listen", strings.TrimPrefix(s.url, "http://"),
		"--edge", s.sidecars, "--ca-file", "shop/ca.crt", "--token-file", "shop/token")
	s.url = s.sidecar.says("url")
}

// hodi runs a command that is to succeed, and returns what it prints.
func (s *pair) hodi(args ...string) string {
	s.Helper()
	cmd := exec.Command("hodi", args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("hodi %v: %v\n%s", args, err, out)
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
		if status, answer := call(s.T, "POST", s.address, stkCallback(ids, 0, "ok", fmt.Sprintf("UJ2AB%05d", i), 100)); status != 200 {
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
			return data["status"] == "SUCCESS" && data["mpesaReceiptNumber"] == fmt.Sprintf("UJ2AB%05d", i)
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

func TestAnEdgeRestoredToYesterdayDoesNotMakeTheSidecarSkipToday(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.subscribe()
	s.register(0, 30)
	s.post(0, 10)
	s.wantTold(0, 10)
	out := s.hodi("edge", "backup", "--data", "edge", "yesterday.tar")
	if !strings.Contains(out, "yesterday.tar") {
		t.Errorf("backup prints %q", out)
	}
	s.post(10, 20)
	s.wantTold(0, 20)

	s.refuses("another edge runs", "edge", "restore", "--data", "edge", "--replace", "yesterday.tar")
	s.edge.kill()
	s.refuses("--replace", "edge", "restore", "--data", "edge", "yesterday.tar")
	s.hodi("edge", "restore", "--data", "edge", "--replace", "yesterday.tar")
	s.startEdge()
	s.post(20, 30) // under the numbers that 10 to 19 had
	s.wantTold(0, 30)
	s.wantPaid(0, 30)
	if n := s.applied(); n != 30 {
		t.Errorf("the sidecar counts %v callbacks, not 30", n)
	}
}

func TestASidecarRestoredToYesterdayFetchesWhatCameSince(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.subscribe()
	s.register(0, 30)
	s.post(0, 10)
	s.wantTold(0, 10)
	s.hodi("sidecar", "backup", "--data", "sidecar", "--ca-file", "shop/ca.crt", "--token-file", "shop/token", "yesterday.tar")
	s.post(10, 20)
	s.wantTold(0, 20)
	s.mu.Lock()
	old := s.seen
	s.mu.Unlock()

	s.refuses("another hodi", "sidecar", "restore", "--data", "sidecar", "--replace", "yesterday.tar")
	s.sidecar.kill()
	out := s.hodi("sidecar", "restore", "--data", "sidecar", "--replace", "yesterday.tar")
	for _, name := range []string{"token", "ca.crt"} {
		given, _ := os.ReadFile(filepath.Join(s.dir, "shop", name))
		if back, err := os.ReadFile(filepath.Join(s.dir, "sidecar", name)); err != nil || !bytes.Equal(given, back) || !strings.Contains(out, filepath.Join("sidecar", name)) {
			t.Errorf("%s did not come back, %v\n%s", name, err, out)
		}
	}
	s.startSidecar()
	s.wantPaid(0, 20)
	s.post(20, 30)
	s.wantPaid(0, 30)
	if n := s.applied(); n != 30 {
		t.Errorf("the sidecar counts %v callbacks, not 30", n)
	}

	// The subscriber's cursor is of events that the sidecar has forgotten, and whose numbers others have now.
	_, status := call(t, "GET", s.url+"/status", nil)
	head, err := push.ParseCursor(status["head"].(string))
	if err != nil || head.Epoch <= old.Epoch || head.Seq < old.Seq {
		t.Errorf("the head is %v, the subscriber had %v, %v", head, old, err)
	}
	for m, err := range client.New(s.url).Session("s15").Events(t.Context(), old.String()) {
		if err != nil || !m.Gap || m.Type != push.PaymentUpdate || m.Data.Status != push.Success || m.ID.Epoch != head.Epoch {
			t.Errorf("with a cursor of the old epoch comes %+v, %v", m, err)
		}
		break
	}
	eventually(t, "the subscriber to be told of what came after", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.seen == head && s.paid["m-29"] > 0
	})
}

func TestBothEndsRestoredGoOnTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ edge, sidecar int }{{5, 10}, {10, 5}} {
		t.Run(fmt.Sprintf("edge as of %d, sidecar as of %d", c.edge, c.sidecar), func(t *testing.T) {
			t.Parallel()
			s := newPair(t)
			s.register(0, 20)
			for i := range 15 {
				s.post(i, i+1)
				s.wantPaid(i, i+1)
				if i+1 == c.edge {
					s.hodi("edge", "backup", "--data", "edge", "edge.tar")
				}
				if i+1 == c.sidecar {
					s.hodi("sidecar", "backup", "--data", "sidecar", "sidecar.tar")
				}
			}
			s.edge.kill()
			s.sidecar.kill()
			s.hodi("edge", "restore", "--data", "edge", "--replace", "edge.tar")
			s.hodi("sidecar", "restore", "--data", "sidecar", "--replace", "sidecar.tar")
			s.startEdge()
			s.startSidecar()
			s.subscribe()
			s.post(15, 20)
			s.wantPaid(0, 10) // what either copy knew
			s.wantPaid(15, 20)
			s.wantTold(15, 20)
			if n := s.applied(); n != 15 {
				t.Errorf("the sidecar counts %v callbacks, not 15", n)
			}
		})
	}
}

func TestABackupTakenUnderLoadHoldsEveryCallbackThatWasAnswered(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.sidecar.kill() // so that the journal has to keep them
	var mu sync.Mutex
	answered := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	var posters sync.WaitGroup
	defer posters.Wait()
	defer cancel()
	for p := range 4 {
		posters.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				body := fmt.Sprintf(`{"callback":"%d of poster %d"}`, i, p)
				response, err := http.Post(s.address, "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != 200 {
					t.Errorf("answered %d", response.StatusCode)
					return
				}
				mu.Lock()
				answered[body] = true
				mu.Unlock()
			}
		})
	}
	for round := range 3 {
		eventually(t, "callbacks", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(answered) > 100*(round+1)
		})
		mu.Lock()
		before := make([]string, 0, len(answered))
		for body := range answered {
			before = append(before, body)
		}
		mu.Unlock()
		name := fmt.Sprintf("copy-%d", round)
		s.hodi("edge", "backup", "--data", "edge", name+".tar")
		s.hodi("edge", "restore", "--data", name, name+".tar")

		j, err := journal.OpenSQLite(t.Context(), filepath.Join(s.dir, name, "edge.db"), journal.Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		state, err := j.State(t.Context(), "duka")
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]bool{}
		for after := uint64(0); after < state.Head; {
			entries, err := j.Next(t.Context(), "duka", after, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				held[string(e.Body)] = true
			}
			after = entries[len(entries)-1].Seq
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		missing := 0
		for _, body := range before {
			if !held[body] {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%d of %d callbacks that were answered before the backup are not in it", missing, len(before))
		}
	}
}

func TestABackupIsThereWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.post(0, 3)
	s.edge.kill() // its WAL is left, and a backup has what is in it
	s.hodi("edge", "backup", "--data", "edge", "copy.tar")
	if info, err := os.Stat(filepath.Join(s.dir, "copy.tar")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	s.refuses("--overwrite", "edge", "backup", "--data", "edge", "copy.tar")
	s.hodi("edge", "backup", "--data", "edge", "--overwrite", "copy.tar")
	s.refuses("no edge keeps its state", "edge", "backup", "--data", "nowhere", "none.tar")
	if err := os.Mkdir(filepath.Join(s.dir, "copies"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.hodi("edge", "backup", "--data", "edge", "copies")
	if all, _ := filepath.Glob(filepath.Join(s.dir, "copies", "hodi-edge-*Z.tar")); len(all) != 1 {
		t.Errorf("in the folder are %v", all)
	}
	if all, _ := filepath.Glob(filepath.Join(s.dir, ".*.tar*")); len(all) != 0 {
		t.Errorf("left behind: %v", all)
	}

	// Through a pipe, as to another machine.
	pipe := exec.Command("sh", "-c", "hodi edge backup --data edge - | hodi edge restore --data piped -")
	pipe.Dir = s.dir
	if out, err := pipe.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	whole, err := os.ReadFile(filepath.Join(s.dir, "copy.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "torn.tar"), whole[:len(whole)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses("cut off", "edge", "restore", "--data", "fresh", "torn.tar")
	s.refuses("hodi edge restore takes it", "sidecar", "restore", "--data", "fresh-sidecar", "copy.tar")

	// The machine moves: the sidecar finds the same edge in the same place.
	s.hodi("edge", "restore", "--data", "moved", "copy.tar")
	if err := os.Rename(filepath.Join(s.dir, "edge"), filepath.Join(s.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.dir, "moved"), filepath.Join(s.dir, "edge")); err != nil {
		t.Fatal(err)
	}
	s.register(3, 4)
	s.startEdge()
	s.post(3, 4)
	s.wantPaid(3, 4)
	if n := s.applied(); n != 4 {
		t.Errorf("the sidecar counts %v callbacks, not 4", n)
	}
}
