package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hodihq/hodi/daemon/secret"
)

// Webhook is a POST to an address, signed as Standard Webhooks has it. The address is kept to ourselves: that of many a chat is
// a secret.
type Webhook struct {
	URL        string       // https, or http on this machine
	URLFile    string       // or the file that it is in, read for every message. One of the two is required
	SecretFile string       // whsec_ and base64, one on a line: the first is the newest, all sign. Read for every message. Required
	Client     *http.Client // default: one that follows no redirect
}

// Name is "webhook".
func (w *Webhook) Name() string { return "webhook" }

// Check says what is wrong with it, as far as can be said without asking.
func (w *Webhook) Check() error {
	address, err := w.address()
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the webhook's address cannot be used: write https://HOST/PATH")
	case u.User != nil:
		return errors.New("the webhook's address holds a password: it is signed in place of that")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("the webhook's address is http: use https, or an address of this machine (127.0.0.1)")
	}
	_, err = w.signers()
	return err
}

func (w *Webhook) address() (string, error) {
	if w.URLFile == "" {
		return w.URL, nil
	}
	b, err := secret.Read(w.URLFile)
	if err != nil {
		return "", fmt.Errorf("the webhook's address: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// signers reads the secrets. What is wrong with one is said without it.
func (w *Webhook) signers() (all []*standardwebhooks.Webhook, err error) {
	b, err := secret.Read(w.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("the webhook's secret: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "whsec_"))
		if err != nil || len(key) < 24 || len(key) > 64 {
			return nil, fmt.Errorf("%s: a secret is whsec_ and 24 to 64 random bytes in base64: (printf whsec_; openssl rand -base64 32)", w.SecretFile)
		}
		s, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, fmt.Errorf("%s: a secret cannot be used", w.SecretFile)
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no secret: (printf whsec_; openssl rand -base64 32) makes one", w.SecretFile)
	}
	return all, nil
}

// notice is the body. "text" alone is what many a chat shows.
type notice struct {
	Type string    `json:"type"` // hodi.notice, or hodi.test
	Time time.Time `json:"timestamp"`
	Text string    `json:"text"`
	Data struct {
		Edge    string `json:"edge"`
		Subject string `json:"subject"`
		Items   []Item `json:"items"`
	} `json:"data"`
}

// answerMost is how much of an answer is read, which nobody looks at.
const answerMost = 64 << 10

// Send posts the message. Any 2xx is that it was taken.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	signers, err := w.signers()
	if err != nil {
		return err
	}
	body, err := m.body()
	if err != nil {
		return err
	}
	address, err := w.address()
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's address cannot be used")
	}
	now := time.Now()
	var signatures []string
	for _, s := range signers {
		signature, err := s.Sign(m.ID, now, body)
		if err != nil {
			return errors.New("it cannot be signed")
		}
		signatures = append(signatures, signature)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "hodi")
	request.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	client := w.Client
	if client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true // there is a message in a week
		client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	response, err := client.Do(request)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) { // without the address
			err = u.Err
		}
		return err
	}
	_, _ = io.CopyN(io.Discard, response.Body, answerMost)
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

func (m Message) body() ([]byte, error) {
	n := notice{Type: "hodi.notice", Time: m.Time, Text: m.Subject + "\n" + m.Text}
	if len(m.Items) == 0 {
		n.Type = "hodi.test"
	}
	n.Data.Edge, n.Data.Subject, n.Data.Items = m.Edge, m.Subject, m.Items
	return json.Marshal(n)
}
