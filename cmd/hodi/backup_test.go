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
	if out := s.hodi("edge", "audit", "--data", "edge"); !strings.Contains(out, "restore") || !strings.Contains(out, "made on") {
		t.Errorf("the edge's audit does not say that it was put back:\n%s", out)
	}
}

func TestASidecarRestoredToYesterdayFetchesWhatCameSince(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.subscribe()
	s.register(0, 30)
	s.post(0, 10)
	s.wantTold(0, 10)
	s.hodi("sidecar", "backup", "--data", "sidecar", "yesterday.tar")
	if out := s.hodi("audit", "--data", "sidecar"); !strings.Contains(out, "backup") {
		t.Errorf("the audit does not say that a copy was made:\n%s", out)
	}
	s.post(10, 20)
	s.wantTold(0, 20)
	s.mu.Lock()
	old := s.seen
	s.mu.Unlock()

	s.refuses("another hodi", "sidecar", "restore", "--data", "sidecar", "--replace", "yesterday.tar")
	s.sidecar.kill()
	given, _ := os.ReadFile(filepath.Join(s.dir, "sidecar", "identity.json"))
	s.hodi("sidecar", "restore", "--data", "sidecar", "--replace", "yesterday.tar")
	file := filepath.Join(s.dir, "sidecar", "identity.json")
	if back, err := os.ReadFile(file); err != nil || !bytes.Equal(given, back) {
		t.Errorf("the identity did not come back, %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the identity's file: %v, %v", info, err)
	}
	s.startSidecar()
	if out := s.hodi("audit", "--data", "sidecar"); !strings.Contains(out, "restore") || !strings.Contains(out, "made on") {
		t.Errorf("the audit does not say that it was put back:\n%s", out)
	}
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
	for _, refused := range []string{"fresh", "fresh-sidecar"} {
		if _, err := os.Stat(filepath.Join(s.dir, refused)); !os.IsNotExist(err) {
			t.Errorf("a restore that was refused left the folder %s behind (%v)", refused, err)
		}
	}
	s.refuses("nowhere/copy.tar cannot be made: no such file", "edge", "backup", "--data", "edge", "nowhere/copy.tar")

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
