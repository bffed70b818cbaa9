package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/hodihq/hodi/client/web"
	"github.com/hodihq/hodi/daemon/sidecar/pages"
)

// pages serves what people see, and the module that their pages import.
func (s *Sidecar) pages(anyone func(string, handler)) {
	phone := ""
	if u, err := url.Parse(s.config.PhoneURL); s.config.Dev && err == nil && u.Host != "" {
		phone = u.Scheme + "://" + u.Host
	}
	anyone("GET /{$}", page(pages.Files, "index.html", pages.Policy(phone)))
	anyone("GET /pay/{session}", page(pages.Files, "checkout.html", pages.Policy("")))
	anyone("GET /till", page(pages.Files, "till.html", pages.Policy("")))
	_ = fs.WalkDir(pages.Files, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			anyone("GET /"+name, file(pages.Files, name))
		}
		return err
	})
	// A page of any origin may import these: they are the same for everybody and hold nothing of ours.
	for _, name := range []string{"client.js", "react.js"} {
		module := file(web.Files, name)
		anyone("GET /"+name, func(w http.ResponseWriter, r *http.Request) *problem {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			return module(w, r)
		})
	}
	if s.config.Dev && s.config.PhoneURL != "" {
		anyone("GET /phone", func(w http.ResponseWriter, r *http.Request) *problem {
			http.Redirect(w, r, s.config.PhoneURL, http.StatusFound)
			return nil
		})
	}
}

// page serves a page of ours under its policy.
func page(files fs.FS, name, policy string) handler {
	serve := file(files, name)
	return func(w http.ResponseWriter, r *http.Request) *problem {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "SAMEORIGIN")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		return serve(w, r)
	}
}

// The types of our files. The system's table may say otherwise, and a module of the wrong type does not run.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".json": "application/json", ".woff2": "font/woff2",
}

// file serves one embedded file. It is asked for again every time, and sent only if it changed: a shop's till that stays
// open for months must not mix the modules of two versions.
func file(files fs.FS, name string) handler {
	content, err := fs.ReadFile(files, name)
	kind := contentTypes[path.Ext(name)]
	if kind == "" {
		kind = "application/octet-stream"
	}
	sum := sha256.Sum256(content)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return func(w http.ResponseWriter, r *http.Request) *problem {
		if err != nil {
			return problemf(http.StatusNotFound, "not-found", "%s is not part of this build", strings.TrimPrefix(name, "/"))
		}
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", etag)
		if noneMatch(r, etag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		h.Set("Content-Type", kind)
		h.Set("Content-Length", strconv.Itoa(len(content)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(content)
		}
		return nil
	}
}
