package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/cmd/hodi/bundle"
	"github.com/hodihq/hodi/daemon/room"
)

// What a support bundle tells of the two daemons. Endpoints, shortcodes and tills have no names here, but their place in a list.

type countFacts struct {
	State bundle.Word
	Count int64
}

type sidecarFacts struct {
	Here    bool          // there is state of it, or it was asked for
	Runs    bool          // it answers
	Why     []bundle.Word `json:",omitempty"` // it cannot be asked
	Version bundle.Word   `json:",omitzero"`
	Dev     bool

	Time, Started time.Time `json:",omitzero"`
	Goroutines    int
	CannotStore   []bundle.Word `json:",omitempty"`
	Room          *room.State   `json:",omitempty"`
	Damaged       int           // databases that were moved aside
	Callbacks     []countFacts  `json:",omitempty"`
	HeldCallbacks uint64
	HeldOldest    time.Time     `json:",omitzero"`
	Gaps          []sidecarGap  `json:",omitempty"`
	Forward       *forwardFacts `json:",omitempty"`
	ToBeAsked     int
	Silent        []silentFacts `json:",omitempty"`
	ClockWrong    bool
	Subscribers   int
	Events        uint64
	Link          *linkFacts `json:",omitempty"`

	Database databaseFacts
	Files    []fileFacts `json:",omitempty"`
}

type forwardFacts struct {
	Live                           bool
	Since, Paused, Oldest, Handled time.Time     `json:",omitzero"`
	Why                            []bundle.Word `json:",omitempty"`
	Waiting, Dead, LastStatus      int
}

type silentFacts struct {
	Since, Next time.Time `json:",omitzero"`
	Times       int
	Because     []bundle.Word `json:",omitempty"`
}

type linkFacts struct {
	Connected                  bool
	Since, Rival               time.Time `json:",omitzero"`
	Transport                  bundle.Word
	NotQUIC, Error             []bundle.Word `json:",omitempty"`
	RoundTripMs                float64
	SkewMs                     int64
	NoWordSince                time.Time   `json:",omitzero"`
	Undelivered                *uint64     `json:",omitempty"`
	Reached                    time.Time   `json:",omitzero"`
	Bytes                      *bytesToday `json:",omitempty"`
	CanarySeconds              float64
	Delivered, CertificateEnds time.Time `json:",omitzero"`
	Delivering                 *bool     `json:",omitempty"`
}

func sidecarFactsOf(c *cli.Context, p *sidecarHealth, err error) (f sidecarFacts) {
	if err != nil {
		f.Why = whyOf(err.Error())
	}
	if p == nil {
		return f
	}
	f.Here, f.Runs, f.Damaged = true, p.Running, len(p.Damaged)
	f.Database = databaseFactsOf(c.Context, p.Data, "sidecar.db")
	f.Files = filesFacts(p.Data)
	if !p.Running {
		return f
	}
	is := p.is
	f.Version, f.Dev, f.Time, f.Started, f.Goroutines = versionWord(is.Version), is.Dev, is.Time, is.Started, is.Goroutines
	f.CannotStore, f.Room, f.Gaps, f.ClockWrong = whyOf(is.Disk), is.Room, is.Gaps, is.Clock != ""
	f.Subscribers, f.Events, f.ToBeAsked = is.Subscribers, is.Head.Seq, is.Asking.Waiting
	for state, n := range is.Callbacks {
		f.Callbacks = append(f.Callbacks, countFacts{bundle.OneOf(state, "applied", "repeated", "overruled", "unmatched", "unparsed", "recorded", "held", "suspect", "forged"), n})
	}
	slices.SortFunc(f.Callbacks, func(a, b countFacts) int { return cmp.Compare(b.Count, a.Count) })
	if is.Held != nil {
		f.HeldCallbacks, f.HeldOldest = is.Held.Callbacks, is.Held.Oldest
	}
	if w := is.Forward; w != nil {
		f.Forward = &forwardFacts{w.Live, w.Since, w.Paused, w.Oldest, w.Handled, whyOf(w.Why), w.Waiting, w.Dead, w.LastStatus}
	}
	for _, s := range is.Asking.Silent {
		f.Silent = append(f.Silent, silentFacts{s.Since, s.Next, s.Times, whyOf(s.Because)})
	}
	if l := is.Link; l != nil {
		f.Link = &linkFacts{
			l.Connected, l.Since, l.Rival, transportWord(l.Transport), whyOf(l.Why), whyOf(l.Error), l.RTTMs, l.SkewMs, l.NoWordSince,
			l.Undelivered, l.Reached, l.BytesToday, l.CanarySeconds, l.Delivered, l.CertificateEnds, l.Delivering,
		}
	}
	return f
}

type edgeFacts struct {
	Here       bool
	Runs       bool
	Why        []bundle.Word `json:",omitempty"`
	Version    bundle.Word   `json:",omitzero"`
	Goroutines int

	CannotStore []bundle.Word `json:",omitempty"`
	Room        *room.State   `json:",omitempty"`
	Damaged     int
	Mishaps     []mishapFacts   `json:",omitempty"`
	Endpoints   []endpointFacts `json:",omitempty"`

	Database databaseFacts
	Files    []fileFacts `json:",omitempty"`
}

type mishapFacts struct {
	Time time.Time `json:",omitzero"`
	Act  bundle.Word
}

type endpointFacts struct {
	Connected                  bool
	Since, Rival, LastAck      time.Time `json:",omitzero"`
	Transport                  bundle.Word
	Deaf                       bool
	Stored, Delivered, Waiting uint64
	HeldBytes, LimitBytes      int64
	Lost                       int
	OldestWaiting              time.Time `json:",omitzero"`
	CertificateEnds            time.Time `json:",omitzero"`
}

func edgeFactsOf(c *cli.Context, p *edgeHealth, err error) (f edgeFacts) {
	if err != nil {
		f.Why = whyOf(err.Error())
	}
	if p == nil {
		return f
	}
	f.Here, f.Runs, f.Version, f.Goroutines = true, p.Running, versionWord(p.version), p.goroutines
	f.CannotStore, f.Room, f.Damaged = whyOf(p.Disk), p.Room, len(p.Damaged)
	for _, m := range p.Mishaps {
		f.Mishaps = append(f.Mishaps, mishapFacts{m.Time, bundle.OneOf(m.Act, "salvage", "journal lost")})
	}
	for _, e := range p.Endpoints {
		f.Endpoints = append(f.Endpoints, endpointFacts{
			e.Connected, e.Since, e.Rival, e.LastAck, transportWord(e.Transport), e.Deaf, e.Stored, e.Delivered, e.Waiting, e.Held, e.Limit, e.Lost, e.OldestWaiting, e.CertificateEnds,
		})
	}
	f.Database = databaseFactsOf(c.Context, p.Data, "edge.db")
	f.Files = filesFacts(p.Data)
	return f
}

func transportWord(s string) bundle.Word { return bundle.OneOf(s, "quic", "websocket") }

func versionWord(s string) bundle.Word {
	if s == "" || s == "development build" {
		return bundle.OneOf(s, "development build")
	}
	return bundle.Release(s)
}
