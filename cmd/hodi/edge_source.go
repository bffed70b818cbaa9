package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/urfave/cli/v2"
)

// sourceFlags are what an operator may say about where callbacks come from.
func sourceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "source", Value: string(edge.SourceFlag), Usage: "`POLICY` for callbacks from elsewhere than Safaricom: flag them, enforce that they are not believed, or off", EnvVars: []string{"HODI_EDGE_SOURCE"}},
		&cli.StringSliceFlag{Name: "source-ranges", Usage: "Safaricom posts from `RANGE` too: an address, or many (CIDR); again for more", EnvVars: []string{"HODI_EDGE_SOURCE_RANGES"}},
		&cli.StringSliceFlag{Name: "trusted-proxies", Usage: "believe proxies in `RANGE` when they say for whom they speak; again for more", EnvVars: []string{"HODI_EDGE_TRUSTED_PROXIES"}},
		&cli.BoolFlag{Name: "proxy-protocol", Usage: "trusted proxies begin each connection with a PROXY header", EnvVars: []string{"HODI_EDGE_PROXY_PROTOCOL"}},
	}
}

func overSource(c *cli.Context, s *edgeSettings) {
	over(c, "source", &s.Source)
	overList(c, "source-ranges", &s.SourceRanges)
	overList(c, "trusted-proxies", &s.TrustedProxies)
	overBool(c, "proxy-protocol", &s.ProxyProtocol)
}

// setSource puts the settings into an edge's Config.
func setSource(config *edge.Config, s edgeSettings, logger *slog.Logger) (err error) {
	config.Source = edge.SourcePolicy(s.Source)
	if config.Ranges, err = ranges("source-ranges", s.SourceRanges); err != nil {
		return err
	}
	if config.Proxies, err = ranges("trusted-proxies", s.TrustedProxies); err != nil {
		return err
	}
	if config.ProxyHeader = s.ProxyProtocol; config.ProxyHeader && len(config.Proxies) == 0 {
		return errors.New("edge: proxy-protocol is believed from trusted-proxies only, and there are none: name yours")
	}
	if s.PlainHTTP && len(config.Proxies) == 0 && config.Source != edge.SourceOff {
		if config.Source == edge.SourceEnforce {
			return errors.New("edge: source is enforce and a proxy has the certificate: every callback comes from that proxy, and none would be believed. " +
				"Name it in trusted-proxies, and have it set X-Forwarded-For")
		}
		logger.Warn("every callback comes from the proxy that has the certificate, and will be flagged: name it in trusted-proxies, or set source to off")
	}
	return nil
}

// ranges reads addresses and ranges of them.
func ranges(setting string, list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if !strings.Contains(text, "/") {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("edge: %s: %q is neither an address nor a range like 192.0.2.0/24", setting, text)
		}
		if p.Masked() != p {
			return nil, fmt.Errorf("edge: %s: %s means all of %s: write that, or one address without its slash", setting, text, p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}
