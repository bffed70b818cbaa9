package sidecar_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/push"
)

// harmed is a shop with one payment that is made and one that waits, which is then killed (its log is there), or stopped.
type harmed struct {
	dir        string
	made, open string // payment ids
	callbacks  []string
	epoch      uint64
}

func harm(t *testing.T, killed bool) *harmed {
	t.Helper()
	s := open(t, false)
	h := &harmed{dir: s.dir}
	made := s.pay("a").data(t)
	open := s.do("POST", "/sessions/b/initiate", request(otherPhone, 100, "")).data(t)
	h.made, h.open = made.PaymentID, open.PaymentID
	for n := range 2 {
		h.callbacks = append(h.callbacks, callbackPath(s, n+1))
	}
	s.want(s.do("POST", h.callbacks[0], paid(1, 100)), 200, "")
	h.epoch = head(s).Epoch
	if killed {
		h.dir = t.TempDir()
		for _, name := range []string{"sidecar.db", "sidecar.db-wal", "callback.key", "api.key", "inbox.key"} {
			b, err := os.ReadFile(filepath.Join(s.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			h.write(t, name, b)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harmed) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *harmed) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// callbackPath is where push n was told to answer.
func callbackPath(s *shop, n int) string {
	s.t.Helper()
	u, err := url.Parse(s.daraja.callback(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Path
}

// head is where the shop's events are.
func head(s *shop) push.Cursor {
	s.t.Helper()
	var status struct{ Head push.Cursor }
	s.do("GET", "/status", "").into(s.t, &status)
	return status.Head
}

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

func (h *harmed) start(t *testing.T) (*shop, *lockedBuffer) {
	log := new(lockedBuffer)
	return open(t, false, func(c *sidecar.Config) { c.Dir, c.Logger = h.dir, slog.New(slog.NewTextHandler(log, nil)) }), log
}

// wantAnew starts the shop on a new database: it says nothing that is not true, and both payments come back with their
// callbacks, which the edge sends once more.
func (h *harmed) wantAnew(t *testing.T) string {
	t.Helper()
	s, log := h.start(t)
	if now := head(s); now.Epoch == h.epoch || now.Seq != 0 {
		t.Errorf("events are at %v, and were in epoch %d", now, h.epoch)
	}
	for _, id := range []string{h.made, h.open} {
		s.want(s.do("GET", "/payments/"+id, ""), 404, "not-found")
	}
	s.want(s.do("POST", h.callbacks[0], paid(1, 100)), 200, "")
	s.want(s.do("POST", h.callbacks[1], paid(2, 100)), 200, "")
	for _, id := range []string{h.made, h.open} {
		if p := s.do("GET", "/payments/"+id, "").data(t); p.Status != push.Success || p.MpesaReceiptNumber == "" {
			t.Errorf("payment %s is %+v", id, p)
		}
	}
	var list struct{ Payments []push.Data }
	s.do("GET", "/payments?status=PENDING", "").into(t, &list)
	if len(list.Payments) != 0 {
		t.Errorf("%d payments are PENDING", len(list.Payments))
	}
	if now := head(s); now.Seq != 2 {
		t.Errorf("%d events were told, want 2, each of a payment that is made", now.Seq)
	}
	return log.String()
}

func TestADamagedDatabaseIsMovedAsideAndPaymentsComeBack(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			h := harm(t, killed)
			garbage := bytes.Repeat([]byte("garbage "), 10_000)
			h.write(t, "sidecar.db", garbage)
			if log := h.wantAnew(t); !strings.Contains(log, "moved aside") {
				t.Errorf("the log says\n%s", log)
			}
			aside, _ := filepath.Glob(filepath.Join(h.dir, "sidecar.db.damaged-*Z"))
			if len(aside) != 1 {
				t.Fatalf("moved aside are %v", aside)
			}
			if b, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(b, garbage) {
				t.Errorf("what was moved aside is not the damaged database, %v", err)
			}
		})
	}
}

func TestPaymentsComeBackWhenTheDatabaseIsGone(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			h := harm(t, killed)
			if err := os.Remove(filepath.Join(h.dir, "sidecar.db")); err != nil {
				t.Fatal(err)
			}
			if log := h.wantAnew(t); !strings.Contains(log, "the database is gone") {
				t.Errorf("the log says\n%s", log)
			}
		})
	}
}

