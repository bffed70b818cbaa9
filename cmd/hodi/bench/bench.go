// Package bench measures the path of a callback on this machine: from its POST at an edge to the message at a WebSocket
// subscriber of a sidecar, with all of them as processes of their own and every disk write waited for.
//
//	load ──POST──▶ edge ──tunnel──▶ sidecar ──WebSocket──▶ subscriber
//	  │◀────200─────┘                                          │
//	  └────────── when did each leave, when was it seen? ──────┘──▶ ledger, report
//
// The files: bench.go is the order of things, process.go starts hodi again and again, helper.go is what the processes do
// that are neither edge nor sidecar, callback.go is what is posted, load.go posts it, socket.go reads what comes out,
// ledger.go compares, report.go prints.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hodihq/hodi/sync/correlate"
)

// Config says what to measure. The zero value measures 1,000 callbacks a second for ten seconds, on the disk of the
// folder for temporary files.
type Config struct {
	Dir         string        // a folder on the disk that is to be measured; default: that for temporary files
	Rate        int           // callbacks a second; default 1,000
	Max         bool          // as fast as they are answered, in place of Rate
	Duration    time.Duration // how long; default 10 s
	Callbacks   int           // how many; default: as Rate and Duration say, and 50,000 with Max
	Sidecars    int           // other sidecars that are connected to the edge, idle
	Subscribers int           // pages that are connected to the sidecar, idle
	Payments    int           // that the sidecar knows of before
	Settle      time.Duration // how long idle connections rest before memory is looked at; default 10 s
	Profile     string        // write profiles of edge and sidecar into this folder; default: none
	Progress    io.Writer     // is told what is being done; default: nobody
}

// lookups is how many old payments are asked for, one by one.
const lookups = 500

// arrivesWithin is the time that the last callbacks have to reach the subscriber once all were answered.
const arrivesWithin = time.Minute

// run is one measurement under way.
type run struct {
	Config
	dir           string
	edge, sidecar *process
	admin         *http.Client // of the edge
	app           *http.Client // of the sidecar
	base, key     string       // of the sidecar: address, and what the app says to be let in
	udp           string       // of the edge
	began         time.Time
	report        Report
}

// Run measures. Everything that it starts has ended when it returns, and what it wrote to the disk is gone.
func Run(ctx context.Context, c Config) (_ Report, err error) {
	if c.Rate == 0 && !c.Max {
		c.Rate = 1000
	}
	if c.Duration == 0 {
		c.Duration = 10 * time.Second
	}
	if c.Callbacks == 0 {
		c.Callbacks = 50_000
		if !c.Max {
			c.Callbacks = int(float64(c.Rate) * c.Duration.Seconds())
		}
	}
	if c.Settle == 0 {
		c.Settle = 10 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Max {
		c.Rate = 0
	}
	if c.Dir == "" {
		c.Dir = os.TempDir()
	}
	r := &run{Config: c, began: time.Now()}
	if r.dir, err = os.MkdirTemp(c.Dir, "hodi-bench-"); err != nil {
		return Report{}, fmt.Errorf("bench: %w", err)
	}
	defer os.RemoveAll(r.dir)
	r.report = Report{
		Rate: c.Rate, Callbacks: c.Callbacks, Sidecars: c.Sidecars, Subscribers: c.Subscribers, Payments: c.Payments,
		Processors: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Disk: c.Dir,
	}
	if err := r.measure(ctx); err != nil {
		return Report{}, err
	}
	return r.report, nil
}

// measure does all of it in order.
func (r *run) measure(ctx context.Context) (err error) {
	var old []string
	if r.Payments > 0 {
		r.say("filling the table with %d payments", r.Payments)
		if old, err = r.fill(ctx); err != nil {
			return err
		}
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.edge.stop()
	defer r.sidecar.stop()
	if r.Sidecars > 0 {
		defer r.attach(ctx, "sidecars", r.edge, r.Sidecars, r.sidecarsTask, &r.report.PerSidecar, &err)()
	}
	if r.Subscribers > 0 && err == nil {
		defer r.attach(ctx, "subscribers", r.sidecar, r.Subscribers, r.subscribersTask, &r.report.PerSubscriber, &err)()
	}
	if err != nil || r.Callbacks <= 0 {
		return err
	}

	r.say("registering %d payments", r.Callbacks)
	addresses, err := r.register(ctx)
	if err != nil {
		return err
	}
	subscriber, err := helper(ctx, "subscriber", task{Host: host(r.base), Key: r.key, Expect: r.Callbacks})
	if err != nil {
		return err
	}
	defer subscriber.stop()
	posts, sightings, err := r.load(ctx, addresses, subscriber)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		if err := r.lookUp(ctx, old); err != nil {
			return err
		}
	}

	// What is in the table is looked up when nobody writes there any more.
	r.sidecar.stop()
	r.say("comparing")
	return r.compare(ctx, posts, sightings)
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.Progress, format+" ...\n", args...) }

