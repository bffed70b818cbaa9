// Package correlate decides which payment a callback settles, and keeps the payments.
//
// A Table is one SQLite file with a bounded cache of the hot payments in front of it. Everything that becomes known
// about a payment is a fact, and a pure function, fold, says what it changes. One writer at a time commits what changed,
// the events that say so and the place in the journal that it came from in one transaction, and publishes the events
// before the next writer may begin: the order of commits, of event numbers and of publications is one order.
//
//	Begin, Accepted, Refused ...        what we did ourselves
//	Apply, Receive ─ belief ─┐          what Daraja said
//	Answer, Silence          │          what we asked, and what never came
//	                         ▼
//	            fold(payment, fact) → payment', event
//	                         │ BEGIN IMMEDIATE ... COMMIT    payments, events, callbacks, cursor
//	                         ▼
//	              cache, then Config.Publish
//
// The files, in the order in which things happen: schema.go, statement.go and table.go open the file, session.go and request.go begin
// payments, register.go takes those of the app, journal.go and callback.go take callbacks, belief.go judges them, fold.go
// applies them, clock.go is for what never comes, tx.go writes, event.go and lookup.go read.
package correlate
