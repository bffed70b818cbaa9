// Package enrol is how a sidecar gets its identity, and the next one: the join code that an operator carries to the shop,
// the certificate that a sidecar's edge gives it, how long that is good, and what time it is where a clock cannot be
// trusted. It sends nothing and writes nothing: package tunnel carries, the two daemons keep.
//
//	edge                                                    shop
//	hodi edge invite duka ──▶ Code ──(a person, once)──▶ hodi join
//	  keeps SecretSum          address, pin, secret          NewKey, which stays there
//	                                                         Request ──▶ wire.Join
//	  ReadRequest, Issue ◀── over a connection that has the pin ──┘
//	  └──▶ wire.Issued ──▶ the certificate: Endpoint, Check, Due
package enrol
