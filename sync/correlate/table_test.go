package correlate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/hodihq/hodi/tunnel/wire"
)

const phone = "254708374149"

var key = []byte("0123456789abcdef0123456789abcdef")

// A shop is a Table and everything it published.
type shop struct {
	testing.TB
	*correlate.Table
	cfg       correlate.Config
	published []correlate.Event
	journal   wire.Epoch
	seq       uint64
}

// inMemory keeps the file of a table where no disk is waited for: for tests of thousands of histories, none of which is
// about disks.
func inMemory(t testing.TB) func(*correlate.Config) {
	dir, err := os.MkdirTemp("/dev/shm", "correlate")
	if err != nil {
		dir = t.TempDir() // the same, only slower
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return func(c *correlate.Config) { c.Path = filepath.Join(dir, "hodi.db") }
}

func open(t testing.TB, change ...func(*correlate.Config)) *shop {
	t.Helper()
	s := &shop{TB: t, journal: 1_700_000_000_000}
	s.cfg = correlate.Config{Path: filepath.Join(t.TempDir(), "hodi.db"), Key: key, Publish: func(e []correlate.Event) { s.published = append(s.published, e...) }}
	for _, f := range change {
		f(&s.cfg)
	}
	s.start()
	t.Cleanup(func() { s.Table.Close() })
	return s
}

func trusting(c *correlate.Config) { c.Trusting = true }

func (s *shop) start() {
	s.Helper()
	var err error
	if s.Table, err = correlate.Open(context.Background(), s.cfg); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) restart() {
	s.Helper()
	if err := s.Close(); err != nil {
		s.Fatal(err)
	}
	s.start()
}

func (s *shop) open(session string, amount push.Money) {
	s.Helper()
	if _, err := s.OpenSession(context.Background(), correlate.Session{ID: session, Amount: amount, AccountReference: "INV-1"}); err != nil {
		s.Fatal(err)
	}
}

func request(session string) correlate.Request {
	return correlate.Request{Session: session, Phone: phone, Amount: 100_00, AccountReference: "INV-1", Shortcode: "main", Number: "174379", Environment: "sandbox"}
}

func (s *shop) begin(r correlate.Request) correlate.Payment {
	s.Helper()
	b, err := s.Begin(context.Background(), r)
	if err != nil {
		s.Fatal(err)
	}
	if !b.Send {
		s.Fatalf("the request was answered with payment %s, want a new one", b.Payment.ID)
	}
	return b.Payment
}

// pay opens a session, begins its payment and has it accepted.
func (s *shop) pay(session string) correlate.Payment {
	s.Helper()
	s.open(session, 100_00)
	p := s.begin(request(session))
	return s.accept(p)
}

func ids(p correlate.Payment) (merchant, checkout string) { return "mr-" + p.ID, "ws_CO_" + p.ID }

func (s *shop) accept(p correlate.Payment) correlate.Payment {
	s.Helper()
	merchant, checkout := ids(p)
	p, err := s.Accepted(context.Background(), p.ID, merchant, checkout)
	if err != nil {
		s.Fatal(err)
	}
	return p
}

func failure(p correlate.Payment, code string) string {
	merchant, checkout := ids(p)
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":%s,"ResultDesc":"it said %s"}}}`, merchant, checkout, code, strings.Trim(code, `"`))
}

func success(p correlate.Payment, amount, receipt string) string {
	merchant, checkout := ids(p)
	return fmt.Sprintf(`{"Body":{"stkCallback":{"MerchantRequestID":%q,"CheckoutRequestID":%q,"ResultCode":0,"ResultDesc":"ok","CallbackMetadata":{"Item":[
		{"Name":"Amount","Value":%s},{"Name":"MpesaReceiptNumber","Value":%q},{"Name":"TransactionDate","Value":%s},{"Name":"PhoneNumber","Value":254708374149}]}}}}`,
		merchant, checkout, amount, receipt, moment)
}

// today is how receipts of today begin, and moment a TransactionDate: of when this program began, so that both stay the same
// over midnight, and where a test has a clock of its own.
var (
	began  = time.Now().In(daraja.Nairobi)
	today  = daraja.ReceiptPrefix(began)
	moment = began.Format("20060102150405")
)

// entry is the next entry of the journal.
func (s *shop) entry(ref, body string) wire.Entry {
	s.seq++
	return wire.Entry{Seq: s.seq, Received: time.Now(), Kind: wire.KindNotice, Ref: ref, Remote: "196.201.212.69", Header: []byte("Content-Type: application/json\r\n"), Body: []byte(body)}
}

// behind is the cursor behind the last of some entries of a journal.
func behind(journal wire.Epoch, entries []wire.Entry) wire.Cursor {
	if len(entries) == 0 {
		return wire.Cursor{Epoch: journal}
	}
	e := entries[len(entries)-1]
	return wire.Cursor{Epoch: journal, Seq: e.Seq, Sum: e.Sum()}
}

// comes applies the next entry of the journal, and returns what became of it.
func (s *shop) comes(ref, body string) correlate.Callback {
	s.Helper()
	return s.apply(s.entry(ref, body))
}

func (s *shop) apply(e wire.Entry) correlate.Callback {
	s.Helper()
	if err := s.Apply(context.Background(), behind(s.journal, []wire.Entry{e}), []wire.Entry{e}); err != nil {
		s.Fatal(err)
	}
	return s.callback(push.Cursor{Epoch: uint64(s.journal), Seq: e.Seq})
}

func (s *shop) callback(at push.Cursor) correlate.Callback {
	s.Helper()
	list, _, err := s.Callbacks(context.Background(), correlate.CallbackFilter{After: push.Cursor{Epoch: at.Epoch, Seq: at.Seq - 1}.String(), Limit: 1})
	if err != nil {
		s.Fatal(err)
	}
	if len(list) == 0 || list[0].ID != at.String() {
		return correlate.Callback{}
	}
	return list[0]
}

func (s *shop) get(id string) correlate.Payment {
	s.Helper()
	p, err := s.Payment(context.Background(), id)
	if err != nil {
		s.Fatal(err)
	}
	return p
}

// wantEvents compares what was published since the last call: "TYPE STATUS outcome", one after the other.
func (s *shop) wantEvents(want ...string) {
	s.Helper()
	var got []string
	for _, e := range s.published {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Message.Type, e.Message.Data.Status, e.Message.Data.Outcome)))
		if b, _ := json.Marshal(e.Message); string(b) != string(e.Encoded) {
			s.Errorf("event %d is encoded as %s, and is %s", e.Seq, e.Encoded, b)
		}
	}
	s.published = nil
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.Errorf("published\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (s *shop) wantState(cb correlate.Callback, state string) {
	s.Helper()
	if cb.State != state {
		s.Errorf("callback %s is %s (%s), want %s", cb.ID, cb.State, cb.Error, state)
	}
}

func TestAPaymentThatIsMade(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.wantEvents("STK_INITIATED PENDING")
	s.wantState(s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA")), "applied")
	s.wantEvents("PAYMENT_COMPLETED SUCCESS paid")
	p = s.get(p.ID)
	if p.Status != push.Success || p.Receipt != today+"1AAAAAA" || !p.AmountChecked || p.CompletedAt.IsZero() {
		t.Errorf("payment is %+v", p)
	}
	s.restart()
	if q := s.get(p.MerchantRequestID); fmt.Sprint(q) != fmt.Sprint(p) {
		t.Errorf("after a restart the payment is\n%+v, was\n%+v", q, p)
	}
	s.wantEvents()
}

func TestClosingGivesTheFileBack(t *testing.T) {
	s := open(t)
	p := s.pay("a")
	s.comes(s.Ref(p.ID), success(p, "100.00", today+"1AAAAAA"))
	s.get(p.MerchantRequestID)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(s.cfg.Path + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there after Close: %v", suffix, err)
		}
	}
}

func answerOf(code string) daraja.Answer {
	return daraja.Answer{ResultCode: code, ResultDesc: "it said " + code}
}
