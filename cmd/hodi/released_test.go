package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hodihq/hodi/internal/loopback"
)

// What a released version left on disks has to go on working. testdata/released has, for each of them, the whole folders of an
// edge and of a sidecar joined to it, made by that version itself (CONTRIBUTING says how), with rows of every kind that it knows,
// backups of both, and what the sidecar answered to questions about them. They are never changed, nor made again.

// released is what the two said before they ended.
type released struct {
	Version   string            `json:"version"`
	Payments  []map[string]any  `json:"payments"`
	Callbacks map[string]any    `json:"callbacks"` // how many there are, by state
	Aside     []map[string]any  `json:"aside"`     // those that settled nothing
	Head      string            `json:"head"`      // the newest event
	Addresses map[string]string `json:"addresses"` // paths at the edge: of the endpoint, and of the payment that has one of its own
	Cookie    string            `json:"cookie"`    // of a till
	Tills     string            `json:"tills"`     // hodi till list
	Endpoints []map[string]any  `json:"endpoints"` // hodi edge endpoints --json
	Audits    map[string][]any  `json:"audits"`    // hodi audit --json, hodi edge audit --json
}

// A shop of a release is its two daemons, not in dev, without Safaricom: the app makes its pushes itself.
type shopThen struct {
	*pair
	key string
}

func (s *shopThen) startBoth(forward string) {
	s.Helper()
	s.callbacks, s.sidecars, s.url = loopback.Address(s.T), loopback.Address(s.T), "http://"+loopback.Address(s.T)
	s.startThenEdge()
	if _, err := os.Stat(filepath.Join(s.dir, "sidecar", "identity.json")); errors.Is(err, fs.ErrNotExist) {
		s.address = joinShop(s.T, s.dir, "edge", "duka", "sidecar")
	}
	s.startThenSidecar(forward)
}

func (s *shopThen) startThenEdge() {
	s.Helper()
	s.edge = startDaemon(s.T, s.dir, "edge", "--data", "edge", "--listen", s.callbacks, "--tunnel-listen", s.sidecars, "--keep-undelivered", "3650", "--keep-delivered", "3650")
	s.callbacks, s.sidecars = s.edge.says("callbacks"), s.edge.says("sidecars")
}

func (s *shopThen) startThenSidecar(forward string) {
	s.Helper()
	s.sidecar = startDaemon(s.T, s.dir, "sidecar", "--data", "sidecar", "--listen", strings.TrimPrefix(s.url, "http://"),
		"--edge", s.sidecars, "--canary", "1s", "--forward", forward)
	s.url = s.sidecar.says("url")
	key, err := os.ReadFile(filepath.Join(s.dir, "sidecar", "api.key"))
	if err != nil {
		s.Fatal(err)
	}
	s.key = strings.TrimSpace(string(key))
	eventually(s.T, "the link", func() bool { return s.app("GET", "/readyz?link", nil, nil) == 200 })
}

// app asks as the merchant's app does; into may be nil.
func (s *shopThen) app(method, path string, body, into any, headers ...string) int {
	s.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, in)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			s.Fatalf("%s %s answered %d %s", method, path, response.StatusCode, b)
		}
	}
	return response.StatusCode
}

// ask asks for what must be there.
func (s *shopThen) ask(path string, into any) {
	s.Helper()
	if status := s.app("GET", path, nil, into); status != 200 {
		s.Fatalf("GET %s answered %d", path, status)
	}
}

// push registers one that the app made.
func (s *shopThen) push(id string, amount int) {
	s.Helper()
	push := map[string]any{"MerchantRequestID": "m-" + id, "CheckoutRequestID": "ws_CO_" + id, "ResponseCode": "0", "session": id, "amount": amount,
		"phoneNumber": testPhone, "accountReference": "INV-" + id}
	if status := s.app("POST", "/payments", push, nil); status != 201 {
		s.Fatalf("a push was answered %d", status)
	}
}

// posts has Safaricom post to a path at the edge.
func (s *shopThen) posts(path, body string) {
	s.Helper()
	if status, answer := call(s.T, "POST", "http://"+s.callbacks+path, body); status != 200 {
		s.Fatalf("the edge answered %d %v", status, answer)
	}
}

func (s *shopThen) settles(path, id string, code any, description, receipt string, amount int) {
	s.Helper()
	s.posts(path, stkCallback(map[string]any{"merchantRequestId": "m-" + id, "checkoutRequestId": "ws_CO_" + id}, code, description, receipt, amount))
}

func (s *shopThen) status(id string) any {
	s.Helper()
	var list struct{ Payments []map[string]any }
	s.ask("/payments?session="+id, &list)
	if len(list.Payments) == 0 {
		return nil
	}
	return list.Payments[0]["status"]
}

