package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hodihq/hodi/internal/loopback"
	"github.com/hodihq/hodi/sync/daraja"
)

// TestMain puts a command "hodi" into $PATH that is this test binary, race detector included: the tests below run
// real processes of it.
func TestMain(m *testing.M) {
	// A process with the race detector sleeps for a second before it ends, for other threads may have something to report: with
	// hundreds of commands that is minutes.
	os.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	testscript.Main(m, map[string]func(){"hodi": main, "checkpoint": checkpoint, "pretend": pretend})
}

// checkpoint is a command of the tests: it has SQLite move the log of a database into the database.
func checkpoint() {
	db, err := sql.Open("sqlite", "file:"+os.Args[1]+"?_pragma=busy_timeout(10000)")
	if err == nil {
		_, err = db.Exec("PRAGMA wal_checkpoint(RESTART)")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // without closing, which would be the last to close if the house were killed just now
}

func TestCommandsAsAUserTypesThem(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// dev is a running `hodi dev`.
type dev struct {
	house
	cmd    *exec.Cmd
	stderr *lockedBuffer
}

// quick makes the sandbox answer in moments, so that no test waits for a customer. What is to happen only when nobody does
// anything is far away, unless a test is about that: on a busy machine a test may take a minute to press a button.
var quick = []string{"--ack-delay=20ms", "--prompt-delay=20ms", "--callback-delay=50ms", "--prompt-timeout=10m", "--unknown-after=10m"}

// startDev starts `hodi dev` in dir on ports of its own, or on those of a house that was there before.
func startDev(t *testing.T, dir string, before *house, flags ...string) *dev {
	t.Helper()
	if before == nil {
		before = &house{Sidecar: loopback.Address(t), Edge: loopback.Address(t), Sandbox: loopback.Address(t)}
	}
	at := func(url string) string { return strings.TrimPrefix(url, "http://") }
	args := append([]string{"dev", "--json", "--data", dir, "--listen", at(before.Sidecar),
		"--edge-listen", at(before.Edge), "--sandbox-listen", at(before.Sandbox)}, flags...)
	d := &dev{cmd: exec.Command("hodi", args...), stderr: new(lockedBuffer)}
	d.cmd.Stderr = d.stderr
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		d.cmd.Wait()
		if t.Failed() {
			t.Logf("hodi dev wrote to standard error:\n%s", d.stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		d.cmd.Wait()
		t.Fatalf("hodi dev printed no line: %v\n%s", err, d.stderr)
	}
	if err := json.Unmarshal(line, &d.house); err != nil {
		t.Fatalf("hodi dev printed %q: %v", line, err)
	}
	return d
}

// kill ends the process as a power cut would.
func (d *dev) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
}

// stop asks the process to end and returns how long it took.
func (d *dev) stop(t *testing.T) time.Duration {
	t.Helper()
	asked := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("hodi dev ended with %v\n%s", err, d.stderr)
	}
	return time.Since(asked)
}

// daemon is one part of Hodi, as a process of its own.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *lockedBuffer
	killed bool
}

func startDaemon(t *testing.T, dir string, args ...string) *daemon {
	t.Helper()
	return startCommand(t, dir, exec.Command("hodi", append([]string{"--log-format", "json"}, args...)...))
}

func startCommand(t *testing.T, dir string, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: cmd, log: new(lockedBuffer)}
	d.cmd.Dir, d.cmd.Stderr = dir, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !d.killed {
			d.cmd.Process.Signal(syscall.SIGTERM)
			if err := d.cmd.Wait(); err != nil {
				t.Errorf("%v ended with %v", cmd.Args, err)
			}
		}
		if t.Failed() {
			t.Logf("%v:\n%s", cmd.Args, d.log)
		}
	})
	return d
}

// says waits for a log line that has a field, and returns the field.
func (d *daemon) says(field string) (value string) {
	d.t.Helper()
	eventually(d.t, "a log line with "+field, func() bool {
		for line := range strings.Lines(d.log.String()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && entry[field] != nil {
				value = entry[field].(string)
				return true
			}
		}
		return false
	})
	return value
}

