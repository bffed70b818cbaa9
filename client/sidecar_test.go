package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hodihq/hodi/client"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

// start runs a real sidecar at an address, ":0" for any, and gives its address and how to stop it.
func start(t *testing.T, dir, address string, dev bool) (string, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sidecar.Open(t.Context(), sidecar.Config{
		Dir: dir, Listener: listener, Dev: dev, AcceptCallbacks: true, DarajaHTTP: &http.Client{Transport: obliging{}},
		Shortcodes: []daraja.Shortcode{{Name: "duka", Environment: "sandbox", Kind: "paybill", Number: "174379", Credentials: daraja.Credentials{ConsumerKey: "k", ConsumerSecret: "s", Passkey: "p"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	return listener.Addr().String(), func() {
		cancel()
		if err := errors.Join(<-ran, s.Close()); err != nil {
			t.Errorf("the sidecar ended with %v", err)
		}
	}
}

// obliging is a Daraja that queues every prompt.
type obliging struct{}

func (obliging) RoundTrip(r *http.Request) (*http.Response, error) {
	body := `{"access_token":"c9SQxWWhmdVRlyh0zh8gZDTkubVF","expires_in":3599}`
	if r.Method == http.MethodPost {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		body = `{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925","ResponseCode":"0","ResponseDescription":"Success"}`
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func post(t *testing.T, url, body string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if b, _ := io.ReadAll(response.Body); response.StatusCode != 200 {
		t.Fatalf("%s answers %d %s", url, response.StatusCode, b)
	}
}

func TestRealSidecarThatIsRestartedBetweenPromptAndResult(t *testing.T) {
	dir := t.TempDir()
	address, stop := start(t, dir, "127.0.0.1:0", true)
	c := client.New("http://" + address)
	subscriptions := map[string]*subscription{"all": all(t, c, head(t, address)), "session": one(t, c, "order-1", "")}
	last := map[string]push.Cursor{}
	until := func(name string, status push.Status) push.Message {
		t.Helper()
		for m := range subscriptions[name].messages {
			if m.Session != "order-1" || m.Gap || !last[name].IsZero() && (m.ID.Epoch != last[name].Epoch || m.ID.Seq <= last[name].Seq) {
				t.Fatalf("%s: after %s comes %+v", name, last[name], m)
			}
			if last[name] = m.ID; m.Data.Status == status {
				return m
			}
		}
		t.Fatalf("%s: it ended before %s: %v", name, status, subscriptions[name].err)
		return push.Message{}
	}
	post(t, "http://"+address+"/sessions/order-1/initiate", `{"phoneNumber":"0708374149","amount":71,"accountReference":"ORDER123"}`)
	for name := range subscriptions {
		until(name, push.Pending)
	}
	stop()
	_, stop = start(t, dir, address, true)
	defer stop()
	post(t, "http://"+address+"/sessions/order-1/webhook", `{"Body":{"stkCallback":{"MerchantRequestID":"29115-34620561-1","CheckoutRequestID":"ws_CO_191220191020363925","ResultCode":0,"ResultDesc":"ok",`+
		`"CallbackMetadata":{"Item":[{"Name":"Amount","Value":71.00},{"Name":"MpesaReceiptNumber","Value":"NLJ7RT61SV"},{"Name":"TransactionDate","Value":20191219102115},{"Name":"PhoneNumber","Value":254708374149}]}}}}`)
	for name, s := range subscriptions {
		m := until(name, push.Success)
		if m.Type != push.PaymentCompleted || m.Data.MpesaReceiptNumber != "NLJ7RT61SV" || m.Data.Amount != 7100 || !m.Final {
			t.Errorf("%s: the result is %+v", name, m)
		}
		s.stop()
		if err := s.wantEnd(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	late := one(t, c, "order-1", "")
	if m := <-late.messages; m.Data.Status != push.Success || !m.Final {
		t.Errorf("who comes after the end is told %+v", m)
	}
	late.stop()
	if err := late.wantEnd(); err != nil {
		t.Error(err)
	}
}

// head is the cursor of the newest event.
func head(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/payments")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct{ Head push.Cursor }
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil || list.Head.IsZero() {
		t.Fatalf("the sidecar tells no head: %v", err)
	}
	return list.Head.String()
}

func TestRealSidecarRefusesStrangers(t *testing.T) {
	address, stop := start(t, t.TempDir(), "127.0.0.1:0", false)
	defer stop()
	c := client.New("http://"+address, client.WithKey("a-key-of-nobody"))
	wantError(t, all(t, c, "").wantEnd(), 401, "")
	wantError(t, one(t, c, "0123456789abcdef0123456789abcdef", "").wantEnd(), 404, "")
}
