// Package web is Hodi's subscriber for browsers: an ES module, and a React hook on top of it.
//
// The sidecar serves both at its root, so a page needs no build step:
//
//	import { subscribe, initiate } from "http://127.0.0.1:8787/client.js";
package web

import "embed"

// Files holds client.js and react.js.
//
//go:embed client.js react.js
var Files embed.FS
