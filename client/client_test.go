package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/sync/push"
)

func TestEventsComeTypedAndInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar/", client.WithHTTPClient(n.client()), client.WithKey("app-key")), id(3))
		k := s.turn()
		if k.url != "/events?after="+id(3) || k.key != "Bearer app-key" {
			t.Errorf("it asks for %s with %q", k.url, k.key)
		}
		paid := event(4)
		paid.Type, paid.Final, paid.Data.Status, paid.Data.ResultCode, paid.Data.Amount, paid.Data.MpesaReceiptNumber = push.PaymentCompleted, true, push.Success, "0", 7150, "RKK1AAAA1A"
		k.send(paid)
		if m := <-sub.messages; m != paid {
			t.Errorf("got %+v, want %+v", m, paid)
		}
		k.send(event(5), event(6))
		sub.want(5, 6)
		sub.wantStopped(k)
	})
}

func TestSessionIsAskedForByItsName(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := one(t, client.New("ws://sidecar/hodi", client.WithHTTPClient(n.client())), "order 1/2", "")
		k := s.turn()
		if k.url != "/hodi/sessions/order%201%2F2/websocket" || k.key != "" {
			t.Errorf("it asks for %s with %q", k.url, k.key)
		}
		k.send(event(5))
		sub.want(5)
		sub.wantStopped(k)
	})
}

func TestCutConnectionGoesOnAfterTheLastMessage(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := one(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "order-1", "")
		k := s.turn()
		k.send(event(5), event(6))
		sub.want(5, 6)
		for i, end := range []func(*turn){(*turn).drop, func(k *turn) { k.close(1001, "the sidecar stops") }, func(k *turn) { k.close(1012, "") },
			func(k *turn) { k.close(1000, "") }, func(k *turn) { k.close(4408, "slow") }, func(k *turn) { k.close(1011, "") }} {
			began := time.Now()
			end(k)
			k = s.turn()
			if want := "/sessions/order-1/websocket?after=" + id(6+uint64(i)); k.url != want {
				t.Errorf("it asks for %s, want %s", k.url, want)
			}
			if took := time.Since(began); took > 150*time.Millisecond {
				t.Errorf("end %d: it took %s to come back", i, took)
			}
			k.send(event(7 + uint64(i)))
			sub.want(7 + uint64(i))
		}
		sub.wantStopped(k)
	})
}

func TestWhatWasGivenIsNotGivenAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := one(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "order-1", id(4))
		k := s.turn()
		replay := event(6)
		replay.Type, replay.Replay = push.PaymentCompleted, true
		k.send(event(4), event(5), event(5), event(6), replay, event(3), event(7))
		sub.want(5, 6, 7)
		k.drop()
		k = s.turn()
		k.send(event(6), event(7), event(8))
		sub.want(8)
		sub.wantNothing()
		sub.wantStopped(k)
	})
}

func TestGapIsSeenAndReadingGoesOnFromIt(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := one(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "order-1", id(900))
		k := s.turn()
		pruned := event(40) // a restored disk: the same history, but shorter
		pruned.Gap = true
		k.send(pruned, event(41))
		if m := <-sub.messages; !m.Gap || m.ID.Seq != 40 {
			t.Errorf("got %+v, want the gap", m)
		}
		sub.want(41)
		k.drop()
		k = s.turn()
		if want := "/sessions/order-1/websocket?after=" + id(41); k.url != want {
			t.Errorf("it asks for %s, want %s", k.url, want)
		}
		anew := event(1) // a new disk: another history, which starts at 1
		anew.Gap, anew.ID.Epoch = true, epoch+1
		next := event(2)
		next.ID.Epoch = epoch + 1
		k.send(anew, anew, next)
		if m := <-sub.messages; !m.Gap || m.ID.Epoch != epoch+1 {
			t.Errorf("got %+v, want the gap", m)
		}
		sub.want(1, 2) // a gap is told as often as it comes
		sub.wantStopped(k)
	})
}

func TestStreamOfAllThatIsCutBeforeItsFirstEventMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "")
		k := s.turn()
		if want := "/events?after=" + id(7); k.url != want {
			t.Errorf("it asks for %s, want %s", k.url, want)
		}
		s.head = func(http.ResponseWriter) { t.Error("the head is asked for again") }
		k.drop()
		k = s.turn()
		if want := "/events?after=" + id(7); k.url != want {
			t.Errorf("after the cut it asks for %s, want %s", k.url, want)
		}
		k.send(event(8))
		sub.want(8)
		sub.wantStopped(k)
	})
}

