// Package daraja is Safaricom's vocabulary: its callbacks, its result codes, its errors, and a client of its API.
//
// In the order things happen: client.go says who asks, tokens.go gets the right to, push.go sends a prompt to a phone,
// call.go is one request and its answer, errors.go says what an answer means for the money, callback.go reads what comes
// back, receipt.go what a receipt tells and which other notices bring it, query.go asks when nothing does, and outcome.go
// says in one word and in one sentence what it all came to.
package daraja

import "time"

// Nairobi is the time zone of every date in Daraja. Kenya has kept UTC+3 without daylight saving since 1960, so no zone
// database is needed.
var Nairobi = time.FixedZone("EAT", 3*60*60)

// timestampForm is how Daraja writes a time, always Nairobi's.
const timestampForm = "20060102150405"