func (r *run) table(ctx context.Context) (*correlate.Table, error) {
	// The key makes refs, and none are made here.
	return correlate.Open(ctx, correlate.Config{Path: filepath.Join(r.dir, "sidecar", "sidecar.db"), Key: make([]byte, keySize)})
}

const keySize = 32 // of callback.key

// fill makes a table that has seen years, and returns some of its payments.
func (r *run) fill(ctx context.Context) (some []string, err error) {
	if err := os.MkdirAll(filepath.Join(r.dir, "sidecar"), 0o700); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	// A sidecar opens no database that has lost its key.
	if err := os.WriteFile(filepath.Join(r.dir, "sidecar", "callback.key"), fmt.Appendf(nil, "%x\n", make([]byte, keySize)), 0o600); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := correlate.Fill(ctx, filepath.Join(r.dir, "sidecar", "sidecar.db"), r.Payments); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	t, err := r.table(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer t.Close()
	newest := time.Now()
	for i := range min(lookups, r.Payments) {
		at := newest.Add(-time.Duration(i) * correlate.FilledFor / lookups)
		list, _, err := t.Payments(ctx, correlate.Filter{To: at, Limit: 1})
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		for _, p := range list {
			some = append(some, p.ID)
		}
	}
	return some, nil
}

// open starts edge and sidecar, and introduces them to each other.
func (r *run) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.say("starting edge and sidecar")
	debug := r.Profile != ""
	if r.edge, err = daemon("edge", debug, "--data", filepath.Join(r.dir, "edge"), "--listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.edge.stop()
		}
	}()
	if r.udp, err = r.edge.says(ctx, "sidecars"); err != nil {
		return err
	}
	socket := filepath.Join(r.dir, "edge", "admin.sock")
	r.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for call(ctx, r.admin, "", "GET", "http://edge/links", nil, new(json.RawMessage)) != nil { // it is opened a moment later
		select {
		case <-time.After(10 * time.Millisecond):
		case <-r.edge.ended:
			return r.edge.died()
		case <-ctx.Done():
			return fmt.Errorf("bench: the edge does not answer on %s: %w", socket, ctx.Err())
		}
	}
	code, err := r.invite(ctx, "bench")
	if err != nil {
		return err
	}
	data := filepath.Join(r.dir, "sidecar")
	if err := join(ctx, data, code); err != nil {
		return err
	}

	// Silence is not what is measured: UNKNOWN comes late enough.
	if r.sidecar, err = daemon("sidecar", debug, "--data", data, "--listen", "127.0.0.1:0", "--unknown-after", "24h"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.sidecar.stop()
		}
	}()
	if r.base, err = r.sidecar.says(ctx, "url"); err != nil {
		return err
	}
	if _, err = r.sidecar.says(ctx, "remote"); err != nil { // the link is up
		return err
	}
	key, err := os.ReadFile(filepath.Join(data, "api.key"))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	r.key = strings.TrimSpace(string(key))
	r.app = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	return nil
}

// invite makes an endpoint at the edge, and a join code for it.
func (r *run) invite(ctx context.Context, name string) (code string, err error) {
	var made struct{ Code string }
	err = call(ctx, r.admin, "", "POST", "http://edge/endpoints/"+name+"/invite", struct{}{}, &made)
	return made.Code, err
}

// attach connects n helpers' connections to a daemon and measures what each costs it in memory. It returns what ends
// them.
func (r *run) attach(ctx context.Context, role string, to *process, n int, prepare func(context.Context, int) (task, error), cost *int64, failed *error) (detach func()) {
	r.say("connecting %d idle %s", n, role)
	t, err := prepare(ctx, n)
	if err != nil {
		*failed = err
		return func() {}
	}
	before := memory(to)
	p, err := helper(ctx, role, t)
	if err != nil {
		*failed = err
		return func() {}
	}
	select {
	case <-time.After(r.Settle):
	case <-ctx.Done():
		*failed = ctx.Err()
	}
	*cost = (memory(to) - before) / int64(n)
	return p.stop
}