func (s *shopThen) wantStatus(id, want string) {
	s.Helper()
	eventually(s.T, id+" to be "+want, func() bool { return s.status(id) == want })
}

// look says what the two say now.
func (s *shopThen) look() (r released) {
	s.Helper()
	var list struct{ Payments []map[string]any }
	s.ask("/payments?limit=100", &list)
	var aside struct{ Callbacks []map[string]any }
	s.ask("/callbacks?state=unmatched,unparsed,suspect,recorded", &aside)
	var status struct {
		Head      string
		Callbacks map[string]any
	}
	s.ask("/status", &status)
	r.Payments, r.Aside, r.Head, r.Callbacks = list.Payments, aside.Callbacks, status.Head, status.Callbacks
	r.Tills = s.hodi("till", "list", "--data", "sidecar")
	var all struct{ Endpoints []map[string]any }
	if err := json.Unmarshal([]byte(s.hodi("edge", "endpoints", "--json", "--data", "edge")), &all); err != nil {
		s.Fatal(err)
	}
	r.Endpoints = all.Endpoints
	r.Audits = map[string][]any{}
	for of, out := range map[string]string{"sidecar": s.hodi("audit", "--json", "--data", "sidecar"), "edge": s.hodi("edge", "audit", "--json", "--data", "edge")} {
		var list struct{ Audit []any }
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Audit) == 0 {
			s.Fatal(out, err)
		}
		r.Audits[of] = list.Audit
	}
	return r
}

// TestStateOfEveryReleaseGoesOn starts both daemons on what a released version left, and wants of them all that the shop had.
func TestStateOfEveryReleaseGoesOn(t *testing.T) {
	for _, dir := range releases(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			was := wordsOf(t, dir)
			s := &shopThen{pair: &pair{T: t, dir: t.TempDir()}}
			for _, of := range []string{"edge", "sidecar"} {
				unpack(t, filepath.Join(dir, of+".tar.gz"), filepath.Join(s.dir, of))
			}
			var handed atomic.Int32
			app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handed.Add(1) }))
			defer app.Close()
			s.startBoth(app.URL)

			// A callback waited in the edge's journal; a payment waits for one at an address that was given then.
			s.wantStatus("delayed", "SUCCESS")
			s.settles(was.Addresses["own"], "own", 0, "ok", today+"CD00001", 50)
			s.wantStatus("own", "SUCCESS")
			s.settles(was.Addresses["duka"], "waiting", 0, "ok", today+"CD00002", 105)
			s.wantStatus("waiting", "SUCCESS")
			s.push("new", 20)
			s.settles(was.Addresses["duka"], "new", 0, "ok", today+"CD00003", 20)
			s.wantStatus("new", "SUCCESS")

			// All else is as it was. What nobody has answered for so long has become unknown.
			is := s.look()
			for _, p := range was.Payments {
				id := p["paymentId"]
				i := slices.IndexFunc(is.Payments, func(now map[string]any) bool { return now["paymentId"] == id })
				switch {
				case i < 0:
					t.Errorf("the payment %v is gone", p)
				case p["status"] != "PENDING" && !reflect.DeepEqual(is.Payments[i], p):
					t.Errorf("the payment was\n%v\nand is\n%v", p, is.Payments[i])
				}
			}
			if got, want := len(is.Payments), len(was.Payments)+1; got != want {
				t.Errorf("there are %d payments, want %d", got, want)
			}
			if got, want := sum(is.Callbacks), sum(was.Callbacks)+4; got != want {
				t.Errorf("there are %v callbacks, want %v: %v", got, want, is.Callbacks)
			}
			if len(is.Aside) != len(was.Aside) {
				t.Errorf("set aside are\n%v\nand were\n%v", is.Aside, was.Aside)
			}
			if epoch, _, _ := strings.Cut(was.Head, "-"); !strings.HasPrefix(is.Head, epoch+"-") || is.Head <= was.Head {
				t.Errorf("events are at %s, and were at %s", is.Head, was.Head)
			}
			if status := s.app("GET", "/till/status", nil, nil, "Cookie", was.Cookie, "Authorization", ""); status != 200 {
				t.Errorf("a till is answered %d", status)
			}
			for _, name := range []string{"Front desk", "Lost phone"} {
				if !strings.Contains(is.Tills, name) {
					t.Errorf("the tills are\n%s\nand were\n%s", is.Tills, was.Tills)
				}
			}
			if len(is.Endpoints) != len(was.Endpoints) {
				t.Errorf("the endpoints are\n%v\nand were\n%v", is.Endpoints, was.Endpoints)
			}
			for i, e := range was.Endpoints {
				for _, field := range []string{"name", "created", "joined", "revoked"} {
					if got := is.Endpoints[i][field]; got != e[field] {
						t.Errorf("%s of the endpoint %s is %v, and was %v", field, e["name"], got, e[field])
					}
				}
			}
			for of, lines := range was.Audits {
				if now := is.Audits[of]; len(now) < len(lines) || !reflect.DeepEqual(now[:len(lines)], lines) {
					t.Errorf("the audit of the %s is\n%v\nand was\n%v", of, now, lines)
				}
			}
			s.hodi("forward", "resume", "--data", "sidecar")
			eventually(t, "the app to have what it missed", func() bool {
				var status struct{ Forward struct{ Waiting *int } }
				s.ask("/status", &status)
				// What was refused three days long was given up, and is not handed on any more.
				return status.Forward.Waiting != nil && *status.Forward.Waiting == 0 && handed.Load() >= 4
			})
		})
	}
}