// end asks the process to end, as systemd does, and waits until it has.
func (d *daemon) end() {
	d.t.Helper()
	d.killed = true
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("it ended with %v\n%s", err, d.log)
	}
}

// kill ends the process as a power cut would.
func (d *daemon) kill() {
	d.t.Helper()
	d.killed = true
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	d.cmd.Wait()
}

// call makes a request and returns the status and the JSON of the answer.
func call(t *testing.T, method, address string, body any) (int, map[string]any) {
	t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := map[string]any{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &answer); err != nil {
			t.Fatalf("%s %s answered %d %q", method, address, response.StatusCode, b)
		}
	}
	return response.StatusCode, answer
}

const testPhone = "254708374149"

// initiate asks for a payment and returns its data.
func (d *dev) initiate(t *testing.T, session string, amount int) map[string]any {
	t.Helper()
	status, data := call(t, "POST", d.Sidecar+"/sessions/"+session+"/initiate",
		map[string]any{"phoneNumber": testPhone, "amount": amount, "accountReference": "ORDER123"})
	if status != 200 {
		t.Fatalf("initiate answered %d %v", status, data)
	}
	return data
}

// behave sets how the sandbox treats the phone from now on.
func (d *dev) behave(t *testing.T, behaviour map[string]string) {
	t.Helper()
	if status, answer := call(t, "POST", d.Sandbox+"/phone/behaviour", behaviour); status >= 300 {
		t.Fatalf("the sandbox answered %d %v to %v", status, answer, behaviour)
	}
}

// answer does on the phone what a customer would, as soon as the prompt is there.
func (d *dev) answer(t *testing.T, outcome string) {
	t.Helper()
	eventually(t, "the prompt to be answered", func() bool {
		status, _ := call(t, "POST", d.Sandbox+"/phone/answer", map[string]string{"outcome": outcome})
		return status < 300
	})
}

// freePhone cancels what is on the phone, if anything is.
func (d *dev) freePhone(t *testing.T) {
	t.Helper()
	eventually(t, "the phone to be free", func() bool {
		_, state := call(t, "GET", d.Sandbox+"/phone/state", nil)
		if len(state["prompts"].([]any))+len(state["pending"].([]any)) == 0 {
			return true
		}
		call(t, "POST", d.Sandbox+"/phone/answer", map[string]string{"outcome": "cancel"})
		return false
	})
}

// session asks for the present state of a session.
func (d *dev) session(t *testing.T, session string) map[string]any {
	t.Helper()
	_, message := call(t, "GET", d.Sidecar+"/sessions/"+url.PathEscape(session), nil)
	return message
}

// patience is how long a test waits for what must come: on a machine with twenty at work for each of its processors, too.
const patience = 2 * time.Minute

// eventually polls across a process boundary, where nothing can be waited on; it gives up after a time that no healthy
// run comes near.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// stkCallback is a callback as Daraja writes it.
func stkCallback(data map[string]any, code any, description, receipt string, amount int) string {
	metadata := ""
	if code == 0 {
		metadata = fmt.Sprintf(`,"CallbackMetadata":{"Item":[{"Name":"Amount","Value":%d.00},{"Name":"MpesaReceiptNumber","Value":%q},`+
			`{"Name":"Balance"},{"Name":"TransactionDate","Value":%s},{"Name":"PhoneNumber","Value":%s}]}`, amount, receipt, moment, testPhone)
	}
	encoded, _ := json.Marshal(code)
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":%s,"ResultDesc":%q%s}}}`,
		data["merchantRequestId"], data["checkoutRequestId"], encoded, description, metadata)
}

// today is how receipts of today begin, and moment a TransactionDate: of when the tests began, so that both stay the same over
// midnight.
var (
	began  = time.Now().In(daraja.Nairobi)
	today  = daraja.ReceiptPrefix(began)
	moment = began.Format("20060102150405")
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// underCI reports whether a missing tool is a failure rather than a reason to skip.
func underCI() bool { return os.Getenv("CI") != "" }
