package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"os"
	"strconv"

	gomail "github.com/wneessen/go-mail"

	"github.com/hodihq/hodi/daemon/secret"
)

// Email is mail by a server that takes it: SMTP, with TLS from the first byte or after STARTTLS, without which nothing is said. A
// server on this machine (loopback) for which there is no CAFile may have none.
type Email struct {
	Server       string   // HOST:PORT; required
	To           []string // required
	From         string   // default: User, if that is an address, else the first of To
	TLS          string   // TLSImplicit or TLSStart; default: implicit on port 465
	User         string   // default: nobody logs in
	PasswordFile string   // of User; read for every message, so it may change
	CAFile       string   // whom to believe that it is the server, in PEM; default: the system's
}

// Name is "e-mail".
func (e *Email) Name() string { return "e-mail" }

// How TLS begins.
const (
	TLSImplicit = "implicit" // with the first byte
	TLSStart    = "starttls" // when it was asked for
)

const implicitPort = 465

func (e *Email) implicit(port int) bool {
	return e.TLS == TLSImplicit || e.TLS == "" && port == implicitPort
}

// Check says what is wrong with it, as far as can be said without asking the server.
func (e *Email) Check() error {
	if _, _, err := e.server(); err != nil {
		return err
	}
	if e.TLS != "" && e.TLS != TLSImplicit && e.TLS != TLSStart {
		return fmt.Errorf("%q is no way to begin TLS: say %s or %s", e.TLS, TLSImplicit, TLSStart)
	}
	if len(e.To) == 0 {
		return errors.New("nobody is named whom to write to")
	}
	for _, address := range append([]string{e.from()}, e.To...) {
		if _, err := netmail.ParseAddress(address); err != nil {
			return fmt.Errorf("%q is not an address: write shop@example.co.ke, and say from whom if the server's user is none", address)
		}
	}
	if (e.User == "") != (e.PasswordFile == "") {
		return errors.New("a user of the mail server needs a password file, and a password file a user")
	}
	if e.PasswordFile != "" {
		if _, err := secret.Read(e.PasswordFile); err != nil {
			return fmt.Errorf("the password: %w", err)
		}
	}
	_, err := e.roots()
	return err
}

func (e *Email) server() (host string, port int, err error) {
	host, p, err := net.SplitHostPort(e.Server)
	if err == nil {
		port, err = net.LookupPort("tcp", p)
	}
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%q is not a mail server: write HOST:PORT, as in mail.example.co.ke:587", e.Server)
	}
	return host, port, nil
}

func (e *Email) from() string {
	user := ""
	if a, err := netmail.ParseAddress(e.User); err == nil {
		user = a.Address
	}
	first := ""
	if len(e.To) > 0 {
		first = e.To[0]
	}
	return cmp.Or(e.From, user, first)
}

func (e *Email) roots() (*x509.CertPool, error) {
	if e.CAFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(e.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", e.CAFile)
	}
	return pool, nil
}

// Send hands the message to the server.
func (e *Email) Send(ctx context.Context, m Message) error {
	host, port, err := e.server()
	if err != nil {
		return err
	}
	roots, err := e.roots()
	if err != nil {
		return err
	}
	letter, err := e.letter(m)
	if err != nil {
		return err
	}
	conf := &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	policy, dial := gomail.TLSMandatory, new(net.Dialer).DialContext
	switch {
	case e.implicit(port):
		dial = (&tls.Dialer{Config: conf}).DialContext
	case loopback(host) && e.CAFile == "" && e.TLS == "":
		policy = gomail.NoTLS
	}
	// The library leaves a connection open on which it did not come to mail, and does not hear that ctx is done.
	var ends []func() bool
	dialled := func(dialling context.Context, network, address string) (net.Conn, error) {
		c, err := dial(dialling, network, address)
		if err == nil {
			ends = append(ends, context.AfterFunc(ctx, func() { c.Close() }), func() bool { return c.Close() == nil })
		}
		return c, err
	}
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	options := []gomail.Option{gomail.WithTimeout(sendWithin), gomail.WithoutNoop(), gomail.WithTLSConfig(conf), gomail.WithTLSPolicy(policy), gomail.WithDialContextFunc(dialled)}
	if e.implicit(port) {
		options = append(options, gomail.WithSSL())
	}
	options = append(options, gomail.WithPort(port))
	if e.User != "" {
		password, err := secret.Read(e.PasswordFile)
		if err != nil {
			return fmt.Errorf("the password: %w", err)
		}
		options = append(options, gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin), gomail.WithUsername(e.User), gomail.WithPassword(string(bytes.TrimSpace(password))))
	}
	client, err := gomail.NewClient(host, options...)
	if err != nil {
		return err
	}
	return client.DialAndSendWithContext(ctx, letter)
}

// letter is the message as mail: plain text, the same Message-ID whenever it is sent.
func (e *Email) letter(m Message) (*gomail.Msg, error) {
	letter := gomail.NewMsg()
	if err := letter.FromFormat("Hodi", e.from()); err != nil {
		return nil, err
	}
	if err := letter.To(e.To...); err != nil {
		return nil, err
	}
	letter.Subject(m.Subject)
	letter.SetDateWithValue(m.Time.Local())
	_, domain, _ := bytes.Cut([]byte(e.from()), []byte("@"))
	letter.SetMessageIDWithValue(m.ID + "@" + string(bytes.TrimRight(domain, ">")))
	letter.SetGenHeader("Auto-Submitted", "auto-generated")
	letter.SetGenHeader("X-Hodi-Number", strconv.FormatUint(m.Number, 10))
	letter.SetUserAgent("hodi")
	letter.SetBodyString(gomail.TypeTextPlain, m.Text)
	return letter, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
