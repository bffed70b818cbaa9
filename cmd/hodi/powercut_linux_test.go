package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/journal"
	"github.com/hodihq/hodi/tunnel/wire"
)

// TestNothingAnsweredIsLostInAPowerCut records a house at work, system call by system call: callbacks, a checkpoint, an
// orderly end, a kill. Then it cuts the power in the middle of every single write to either database, looks at what the
// disk is certain to have by then, in several ways of what it may have beyond that, and opens it.
//
//   - The edge: every callback whose 200 was begun to be written is there, with its bytes. So is the address that it came to.
//   - The sidecar: every event that a subscriber was sent is there; so is every payment that was answered 201. Its cursor
//     and what it has applied agree.
//   - Between them: what the edge has noted as acknowledged, the sidecar is certain to have.
func TestNothingAnsweredIsLostInAPowerCut(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if underCI() {
			t.Fatalf("under CI power cuts must be tested, for which strace is needed (Debian: apt install strace): %v", err)
		}
		t.Skip("SKIPPED: POWER CUTS ARE NOT TESTED, for want of strace in $PATH (Debian: apt install strace)")
	}
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: POWER CUTS ARE NOT TESTED: this machine forbids strace (ptrace): %v\n%s", err, out)
	}
	dir := t.TempDir()
	if os.Getenv("HODI_SHM") == "" {
		if shm, err := os.MkdirTemp("/dev/shm", "hodi-powercut-"); err == nil { // replaying is a matter of thousands of small files
			t.Cleanup(func() { os.RemoveAll(shm) })
			t.Setenv("HODI_SHM", shm)
		}
	}
	payments, _ := strconv.Atoi(os.Getenv("HODI_POWERCUT_PAYMENTS")) // the long form
	if payments == 0 {
		payments = 3
	}
	rec := record(t, dir, payments)
	notices := noticesOf(t, filepath.Join(dir, "house", "edge"))

	edge := &replay{t: t, name: "edge", disk: newDisk(filepath.Join(dir, "house", "edge"))}
	edge.check, edge.look = edge.checkEdge, edge.lookEdge
	sidecar := &replay{t: t, name: "sidecar", disk: newDisk(filepath.Join(dir, "house", "sidecar"))}
	sidecar.check, sidecar.look = sidecar.checkSidecar, sidecar.lookSidecar
	edge.other = sidecar
	heard := &hearsay{requests: make(map[string]string), answered: make(map[string]bool)}
	edge.heard, sidecar.heard = heard, heard
	sidecar.notices = notices
	for _, s := range rec {
		edge.step(s)
		sidecar.step(s)
		heard.step(s)
	}
	edge.cut(nil)
	sidecar.cut(nil)
	t.Logf("%d steps; %d callbacks answered 200, %d payments 201, %d events sent; the power was cut %d times at the edge, %d at the sidecar",
		len(rec), len(heard.callbacks), heard.payments, heard.events, edge.cuts, sidecar.cuts)
	if len(heard.callbacks) < 2*payments || heard.payments < 2*payments || int(heard.events) < 2*payments {
		t.Error("that is less than was done: the recording is not understood")
	}
}

