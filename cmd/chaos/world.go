package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A world is one edge and its shops, each a process of its own, and the network between them.
type world struct {
	dir     string
	hodi    string
	network *network // nil: all is on loopback
	why     string   // it is
	edge    *process
	at      host // of the edge, and of who posts to it
	roots   *x509.CertPool
	shops   []*shop
}

// A shop is one sidecar and the app beside it.
type shop struct {
	number  int
	name    string
	host    host
	sidecar *process
	base    string // of its API
	key     string // to it
	http    *http.Client

	pulse pulse      // of its deliveries
	grip  sync.Mutex // held by the fault that has hold of the process
}

// build makes the world: nothing runs yet but the edge, which the shops have joined.
func build(ctx context.Context, dir, hodi string, shops int, onLoopback bool, seed uint64, died func(string, error)) (*world, error) {
	w := &world{dir: dir, hodi: hodi, at: here}
	if onLoopback {
		w.why = "asked for"
	} else if n, err := newNetwork(shops, seed); err != nil {
		w.why = err.Error()
	} else {
		w.network, w.at = n, n.edge
	}

	listen, edge := "127.0.0.1", netip.MustParseAddr("127.0.0.1")
	port := 443
	if w.network != nil {
		edge = edgeAddress
		listen = edge.String()
	} else {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	address := net.JoinHostPort(listen, strconv.Itoa(port))
	if err := w.certificate(edge); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("chaos: build: %w", err)
	}
	w.edge = &process{name: "edge", host: w.at, log: filepath.Join(dir, "logs", "edge.log"), died: died, command: []string{hodi, "--log-format", "json", "edge",
		"--data", filepath.Join(dir, "edge"), "--listen", address, "--public-url", "https://" + address,
		"--certificate-file", filepath.Join(dir, "public.crt"), "--key-file", filepath.Join(dir, "public.key")}}
	if err := w.edge.start(); err != nil {
		return w, err
	}
	for i := range shops {
		s := &shop{number: i, name: fmt.Sprintf("shop-%d", i+1), host: here, base: "http://127.0.0.1:8787"}
		if w.network != nil {
			s.host = w.network.shops[i].host
		} else {
			port, err := freePort()
			if err != nil {
				return w, err
			}
			s.base = "http://127.0.0.1:" + strconv.Itoa(port)
		}
		if err := w.join(ctx, s); err != nil {
			return w, err
		}
		s.sidecar = &process{name: s.name, host: s.host, log: filepath.Join(dir, "logs", s.name+".log"), died: died, command: []string{hodi, "--log-format", "json", "sidecar",
			"--data", filepath.Join(dir, s.name), "--listen", strings.TrimPrefix(s.base, "http://")}}
		s.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: s.host.dial, MaxIdleConnsPerHost: 16}}
		w.shops = append(w.shops, s)
	}
	return w, nil
}

// join gives a shop its identity, as an operator and a shopkeeper do: one invites, the other joins from where the shop is.
func (w *world) join(ctx context.Context, s *shop) error {
	var code []byte
	if err := within(ctx, patience, "the edge to invite "+s.name, func() (err error) {
		code, err = exec.Command(w.hodi, "edge", "invite", "--data", filepath.Join(w.dir, "edge"), s.name).Output()
		return err
	}); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, w.hodi, "join", "--data", filepath.Join(w.dir, s.name))
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(code), &said, &said
	err := s.host.in(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("chaos: hodi join of %s: %w: %s", s.name, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// open starts the sidecars and waits until callbacks can reach them.
func (w *world) open(ctx context.Context) error {
	for _, s := range w.shops {
		if err := s.sidecar.start(); err != nil {
			return err
		}
	}
	for _, s := range w.shops {
		if err := within(ctx, patience, s.name+" to be ready", func() error { return s.get(ctx, "/readyz?link", nil) }); err != nil {
			return err
		}
		key, err := os.ReadFile(filepath.Join(w.dir, s.name, "api.key"))
		if err != nil {
			return fmt.Errorf("chaos: open %s: %w", s.name, err)
		}
		s.key = strings.TrimSpace(string(key))
	}
	return nil
}

// processes are all of them.
func (w *world) processes() []*process {
	var all []*process
	if w.edge != nil {
		all = append(all, w.edge)
	}
	for _, s := range w.shops {
		if s.sidecar != nil {
			all = append(all, s.sidecar)
		}
	}
	return all
}

// end ends everything.
func (w *world) end() error {
	var wg sync.WaitGroup
	results := make([]error, len(w.processes()))
	for i, p := range w.processes() {
		wg.Go(func() { results[i] = p.retire() })
	}
	wg.Wait()
	if w.network != nil {
		w.network.close()
	}
	return errors.Join(results...)
}

// ask runs the binary as an operator does, and returns what it prints.
func (w *world) ask(args ...string) (string, error) {
	out, err := exec.Command(w.hodi, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("chaos: hodi %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// delivered reports how many callbacks the edge has stored, and how many its sidecars have acknowledged, by shop.
func (w *world) delivered() (stored, acknowledged map[string]uint64, err error) {
	out, err := w.ask("edge", "endpoints", "--json", "--data", filepath.Join(w.dir, "edge"))
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Endpoints []struct {
			Name              string
			Stored, Delivered uint64
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, nil, fmt.Errorf("chaos: hodi edge endpoints: %w", err)
	}
	stored, acknowledged = map[string]uint64{}, map[string]uint64{}
	for _, e := range list.Endpoints {
		stored[e.Name], acknowledged[e.Name] = e.Stored, e.Delivered
	}
	return stored, acknowledged, nil
}

// certificate makes what the public trusts, and the edge's certificate by it.
func (w *world) certificate(address netip.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("chaos: certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chaos"}, IPAddresses: []net.IP{address.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("chaos: certificate: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("chaos: certificate: %w", err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM(chain)
	return errors.Join(
		os.WriteFile(filepath.Join(w.dir, "public.crt"), chain, 0o600),
		os.WriteFile(filepath.Join(w.dir, "public.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
}

// poster is an HTTP client on the internet, where Safaricom is.
func (w *world) poster(connections int) *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		DialContext: w.at.dial, TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
		MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, TLSHandshakeTimeout: 10 * time.Second,
	}}
}

// dial connects from the host. Only addresses, no names: a name would be looked up by another thread, elsewhere.
func (h host) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.in(func() error {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// get asks the sidecar's API.
func (s *shop) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return err
	}
	return s.do(request, http.StatusOK, into)
}

func (s *shop) do(request *http.Request, want int, into any) error {
	request.Header.Set("Authorization", "Bearer "+s.key)
	response, err := s.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("chaos: %s %s: %s: %s", s.name, request.URL.Path, response.Status, said)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// within tries until something works, for so long.
func within(ctx context.Context, long time.Duration, what string, try func() error) error {
	deadline := time.Now().Add(long)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("chaos: waited %v in vain for %s: %w", long, what, err)
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// rest waits, unless ctx ends first.
func rest(ctx context.Context, long time.Duration) error {
	t := time.NewTimer(long)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freePort is one that a process can have again and again: below those that the system gives to who dials.
func freePort() (int, error) {
	for range 100 {
		port := 20_000 + mathrand.IntN(10_000)
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		udp.Close()
		return port, nil
	}
	return 0, errors.New("chaos: there is no free port on 127.0.0.1")
}
