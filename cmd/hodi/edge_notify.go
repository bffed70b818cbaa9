package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/notify"
	"github.com/hodihq/hodi/daemon/secret"
)

// notifyFlags are by what ways an edge tells a person.
func notifyFlags() []cli.Flag {
	env := func(name string) []string { return []string{"HODI_EDGE_NOTIFY_" + name} }
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "notify-email", Usage: "tell a person at `ADDRESS` what somebody should see to; again for more", EnvVars: env("EMAIL")},
		&cli.StringFlag{Name: "notify-email-from", Usage: "from `ADDRESS`; if not given, the mail server's user", EnvVars: env("EMAIL_FROM")},
		&cli.StringFlag{Name: "notify-smtp", Usage: "by the mail server at `HOST:PORT`", EnvVars: env("SMTP")},
		&cli.StringFlag{Name: "notify-smtp-tls", Usage: "`HOW` TLS begins there: implicit, as on port 465, or starttls, as elsewhere", EnvVars: env("SMTP_TLS")},
		&cli.StringFlag{Name: "notify-smtp-user", Usage: "logging in there as `USER`", EnvVars: env("SMTP_USER")},
		&cli.StringFlag{Name: "notify-smtp-password-file", Usage: "whose password is in `FILE`", EnvVars: env("SMTP_PASSWORD_FILE")},
		&cli.StringFlag{Name: "notify-smtp-ca-file", Usage: "and to know the server by the certificate in `FILE` (PEM) in place of the system's authorities", EnvVars: env("SMTP_CA_FILE")},
		&cli.StringFlag{Name: "notify-webhook", Usage: "POST it to `URL`", EnvVars: env("WEBHOOK")},
		&cli.StringFlag{Name: "notify-webhook-file", Usage: "POST it to the URL in `FILE`, if that is a secret", EnvVars: env("WEBHOOK_FILE")},
		&cli.StringFlag{Name: "notify-webhook-secret-file", Usage: "signed with the secret in `FILE`", EnvVars: env("WEBHOOK_SECRET_FILE")},
		&cli.StringSliceFlag{Name: "notify-command", Usage: "run `PROGRAM` with it; again for each argument", EnvVars: env("COMMAND")},
	}
}

func overNotify(c *cli.Context, s *edgeSettings) {
	overList(c, "notify-email", &s.NotifyEmail)
	over(c, "notify-email-from", &s.NotifyEmailFrom)
	over(c, "notify-smtp", &s.NotifySMTP)
	over(c, "notify-smtp-tls", &s.NotifySMTPTLS)
	over(c, "notify-smtp-user", &s.NotifySMTPUser)
	over(c, "notify-smtp-password-file", &s.NotifySMTPPasswordFile)
	over(c, "notify-smtp-ca-file", &s.NotifySMTPCAFile)
	over(c, "notify-webhook", &s.NotifyWebhook)
	over(c, "notify-webhook-file", &s.NotifyWebhookFile)
	over(c, "notify-webhook-secret-file", &s.NotifyWebhookSecretFile)
	overList(c, "notify-command", &s.NotifyCommand)
}