// TestBackupsOfEveryReleaseArePutBack: the way back, and what lies in safes.
func TestBackupsOfEveryReleaseArePutBack(t *testing.T) {
	for _, dir := range releases(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			was := wordsOf(t, dir)
			s := &shopThen{pair: &pair{T: t, dir: t.TempDir()}}
			for _, of := range []string{"edge", "sidecar"} {
				if err := os.WriteFile(filepath.Join(s.dir, of+".backup"), spread(t, filepath.Join(dir, of+".backup.gz")), 0o600); err != nil {
					t.Fatal(err)
				}
				s.hodi(of, "restore", "--data", of, of+".backup")
			}
			lengthen(t, filepath.Join(s.dir, "edge"), filepath.Join(s.dir, "sidecar", "identity.json"))
			s.startBoth("http://127.0.0.1:1/nobody")
			s.settles(was.Addresses["own"], "own", 0, "ok", today+"CD00001", 50)
			s.wantStatus("own", "SUCCESS")
			for _, p := range was.Payments {
				var now map[string]any
				s.ask("/payments/"+p["paymentId"].(string), &now)
				if p["status"] != "PENDING" && !reflect.DeepEqual(now, p) {
					t.Errorf("the payment was\n%v\nand is\n%v", p, now)
				}
			}
		})
	}
}

func releases(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/released/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	return dirs
}

func wordsOf(t *testing.T, dir string) (r released) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "said.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sum(counts map[string]any) (n float64) {
	for _, count := range counts {
		n += count.(float64)
	}
	return n
}

var makeRelease = flag.String("make-release", "", "record the state of this `VERSION` in testdata/released")

