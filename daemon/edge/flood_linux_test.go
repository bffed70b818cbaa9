package edge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/journal"
)

// BenchmarkFlood measures how long good callbacks take, over TLS and on a connection each, first by themselves and then
// beside those who have no business here. The two take turns, so that the machine is the same for both; what counts is
// their ratio. The flood comes from another address than the callbacks, as any does, and from a process of its own that
// gives way to this one: an attacker's processor is not ours, but what he does costs the edge what it costs.
func BenchmarkFlood(b *testing.B) {
	for _, kind := range []string{"unknown-keys", "slowloris"} {
		b.Run(kind, func(b *testing.B) { flood(b, kind) })
	}
}

const floodVariable = "HODI_TEST_FLOOD" // KIND ADDRESS: the process that is the flood

func TestBeTheFloodOfTheBenchmark(t *testing.T) {
	kind, address, ok := strings.Cut(os.Getenv(floodVariable), " ")
	if !ok {
		t.Skip("this is a process of BenchmarkFlood")
	}
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		io.Copy(io.Discard, os.Stdin)
	}()
	var rogues sync.WaitGroup
	for range 8 {
		rogues.Go(func() {
			var held []net.Conn
			defer func() {
				for _, c := range held {
					c.Close()
				}
			}()
			for !stopped(stop) {
				if kind == "unknown-keys" { // each with a handshake of its own, as fast as they are answered
					floodOnce(address, "POST /c/00112233445566778899aabbccddeeff HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
					continue
				}
				if c, err := from("127.0.0.9").Dial("tcp", address); err == nil { // as many as there can be, and a word that has no end
					fmt.Fprint(c, "\x16\x03\x01")
					held = append(held, c)
				}
				if len(held) > 100 {
					held[0].Close()
					held = held[1:]
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	rogues.Wait()
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func from(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
}

func floodOnce(address, request string) {
	c, err := from("127.0.0.9").Dial("tcp", address)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	io.WriteString(t, request)
	io.Copy(io.Discard, t)
}

func flood(b *testing.B, kind string) {
	conf, _ := public(b)
	var err error
	c := edge.Config{Dir: b.TempDir(), Limits: journal.Limits{MaxBytes: 1 << 40}, TLS: conf}
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
	address := c.HTTP.Addr().String()
	request := fmt.Sprintf("POST %s/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 420\r\n\r\n%s", path(registered.CallbackURL), ref, strings.Repeat("b", 420))
	post := func() time.Duration {
		began := time.Now()
		conn, err := from("127.0.0.1").Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		io.WriteString(t, request)
		answer, err := io.ReadAll(t)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			b.Fatalf("answered %q, %v", answer, err)
		}
		return time.Since(began)
	}
	post() // from here on this address is known for its callbacks
	var alone, beside []time.Duration
	const turn = 50
	for range max(1, b.N/turn) {
		for range turn {
			alone = append(alone, post())
		}
		rogue := exec.Command(os.Args[0], "-test.run", "TestBeTheFloodOfTheBenchmark")
		rogue.Env = append(os.Environ(), floodVariable+"="+kind+" "+address)
		life, err := rogue.StdinPipe()
		if err == nil {
			err = rogue.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		for began := time.Now(); e.Crowded() == 0 && time.Since(began) < 30*time.Second; {
			time.Sleep(time.Millisecond)
		}
		for range turn {
			beside = append(beside, post())
		}
		life.Close()
		if err := rogue.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(alone)
	slices.Sort(beside)
	at := func(took []time.Duration, percent int) float64 {
		return float64(took[len(took)*percent/100].Microseconds())
	}
	b.ReportMetric(at(alone, 50), "alone-p50-us")
	b.ReportMetric(at(beside, 50)/at(alone, 50), "p50-ratio")
	b.ReportMetric(at(beside, 99)/at(alone, 99), "p99-ratio")
}
