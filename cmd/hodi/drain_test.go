//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// load posts callbacks, each on a connection of its own, until the test ends or stop is called.
type load struct {
	answered atomic.Int64
	refused  atomic.Int64 // where nobody listened
	cut      atomic.Int64 // while the last connection was accepted and the port closed
	stop     func()
}

func (p *pair) load(posters int) *load {
	l := new(load)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	l.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	p.Cleanup(l.stop)
	for poster := range posters {
		all.Go(func() {
			hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for i := 0; ctx.Err() == nil; i++ {
				response, err := hc.Post(p.address, "application/json", strings.NewReader(fmt.Sprintf(`{"callback":"%d of poster %d"}`, i, poster)))
				if err != nil {
					switch {
					case errors.Is(err, syscall.ECONNREFUSED):
						l.refused.Add(1)
					case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE): // by the system, on our behalf: that nothing was stored, the ledger shows
						l.cut.Add(1)
					default:
						p.Errorf("a callback that was let in was not answered: %v", err)
					}
					time.Sleep(time.Millisecond) // until the process is there again
					continue
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 {
					p.Errorf("a callback was answered %d, %v", response.StatusCode, err)
				}
				l.answered.Add(1)
			}
		})
	}
	return l
}

func (l *load) wait(t *testing.T, more int64) {
	t.Helper()
	from := l.answered.Load()
	eventually(t, "callbacks to be answered", func() bool { return l.answered.Load() >= from+more })
}

func TestAnEdgeThatIsAskedToEndAnswersWhoeverWasLetIn(t *testing.T) {
	p := newPair(t)
	l := p.load(32)
	for range 2 {
		l.wait(t, 100)
		began := time.Now()
		p.edge.end()
		ended := time.Now()
		p.startEdge()
		serves, before := time.Now(), p.applied()
		eventually(t, "a callback to come through", func() bool { return p.applied() > before })
		t.Logf("ended in %v, started in %v, and the first delivery came %v later", ended.Sub(began).Round(time.Millisecond), serves.Sub(ended).Round(time.Millisecond), time.Since(serves).Round(time.Millisecond))
	}
	l.stop()
	p.wantApplied(float64(l.answered.Load())) // those that were stored are those that were answered
	t.Logf("%d answered, %d refused while there was no edge, %d cut off while it closed its port", l.answered.Load(), l.refused.Load(), l.cut.Load())
}

func TestASidecarThatIsAskedToEndCommitsWhatItHasAndTellsTheEdgeAndItsReaders(t *testing.T) {
	p := newPair(t)
	l := p.load(4)
	l.wait(t, 100)
	socket, response, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+"/events", nil)
	if err != nil {
		t.Fatal(err, response)
	}
	closed := make(chan error, 1)
	go func() {
		for {
			if _, _, err := socket.Read(context.Background()); err != nil {
				closed <- err
				return
			}
		}
	}()
	p.sidecar.end()
	if code := websocket.CloseStatus(<-closed); code != websocket.StatusGoingAway && code != websocket.StatusServiceRestart {
		t.Errorf("a reader was told %d", code)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(p.dir, "sidecar", "sidecar.db"))+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	var committed uint64
	if err := db.QueryRow("SELECT count(*) FROM callbacks").Scan(&committed); err != nil || committed == 0 {
		t.Fatal(committed, err)
	}
	db.Close()
	eventually(t, fmt.Sprintf("the edge to know of %d", committed), func() bool {
		var listed struct{ Endpoints []endpoint }
		err := askAdmin(t.Context(), filepath.Join(p.dir, "edge"), http.MethodGet, "/endpoints", nil, &listed)
		if err == nil && listed.Endpoints[0].Delivered > committed {
			t.Fatalf("the edge has an Ack of %d, and %d are committed", listed.Endpoints[0].Delivered, committed)
		}
		return err == nil && listed.Endpoints[0].Delivered == committed
	})
	p.startSidecar()
	l.wait(t, 50)
	l.stop()
	p.wantApplied(float64(l.answered.Load()))
}

// Neither a poster that stalls in the middle of a callback, nor a sidecar that is frozen, keeps an edge from ending; and
// who asks a second time does not wait at all.
func TestAnEdgeThatIsAskedToEndDoesNotWaitForEver(t *testing.T) {
	p := newPair(t)
	stall := func() net.Conn {
		u, err := url.Parse(p.address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: edge\r\nContent-Length: 1000\r\n\r\n{", u.Path)
		return c
	}
	p.post(0, 1)
	p.wantApplied(1)
	if err := p.sidecar.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.post(1, 50) // to a sidecar that takes none of them
	stall()
	began := time.Now()
	p.edge.end()
	t.Logf("it ended after %v", time.Since(began).Round(time.Millisecond))
	if err := p.sidecar.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.startEdge()
	p.wantApplied(50)

	stall()
	p.edge.killed = true
	p.edge.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "it to take nothing new", func() bool {
		c, err := net.Dial("tcp", p.callbacks)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	p.edge.cmd.Process.Signal(syscall.SIGTERM)
	p.edge.cmd.Wait()
	if s, ok := p.edge.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() {
		t.Errorf("asked twice, it ended with %v", p.edge.cmd.ProcessState)
	}
}
