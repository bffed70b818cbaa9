package main

import (
	"cmp"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"
)

// proxyFromEnvironment is the proxy that the usual variables name: HTTPS_PROXY, or ALL_PROXY in its absence, unless
// NO_PROXY names the host; in small letters too. A host of this machine has none.
func proxyFromEnvironment() func(*url.URL) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	env.HTTPSProxy = cmp.Or(env.HTTPSProxy, os.Getenv("all_proxy"), os.Getenv("ALL_PROXY"))
	return env.ProxyFunc()
}
