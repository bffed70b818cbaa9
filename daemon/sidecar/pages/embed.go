// Package pages is what people see of a sidecar: the checkout, the till and the page that leads to them.
//
// They are plain HTML, one stylesheet and ES modules: there is nothing to build and nothing is loaded from elsewhere.
package pages

import "embed"

// Files holds index.html (served at /), checkout.html (at /pay/{session}), till.html (at /till) and assets/ (at
// /assets/). The pages import /client.js, which is package client/web.
//
//go:embed index.html checkout.html till.html assets
var Files embed.FS

// Policy is the Content-Security-Policy that the pages are written for. Frame is the origin of the pretend phone, which
// the index shows beside the checkout in dev ("" elsewhere: then nothing is framed but our own pages).
func Policy(frame string) string {
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'self'; frame-src 'self'"
	if frame != "" {
		policy += " " + frame
	}
	return policy
}