// noticesOf are the numbers of the callbacks in the journal of a house that was killed.
func noticesOf(t *testing.T, dir string) (list []uint64) {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{"edge.db", "edge.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, name), b, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	j, err := journal.OpenSQLite(t.Context(), filepath.Join(copied, "edge.db"), journal.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	state, err := j.State(t.Context(), "dev")
	for after := uint64(0); err == nil && after < state.Head; {
		var entries []wire.Entry
		entries, err = j.Next(t.Context(), "dev", after, 1<<20)
		for _, e := range entries {
			if after = e.Seq; e.Kind != wire.KindCanary {
				list = append(list, e.Seq)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// upTo is how many callbacks the numbers up to a cursor are of.
func (r *replay) upTo(cursor uint64) uint64 {
	n := uint64(0)
	for _, seq := range r.notices {
		if seq <= cursor {
			n++
		}
	}
	return n
}

// record runs a house twice under strace: once it ends in order, once it is killed.
func record(t *testing.T, dir string, payments int) recording {
	t.Helper()
	house := filepath.Join(dir, "house")
	var files []string
	n := 0
	for run := range 2 {
		file := filepath.Join(dir, fmt.Sprintf("run-%d", run))
		files = append(files, file)
		args := straced(file, "hodi", "dev", "--json", "--data", house, "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0")
		cmd := exec.Command(args[0], args[1:]...)
		log := new(lockedBuffer)
		cmd.Stderr = log
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := 0 // of hodi, of which strace is the parent
		defer func() {
			if pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			} else {
				cmd.Process.Kill()
			}
			cmd.Wait()
		}()
		line, err := bufio.NewReader(out).ReadBytes('\n')
		var at struct{ Sidecar, Callback string }
		if err == nil {
			err = json.Unmarshal(line, &at)
		}
		if err != nil {
			t.Fatalf("hodi does not run under strace: %v\n%s", err, log)
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err == nil {
			pid, err = strconv.Atoi(strings.Fields(string(children))[0])
		}
		if err != nil {
			t.Fatal(err)
		}

		reading, stopReading := context.WithCancel(t.Context())
		var reader sync.WaitGroup
		events := make(chan string, 1000)
		reader.Go(func() { subscribe(reading, at.Sidecar+"/events", events) })
		began := n
		var posts sync.WaitGroup
		for i := range payments {
			ids := map[string]any{"merchantRequestId": fmt.Sprintf("m-%d", n), "checkoutRequestId": fmt.Sprintf("ws_CO_%d", n)}
			body := fmt.Sprintf(`{"MerchantRequestID":"m-%d","CheckoutRequestID":"ws_CO_%d","ResponseCode":"0","session":"s%d","amount":100}`, n, n, n)
			if status, answer := call(t, "POST", at.Sidecar+"/payments", body); status != 201 {
				t.Fatalf("a payment is answered %d %v", status, answer)
			}
			receipt := fmt.Sprintf(today+"AB%05d", n)
			post := func() {
				if status, answer := call(t, "POST", at.Callback, stkCallback(ids, 0, "Paid.", receipt, 100)); status != 200 {
					t.Errorf("a callback is answered %d %v", status, answer)
				}
			}
			if i < payments/2 {
				post()
			} else {
				posts.Go(post)
			}
			n++
			if i == payments/2 { // what follows is written over the beginning of the log
				for _, name := range []string{"edge", "sidecar"} {
					file := filepath.Join(dir, fmt.Sprintf("checkpoint-%s-%d", name, run))
					files = append(files, file)
					args := straced(file, "checkpoint", filepath.Join(house, name, name+".db"))
					if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
						t.Fatalf("checkpoint: %v\n%s", err, out)
					}
				}
			}
		}
		posts.Wait()
		for told := 0; told < n-began; {
			select {
			case id := <-events:
				if strings.Contains(id, "SUCCESS") {
					told++
				}
			case <-time.After(patience):
				t.Fatalf("waited %v in vain for the subscriber to hear of %d payments; it has heard of %d\n%s", patience, n-began, told, log)
			}
		}
		if run > 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		} else {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		cmd.Wait()
		pid = 0
		stopReading()
		reader.Wait()
	}
	return recorded(t, files...)
}

// subscribe reads the events of a sidecar until ctx ends or the sidecar does.
func subscribe(ctx context.Context, address string, events chan<- string) {
	request, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		return
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			events <- data
		}
	}
}

// hearsay is what others were told, up to a moment.
type hearsay struct {
	requests  map[string]string // by socket: the last that came, in however many pieces
	answered  map[string]bool   // by socket: that one is
	callbacks []string          // the bodies of those answered 200
	payments  int               // answered 201
	events    uint64            // the number of the newest event that was sent
	addresses []string          // told
}

var (
	eventID = regexp.MustCompile(`(?m)^id: [0-9a-f]{12}-([0-9a-f]{16})`)
	address = regexp.MustCompile(`"callback":"http://[^"]*/c/([0-9a-f]{32})"`)
)

func (h *hearsay) step(s step) {
	switch {
	case s.call == "read" && strings.HasPrefix(s.path, "socket:"):
		if h.answered[s.path] { // the next request of this connection
			h.requests[s.path], h.answered[s.path] = "", false
		}
		h.requests[s.path] += string(s.data)
	case s.call == "write" && strings.HasPrefix(s.path, "socket:"):
		asked, said := h.requests[s.path], string(s.data)
		h.answered[s.path] = true
		_, body, _ := strings.Cut(asked, "\r\n\r\n")
		switch {
		case strings.HasPrefix(asked, "POST /c/") && strings.HasPrefix(said, "HTTP/1.1 200"):
			h.callbacks = append(h.callbacks, body)
		case strings.HasPrefix(asked, "POST /payments") && strings.HasPrefix(said, "HTTP/1.1 201"):
			h.payments++
		case strings.HasPrefix(asked, "GET /events"):
			for _, id := range eventID.FindAllStringSubmatch(said, -1) {
				n, _ := strconv.ParseUint(id[1], 16, 64)
				h.events = max(h.events, n)
			}
		}
	case s.call == "write" && strings.HasPrefix(s.path, "pipe:"):
		if m := address.FindStringSubmatch(string(s.data)); m != nil {
			h.addresses = append(h.addresses, m[1])
		}
	}
}

// replay is one database on its way through a recording.
type replay struct {
	t      *testing.T
	name   string
	disk   *disk
	heard  *hearsay
	other  *replay                        // edge: the sidecar
	check  func(dir string, certain bool) // as the daemon opens it
	look   func(dir string)
	cursor uint64 // sidecar: applied, in what was certain when it was last looked at
	cuts   int

	notices []uint64 // sidecar: the numbers in the edge's journal that are of callbacks, and not of canaries
}

// step cuts the power in the middle of a step, and then takes it.
func (r *replay) step(s step) {
	writes := r.disk.concerns(s) && (s.call == "pwrite64" || s.call == "write" || s.call == "ftruncate")
	if writes || strings.HasPrefix(s.path, r.disk.dir) && strings.HasSuffix(s.call, "sync") {
		if !writes { // what was certain by now, before it is more
			r.cut(nil)
		}
	}
	if r.disk.do(s) && writes {
		r.cut(&s)
	}
}

// cut cuts the power: while a step is being done, or between two.
func (r *replay) cut(during *step) {
	if during == nil {
		r.open("nothing that is not certain", true, r.disk.after(false, func(step, bool) int { return 0 }))
		return
	}
	torn := func(s step) int {
		if s.trace == during.trace && s.order == during.order {
			return 2
		}
		return 1
	}
	r.open("all, and half of the last write", false, r.disk.after(true, func(s step, _ bool) int { return torn(s) }))
	if during.order%8 == 0 {
		r.open("some of what is not certain", false, r.disk.after(during.order%16 == 0, func(s step, _ bool) int {
			if (uint64(s.order/2)*0x9e3779b1>>7)&1 == 0 {
				return 0
			}
			return torn(s)
		}))
	}
}

// open has the database recover from what is left.
func (r *replay) open(what string, certain bool, image map[string][]byte) {
	if r.t.Failed() {
		return // one is enough
	}
	r.cuts++
	dir := filepath.Join(os.Getenv("HODI_SHM"), r.name)
	if os.Getenv("HODI_SHM") == "" {
		dir = filepath.Join(r.disk.dir, "..", "..", "replay-"+r.name)
	}
	put(r.t, dir, image)
	if certain || r.cuts%8 == 0 {
		r.check(dir, certain)
	} else {
		r.look(dir)
	}
	if r.t.Failed() {
		names := []string{}
		for name, b := range image {
			names = append(names, fmt.Sprintf("%s (%d bytes)", name, len(b)))
		}
		r.t.Logf("%s, power cut %d, with %s: %v", r.name, r.cuts, what, names)
	}
}

// recovered opens a database with SQLite alone, which is much faster than as its daemon does.
func (r *replay) recovered(path, query string, values ...any) (is bool) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	err = db.QueryRow(query).Scan(values...)
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return false
	}
	if err != nil {
		r.t.Error(err)
	}
	return err == nil
}

