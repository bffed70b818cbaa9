package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// TestWhoWasLetInBeforeTheEdgeEndsMayStillSayHisCallback is about connections on which nothing was said yet when the
// edge is asked to end: Safaricom has been told that it is connected, and says what it has to say once.
func TestWhoWasLetInBeforeTheEdgeEndsMayStillSayHisCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
		udp := network.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}, simnet.NodeBiDiLinkSettings{})
		if err := network.Start(); err != nil {
			t.Fatal(err)
		}
		defer network.Close()
		callbacks := newPipeListener("edge:80")
		e, err := edge.Open(t.Context(), edge.Config{Dir: t.TempDir(), HTTP: callbacks, UDP: udp, PublicURL: "http://edge", Admin: newPipeListener("edge:admin")})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		endpoint, err := e.SetEndpoint(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- e.Run(ctx) }()
		late, err := callbacks.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mute, err := callbacks.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		asked := time.Now()
		end()
		time.Sleep(300 * time.Millisecond)
		u, err := url.Parse(endpoint.CallbackURL)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(late, "POST "+u.Path+" HTTP/1.1\r\nHost: edge\r\nContent-Length: 2\r\n\r\n{}")
		response, err := http.ReadResponse(bufio.NewReader(late), nil)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("who spoke 300 ms later was answered %v, %v", response, err)
		}
		if _, err := mute.Read(make([]byte, 1)); err == nil {
			t.Error("who says nothing was answered")
		}
		if err := <-ran; err != nil {
			t.Error(err)
		}
		t.Logf("ended after %v of the bubble's time", time.Since(asked))
		late.Close()
		mute.Close()
	})
}
