package notify_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hodihq/hodi/daemon/notify"
)

var message = notify.Message{
	Number: 7, ID: "notice-0123456789abcdef0123456789abcdef", Time: time.Date(2026, 11, 22, 11, 2, 0, 0, time.UTC), Edge: "hooks.example.co.ke",
	Subject: "Hodi: duka is silent", Text: "The Hodi edge hooks.example.co.ke:\n\nduka is silent\n.\n",
	Items: []notify.Item{{State: notify.Begun, Kind: notify.Silent, Subject: "duka", Since: time.Date(2026, 11, 22, 10, 52, 0, 0, time.UTC)}, {State: notify.Over, Kind: notify.Disk}},
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// letterbox is a mail server on loopback that takes one letter at a time.
type letterbox struct {
	address, ca string
	letters     chan letter
}

type letter struct {
	secure, loggedIn bool
	from             string
	to               []string
	text             string
}

// certificate is one for 127.0.0.1, and the file by which to know it.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// listen opens a mail server. With starttls it speaks plainly at first, and offers TLS; else it speaks TLS from the first byte.
func listen(t *testing.T, starttls, offers bool) *letterbox {
	t.Helper()
	own, ca := certificate(t)
	conf := &tls.Config{Certificates: []tls.Certificate{own}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := &letterbox{address: l.Addr().String(), ca: ca, letters: make(chan letter, 8)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			if !starttls {
				c = tls.Server(c, conf)
			}
			box.serve(c, conf, !starttls, offers)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return box
}

func (b *letterbox) serve(c net.Conn, conf *tls.Config, secure, offers bool) {
	in := bufio.NewReader(c)
	say := func(lines ...string) { io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n") }
	say("220 mail ESMTP")
	got := letter{secure: secure}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			words := []string{"250-mail", "250-AUTH PLAIN", "250 8BITMIME"}
			if !secure && offers {
				words = []string{"250-mail", "250-STARTTLS", "250 8BITMIME"}
			}
			say(words...)
		case "HELO", "RSET", "NOOP":
			say("250 mail")
		case "STARTTLS":
			say("220 go ahead")
			c = tls.Server(c, conf)
			in, secure = bufio.NewReader(c), true
			got = letter{secure: true}
		case "AUTH":
			_, words, _ := strings.Cut(rest, " ")
			raw, _ := base64.StdEncoding.DecodeString(words)
			if got.loggedIn = string(raw) == "\x00hodi@example.co.ke\x00open sesame"; !got.loggedIn {
				say("535 5.7.8 no")
				continue
			}
			say("235 welcome")
		case "MAIL":
			got.from = rest
			say("250 ok")
		case "RCPT":
			got.to = append(got.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			got.text = text.String()
			say("250 taken")
			b.letters <- got
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what?")
		}
	}
}

func (b *letterbox) email(t *testing.T) *notify.Email {
	return &notify.Email{
		Server: b.address, To: []string{"owner@example.co.ke", "second@example.co.ke"}, User: "hodi@example.co.ke",
		PasswordFile: secretFile(t, "open sesame\n"), CAFile: b.ca,
	}
}

func TestMailIsSentOverTLSWithTheServersCertificateVerified(t *testing.T) {
	for _, begins := range []string{notify.TLSStart, notify.TLSImplicit} {
		t.Run(begins, func(t *testing.T) { sendsMail(t, begins) })
	}
}

func sendsMail(t *testing.T, begins string) {
	box := listen(t, begins == notify.TLSStart, true)
	e := box.email(t)
	e.TLS = begins
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	if err := e.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	got := <-box.letters
	if !got.secure || !got.loggedIn || !strings.Contains(got.from, "<hodi@example.co.ke>") || len(got.to) != 2 || !strings.Contains(got.to[1], "<second@example.co.ke>") {
		t.Errorf("the letter came as %+v", got)
	}
	m, err := mail.ReadMessage(strings.NewReader(got.text))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	body, berr := io.ReadAll(m.Body)
	if err != nil || berr != nil || subject != message.Subject || !strings.Contains(string(body), "duka is silent\r\n.\r\n") {
		t.Errorf("the letter is %q\n%s\n%v %v", subject, body, err, berr)
	}
	if id := m.Header.Get("Message-ID"); !strings.Contains(id, message.ID) {
		t.Errorf("its id is %q, and is to be the same whenever it is sent", id)
	}
	if m.Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasPrefix(m.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("its header is %v", m.Header)
	}
}

func TestMailIsNotSentWhereTLSIsMissingOrAnybodysOrThePasswordIsWrong(t *testing.T) {
	none := listen(t, true, false)
	e := none.email(t)
	if err := e.Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("a server without TLS: %v", err)
	}
	stranger := listen(t, true, true)
	e = stranger.email(t)
	_, e.CAFile = certificate(t)
	if err := e.Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with another's certificate: %v", err)
	}
	e = stranger.email(t)
	e.PasswordFile = secretFile(t, "wrong horse")
	if err := e.Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "horse") {
		t.Errorf("a wrong password: %v", err)
	}
	for _, box := range []*letterbox{none, stranger} {
		select {
		case l := <-box.letters:
			t.Errorf("a letter was sent: %+v", l)
		default:
		}
	}
}

