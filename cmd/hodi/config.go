package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/secret"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"
)

// file is hodi.toml. Flags and environment variables of the same names go over it. Secrets are never in it: it names
// the files that hold them, relative to its own folder.
//
// Of each setting of a daemon it is said whether another value is taken while the daemon runs (live), or at its next start (start):
// see package reload.
type file struct {
	Edge      edgeSettings                 `toml:"edge"`
	Sidecar   sidecarSettings              `toml:"sidecar"`
	Sandbox   sandboxSettings              `toml:"sandbox"`
	Shortcode map[string]shortcodeSettings `toml:"shortcode"`
}

type edgeSettings struct {
	Data            string `toml:"data" reload:"start"`
	Listen          string `toml:"listen" reload:"start"`
	TunnelListen    string `toml:"tunnel-listen" reload:"start"`
	PublicURL       string `toml:"public-url" reload:"start"`
	CertificateFile string `toml:"certificate-file" reload:"start"`
	KeyFile         string `toml:"key-file" reload:"start"`
	PlainHTTP       bool   `toml:"plain-http" reload:"start"`

	ACME          bool     `toml:"acme" reload:"start"`
	ACMEAgree     bool     `toml:"acme-agree" reload:"start"`
	ACMEEmail     string   `toml:"acme-email" reload:"start"`
	ACMEDirectory string   `toml:"acme-directory" reload:"start"`
	ACMECAFile    string   `toml:"acme-ca-file" reload:"start"`
	Domain        []string `toml:"domain" reload:"start"`
	HTTPListen    string   `toml:"http-listen" reload:"start"`

	Source         string   `toml:"source" reload:"live"`
	SourceRanges   []string `toml:"source-ranges" reload:"live"`
	TrustedProxies []string `toml:"trusted-proxies" reload:"live"`
	ProxyProtocol  bool     `toml:"proxy-protocol" reload:"live"`

	KeepDelivered   int `toml:"keep-delivered" reload:"live"`   // days
	KeepUndelivered int `toml:"keep-undelivered" reload:"live"` // days
	Hold            int `toml:"hold" reload:"live"`             // MiB

	Metrics         string `toml:"metrics" reload:"start"`
	MetricsInsecure bool   `toml:"metrics-insecure" reload:"start"`

	NotifyEmail             []string `toml:"notify-email" reload:"live"`
	NotifyEmailFrom         string   `toml:"notify-email-from" reload:"live"`
	NotifySMTP              string   `toml:"notify-smtp" reload:"live"`
	NotifySMTPTLS           string   `toml:"notify-smtp-tls" reload:"live"`
	NotifySMTPUser          string   `toml:"notify-smtp-user" reload:"live"`
	NotifySMTPPasswordFile  string   `toml:"notify-smtp-password-file" reload:"live"`
	NotifySMTPCAFile        string   `toml:"notify-smtp-ca-file" reload:"live"`
	NotifyWebhook           string   `toml:"notify-webhook" reload:"live"`
	NotifyWebhookFile       string   `toml:"notify-webhook-file" reload:"live"`
	NotifyWebhookSecretFile string   `toml:"notify-webhook-secret-file" reload:"live"`
	NotifyCommand           []string `toml:"notify-command" reload:"live"` // a program and its arguments

	LogLevel string `toml:"log-level" reload:"live"`
}