// notifyWays makes the ways that the settings name, and says what is wrong with them.
func notifyWays(s edgeSettings, logger *slog.Logger) (ways []notify.Way, err error) {
	if s.NotifySMTP != "" || len(s.NotifyEmail) > 0 {
		e := &notify.Email{
			Server: s.NotifySMTP, To: s.NotifyEmail, From: s.NotifyEmailFrom, TLS: s.NotifySMTPTLS,
			User: s.NotifySMTPUser, PasswordFile: secret.Find(s.NotifySMTPPasswordFile), CAFile: s.NotifySMTPCAFile,
		}
		if s.NotifySMTP == "" {
			return nil, errors.New("edge: notify-email names whom to write to, and notify-smtp no mail server: write HOST:PORT, as in mail.example.co.ke:587")
		}
		if err := e.Check(); err != nil {
			return nil, fmt.Errorf("edge: notify-email: %w", err)
		}
		ways = append(ways, e)
	} else if s.NotifyEmailFrom != "" || s.NotifySMTPTLS != "" || s.NotifySMTPUser != "" || s.NotifySMTPPasswordFile != "" || s.NotifySMTPCAFile != "" {
		return nil, errors.New("edge: there are settings for mail, and nobody to write to: set notify-email and notify-smtp")
	}
	if s.NotifyWebhook != "" && s.NotifyWebhookFile != "" {
		return nil, errors.New("edge: notify-webhook and notify-webhook-file are the same: set one of them")
	}
	if s.NotifyWebhook != "" || s.NotifyWebhookFile != "" {
		w := &notify.Webhook{URL: s.NotifyWebhook, URLFile: secret.Find(s.NotifyWebhookFile), SecretFile: secret.Find(s.NotifyWebhookSecretFile)}
		if s.NotifyWebhookSecretFile == "" {
			return nil, errors.New("edge: notify-webhook-secret-file is missing: whoever is posted to must be able to tell us from others. (printf whsec_; openssl rand -base64 32) makes one")
		}
		if err := w.Check(); err != nil {
			return nil, fmt.Errorf("edge: notify-webhook: %w", err)
		}
		ways = append(ways, w)
	} else if s.NotifyWebhookSecretFile != "" {
		return nil, errors.New("edge: there is a notify-webhook-secret-file, and no address to post to: set notify-webhook")
	}
	if len(s.NotifyCommand) > 0 {
		w := &notify.Command{Args: s.NotifyCommand, Logger: logger}
		if err := w.Check(); err != nil {
			return nil, fmt.Errorf("edge: notify-command: %w", err)
		}
		ways = append(ways, w)
	}
	return ways, nil
}

func notifyCommand(data *cli.StringFlag) *cli.Command {
	return &cli.Command{
		Name: "notify", Usage: "the ways by which this edge tells a person: test them",
		Subcommands: []*cli.Command{{
			Name: "test", Usage: "tell a person now that this is a test, by each way, and say what came of it", Flags: []cli.Flag{data},
			Description: "Asks the edge that runs on this machine, so it is told from where it will be when it matters. Ends with 1 if a way fails, or there is none.",
			Action:      testNotify,
		}},
	}
}

func testNotify(c *cli.Context) error {
	var out struct{ Answers []notify.Answer }
	if err := admin(c, http.MethodPost, "/notify/test", nil, &out); err != nil {
		return err
	}
	if len(out.Answers) == 0 {
		return errors.New("this edge tells nobody: set notify-email, notify-webhook or notify-command, and reload it. docs/operate.md has examples")
	}
	failed := false
	for _, a := range out.Answers {
		failed = failed || a.Error != ""
		fmt.Fprintf(c.App.Writer, "%-8s  %s\n", a.Way, cmp.Or(a.Error, "handed over: see whether it comes"))
	}
	if failed {
		return errSaid
	}
	return nil
}

// notified is how the ways are, for status.
func (h *health) notified(ways []notify.WayState) {
	for _, w := range ways {
		if !w.Fails.IsZero() {
			h.wrong("nobody can be told by %s since %s: %s. To try it: hodi edge notify test", w.Way, w.Fails.Local().Format("2006-01-02 15:04"), w.Error)
		}
	}
}

// tellsBy is by what a person is told, and was when.
func tellsBy(ways []notify.WayState, now time.Time) string {
	var words []string
	for _, w := range ways {
		word := "a person by " + w.Way
		switch {
		case !w.Fails.IsZero():
			word += ", which fails"
		case !w.Sent.IsZero():
			word += ", last " + ago(now.Sub(w.Sent)) + " ago"
		}
		words = append(words, word)
	}
	return strings.Join(words, "; ")
}
