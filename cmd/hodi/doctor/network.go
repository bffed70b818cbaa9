package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/tunnel"
)

const (
	nameWithin    = 5 * time.Second
	tcpWithin     = 5 * time.Second
	visitWithin   = 10 * time.Second
	mostAddresses = 8
	leastPacket   = 1280 // bytes: QUIC's first packet is 1200, and there is something around it
)

// way is how the sidecar reaches its edge, and what was met on it.
type way struct {
	client   *tunnel.Client
	edge     string   // host:port for QUIC
	web      string   // and for a WebSocket
	proxy    *url.URL // on the way of the latter; nil: none
	proxyVar string   // that says so

	resolver *net.Resolver

	nameErr, tcpErr, webErr, quicErr error // quicErr: of the first address, if none answers
	addresses                        []netip.Addr
	dead                             []string // of them, those that do not answer over QUIC where another does
	tcpTook, nameTook                time.Duration
	tcpTo                            string
	overWeb, overQUIC                tunnel.Visit
	packet                           int // bytes, that the way takes at a time; 0: not known
}

func (s Sidecar) way(p *sidecar.Passport) *way {
	w := &way{edge: cmp.Or(s.Edge, p.Edge), resolver: cmp.Or(s.Resolver, net.DefaultResolver)}
	w.web = cmp.Or(s.WebSocket, w.edge)
	w.client = &tunnel.Client{
		Edge: w.edge, WebSocket: s.WebSocket, TLS: p.TLS, Proxy: s.Proxy, Logger: slog.New(slog.DiscardHandler),
		Dial: (&net.Dialer{Resolver: w.resolver}).DialContext,
	}
	if s.Proxy != nil {
		w.proxy, _ = s.Proxy(&url.URL{Scheme: "https", Host: w.web})
	}
	return w
}

// explore goes all ways at once: one that leads nowhere takes its time to say so.
func (w *way) explore(ctx context.Context) {
	w.lookUp(ctx)
	var both sync.WaitGroup
	both.Go(func() { w.tryTCP(ctx) })
	both.Go(func() { w.tryQUIC(ctx) })
	both.Wait()
}

func (w *way) lookUp(ctx context.Context) {
	host, _, err := net.SplitHostPort(w.edge)
	if err != nil {
		w.nameErr = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nameWithin)
	defer cancel()
	began := time.Now()
	w.addresses, w.nameErr = w.resolver.LookupNetIP(ctx, "ip", host)
	w.nameTook = time.Since(began)
}

func (w *way) tryTCP(ctx context.Context) {
	w.tcpTo = w.web
	if w.proxy != nil {
		w.tcpTo = net.JoinHostPort(w.proxy.Hostname(), cmp.Or(w.proxy.Port(), map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[w.proxy.Scheme], "80"))
	}
	began := time.Now()
	dialing, cancel := context.WithTimeout(ctx, tcpWithin)
	defer cancel()
	conn, err := w.client.Dial(dialing, "tcp", w.tcpTo)
	if w.tcpTook, w.tcpErr = time.Since(began), err; err != nil {
		return
	}
	conn.Close()
	visiting, cancelVisit := context.WithTimeout(ctx, visitWithin)
	defer cancelVisit()
	w.overWeb, w.webErr = w.client.Visit(visiting, tunnel.TransportWebSocket, nil)
}

// tryQUIC goes to each of the edge's addresses: a link begins with any of them.
func (w *way) tryQUIC(ctx context.Context) {
	if w.nameErr != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, visitWithin)
	defer cancel()
	_, port, _ := net.SplitHostPort(w.edge)
	addresses := w.addresses[:min(len(w.addresses), mostAddresses)]
	visits, errs := make([]tunnel.Visit, len(addresses)), make([]error, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		all.Go(func() {
			c := &tunnel.Client{Edge: net.JoinHostPort(a.Unmap().String(), port), TLS: w.client.TLS, Logger: w.client.Logger}
			visits[i], errs[i] = c.Visit(ctx, tunnel.TransportQUIC, nil)
		})
	}
	all.Wait()
	w.quicErr = errs[0]
	for i, a := range addresses {
		if errs[i] != nil {
			w.dead = append(w.dead, a.Unmap().String())
		} else if w.overQUIC.Remote == "" {
			w.overQUIC, w.quicErr = visits[i], nil
		}
	}
	w.packet = packetOn(w.overQUIC.Remote)
}

