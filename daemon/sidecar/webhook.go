package sidecar

import "net/http"

// webhook is the callback route of the public write-ups, for development only: the id in its address is known to the
// customer's browser, so in production anybody could post that they have paid.
//
// It answers any body alike, because Daraja's answer is none of the sender's business, and stores it: a result that comes
// before its request is known, twice, or in no readable form is a callback like any other.
func (s *Sidecar) webhook(w http.ResponseWriter, r *http.Request) *problem {
	return s.store(w, r, "", r.PathValue("session"), acknowledgement{Status: "OK", Desc: "Accepted"})
}