// TestMakeRelease fills a shop with all there is, and keeps it. It runs once in the life of a version, when that is released.
func TestMakeRelease(t *testing.T) {
	if *makeRelease == "" {
		t.Skip("it is for releases: CONTRIBUTING")
	}
	into := filepath.Join("testdata", "released", *makeRelease)
	if _, err := os.Stat(into); err == nil {
		t.Fatalf("%s is there, and stays as it is", into)
	}
	s := &shopThen{pair: &pair{T: t, dir: t.TempDir()}}
	s.startBoth("http://127.0.0.1:1/nobody") // what is forwarded waits
	at := strings.TrimPrefix(s.address, "http://"+s.callbacks)
	got := released{Version: *makeRelease, Addresses: map[string]string{"duka": at}}

	for i, id := range []string{"paid", "cancelled", "unclear", "corrected", "doubted", "waiting", "delayed"} {
		s.push(id, 100+i)
	}
	receipt := func(n int) string { return fmt.Sprintf(today+"AB%05d", n) }
	s.settles(at, "paid", 0, "ok", receipt(1), 100)
	s.settles(at, "cancelled", 1032, "Request cancelled by user", "", 0)
	s.settles(at, "unclear", 4242, "Something new", "", 0)
	s.settles(at, "corrected", 1032, "Request cancelled by user", "", 0)
	s.settles(at, "corrected", 0, "ok", receipt(2), 103)
	s.settles(at, "doubted", 0, "ok", receipt(3), 1) // not what was asked for
	s.settles(at, "nobodys", 0, "ok", receipt(4), 7)
	s.posts(at, "this is not JSON")
	s.posts(at, fmt.Sprintf(`{"TransactionType":"Pay Bill","TransID":%q,"TransTime":"%s","TransAmount":"5.00","BusinessShortCode":"174379","BillRefNumber":"INV-1","OrgAccountBalance":"25.00","MSISDN":"25470****149","FirstName":"JOHN"}`, receipt(5), moment))
	for id, want := range map[string]string{"paid": "SUCCESS", "cancelled": "FAILED", "unclear": "UNKNOWN", "corrected": "SUCCESS"} {
		s.wantStatus(id, want)
	}
	var own struct{ CallbackURL string }
	if status := s.app("POST", "/payments", map[string]any{"session": "own", "amount": 50, "phoneNumber": testPhone, "accountReference": "INV-own"}, &own); status != 201 {
		t.Fatalf("a payment was answered %d", status)
	}
	got.Addresses["own"] = own.CallbackURL[strings.Index(own.CallbackURL, "/c/"):]
	if status := s.app("POST", "/sessions", map[string]any{"amount": 75, "accountReference": "INV-opened"}, nil); status != 201 {
		t.Fatalf("a session was answered %d", status)
	}
	for _, name := range []string{"Front desk", "Lost phone"} {
		out := s.hodi("till", "invite", "--data", "sidecar", name)
		code, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(out, "code")), "\n")
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/till/device", strings.NewReader(`{"code":"`+code+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", s.url)
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode != 201 {
			t.Fatal(response, err)
		}
		response.Body.Close()
		if got.Cookie == "" {
			c, err := http.ParseSetCookie(response.Header.Get("Set-Cookie"))
			if err != nil {
				t.Fatal(err)
			}
			got.Cookie = c.Name + "=" + c.Value
		}
	}
	s.hodi("till", "revoke", "--data", "sidecar", "2")
	s.hodi("sidecar", "key", "add", "--data", "sidecar")
	s.hodi("edge", "key", "add", "--data", "edge", "--name", "newer", "duka")
	s.hodi("edge", "key", "add", "--data", "edge", "--name", "mistaken", "duka")
	s.hodi("edge", "key", "retire", "--data", "edge", "duka", "mistaken")
	s.hodi("edge", "invite", "--data", "edge", "kiosk")
	joinShop(t, s.dir, "edge", "closed", "closed")
	s.hodi("edge", "revoke", "--data", "edge", "closed")
	eventually(t, "all callbacks to be there", func() bool { return sum(s.look().Callbacks) == 9 })
	delivered := func() string {
		var status struct{ Link struct{ Delivered string } }
		s.ask("/status", &status)
		return status.Link.Delivered
	}
	last := delivered()
	eventually(t, "a canary", func() bool { return delivered() != last })
	backups := map[string]string{"sidecar": "sidecar.backup", "edge": "edge.backup"}
	for of, file := range backups {
		s.hodi(of, "backup", "--data", of, file)
	}
	version, audits := got.Version, got
	got = s.look()
	got.Version, got.Addresses, got.Cookie = version, audits.Addresses, audits.Cookie
	s.sidecar.end()
	s.settles(at, "delayed", 0, "ok", receipt(6), 106) // it is in the journal alone
	s.edge.end()

	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	lengthen(t, filepath.Join(s.dir, "edge"), filepath.Join(s.dir, "sidecar", "identity.json"))
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "sidecar", "sidecar.db"))
	if err == nil { // a till that nobody opened for 90 days is let in no more
		_, err = db.Exec("UPDATE tills SET seen = 4102444800000 WHERE revoked = 0")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"edge", "sidecar"} {
		pack(t, filepath.Join(into, of+".tar.gz"), filepath.Join(s.dir, of))
		b, err := os.ReadFile(filepath.Join(s.dir, backups[of]))
		if err != nil {
			t.Fatal(err)
		}
		squeeze(t, filepath.Join(into, backups[of]+".gz"), b)
	}
	b, err := json.MarshalIndent(got, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(into, "said.json"), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lengthen has the edge's authority sign the sidecar's certificate once more, for as long as it lasts itself: with the tills it is all in a folder
// that ends by itself, and a shop that was off for so long has to join anew in any version.
func lengthen(t *testing.T, edge, identity string) {
	t.Helper()
	block := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		p, _ := pem.Decode(b)
		if p == nil {
			t.Fatal("there is no PEM in it")
		}
		return p.Bytes
	}
	ca, err := x509.ParseCertificate(block(os.ReadFile(filepath.Join(edge, "ca.crt"))))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(block(os.ReadFile(filepath.Join(edge, "ca.key"))))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	is, err := x509.ParseCertificate(block([]byte(file["certificate"].(string)), nil))
	if err != nil {
		t.Fatal(err)
	}
	is.NotAfter = ca.NotAfter
	der, err := x509.CreateCertificate(rand.Reader, is, ca, is.PublicKey, key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	file["certificate"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if b, err = json.MarshalIndent(file, "", "\t"); err == nil {
		err = os.WriteFile(identity, append(b, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func squeeze(t *testing.T, file string, b []byte) {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(b)
	if err := errors.Join(z.Close(), os.WriteFile(file, out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func spread(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pack keeps the files of a folder.
func pack(t *testing.T, file, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: e.Name(), Mode: 0o600, Size: int64(len(b))})
		}
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	squeeze(t, file, out.Bytes())
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(bytes.NewReader(spread(t, file))); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		var b []byte
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, h.Name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