func (r *run) sidecarsTask(ctx context.Context, n int) (t task, err error) {
	t.Host, t.Papers = r.udp, make([]Papers, n)
	return t, r.together(ctx, n, func(ctx context.Context, i int) error {
		code, err := r.invite(ctx, fmt.Sprintf("idle-%d", i+1))
		if err == nil {
			t.Papers[i], err = Join(ctx, code)
		}
		return err
	})
}

func (r *run) subscribersTask(ctx context.Context, n int) (task, error) {
	t := task{Host: host(r.base), Paths: make([]string, n)}
	err := r.together(ctx, n, func(ctx context.Context, i int) error {
		var opened struct{ ID string }
		terms := map[string]any{"amount": amount(i), "accountReference": "BENCH"}
		if err := call(ctx, r.app, r.key, "POST", r.base+"/sessions", terms, &opened); err != nil {
			return err
		}
		t.Paths[i] = "/sessions/" + opened.ID + "/websocket"
		return nil
	})
	return t, err
}

// register makes the payments that callbacks are going to settle, as an app does: it reserves one, pushes to the address
// that it is given, and says which ids Daraja gave to the push.
func (r *run) register(ctx context.Context) ([]string, error) {
	addresses := make([]string, r.Callbacks)
	err := r.together(ctx, r.Callbacks, func(ctx context.Context, n int) error {
		var reserved struct{ PaymentID, CallbackURL string }
		terms := map[string]any{"amount": amount(n), "phoneNumber": phone(n), "accountReference": "BENCH"}
		if err := call(ctx, r.app, r.key, "POST", r.base+"/payments", terms, &reserved); err != nil {
			return err
		}
		addresses[n] = reserved.CallbackURL
		ack := map[string]string{"paymentId": reserved.PaymentID, "MerchantRequestID": merchantID(n), "CheckoutRequestID": checkoutID(n), "ResponseCode": "0"}
		return call(ctx, r.app, r.key, "POST", r.base+"/payments", ack, new(json.RawMessage))
	})
	return addresses, err
}

// together does something n times, some of them at a time.
func (r *run) together(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// load posts the callbacks, waits until the subscriber has seen them, and notes what it took.
func (r *run) load(ctx context.Context, addresses []string, subscriber *process) ([]post, []sighting, error) {
	l, err := newLoad(addresses, r.Rate)
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	r.say("posting %s callbacks", count(r.Callbacks))
	profiles, err := r.profile(ctx)
	if err != nil {
		return nil, nil, err
	}
	pids := []int{r.edge.pid(), r.sidecar.pid(), os.Getpid(), subscriber.pid()}
	before := usages(pids)
	if err := l.run(ctx); err != nil {
		return nil, nil, fmt.Errorf("bench: post: %w", err)
	}
	impatient := time.AfterFunc(arrivesWithin, func() { subscriber.stdin.Close() })
	defer impatient.Stop()
	begin := make([]byte, 1) // of what it writes down: it has seen them all
	if _, err := subscriber.out.Read(begin); err != nil {
		return nil, nil, subscriber.died()
	}
	after := usages(pids)
	costs := make([]Cost, len(pids))
	for i := range costs {
		costs[i] = costOf(before[i], after[i], r.Callbacks)
	}
	r.report.Edge, r.report.Sidecar, r.report.Load = costs[0], costs[1], costs[2].and(costs[3])
	sightings, err := subscriber.sightings()
	return l.posts, sightings, errors.Join(err, profiles())
}

func usages(pids []int) []usage {
	all := make([]usage, len(pids))
	for i, pid := range pids {
		all[i], _ = usageOf(pid)
	}
	return all
}

// lookUp asks for payments of long ago.
func (r *run) lookUp(ctx context.Context, ids []string) error {
	r.say("looking up %d old payments", len(ids))
	took := make([]time.Duration, len(ids))
	for i, id := range ids {
		began := time.Now()
		if err := call(ctx, r.app, r.key, "GET", r.base+"/payments/"+id, nil, new(json.RawMessage)); err != nil {
			return err
		}
		took[i] = time.Since(began)
	}
	r.report.LookUp = latencies(took)
	return nil
}

// call asks edge or sidecar for something.
func call(ctx context.Context, client *http.Client, key, method, address string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("bench: %s %s: %s: %s", method, request.URL.Path, response.Status, text)
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("bench: %s %s: %w", method, request.URL.Path, err)
	}
	_, err = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return err
}

func memory(p *process) int64 {
	u, _ := usageOf(p.pid())
	return u.Memory
}

func host(base string) string { return strings.TrimPrefix(base, "http://") }
