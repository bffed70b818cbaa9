package tunnel_test

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// history is a tunnel.History in memory, of any number of endpoints.
type history struct {
	mu        sync.Mutex
	endpoints map[string]*past
	appended  chan struct{} // closed at the next append
	broken    error         // what every call answers
	full      error         // what an append of a canary answers
}

type past struct {
	state   wire.State
	entries []wire.Entry // from seq 1 on
	acks    []wire.Cursor
	renewed int

	canaries int
}

const firstEpoch = 1_000_000

func newHistory() *history {
	return &history{endpoints: make(map[string]*past), appended: make(chan struct{})}
}

func (h *history) past(endpoint string) *past {
	p := h.endpoints[endpoint]
	if p == nil {
		p = &past{state: wire.State{Epoch: firstEpoch, Oldest: 1}}
		h.endpoints[endpoint] = p
	}
	return p
}

// add appends n callbacks whose bodies say their numbers and more.
func (h *history) add(endpoint string, n int, more string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	for range n {
		p.state.Head++
		p.entries = append(p.entries, wire.Entry{
			Seq: p.state.Head, Received: time.UnixMilli(int64(p.state.Head)).UTC(), Kind: wire.KindNotice,
			Body: fmt.Appendf(nil, "callback %d%s", p.state.Head, more),
		})
	}
	close(h.appended)
	h.appended = make(chan struct{})
}

func (h *history) Append(_ context.Context, endpoint string, e wire.Entry) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	if err := cmp.Or(h.broken, h.full); err != nil {
		return 0, err
	}
	p.state.Head++
	p.canaries++
	p.entries = append(p.entries, wire.CanaryOf(p.state.Head, p.state.Head, e.Received))
	close(h.appended)
	h.appended = make(chan struct{})
	return p.state.Head, nil
}

// restore puts the endpoint's history back to what it was when it had n entries.
func (h *history) restore(endpoint string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	p.state.Head = uint64(n)
	p.entries = slices.Clone(p.entries[:n])
}

// prune lets go of the entries before oldest.
func (h *history) prune(endpoint string, oldest uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past(endpoint).state.Oldest = oldest
}

func (h *history) look(endpoint string) past {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.past(endpoint)
}

func (h *history) State(_ context.Context, endpoint string) (wire.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.past(endpoint).state, h.broken
}

func (h *history) Entry(_ context.Context, endpoint string, seq uint64) (wire.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	if seq < p.state.Oldest || seq > p.state.Head {
		return wire.Entry{}, errors.New("no such entry")
	}
	return p.entries[seq-1], h.broken
}

func (h *history) Next(ctx context.Context, endpoint string, after uint64, maxBytes int) ([]wire.Entry, error) {
	for {
		h.mu.Lock()
		p := h.past(endpoint)
		from, to, size := max(after, p.state.Oldest-1), p.state.Head, 0
		for i := from; i < to; i++ {
			if size += p.entries[i].Size(); size > maxBytes && i > from {
				to = i
			}
		}
		var entries []wire.Entry
		if from < to {
			entries = slices.Clone(p.entries[from:to])
		}
		wait, err := h.appended, h.broken
		h.mu.Unlock()
		if len(entries) > 0 || err != nil {
			return entries, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *history) Ack(_ context.Context, endpoint string, epoch wire.Epoch, seq uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	p.acks = append(p.acks, wire.Cursor{Epoch: epoch, Seq: seq})
	if epoch != p.state.Epoch {
		return errors.New("another epoch")
	}
	p.state.Acked = max(p.state.Acked, seq)
	return nil
}

func (h *history) Renew(_ context.Context, endpoint string, beyond wire.Epoch) (wire.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(endpoint)
	p.state.Epoch = max(p.state.Epoch, beyond) + 1
	p.state.Acked = 0
	p.renewed++
	return p.state, nil
}

// sink is a tunnel.Sink in memory, with a cursor per epoch as a sidecar has.
type sink struct {
	mu       sync.Mutex
	last     wire.Cursor
	applied  []string // bodies, in order, those that came again included
	batches  int
	welcomes []wire.Welcome
	links    []int                            // how much was applied when each of them began
	before   func(entries []wire.Entry) error // called in Apply before anything happens
	changed  chan struct{}                    // closed at the next Apply
}

func newSink() *sink { return &sink{changed: make(chan struct{})} }

func (s *sink) Cursor(context.Context) (wire.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, nil
}

func (s *sink) Welcome(_ context.Context, w wire.Welcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.welcomes = append(s.welcomes, w)
	s.links = append(s.links, len(s.applied))
	return nil
}

func (s *sink) Apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(entries); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, e := range entries {
		s.applied = append(s.applied, string(e.Body))
	}
	s.last = cursor
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *sink) hook(f func(entries []wire.Entry) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *sink) set(c wire.Cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = c
}

func (s *sink) cursor() wire.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.applied)
}

