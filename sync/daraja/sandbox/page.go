package sandbox

import (
	"embed"
	"net/http"
)

// files are the phone's page.
//
//go:embed page
var files embed.FS

// policy lets the page load what is its own and nothing else, and be framed by pages on this machine.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'self' http://127.0.0.1:* http://localhost:*"

func servePage(mux *http.ServeMux) {
	serve := func(route, name, kind string) {
		mux.HandleFunc("GET "+route, func(w http.ResponseWriter, r *http.Request) {
			body, err := files.ReadFile("page/" + name)
			if err != nil {
				http.NotFound(w, r)
				return
			}
			h := w.Header()
			h.Set("Content-Type", kind)
			h.Set("Cache-Control", "no-cache")
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			w.Write(body)
		})
	}
	const html, script = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
	serve("/{$}", "index.html", html)
	serve("/phone", "index.html", html)
	serve("/phone/phone.css", "phone.css", "text/css; charset=utf-8")
	serve("/phone/phone.js", "phone.js", script)
	serve("/phone/drawer.js", "drawer.js", script)
	serve("/phone/words.js", "words.js", script)
	serve("/phone/icon.svg", "icon.svg", "image/svg+xml")
}
