// Package sidecar is the daemon beside the merchant's app: it takes callbacks from the edge, keeps every payment's state,
// and tells tills, pages and the app, the moment it is known.
package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// Config says what a sidecar is. Dir and Listener are needed; for everything else the zero value will do.
type Config struct {
	Dir      string       // where the database and the keys are; made if missing
	Listener net.Listener // where the app, the pages and the subscribers come in
	Dev      bool         // development: any session id, no API key, the webhook route. Only on loopback

	Edge      string // the edge's host:port; default: no tunnel
	CAFile    string // PEM of the CA that signs the edge's certificate; needed with Edge
	TokenFile string // the token that the edge knows this sidecar by; needed with Edge

	Shortcodes []daraja.Shortcode // what customers pay to; default: none, and then nothing is ever pushed from here
	DarajaURL  string             // default: Safaricom's own host for each shortcode's environment

	Origins         []string // origins of web pages that may call: "https://shop.example"; default: only our own
	AcceptCallbacks bool     // take callbacks on POST /c/{key}/{ref} too; default: only through the tunnel
	PublicURL       string   // the address under which others reach this sidecar; default: http:// and the listener's

	UnknownAfter     time.Duration // say UNKNOWN after so much silence; default: 90 s
	FirstAsk         time.Duration // ask Daraja after so much silence; default: 30 s
	QueriesPerMinute int           // ask Daraja at most so often; default: 5

	PhoneURL, EdgeURL, SandboxURL string // dev: where the pretend phone, the edge and the pretend Safaricom are, for the pages

	ListenPacket func() (net.PacketConn, error)                               // the tunnel's socket; default: UDP on any port
	Resolve      func(ctx context.Context, hostport string) (net.Addr, error) // of Edge; default: the system's resolver
	Logger       *slog.Logger                                                 // default: silence
}

// Sidecar is one running sidecar.
type Sidecar struct{}

// Open makes ready what the sidecar needs on disk. Nothing is served and nothing is dialled before Run.
func Open(ctx context.Context, config Config) (*Sidecar, error) {
	return nil, errors.New("sidecar: not written")
}

// Run serves until ctx ends.
func (s *Sidecar) Run(ctx context.Context) error { return nil }

// Close gives back what Open took.
func (s *Sidecar) Close() error { return nil }
