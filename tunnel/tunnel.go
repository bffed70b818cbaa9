// Package tunnel is the two ends of the link between an edge and a sidecar: Server and Client.
//
// The sidecar dials, the edge never does. A link is one ordered stream of frames (package wire says which, and what
// they mean) over a connection on which each end has shown a certificate of the edge's own CA. The link keeps nothing: behind the Server is a History, numbered and durable; behind the Client a Sink that
// commits a batch and the place where it stopped in one step. Whatever breaks, the next link begins where the Sink is.
//
//	History ──Next──▶ send ─▶ ┐                          ┌ ─▶ read ─▶ inbox ─▶ apply ──Apply──▶ Sink
//	                          │    one stream of frames  │                      │
//	History ◀──Ack─── ack ◀─ read ◀──────────────────────┘ ◀────────── Ack ◀────┘
//	                                                           Ping ◀─ heartbeat
//
// The files, in the order in which things happen: server.go and server_websocket.go listen, in server_door.go those are
// counted who have not said who they are, and in server_hall.go those who come over QUIC are taken in; client.go keeps
// a link, for which client_dial.go races tries over QUIC, its own, and over WebSocket, those of client_websocket.go,
// from where client_probe.go finds the way back; transport.go and transport_websocket.go are the connection,
// server_hello.go greets and displaces, client_link.go asks for what it lacks, server_link.go sends it, and
// client_heartbeat.go notices when the other end is no longer there, at the pace that client_pace.go has learned; while
// it is not sure, client_search.go looks for a way around a network that swallows UDP. By
// canary.go both ends know that callbacks get through, and not only Pings. client_enrol.go and
// server_enrol.go are how a sidecar gets its certificate, on a connection of its own. client_route.go watches the way
// to the edge, and client_roam.go follows when it is another one.
package tunnel

import (
	"context"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// History is what a Server sends from: numbered entries per endpoint, all of one epoch. Package journal has one.
type History interface {
	// State is where the endpoint's history is.
	State(ctx context.Context, endpoint string) (wire.State, error)
	// Entry is one entry of it, or an error if it is not held.
	Entry(ctx context.Context, endpoint string, seq uint64) (wire.Entry, error)
	// Next waits for entries behind after and returns them in order: at least one, of about maxBytes together at most.
	Next(ctx context.Context, endpoint string, after uint64, maxBytes int) ([]wire.Entry, error)
	// Append stores a canary as the newest entry, and returns its number when it is on disk.
	Append(ctx context.Context, endpoint string, canary wire.Entry) (seq uint64, err error)
	// Ack records that the sidecar has committed everything up to seq of that epoch.
	Ack(ctx context.Context, endpoint string, epoch wire.Epoch, seq uint64) error
	// Renew puts the same entries under a new epoch, greater than its own and than beyond.
	Renew(ctx context.Context, endpoint string, beyond wire.Epoch) (wire.State, error)
}

// Sink is what a Client delivers to. Its methods are called one at a time.
type Sink interface {
	// Cursor is how far the Sink has committed. It is what the next link begins with.
	Cursor(ctx context.Context) (wire.Cursor, error)
	// Welcome tells which history is about to come, before any of its entries.
	Welcome(ctx context.Context, w wire.Welcome) error
	// Apply commits what the entries do and the cursor, in one step. The cursor is behind the last of the entries, except
	// while a backlog lasts: live entries overtake it, and until it is whole the cursor stays behind the last of it. If
	// Apply fails, the link ends and the next one brings the same entries again: nothing is acknowledged that was not
	// applied, nothing is skipped. Entries may come that were applied before, also ahead of the cursor; applying them
	// again must change nothing.
	Apply(ctx context.Context, cursor wire.Cursor, entries []wire.Entry) error
}

// Endpoint is whom a certificate is for.
type Endpoint struct {
	Name     string // in the History
	Callback string // the base of its callback addresses, told in Welcome
}

// The clocks of a link.
const (
	pingEvery       = 2 * time.Second         // the client's Ping
	pingAfter       = 250 * time.Millisecond  // the client's Ping, when the edge falls silent, or a round trip if that is longer
	pingAgain       = 300 * time.Millisecond  // after a Ping that nothing answered, or three round trips
	pongWithin      = 2500 * time.Millisecond // past a Ping, with not a byte heard, the link is dead: 4.5 s after a cut at worst
	idleTimeout     = 4 * time.Second         // without any packet, over QUIC
	silentFor       = 5 * time.Second         // that a sidecar may be in which no callback is lost: told in Hello
	handshakeWithin = 3 * time.Second         // of the last packet of a handshake that is under way
	helloWithin     = 5 * time.Second         // of the handshake
	welcomeWithin   = 10 * time.Second        // of the Hello: the edge's disk may be busy
	writeWithin     = 10 * time.Second        // for every 16 KiB: 13 kbit/s
	drainWithin     = 500 * time.Millisecond  // for what is in flight when an end stops
)

// How often a sidecar asks for canaries. One that pays for its bytes asks less often: every two minutes they are 0.1 MB a
// day over QUIC and 0.2 over a WebSocket, every half minute it would be four times that, of 3 MB.
const (
	CanaryEvery   = 30 * time.Second
	CanaryMetered = 2 * time.Minute
)

// The bounds of a link.
const (
	window     = 1 << 20   // bytes of entries sent and not yet acknowledged; past it the edge waits
	sendBatch  = 256 << 10 // bytes of entries asked of the History at a time
	chunk      = 16 << 10  // bytes per write, so that a Pong need not wait for a batch
	applyMax   = 512       // entries in one Apply
	applyBytes = 1 << 20   // bytes of entries in one Apply
	maxPending = 4096      // connections that have not said who they are
	crowd      = 64        // of these; past it a handshake begins with a proof of address

	serverReadAhead = 512 // bytes: a sidecar says little
)