func (s *sink) welcomed() []wire.Welcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.welcomes)
}

// wantEach fails unless the callbacks 1 to n have come, and over each link those up to its head in order and without a gap,
// and those behind it likewise. For tests on real sockets, where a busy machine may cost a link.
func (s *sink) wantEach(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	came := make(map[int]bool)
	for i, from := range s.links {
		to, last := len(s.applied), map[bool]int{}
		if i < len(s.links)-1 {
			to = s.links[i+1]
		}
		for _, body := range s.applied[from:to] {
			var seq int
			if _, err := fmt.Sscanf(body, "callback %d", &seq); err != nil {
				t.Fatal(err)
			}
			live := seq > int(s.welcomes[i].Head)
			if was := last[live]; was != 0 && seq != was+1 {
				t.Errorf("over link %d, with a head of %d, came %d after %d", i+1, s.welcomes[i].Head, seq, was)
			}
			last[live], came[seq] = seq, true
		}
	}
	if len(came) != n || !came[1] || !came[n] {
		t.Errorf("%d of %d came", len(came), n)
	}
}

// until waits until the cursor is at seq. For tests on real sockets; the test's own time limit is the only one.
func (s *sink) until(seq uint64) {
	for {
		s.mu.Lock()
		at, changed := s.last.Seq, s.changed
		s.mu.Unlock()
		if at >= seq {
			return
		}
		<-changed
	}
}

func callbacks(from, to int, more string) []string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprintf("callback %d%s", i, more))
	}
	return list
}

// authority is a private CA and the certificate that it gave the edge.
type authority struct {
	t    testing.TB
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	edge tls.Certificate
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Hodi test CA"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	edgeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{wire.ServerName}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, edgeKey.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{t: t, key: key, pool: x509.NewCertPool(), edge: tls.Certificate{Certificate: [][]byte{der, root}, PrivateKey: edgeKey}}
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	a.ca = cert
	a.pool.AddCert(cert)
	return a
}

func (a authority) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.edge}, ClientCAs: a.pool}
}

// client is the sidecar of an endpoint.
func (a authority) client(endpoint string) *tls.Config {
	a.t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.certificate(endpoint, key, time.Now())}}
}

// certificate is one that was issued at a time.
func (a authority) certificate(endpoint string, key crypto.Signer, at time.Time) tls.Certificate {
	a.t.Helper()
	request, err := enrol.Request(key)
	if err != nil {
		a.t.Fatal(err)
	}
	parsed, _, err := enrol.ReadRequest(request, endpoint)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := enrol.Issue(a.ca, a.key, endpoint, parsed, at)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// byName lets in whoever has a certificate, whatever his name; but nobody who is called guess, or late.
func byName(_ context.Context, c *x509.Certificate) (tunnel.Endpoint, error) {
	name, err := enrol.Endpoint(c)
	if err == nil && name == "guess" {
		err = &tunnel.Refusal{Endpoint: name, Reason: "this sidecar was revoked"}
	}
	if err == nil && name == "late" {
		err = &tunnel.Refusal{Code: wire.CloseExpired, Endpoint: name, Reason: enrol.ErrExpired.Error()}
	}
	return tunnel.Endpoint{Name: name, Callback: "https://edge.example/c/" + name}, err
}