func (w *way) quic() bool      { return w.nameErr == nil && w.quicErr == nil }
func (w *way) websocket() bool { return w.tcpErr == nil && w.webErr == nil }

// tell says what was met, and last what that means for the link.
func (w *way) tell(say func(Finding)) {
	say(w.dns())
	say(w.tcp())
	say(w.tls())
	say(w.udp())
	say(w.link())
}

const notConnected = "See whether the cable is in, or the Wi-Fi or modem connected, and whether the router gave this machine an address and a default route."

// graver is a failure where there is no other way, and a warning where there is one.
func graver(otherWay bool) Verdict {
	if otherWay {
		return Warn
	}
	return Fail
}

func (w *way) dns() Finding {
	f := Finding{Check: "DNS", Verdict: OK}
	host, _, err := net.SplitHostPort(w.edge)
	switch {
	case err != nil:
		f.Found = fmt.Sprintf("%q is no address of an edge", w.edge)
		return refused(f, "Write HOST:PORT into the setting edge, or leave it out: the join code said where the edge is.")
	case w.nameErr != nil:
		dns, _ := errors.AsType[*net.DNSError](w.nameErr)
		f.Verdict = graver(w.websocket())
		if dns != nil && dns.IsNotFound {
			f.Found = fmt.Sprintf("there is no machine of the name %s", host)
			f.Do = "See whether the name is spelt right and still registered. If the edge has another name now, set edge to it, or join again: hodi edge invite there, hodi join --replace here."
			f.Commands = []string{"getent hosts " + host}
			return f
		}
		if dns != nil && strings.Contains(dns.Err, "unreachable") { // the error beneath is a text
			f.Found = fmt.Sprintf("nobody could be asked where %s is, for this machine is not connected", host)
			f.Do, f.Commands = notConnected, []string{"ip addr", "ip route"}
			return f
		}
		f.Found = fmt.Sprintf("nobody could be asked where %s is: %s", host, plainly(w.nameErr))
		f.Do = "The resolver of this machine, or its way to the internet, does not work. See which resolver it asks, and whether the router answers."
		f.Commands = []string{"cat /etc/resolv.conf", "getent hosts " + host}
		return f
	}
	if _, err := netip.ParseAddr(host); err == nil {
		f.Found = host + " is an address: there is no name to look up"
		return f
	}
	var all []string
	for _, a := range w.addresses {
		all = append(all, a.Unmap().String())
	}
	f.Found = fmt.Sprintf("%s is %s (%s)", host, strings.Join(all, ", "), milli(w.nameTook))
	f.Figures = map[string]float64{"lookupMs": w.nameTook.Seconds() * 1000}
	return f
}

func (w *way) tcp() Finding {
	f := Finding{Check: "TCP", Verdict: OK}
	to := w.tcpTo
	if w.proxy != nil {
		to = "the proxy " + w.tcpTo
	}
	if w.tcpErr == nil {
		f.Found = fmt.Sprintf("%s answers (%s)", to, milli(w.tcpTook))
		f.Figures = map[string]float64{"connectMs": w.tcpTook.Seconds() * 1000}
		return f
	}
	f.Verdict = graver(w.quic())
	_, port, _ := net.SplitHostPort(w.tcpTo)
	switch o := tunnel.ObstacleOf(w.tcpErr); {
	case o == tunnel.ObstacleName && w.proxy == nil:
		return skipped(f.Check, "it is not known where the edge is")
	case w.proxy != nil:
		f.Found = to + " does not answer: " + plainly(w.tcpErr)
		f.Do = fmt.Sprintf("Mend or remove %s: it says that there is a proxy.", cmp.Or(w.proxyVar, "the setting of the proxy"))
	case o == tunnel.ObstacleRefused:
		f.Found = to + " refuses: nobody listens on that port there, or a firewall says so"
		f.Do = fmt.Sprintf("On the edge's machine run hodi doctor: it says whether the edge listens. If it does, let TCP port %s in at its firewall.", port)
	case o == tunnel.ObstacleSilent || isTimeout(w.tcpErr):
		f.Found = fmt.Sprintf("%s does not answer within %s", to, tcpWithin)
		f.Do = fmt.Sprintf("See whether the edge's machine runs, and have TCP port %s let in at its firewall, and out of this network.", port)
	case o == tunnel.ObstacleNoWay:
		f.Found = "this machine knows no way to " + to
		f.Do, f.Commands = notConnected, []string{"ip addr", "ip route"}
	default:
		f.Found = to + ": " + plainly(w.tcpErr)
		f.Do = "On the edge's machine run hodi doctor."
	}
	return f
}