type sidecarSettings struct {
	Data            string   `toml:"data" reload:"start"`
	Listen          string   `toml:"listen" reload:"start"`
	Edge            string   `toml:"edge" reload:"start"`
	EdgeWebSocket   string   `toml:"edge-websocket" reload:"start"`
	Metered         bool     `toml:"metered" reload:"start"`
	Canary          duration `toml:"canary" reload:"start"`
	DarajaURL       string   `toml:"daraja-url" reload:"live"`
	Origins         []string `toml:"origins" reload:"live"`
	Hosts           []string `toml:"hosts" reload:"live"`
	CertificateFile string   `toml:"certificate-file" reload:"start"`
	KeyFile         string   `toml:"key-file" reload:"start"`
	InsecureListen  bool     `toml:"insecure-listen" reload:"start"`

	PromptsPerPhone    int `toml:"prompts-per-phone" reload:"live"`
	PromptsPerPhoneDay int `toml:"prompts-per-phone-day" reload:"live"`
	PromptsPerSession  int `toml:"prompts-per-session" reload:"live"`
	PromptsPerTill     int `toml:"prompts-per-till" reload:"live"`
	PromptsPerTillHour int `toml:"prompts-per-till-hour" reload:"live"`

	RetainBodies   duration `toml:"retain-bodies" reload:"live"`
	RetainPayments duration `toml:"retain-payments" reload:"live"`

	Metrics         string `toml:"metrics" reload:"start"`
	MetricsInsecure bool   `toml:"metrics-insecure" reload:"start"`

	LogLevel string `toml:"log-level" reload:"live"`

	Forward           string `toml:"forward" reload:"live"`
	ForwardSecretFile string `toml:"forward-secret-file" reload:"live"`
	ForwardAtOnce     int    `toml:"forward-at-once" reload:"live"`
	ForwardInsecure   bool   `toml:"forward-insecure" reload:"live"`

	AcceptCallbacks  bool     `toml:"accept-callbacks" reload:"live"`
	PublicURL        string   `toml:"public-url" reload:"live"`
	Dev              bool     `toml:"dev" reload:"start"`
	UnknownAfter     duration `toml:"unknown-after" reload:"live"`
	FirstAsk         duration `toml:"first-ask" reload:"live"`
	QueriesPerMinute int      `toml:"queries-per-minute" reload:"live"`
}

type sandboxSettings struct {
	Data          string   `toml:"data"`
	Listen        string   `toml:"listen"`
	AckDelay      duration `toml:"ack-delay"`
	PromptDelay   duration `toml:"prompt-delay"`
	CallbackDelay duration `toml:"callback-delay"`
	PromptTimeout duration `toml:"prompt-timeout"`
}

type shortcodeSettings struct {
	Environment        string `toml:"environment" reload:"live"`
	Kind               string `toml:"kind" reload:"live"`
	Number             string `toml:"number" reload:"live"`
	Store              string `toml:"store" reload:"live"`
	ConsumerKeyFile    string `toml:"consumer-key-file" reload:"live"`
	ConsumerSecretFile string `toml:"consumer-secret-file" reload:"live"`
	PasskeyFile        string `toml:"passkey-file" reload:"live"`
	QueryAbove         *int64 `toml:"query-above" reload:"live"` // shillings
}

// duration is written as Go writes it: "90s", "2m30s".
type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

// settingsFiles is where the file may be, the one that counts first.
func settingsFiles(c *cli.Context, part string) []string {
	if named := c.String("config"); named != "" {
		return []string{named}
	}
	return []string{"hodi.toml", "/etc/hodi/" + part + ".toml", "/etc/hodi/hodi.toml"}
}

// loadFile reads the file that --config names, else hodi.toml in this folder, or that of the part (edge or sidecar) in
// /etc/hodi, if there is one. The folder is returned too: what the file names is relative to it.
func loadFile(c *cli.Context, part string) (settings file, folder string, err error) {
	for _, path := range settingsFiles(c, part) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && c.String("config") == "" {
			continue
		}
		if err != nil {
			return file{}, "", fmt.Errorf("config: %w", err)
		}
		decoder := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
		if err := decoder.Decode(&settings); err != nil {
			return settings, filepath.Dir(path), fmt.Errorf("config: %s: %s", path, explain(err))
		}
		return settings, filepath.Dir(path), nil
	}
	return file{}, ".", nil
}

// explain words what the TOML decoder found, with its line.
func explain(err error) string {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var words []string
		for _, e := range unknown.Errors {
			line, column := e.Position()
			key := e.Key()
			words = append(words, fmt.Sprintf("line %d, column %d: there is no setting %q%s", line, column, strings.Join(key, "."), meant("", key[len(key)-1], settingsOf(key[:len(key)-1]))))
		}
		return strings.Join(words, "; ")
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, column := wrong.Position()
		return fmt.Sprintf("line %d, column %d: %v", line, column, wrong)
	}
	return err.Error()
}

// settingsOf lists what may stand in a table of the file.
func settingsOf(table []string) []string {
	t := reflect.TypeFor[file]()
	for _, word := range table {
		switch t.Kind() {
		case reflect.Map: // of shortcodes, whose names are the operator's
			t = t.Elem()
		case reflect.Struct:
			i := slices.IndexFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("toml") == word })
			if i < 0 {
				return nil
			}
			t = t.Field(i).Type
		}
	}
	var names []string
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			names = append(names, f.Tag.Get("toml"))
		}
	}
	return names
}

