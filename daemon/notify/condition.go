package notify

import "time"

// Kind is what may be so.
type Kind string

// The kinds.
const (
	Silent      Kind = "silent"            // callbacks do not get through to a sidecar
	Suspect     Kind = "suspect"           // a sidecar has not believed callbacks: counted
	Disk        Kind = "disk"              // the edge's disk cannot store, or soon cannot
	Full        Kind = "full"              // what is kept for a sidecar that does not fetch it takes more than half of its share
	Certificate Kind = "certificate"       // one ends before long
	Ended       Kind = "certificate-ended" // one has ended
)

// Phase is how sure it is.
type Phase int

// The phases. Of a condition that is not mentioned at all it is sure that it is no more.
const (
	Lasts  Phase = iota // it is so
	Unsure              // it may be: reason enough neither to begin it nor to end it
	Moot                // nobody wants to hear of it any more, not even that it has ended
)

// Condition is something that a person should know of while it lasts.
type Condition struct {
	Kind    Kind
	Subject string // an endpoint; "": the edge itself
	Phase   Phase
	Since   time.Time // when it began, as far as is known
	Ends    time.Time // of a certificate
	Detail  string    // a sentence with no full stop: in which way it is so
	// Count is how many there are of a kind that is counted. More than before is news; that there are no more of them, and when
	// the condition is not mentioned, is none.
	Count uint64
}

// counted reports whether a kind tells of something that happens, rather than lasts.
func (k Kind) counted() bool { return k == Suspect }

// gather is how long the first of a kind waits for others to be told with it: when an edge was cut off, its sidecars are found to
// be silent within a minute, as each of them was last heard.
func (k Kind) gather() time.Duration {
	if k == Silent {
		return time.Minute
	}
	return 0
}