// tls is the handshake that a link over a WebSocket begins with, and the edge's word whether it would be let in.
func (w *way) tls() Finding {
	f := Finding{Check: "TLS", Verdict: OK}
	if w.tcpErr != nil {
		return skipped(f.Check, "there is no TCP connection")
	}
	if w.webErr == nil {
		f.Found = fmt.Sprintf("our edge answers and lets this sidecar in, over a WebSocket (%s); its certificate ends %s", milli(w.overWeb.Took), w.overWeb.Ends.UTC().Format(time.DateOnly))
		f.Figures = map[string]float64{"handshakeMs": w.overWeb.Took.Seconds() * 1000}
		return f
	}
	f.Verdict = graver(w.quic())
	w.obstacle(&f, w.webErr)
	if tunnel.ObstacleOf(w.webErr) == tunnel.ObstacleForeign && w.quic() {
		f.Do = "The link goes over QUIC, and has no other way if UDP fails. A proxy in front of the edge has to pass the name tunnel.hodi.internal through, or the setting edge-websocket say where the edge takes WebSockets: docs/operate.md, \"Sidecars without UDP\"."
	}
	return f
}

// udp is the real handshake of QUIC, with the identity that the link has.
func (w *way) udp() Finding {
	f := Finding{Check: "QUIC", Verdict: OK}
	if w.nameErr != nil {
		return skipped(f.Check, "it is not known where the edge is")
	}
	if w.quicErr == nil {
		f.Found = fmt.Sprintf("our edge answers at %s, and lets this sidecar in (%s)", w.overQUIC.Remote, milli(w.overQUIC.Took))
		f.Figures = map[string]float64{"handshakeMs": w.overQUIC.Took.Seconds() * 1000}
		if w.packet > 0 {
			f.Found += fmt.Sprintf("; packets of up to %d bytes pass", w.packet)
			f.Figures["packetBytes"] = float64(w.packet)
		}
		if w.packet > 0 && w.packet < leastPacket {
			f.Verdict = Warn
			f.Do = fmt.Sprintf("QUIC needs packets of %d bytes on all of the way. Enlarge the MTU of the tunnel or VPN that this machine goes through.", leastPacket)
			f.Commands = []string{"ip link"}
		}
		if len(w.dead) > 0 {
			f.Verdict = Warn
			f.Found += "; but not at " + strings.Join(w.dead, ", ")
			f.Do = "Each dial picks one of the name's addresses, so some links begin late. Take the address that leads nowhere out of the DNS, or mend the way to it (often it is that of IPv6)."
		}
		return f
	}
	_, port, _ := net.SplitHostPort(w.edge)
	f.Verdict = graver(w.websocket())
	switch o := tunnel.ObstacleOf(w.quicErr); o {
	case tunnel.ObstacleSilent:
		f.Found = fmt.Sprintf("%s does not answer over UDP: it is probably blocked on the way", w.edge)
		f.Do = fmt.Sprintf("Ask whoever runs this network for UDP port %s out to be opened, and on the edge's machine run hodi doctor: UDP port %s has to be let in there.", port, port)
	case tunnel.ObstacleRefused:
		f.Found = fmt.Sprintf("%s refuses UDP: it is blocked on the way, or no edge listens there", w.edge)
		f.Do = fmt.Sprintf("On the edge's machine run hodi doctor: it says whether the edge listens. If it does, ask whoever runs this network for UDP port %s out to be opened.", port)
	default:
		if o != tunnel.ObstacleNoWay {
			f.Verdict = Fail
		}
		w.obstacle(&f, w.quicErr)
	}
	return f
}