// over puts a flag that was given (or its environment variable) over what the file says; a flag's default stands where
// neither says anything.
func over(c *cli.Context, flag string, setting *string) {
	if c.IsSet(flag) || *setting == "" {
		*setting = c.String(flag)
	}
}

func overDuration(c *cli.Context, flag string, setting *duration) {
	if c.IsSet(flag) || *setting == 0 {
		*setting = duration(c.Duration(flag))
	}
}

func overList(c *cli.Context, flag string, setting *[]string) {
	if c.IsSet(flag) || len(*setting) == 0 {
		*setting = c.StringSlice(flag)
	}
}

func overBool(c *cli.Context, flag string, setting *bool) {
	if c.IsSet(flag) {
		*setting = c.Bool(flag)
	}
}

// stateDir is where a daemon keeps its state if it was not told: the folder that systemd made for its unit, /var/lib/hodi for
// root, else the user's state folder (XDG Base Directory Specification).
func stateDir(part string) (string, error) {
	if unit, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); unit != "" {
		return unit, nil
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/hodi", part), nil
	}
	if base := os.Getenv("XDG_STATE_HOME"); base != "" {
		return filepath.Join(base, "hodi", part), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no --data was given and there is no home folder: %w", err)
	}
	return filepath.Join(home, ".local", "state", "hodi", part), nil
}

// queryAbove is, by a shortcode's name, the amount above which Daraja is asked before a success counts.
func queryAbove(tables map[string]shortcodeSettings) (map[string]push.Money, error) {
	limits := make(map[string]push.Money)
	for name, s := range tables {
		switch limit := s.QueryAbove; {
		case limit == nil:
		case *limit < 0 || *limit > 1_000_000_000:
			return nil, fmt.Errorf("config: [shortcode.%s]: query-above is %d: write shillings, as in 5000; 0 is always", name, *limit)
		default:
			limits[name] = push.Money(*limit) * 100
		}
	}
	return limits, nil
}

// shortcodes reads the [shortcode.NAME] tables and the files that they name.
func shortcodes(tables map[string]shortcodeSettings, folder string) ([]daraja.Shortcode, error) {
	var all []daraja.Shortcode
	for name, s := range tables {
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("config: [shortcode.%s]: %w", name, fmt.Errorf(format, args...))
		}
		if s.Kind == "" {
			s.Kind = daraja.KindPaybill
		}
		switch {
		case s.Environment != daraja.EnvironmentSandbox && s.Environment != daraja.EnvironmentProduction:
			return nil, wrong("environment is %q: say sandbox or production", s.Environment)
		case s.Kind != daraja.KindPaybill && s.Kind != daraja.KindTill:
			return nil, wrong("kind is %q: say paybill or till", s.Kind)
		case s.Number == "":
			return nil, wrong("number is missing: the number that customers pay to")
		case s.Kind == daraja.KindTill && s.Store == "":
			return nil, wrong("store is missing: a till's requests name the store number of its go-live")
		}
		shortcode := daraja.Shortcode{Name: name, Environment: s.Environment, Kind: s.Kind, Number: s.Number, Store: s.Store}
		for _, s := range []struct {
			setting, path string
			into          *string
		}{
			{"consumer-key-file", s.ConsumerKeyFile, &shortcode.ConsumerKey},
			{"consumer-secret-file", s.ConsumerSecretFile, &shortcode.ConsumerSecret},
			{"passkey-file", s.PasskeyFile, &shortcode.Passkey},
		} {
			if s.path == "" {
				return nil, wrong("%s is missing", s.setting)
			}
			b, err := secret.Read(within(folder, s.path))
			if err != nil {
				return nil, wrong("%s: %w", s.setting, err)
			}
			*s.into = strings.TrimSpace(string(b))
		}
		all = append(all, shortcode)
	}
	slices.SortFunc(all, func(a, b daraja.Shortcode) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// within reads a path of the config file: relative to the file's folder. A bare name that is not there is that of a
// credential, which systemd has put where this process alone finds it; who is not started by systemd (config check, say)
// finds it where systemd does.
func within(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	beside := filepath.Join(folder, path)
	if strings.ContainsAny(path, `/\`) || exists(beside) {
		return beside
	}
	for _, credential := range []string{secret.Find(path), filepath.Join(folder, "credentials", path)} {
		if credential != path && exists(credential) {
			return credential
		}
	}
	return beside
}
