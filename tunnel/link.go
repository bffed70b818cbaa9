package tunnel

import "time"

// Link is one link as the Server sees it.
type Link struct {
	Endpoint   string
	Instance   [16]byte
	Generation uint64 // grows with every link of the endpoint; the greatest is the one that counts
	Remote     string
	Since      time.Time
	Expires    time.Time // when the certificate ends that it began with; its sidecar may have another by now
	Sent       uint64    // everything up to it was sent, and behind a backlog perhaps some; where it began, if nothing was
	Acked      uint64    // the last entry that the sidecar has acknowledged on this link, its Hello included; 0 if none
	Transport  string    // what carries it: TransportQUIC or TransportWebSocket
	Rival      time.Time // when two machines were last seen to use this endpoint's identity; zero: never

	Canary    time.Duration // how often canaries are sent, as the sidecar asked; 0: it did not, and so nobody knows whether callbacks get through
	Delivered time.Time     // when the sidecar last acknowledged something, over this link or one before; zero: never since this Server began
}

// Delivering reports whether it is known that callbacks get through: the link lives, and if canaries are sent, one or a
// callback was acknowledged not long ago.
func (l Link) Delivering(now time.Time) bool { return proved(l.Canary, l.Delivered, now) }