func TestAnswerWithTheHeadThatBreaksOffIsAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		tries := 0
		s.head = func(w http.ResponseWriter) {
			if tries++; tries == 1 {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, `{"payments":[],"he`)
				return
			}
			_, _ = io.WriteString(w, `{"payments":[],"head":"`+id(7)+`"}`)
		}
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "")
		k := s.turn()
		if want := "/events?after=" + id(7); k.url != want {
			t.Errorf("it asks for %s, want %s: what happens before the first event would be missed", k.url, want)
		}
		sub.wantStopped(k)
	})
}

func TestKeyThatMayListenButNotListIsListenedWith(t *testing.T) {
	for _, answer := range []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { w.WriteHeader(403) },
		func(w http.ResponseWriter) { w.WriteHeader(404) },
		func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"payments":[]}`) },
		func(w http.ResponseWriter) { _, _ = io.WriteString(w, `<html>`) },
	} {
		bubble(t, func(t *testing.T, s *scripted, n *network) {
			s.head = answer
			sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "")
			k := s.turn()
			if k.url != "/events" {
				t.Errorf("it asks for %s", k.url)
			}
			k.send(event(8))
			sub.want(8)
			sub.wantStopped(k)
		})
	}
}

func TestSidecarThatSaysNothingNewAndDropsIsAskedEverMoreSeldom(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		began := time.Now()
		for range 40 {
			k := s.turn()
			k.send(event(4)) // known already
			synctest.Wait()
			k.drop()
		}
		if took := time.Since(began); took < 40*time.Second {
			t.Errorf("it came 40 times within %s", took)
		}
		sub.stop()
		if err := sub.wantEnd(); err != nil {
			t.Error(err)
		}
	})
}

func TestRetriesAreSoonAtFirstAndNeverRare(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		k := s.turn()
		k.send(event(5))
		sub.want(5)
		n.sever()
		k.drop()
		time.Sleep(5 * time.Minute)
		tries := n.tries()[1:]
		if first := tries[1].Sub(tries[0]); first > 250*time.Millisecond {
			t.Errorf("the second try came %s after the first", first)
		}
		for i := range tries[1:] {
			if gap := tries[i+1].Sub(tries[i]); gap > 3*time.Second || i > 8 && gap < time.Second {
				t.Errorf("try %d came after %s", i+1, gap)
			}
		}
		n.heal()
		healed := time.Now()
		k = s.turn()
		if took := time.Since(healed); took > 3*time.Second {
			t.Errorf("after the network healed it took %s", took)
		}
		if want := "/events?after=" + id(5); k.url != want {
			t.Errorf("it asks for %s, want %s", k.url, want)
		}
		k.send(event(6))
		sub.want(6)
		sub.wantStopped(k)
	})
}

func TestSidecarThatIsBusyIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		until := time.Now().Add(9 * time.Second)
		s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			if time.Now().After(until) {
				return false
			}
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(503)
			return true
		}
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), "")
		k := s.turn()
		if tries := len(n.tries()); tries != 3 { // one refused, the head, the stream
			t.Errorf("it tried %d times", tries)
		}
		for range 4 {
			k.close(1013, "overloaded")
			began := time.Now()
			k = s.turn()
			if took := time.Since(began); took < time.Second {
				t.Errorf("an overloaded sidecar was asked again after %s", took)
			}
		}
		sub.wantStopped(k)
	})
}

func TestSidecarThatGoesSilentIsFoundOut(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		k := s.turn()
		k.send(event(5))
		sub.want(5)
		n.sever()
		n.heal() // what was open stays dead
		began := time.Now()
		again := s.turn()
		if took := time.Since(began); took > 35*time.Second {
			t.Errorf("a dead sidecar was noticed after %s", took)
		}
		close(k.done)
		if want := "/events?after=" + id(5); again.url != want {
			t.Errorf("it asks for %s, want %s", again.url, want)
		}
		sub.wantStopped(again)
	})
}

func TestQuietButLivingSidecarIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client())), id(4))
		k := s.turn()
		reading := k.conn.CloseRead(t.Context())
		time.Sleep(10 * time.Minute) // it is asked, and answers
		for range 40 {
			time.Sleep(15 * time.Second) // it asks, and is answered
			if err := k.conn.Ping(t.Context()); err != nil {
				t.Fatalf("the subscriber does not answer: %v", err)
			}
		}
		k.send(event(5))
		sub.want(5)
		if tries := len(n.tries()); tries != 1 {
			t.Errorf("it connected %d times", tries)
		}
		sub.stop()
		<-reading.Done()
		close(k.done)
		if err := sub.wantEnd(); err != nil {
			t.Error(err)
		}
	})
}

func TestLoopThatIsSlowMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		const events = 500
		c := client.New("http://sidecar", client.WithHTTPClient(n.client()))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() { // each connection is written to until it does not take more for ten seconds
			defer close(served)
			for next := uint64(1); next <= events; {
				k := s.turn()
				after, _ := push.ParseCursor(strings.TrimPrefix(k.url, "/events?after="))
				for next = after.Seq + 1; next <= events; next++ {
					b, _ := json.Marshal(event(next))
					write, stop := context.WithTimeout(t.Context(), 10*time.Second)
					err := k.conn.Write(write, websocket.MessageText, b)
					stop()
					if err != nil {
						break
					}
				}
				if next > events {
					<-ctx.Done()
				}
				k.drop()
			}
		}()
		got := uint64(0)
		for m, err := range c.Events(ctx, id(0)) {
			if err != nil {
				t.Fatal(err)
			}
			if got++; m.ID.Seq != got {
				t.Fatalf("got event %d, want %d", m.ID.Seq, got)
			}
			if got%100 == 50 {
				time.Sleep(time.Minute)
			}
			if got == events {
				break
			}
		}
		cancel()
		<-served
	})
}

func TestLoopThatBreaksEndsTheConnectionBeforeItGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		served := make(chan struct{})
		go func() {
			defer close(served)
			k := s.turn()
			for seq := range uint64(200) { // more than is read ahead
				k.send(event(5 + seq))
			}
			k.wantEnd()
		}()
		for range client.New("http://sidecar", client.WithHTTPClient(n.client())).Events(t.Context(), id(4)) {
			break
		}
		synctest.Wait()
		select {
		case <-served:
		default:
			t.Error("the connection is still open")
		}
		quick := 0
		for range 8 {
			n.heal()
			go func() { k := s.turn(); k.send(event(7)); <-n.done; close(k.done) }()
			began := time.Now()
			for range client.New("http://sidecar", client.WithHTTPClient(n.client())).Events(t.Context(), id(6)) {
				n.sever()
				break
			}
			if time.Since(began) <= time.Second {
				quick++
			}
		}
		if quick < 4 { // now and then one takes the five seconds of the library: see end
			t.Errorf("ending a dead connection took longer than a second %d times of 8", 8-quick)
		}
	})
}

func TestSequenceEndsWithItsContextWhereverItIs(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		c := client.New("http://sidecar", client.WithHTTPClient(n.client()))
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for m, err := range c.Events(done, "") {
			t.Errorf("the context was done before, but there is %+v, %v", m, err)
		}
		n.sever()
		sub := all(t, c, id(4)) // which is trying
		time.Sleep(time.Minute)
		sub.stop()
		synctest.Wait()
		if err := sub.wantEnd(); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyIsAskedForBeforeEachConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *scripted, n *network) {
		asked := 0
		sub := all(t, client.New("http://sidecar", client.WithHTTPClient(n.client()), client.WithKeyFunc(func(context.Context) (string, error) {
			if asked++; asked == 2 {
				return "", errors.New("the vault is closed")
			}
			return fmt.Sprint("key-", asked), nil
		})), id(4))
		k := s.turn()
		if k.key != "Bearer key-1" {
			t.Errorf("the key is %q", k.key)
		}
		k.drop()
		if k = s.turn(); k.key != "Bearer key-3" {
			t.Errorf("the key is %q", k.key)
		}
		sub.wantStopped(k)
	})
}

func TestOverRealSockets(t *testing.T) {
	s := newSidecar(t)
	server := httptest.NewServer(s)
	defer server.Close()
	c := client.New(server.URL, client.WithKey("key"))
	sub, session := all(t, c, ""), one(t, c, "order-1", id(20))
	for _, k := range []*turn{s.turn(), s.turn()} { // both are here before one is sent away, and comes back
		if strings.HasPrefix(k.url, "/events") {
			k.send(event(8), event(9))
			sub.want(8, 9)
			k.drop()
		} else {
			k.send(event(21))
			session.want(21)
			k.close(1012, "")
		}
	}
	for range 2 {
		k := s.turn()
		if want := "/events?after=" + id(9); strings.HasPrefix(k.url, "/events") && k.url != want {
			t.Errorf("it asks for %s, want %s", k.url, want)
		}
		if strings.HasPrefix(k.url, "/events") {
			k.send(event(10))
			sub.want(10)
			sub.wantStopped(k)
		} else {
			k.send(event(22))
			session.want(22)
			session.wantStopped(k)
		}
	}
}