func (r *replay) lookEdge(dir string) {
	var bodies []byte
	if !r.recovered(filepath.Join(dir, "edge.db"), "SELECT coalesce(group_concat(data, ''), '') FROM journal_entry", &bodies) && len(r.heard.callbacks) > 0 {
		r.t.Errorf("%d callbacks were answered, and there are no tables", len(r.heard.callbacks))
	}
	for _, body := range r.heard.callbacks {
		if !bytes.Contains(bodies, []byte(body)) {
			r.t.Errorf("a callback that was answered 200 is not there: %s", body)
		}
	}
}

func (r *replay) lookSidecar(dir string) {
	var head, payments, paid, applied, cursor uint64
	r.recovered(filepath.Join(dir, "sidecar.db"), `SELECT (SELECT coalesce(max(seq), 0) FROM events), (SELECT count(*) FROM payments),
		(SELECT count(*) FROM payments WHERE status = 'SUCCESS'), (SELECT count(*) FROM callbacks WHERE state = 'applied'),
		coalesce((SELECT json_extract(progress, '$.seq') FROM events WHERE seq = (SELECT max(seq) FROM events) AND seq > (SELECT event FROM store)),
			(SELECT json_extract(progress, '$.seq') FROM store WHERE progress <> ''), 0)`, &head, &payments, &paid, &applied, &cursor)
	cursor = r.upTo(cursor)
	if head < r.heard.events || payments < uint64(r.heard.payments) || cursor != paid || cursor != applied {
		r.t.Errorf("event %d was sent, and the newest is %d; %d payments were answered 201, and %d are there; the cursor is %d, with %d callbacks applied and %d payments made",
			r.heard.events, head, r.heard.payments, payments, cursor, applied, paid)
	}
}