func TestAMailServerOnThisMachineNeedsNoTLS(t *testing.T) {
	box := listen(t, true, false)
	e := &notify.Email{Server: box.address, To: []string{"root@localhost"}}
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	if err := e.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	if got := <-box.letters; got.secure || !strings.Contains(got.from, "root@localhost") {
		t.Errorf("it came as %+v", got)
	}
}

func TestAWebhookIsSignedAndSaysNothingOfItsAddress(t *testing.T) {
	const secret, older = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	type got struct {
		header http.Header
		body   []byte
	}
	came := make(chan got, 8)
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		came <- got{r.Header, b}
		w.WriteHeader(status)
	}))
	defer server.Close()
	w := &notify.Webhook{URL: server.URL + "/services/T0P53CRET", SecretFile: secretFile(t, secret+"\n"+older+"\n")}
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	g := <-came
	for _, s := range []string{secret, older} {
		verifier, err := standardwebhooks.NewWebhook(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(g.body, g.header); err != nil {
			t.Errorf("a signature is not good: %v", err)
		}
	}
	var body struct {
		Type, Text string
		Timestamp  time.Time
		Data       struct {
			Edge, Subject string
			Items         []map[string]any
		}
	}
	if err := json.Unmarshal(g.body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Type != "hodi.notice" || body.Data.Edge != message.Edge || len(body.Data.Items) != 2 || body.Data.Items[0]["endpoint"] != "duka" || !strings.HasPrefix(body.Text, message.Subject) {
		t.Errorf("the body is %s", g.body)
	}
	if id := g.header.Get("webhook-id"); id != message.ID {
		t.Errorf("its id is %q", id)
	}
	status = http.StatusFound
	if err := w.Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "302") || strings.Contains(err.Error(), "T0P53CRET") {
		t.Errorf("an answer that is none: %v", err)
	}
	server.Close()
	if err := w.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), "T0P53CRET") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestWhatIsWrongWithAWayIsSaidBeforeItIsNeeded(t *testing.T) {
	good := secretFile(t, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	open := secretFile(t, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	to := []string{"owner@example.co.ke"}
	for word, way := range map[string]interface{ Check() error }{
		"not a mail server":   &notify.Email{Server: "mail.example.co.ke", To: to},
		"nobody is named":     &notify.Email{Server: "mail.example.co.ke:587"},
		"not an address":      &notify.Email{Server: "mail.example.co.ke:587", To: []string{"the owner"}},
		"a password file":     &notify.Email{Server: "mail.example.co.ke:587", To: to, User: "hodi"},
		"begin TLS":           &notify.Email{Server: "mail.example.co.ke:587", To: to, TLS: "yes"},
		"the password":        &notify.Email{Server: "mail.example.co.ke:587", To: to, User: "hodi@example.co.ke", PasswordFile: "nowhere"},
		"write https":         &notify.Webhook{URL: "hooks.example.co.ke", SecretFile: good},
		"is http":             &notify.Webhook{URL: "http://hooks.example.co.ke", SecretFile: good},
		"holds a password":    &notify.Webhook{URL: "https://me:pw@hooks.example.co.ke", SecretFile: good},
		"can be read by":      &notify.Webhook{URL: "https://hooks.example.co.ke", SecretFile: open},
		"24 to 64":            &notify.Webhook{URL: "https://hooks.example.co.ke", SecretFile: secretFile(t, "whsec_c2hvcnQ=")},
		"holds no secret":     &notify.Webhook{URL: "https://hooks.example.co.ke", SecretFile: secretFile(t, "\n")},
		"no command is named": &notify.Command{},
		"cannot be run":       &notify.Command{Args: []string{"/nowhere/at/all"}},
	} {
		if err := way.Check(); err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%+v: %v; want the words %q", way, err, word)
		}
	}
}