// obstacle words what either transport may meet.
func (w *way) obstacle(f *Finding, err error) {
	switch tunnel.ObstacleOf(err) {
	case tunnel.ObstacleForeign:
		f.Verdict = cmp.Or(f.Verdict, Fail)
		f.Found = "who answers is not the edge that this sidecar has joined, by its certificate"
		f.Do = "If the edge was made anew, join it again. If not, somebody is in between, or the name leads to another machine: do not join there."
		f.Commands = []string{"hodi edge invite SHOP    # on the edge", "sudo hodi join --replace    # here"}
	case tunnel.ObstacleUnauthorized:
		f.Verdict = Fail
		why := plainly(err)
		if strings.Contains(why, "tls: ") { // an alert, which says nothing to people
			why = "its certificate is not one that this edge gave"
		}
		f.Found = "the edge does not let this sidecar in: " + why
		f.Do = "Somebody revoked it, or another machine has joined in its place. If this is the one that shall have the shop's callbacks, join again."
		f.Commands = []string{"hodi edge invite SHOP    # on the edge", "sudo hodi join --replace    # here"}
	case tunnel.ObstacleExpired:
		f.Verdict = Fail
		f.Found = "this sidecar's certificate has expired"
		f.Do = "A sidecar that runs renews it by itself: start it."
		f.Commands = []string{"sudo systemctl start hodi-sidecar"}
	case tunnel.ObstacleNoWay:
		f.Found = "this machine knows no way there"
		f.Do, f.Commands = notConnected, []string{"ip addr", "ip route"}
	case tunnel.ObstacleClock:
		f.Verdict = Fail
		f.Found = "the edge's certificate is not of the time that this machine's clock shows, " + time.Now().UTC().Format("2006-01-02 15:04") + " UTC"
		f.Do, f.Commands = "Set the clock.", setClock
	case tunnel.ObstacleVersion:
		f.Verdict = Fail
		f.Found = "the edge speaks another version: " + plainly(err)
		f.Do, f.Commands = "Install the newest hodi on both machines.", []string{"hodi --version"}
	case tunnel.ObstacleProxy:
		f.Found = "the proxy does not take the name and password that it was given"
		f.Do = fmt.Sprintf("Correct them in %s.", cmp.Or(w.proxyVar, "the setting of the proxy"))
	case tunnel.ObstacleBusy:
		f.Found = "the edge is there, and cannot serve now: " + plainly(err)
		f.Do = "It is being started anew, or its disk is full: run hodi doctor again in a minute, and if it stays so, on the edge's machine."
	case tunnel.ObstacleSilent:
		f.Found = "the port is open, and no edge answers there"
		f.Do = "On the edge's machine run hodi doctor. If the edge is well, something on the way holds its answers back: a firewall that looks into TLS, or a proxy."
	default:
		f.Found = plainly(err)
		f.Do = "On the edge's machine run hodi doctor."
		if w.proxy != nil {
			f.Do = "See whether the proxy lets connections to " + w.web + " through."
		}
	}
}

// link is what it all means.
func (w *way) link() Finding {
	f := Finding{Check: "link", Verdict: OK}
	switch {
	case w.quic() && w.websocket():
		f.Found = "it goes over QUIC, and over a WebSocket if UDP should fail"
	case w.quic():
		f.Found = "it goes over QUIC. There is no other way if UDP should fail, see above"
	case w.websocket():
		_, port, _ := net.SplitHostPort(w.edge)
		f.Verdict = Warn
		f.Found = "the link will go over a WebSocket, for QUIC does not work"
		if w.proxy != nil {
			f.Found = "the link will go over a WebSocket through the proxy " + w.tcpTo + ", for QUIC does not work"
		}
		f.Do = fmt.Sprintf("It works, and is slower where packets are lost. Ask for UDP %s out to be opened: the link moves to QUIC by itself.", port)
	default:
		f.Found = "there is no way to the edge: callbacks wait there, and come when there is one"
		return refused(f, "Do what the lines above say, from the first that failed on.")
	}
	return f
}

// plainly is an error without the words that say where in the program it is from.
func plainly(err error) string {
	text := err.Error()
	for _, noise := range []string{"tunnel: visit: ", "tunnel: ", "not let in: "} {
		text = strings.TrimPrefix(text, noise)
	}
	if closed, ok := strings.CutPrefix(text, "closed by the other end: "); ok {
		text = closed
	}
	return text
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
