package sidecar_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/internal/scrape"
)

// watched has a sidecar show its page at the address that it returns.
func watched(t *testing.T) (address string, change func(*sidecar.Config)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), func(c *sidecar.Config) { c.Metrics, c.Version = l, "1.2.3" }
}

func TestPrometheusSeesPaymentsAndWhatIsNotBelieved(t *testing.T) {
	at, metrics := watched(t)
	s := open(t, false, outside, metrics)
	p := scrape.Of(t, at)
	p.Want(1, "hodi_sidecar_build_info", "version=1.2.3")
	p.Want(0, "hodi_sidecar_callbacks", "state=suspect") // so that the first is a change
	p.Want(1, "hodi_sidecar_disk_writable")
	p.WantNone("hodi_sidecar_link_up") // it has no edge
	p.WantNone("hodi_sidecar_forward_waiting_callbacks")

	one, two := s.opened("100"), s.opened("100")
	k := s.socket("/sessions/" + one + "/websocket")
	s.want(s.do("POST", "/sessions/"+one+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
	s.want(s.do("POST", callbackPath(s, 1), paid(1, 100)), 200, "")
	s.want(s.do("POST", "/sessions/"+two+"/initiate", `{"phoneNumber":"`+otherPhone+`"}`), 200, "")
	bare := callbackPath(s, 2)
	s.want(s.do("POST", bare[:strings.LastIndex(bare, "/")], paid(2, 100)), 200, "") // without the code in its address

	p = scrape.Of(t, at)
	p.Want(2, "hodi_sidecar_prompts_total", "shortcode=duka", "outcome=accepted")
	p.Want(1, "hodi_sidecar_callbacks", "state=applied")
	p.Want(1, "hodi_sidecar_callbacks", "state=suspect")
	p.Want(1, "hodi_sidecar_subscribers")
	p.Want(0, "hodi_sidecar_daraja_outage_seconds", "shortcode=duka")
	p.WantBetween(3, 100, "hodi_sidecar_events_total")
	p.WantWellNamed()
	p.WantSilentOf(phone, otherPhone, "ws_CO_", "fake-1", s.key, "127.0.0.1", "174379")
	k.close()
}

func TestPrometheusSeesAnAppThatDoesNotHandleItsCallbacks(t *testing.T) {
	at, metrics := watched(t)
	app := &ownApp{code: http.StatusInternalServerError}
	s := open(t, false, metrics, app.forwarding)
	scrape.Of(t, at).Want(0, "hodi_sidecar_forward_attempts_total", "outcome=refused")
	s.pay("one")
	s.want(s.do("POST", callbackPath(s, 1), paid(1, 100)), 200, "")
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		p := scrape.Of(t, at)
		if n, _ := p.Value("hodi_sidecar_forward_attempts_total", "outcome=refused"); n > 0 {
			p.Want(0, "hodi_sidecar_forward_attempts_total", "outcome=handled")
			p.Want(1, "hodi_sidecar_forward_waiting_callbacks")
			p.WantBetween(0.000001, 3600, "hodi_sidecar_forward_oldest_waiting_age_seconds")
			p.Want(0, "hodi_sidecar_forward_paused")
			p.Want(0, "hodi_sidecar_forward_dead_callbacks")
			p.WantWellNamed()
			p.WantSilentOf("hidden", "mpesa?")
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no attempt was counted:\n%s", p.Text)
		}
	}
}

func TestPrometheusSeesWhatDarajaAnswersToQuestions(t *testing.T) {
	at, metrics := watched(t)
	s := open(t, false, metrics, func(c *sidecar.Config) { c.FirstAsk = time.Millisecond })
	scrape.Of(t, at).Want(0, "hodi_sidecar_daraja_questions_total", "outcome=in_flight")
	s.pay("one")
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		p := scrape.Of(t, at)
		if n, _ := p.Value("hodi_sidecar_daraja_questions_total", "outcome=in_flight"); n > 0 { // "the transaction is being processed"
			p.Want(0, "hodi_sidecar_daraja_questions_total", "outcome=down")
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no question was counted:\n%s", p.Text)
		}
	}
}