func TestALogThatIsDamagedIsCutAndTheEventsHaveANewEpoch(t *testing.T) {
	h := harm(t, true)
	b := h.read(t, "sidecar.db-wal")
	frames := (len(b) - 32) / (24 + 4096)
	b[32+(frames-20)*(24+4096)+1000] ^= 1 // not in the last transaction
	h.write(t, "sidecar.db-wal", b)
	s, log := h.start(t)
	if now := head(s); now.Epoch == h.epoch {
		t.Errorf("events are still in epoch %d", now.Epoch)
	}
	if !strings.Contains(log.String(), "log is damaged") {
		t.Errorf("the log says\n%s", log)
	}
	s.want(s.do("POST", h.callbacks[0], paid(1, 100)), 200, "")
	if p := s.do("GET", "/payments/"+h.made, "").data(t); p.Status != push.Success {
		t.Errorf("the payment is %+v", p)
	}
	if aside, _ := filepath.Glob(filepath.Join(h.dir, "sidecar.db.damaged-*Z-wal")); len(aside) != 1 {
		t.Errorf("copies of the damaged log are %v", aside)
	}
}

func TestADatabaseWithoutItsKeyIsNotOpened(t *testing.T) {
	h := harm(t, false)
	if err := os.Remove(filepath.Join(h.dir, "callback.key")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = sidecar.Open(t.Context(), sidecar.Config{Dir: h.dir, Listener: l, Dev: true})
	if err == nil || !strings.Contains(err.Error(), "callback.key is gone") || !strings.Contains(err.Error(), "restore") {
		t.Errorf("opening gives %v", err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "callback.key")); err == nil {
		t.Error("another key was made")
	}
}

func TestASidecarThatMeetsDamageEndsAndMendsItself(t *testing.T) {
	h := harm(t, false)
	b := h.read(t, "sidecar.db")
	for at := 4096; at+4096 <= len(b); at += 4096 { // in the index of phones
		if b[at] == 0x0a && bytes.Contains(b[at:at+4096], []byte(otherPhone)) {
			b[at] = 0x77
		}
	}
	h.write(t, "sidecar.db", b)
	s, _ := h.start(t)
	s.ends = true
	s.want(s.do("POST", "/payments/search", `{"phoneNumber":"`+otherPhone+`"}`), 503, "disk")
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "sidecar.db is damaged") {
		t.Errorf("run ends with %v", err)
	}
	if log := h.wantAnew(t); !strings.Contains(log, "moved aside") {
		t.Errorf("the log says\n%s", log)
	}
}

// The log stays what it was for a while when all of it is in the file; if it is damaged then, what SQLite takes of it is
// older than what the file holds, and the two do not go together.
func TestALogThatIsDamagedWhenItIsInTheFileUndoesNothing(t *testing.T) {
	const frame = 24 + 4096
	for _, partly := range []bool{false, true} {
		t.Run(fmt.Sprint("partly ", partly), func(t *testing.T) {
			s := open(t, false)
			made := s.pay("a").data(t)
			h := &harmed{dir: t.TempDir(), made: made.PaymentID, callbacks: []string{callbackPath(s, 1)}, epoch: head(s).Epoch}
			before, err := os.ReadFile(filepath.Join(s.dir, "sidecar.db-wal"))
			if err != nil {
				t.Fatal(err)
			}
			s.want(s.do("POST", h.callbacks[0], paid(1, 100)), 200, "")
			file, err := os.ReadFile(filepath.Join(s.dir, "sidecar.db"))
			if err != nil {
				t.Fatal(err)
			}
			s.checkpoint()
			for _, name := range []string{"sidecar.db", "sidecar.db-wal", "callback.key", "api.key", "inbox.key"} {
				b, err := os.ReadFile(filepath.Join(s.dir, name))
				if err != nil {
					t.Fatal(err)
				}
				switch name {
				case "sidecar.db-wal": // in the last transaction but one, or before
					b[len(before)-2*frame+1000] ^= 1
				case "sidecar.db":
					if partly { // a power cut came when some of it was there
						half := len(b) / 2 / 4096 * 4096
						copy(b[half:], make([]byte, len(b)-half))
						if len(file) > half {
							copy(b[half:], file[half:])
						}
					}
				}
				h.write(t, name, b)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			again, log := h.start(t)
			if partly {
				if !strings.Contains(log.String(), "moved aside") {
					t.Errorf("the log says\n%s", log)
				}
				again.want(again.do("POST", h.callbacks[0], paid(1, 100)), 200, "")
			} else if now := head(again); now.Epoch != h.epoch {
				t.Errorf("events are in epoch %d, and were in %d", now.Epoch, h.epoch)
			}
			if p := again.do("GET", "/payments/"+h.made, "").data(t); p.Status != push.Success {
				t.Errorf("the payment is %+v", p)
			}
		})
	}
}

// checkpoint moves the log into the file, and leaves it as it is.
func (s *shop) checkpoint() {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(s.dir, "sidecar.db")))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	var busy, pages, moved int
	if err := db.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &moved); err != nil || moved != pages {
		s.t.Fatal(busy, pages, moved, err)
	}
}