func (r *replay) checkEdge(dir string, certain bool) {
	if _, err := os.Stat(filepath.Join(dir, "edge.db")); err != nil {
		if len(r.heard.callbacks)+len(r.heard.addresses) > 0 {
			r.t.Errorf("%d callbacks were answered, and there is no database: %v", len(r.heard.callbacks), err)
		}
		return
	}
	j, err := journal.OpenSQLite(r.t.Context(), filepath.Join(dir, "edge.db"), journal.Limits{}, nil)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer j.Close()
	state, err := j.State(r.t.Context(), "dev")
	if err != nil {
		r.t.Error(err)
		return
	}
	held := make(map[string]bool)
	for after := uint64(0); after < state.Head; {
		entries, err := j.Next(r.t.Context(), "dev", after, 1<<20)
		if err != nil {
			r.t.Error(err)
			return
		}
		for _, e := range entries {
			held[string(e.Body)] = true
			after = e.Seq
		}
	}
	for _, body := range r.heard.callbacks {
		if !held[body] {
			r.t.Errorf("a callback that was answered 200 is not there: %s", body)
		}
	}
	if state.Acked > r.other.cursor {
		r.t.Errorf("the edge has noted that %d is acknowledged, and the sidecar is certain to have %d only", state.Acked, r.other.cursor)
	}
	if len(r.heard.addresses) > 0 && certain {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
		if err != nil {
			r.t.Fatal(err)
		}
		defer db.Close()
		var keys int
		if err := db.QueryRow("SELECT count(*) FROM edge_key WHERE key = ?", r.heard.addresses[0]).Scan(&keys); err != nil || keys != 1 {
			r.t.Errorf("an address that was told is there %d times, %v", keys, err)
		}
	}
}

func (r *replay) checkSidecar(dir string, certain bool) {
	if _, err := os.Stat(filepath.Join(dir, "sidecar.db")); err != nil {
		if r.heard.events > 0 || r.heard.payments > 0 {
			r.t.Errorf("%d payments were answered, and there is no database: %v", r.heard.payments, err)
		}
		return
	}
	key := make([]byte, 32)
	if text, err := os.ReadFile(filepath.Join(dir, "callback.key")); err == nil {
		if key, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil {
			r.t.Error(err)
			return
		}
	} else if r.heard.payments > 0 {
		r.t.Error(err)
	}
	table, err := correlate.Open(r.t.Context(), correlate.Config{Path: filepath.Join(dir, "sidecar.db"), Key: key, Trusting: true})
	if err != nil {
		r.t.Error(err)
		return
	}
	defer table.Close()
	if table.Head() < r.heard.events {
		r.t.Errorf("event %d was sent, and the newest is %d", r.heard.events, table.Head())
	}
	cursor, err := table.Cursor(r.t.Context())
	if err != nil {
		r.t.Error(err)
		return
	}
	counts, err := table.Counts(r.t.Context())
	if err != nil {
		r.t.Error(err)
		return
	}
	payments, _, err := table.Payments(r.t.Context(), correlate.Filter{Limit: 1 << 20})
	if err != nil {
		r.t.Error(err)
		return
	}
	paid := 0
	for _, p := range payments {
		if p.Status == push.Success {
			paid++
		}
	}
	if len(payments) < r.heard.payments {
		r.t.Errorf("%d payments were answered 201, and %d are there", r.heard.payments, len(payments))
	}
	if int(r.upTo(cursor.Seq)) != paid || counts[correlate.StateApplied] != int64(paid) {
		r.t.Errorf("the cursor is %d, %v callbacks are there, and %d payments are made", cursor.Seq, counts, paid)
	}
	if certain {
		if cursor.Seq < r.cursor {
			r.t.Errorf("the cursor goes back from %d to %d", r.cursor, cursor.Seq)
		}
		r.cursor = cursor.Seq
	}
}
