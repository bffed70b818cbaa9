package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// Edge is what is known of the one on this machine. All but Dir may be missing.
type Edge struct {
	Dir                  string // its data folder
	Settings             string // where its settings are from, in words
	SettingsErr          error  // why they cannot be used
	Listen, TunnelListen string // TCP and UDP, as they are set
	LocalTCP, LocalUDP   string // and where this machine reaches them
	PublicURL            string
	PlainHTTP            bool // a proxy has the certificate
	ACME                 bool
	CertificateFile      string
	Secrets              []Secret
	Opens                func(dir string) error // says that a newer hodi has used the database in dir; nil: that is not known
	Resolver             *net.Resolver          // of names; nil: the system's
	// Runs says what an edge that runs says of itself, or that none does.
	Runs func(ctx context.Context) (endpoints string, err error)
}

// Examine makes all checks, and tells what they find, one by one.
func (e Edge) Examine(ctx context.Context, tell func(Finding)) {
	e.Resolver = cmp.Or(e.Resolver, net.DefaultResolver)
	examine(ctx, tell,
		settings(e.Settings, e.SettingsErr, "edge"), e.network, buffers,
		func(_ context.Context, say func(Finding)) { say(clock("", time.Time{}, 0)) },
		disk(e.Dir, "Safaricom waits for its answer until a callback is on the disk, and so do those that come at the same time."),
		permissions(e.Dir, e.Secrets), database(e.Dir, "edge.db", e.Opens),
	)
}

// network is whether the edge runs and has its ports, and whether the public name leads to them.
func (e Edge) network(ctx context.Context, say func(Finding)) {
	f := Finding{Check: "edge", Verdict: OK}
	endpoints, away := e.Runs(ctx)
	if f.Found = "runs; " + endpoints; away != nil && mayNotAsk(e.Dir) {
		f = skipped(f.Check, "this user may not ask whether it runs: run hodi doctor as root, or as the edge's user")
	} else if away != nil {
		f.Verdict, f.Found = Warn, "does not run on "+e.Dir
		f.Do, f.Commands = "Start it, when nothing below has failed.", []string{"sudo systemctl start hodi-edge"}
	}
	say(f)
	if away != nil {
		if f.Verdict == Skip {
			say(skipped("TCP port", "it is not known whether the edge runs"))
			say(skipped("UDP port", "it is not known whether the edge runs"))
		} else {
			say(e.wanted("TCP port", "tcp", e.Listen))
			say(e.wanted("UDP port", "udp", e.TunnelListen))
		}
		name, _ := e.name(ctx)
		say(name)
		for _, check := range []string{"public TCP", "public UDP"} {
			say(skipped(check, "the edge does not run"))
		}
		say(e.certificate(ctx, false))
		return
	}
	pin, err := e.pin()
	if err != nil {
		f := unreadable(Finding{Check: "TCP port", Found: "by what shops know this edge (" + filepath.Join(e.Dir, "ca.crt") + ") is not known"}, err)
		say(f)
		return
	}
	// All that goes over the network goes at once.
	var local, public [2]error
	var took [2]time.Duration
	var name, certificate Finding
	var here bool
	var all sync.WaitGroup
	visit := func(into *error, took *time.Duration, at, transport string) func() {
		return func() {
			visiting, cancel := context.WithTimeout(ctx, visitWithin)
			defer cancel()
			c := &tunnel.Client{Edge: at, TLS: new(tls.Config), Logger: slog.New(slog.DiscardHandler)}
			var v tunnel.Visit
			v, *into = c.Visit(visiting, transport, &pin)
			*took = v.Took
		}
	}
	var farTook [2]time.Duration
	all.Go(visit(&local[0], &took[0], e.LocalTCP, tunnel.TransportWebSocket))
	all.Go(visit(&local[1], &took[1], e.LocalUDP, tunnel.TransportQUIC))
	if host, tcp, udp := e.public(); host != "" {
		all.Go(visit(&public[0], &farTook[0], net.JoinHostPort(host, tcp), tunnel.TransportWebSocket))
		all.Go(visit(&public[1], &farTook[1], net.JoinHostPort(host, udp), tunnel.TransportQUIC))
	}
	all.Go(func() { name, here = e.name(ctx) })
	all.Go(func() { certificate = e.certificate(ctx, true) })
	all.Wait()
	say(e.port("TCP port", e.Listen, took[0], local[0]))
	say(e.port("UDP port", e.TunnelListen, took[1], local[1]))
	if !here && name.Verdict == Warn && (public[0] == nil || public[1] == nil) {
		name.Verdict, name.Do, name.Commands = OK, "", nil
		name.Found += "; something there passes it on to this edge"
	}
	say(name)
	say(e.outside("public TCP", "tcp", farTook[0], public[0], local[0]))
	say(e.outside("public UDP", "udp", farTook[1], public[1], local[1]))
	say(certificate)
}

// public is the host of the public URL, its port, and the one of sidecars; "" if there is none.
func (e Edge) public() (host, tcp, udp string) {
	u, err := url.Parse(e.PublicURL)
	if err != nil || u.Hostname() == "" {
		return "", "", ""
	}
	tcp = cmp.Or(u.Port(), map[string]string{"http": "80"}[u.Scheme], "443")
	if _, udp, err = net.SplitHostPort(e.TunnelListen); err != nil {
		udp = tcp
	}
	return u.Hostname(), tcp, udp
}

// pin is by what shops know this edge.
func (e Edge) pin() (wire.Pin, error) {
	b, err := os.ReadFile(filepath.Join(e.Dir, "ca.crt"))
	if err != nil {
		return wire.Pin{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return wire.Pin{}, errors.New("there is no certificate in it")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return wire.Pin{}, err
	}
	return wire.PinOf(ca), nil
}

// wanted looks at a port of an edge that does not run.
func (e Edge) wanted(check, network, address string) Finding {
	f := Finding{Check: check, Verdict: OK, Found: address + " is free for the edge"}
	if holder := held(network, address, "hodi-edge.socket"); holder != "" {
		f.Found = holder
		return refused(f, "End the other program, or give the edge another port. This names it.", whoHas(network, address))
	}
	if err := bind(network, address); errors.Is(err, fs.ErrPermission) {
		return skipped(check, "only root may try "+address)
	} else if bySystemd("hodi-edge.socket") {
		f.Found = "systemd has it for the edge (hodi-edge.socket)"
	} else if err != nil {
		f.Found = address + ": " + plainly(err)
		return refused(f, "See whether this machine has that address, and write another if not (listen, tunnel-listen; \":443\" is all addresses).", "ip addr")
	}
	return f
}

// port judges what answers on this machine, at a port of an edge that runs.
func (e Edge) port(check, address string, took time.Duration, err error) Finding {
	f := Finding{Check: check, Verdict: OK}
	switch o := tunnel.ObstacleOf(err); {
	case err == nil:
		f.Found = fmt.Sprintf("this edge answers on %s (%s)", address, milli(took))
		f.Figures = map[string]float64{"handshakeMs": took.Seconds() * 1000}
		return f
	case o == tunnel.ObstacleForeign:
		f.Found = "something else than this edge answers on " + address
		f.Do = "End the other program, or see whether the edge runs with other settings than these. This names who has the port."
	case o == tunnel.ObstacleRefused, o == tunnel.ObstacleSilent:
		f.Found = "nobody answers on " + address + ", and the edge runs"
		f.Do = "The edge may run with other settings than these: start it anew. If it stays so, a firewall of this machine shuts itself out. This names who has the port."
	default:
		f.Found = address + ": " + plainly(err)
		f.Do = "Its log says more."
		f.Verdict, f.Commands = Fail, []string{"sudo journalctl -u hodi-edge -n 50"}
		return f
	}
	f.Verdict = Fail
	f.Commands = []string{whoHas(strings.ToLower(check[:3]), address), "sudo systemctl restart hodi-edge"}
	return f
}

// outside goes to the port by its public name. Many routers do not let their own network in that way, so what does not answer
// is a warning.
func (e Edge) outside(check, network string, took time.Duration, err, local error) Finding {
	f := Finding{Check: check, Verdict: OK}
	host, port, udp := e.public()
	if network == "udp" {
		port = udp
	}
	at := net.JoinHostPort(host, port)
	switch o := tunnel.ObstacleOf(err); {
	case host == "":
		return skipped(check, "no public-url is set")
	case local != nil:
		return skipped(check, "the port does not answer on this machine")
	case err == nil:
		f.Found = fmt.Sprintf("%s leads to this edge (%s)", at, milli(took))
	case o == tunnel.ObstacleName:
		return skipped(check, "nobody knows where "+host+" is")
	case o == tunnel.ObstacleForeign && network == "tcp" && e.PlainHTTP:
		f.Found = "the proxy at " + at + " keeps the tunnel to itself"
		f.Verdict = Warn
		f.Do = "Sidecars that have no UDP find no way in. Have the proxy pass the name tunnel.hodi.internal through: docs/operate.md, \"Sidecars without UDP\"."
	case o == tunnel.ObstacleForeign:
		f.Found = at + " leads to something else than this edge"
		return refused(f, "Callbacks and shops go there. See where the name leads, and what stands in front of this machine.", "getent hosts "+host, "curl -sv -o /dev/null https://"+at)
	default:
		f.Verdict = Warn
		f.Found = at + " is not reached from here by its name"
		f.Do = "Let " + strings.ToUpper(network) + " port " + port + " in: at this machine's firewall, and at that of your provider or router. Where it is let in, look from another network: some routers do not let their own in by the public address."
		f.Commands = []string{"sudo ufw allow " + port + "/" + network}
		if network == "tcp" {
			f.Commands = append(f.Commands, "curl -i https://"+at+"/    # from another network")
		} else {
			f.Commands = append(f.Commands, "sudo hodi doctor    # in a shop that has joined")
		}
	}
	return f
}

// name looks where the public name leads. here reports that it is an address of this machine.
func (e Edge) name(ctx context.Context) (f Finding, here bool) {
	f = Finding{Check: "name", Verdict: OK}
	host, _, _ := e.public()
	if host == "" {
		f.Found = "no public-url is set: nobody but this machine knows the edge"
		f.Verdict, f.Do = Warn, "Write into edge.toml by what name Safaricom reaches it: public-url = \"https://hooks.example.co.ke\"."
		return f, false
	}
	ctx, cancel := context.WithTimeout(ctx, nameWithin)
	defer cancel()
	found, err := e.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		f.Found = fmt.Sprintf("%s: %s", host, plainly(err))
		return refused(f, "Neither Safaricom nor shops find this edge. At the provider of your domain, set an A record of that name to this machine's public address; it may take some minutes.", "getent hosts "+host), false
	}
	var to []string
	for i := range found {
		found[i] = found[i].Unmap()
		to = append(to, found[i].String())
	}
	f.Found = host + " is " + strings.Join(to, ", ")
	own, ours := ownAddresses()
	if slices.ContainsFunc(found, func(a netip.Addr) bool { return own[a.WithZone("")] }) {
		f.Found += ", this machine"
		return f, true
	}
	f.Verdict = Warn
	f.Found += fmt.Sprintf(", and this machine has %s", cmp.Or(strings.Join(ours, ", "), "no address"))
	f.Do = "That is right where a router or your provider passes its port on to this machine. If not, set the A record of that name to this machine's public address."
	return f, false
}

// ownAddresses are those of this machine; in words, those that others may reach.
func ownAddresses() (own map[netip.Addr]bool, words []string) {
	own = make(map[netip.Addr]bool)
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			ip := p.Addr().Unmap().WithZone("")
			own[ip] = true
			if ip.IsGlobalUnicast() {
				words = append(words, ip.String())
			}
		}
	}
	return own, words
}

// certificate looks at the public one with the eyes of Safaricom.
func (e Edge) certificate(ctx context.Context, runs bool) Finding {
	f := Finding{Check: "certificate", Verdict: OK}
	host, port, _ := e.public()
	switch {
	case host == "" || !strings.HasPrefix(e.PublicURL, "https://"):
		return skipped(f.Check, "the public URL is not an https one")
	case !runs && e.ACME:
		return skipped(f.Check, "the edge gets it when it runs")
	case !runs && e.CertificateFile == "":
		return skipped(f.Check, "the edge does not run")
	}
	var chain []*x509.Certificate
	var err error
	if runs {
		at := e.LocalTCP
		if e.PlainHTTP {
			at = net.JoinHostPort(host, port)
		}
		if chain, err = shown(ctx, at, host); err != nil && e.PlainHTTP {
			return skipped(f.Check, "the proxy at "+at+" is not reached from here: "+plainly(err))
		}
	} else {
		chain, err = chainIn(e.CertificateFile)
	}
	if err != nil || len(chain) == 0 {
		f.Found = "there is none for " + host
		if err != nil {
			f.Found += ": " + plainly(err)
		}
		return refused(f, "Safaricom can post nothing. The log says why no certificate could be had.", "sudo journalctl -u hodi-edge | grep -i certificate | tail -5")
	}
	return judgeCertificate(f, chain, host, time.Now())
}

func judgeCertificate(f Finding, chain []*x509.Certificate, host string, now time.Time) Finding {
	leaf, others := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Intermediates: others, CurrentTime: now})
	left := leaf.NotAfter.Sub(now)
	f.Figures = map[string]float64{"days": left.Hours() / 24}
	ends := leaf.NotAfter.UTC().Format(time.DateOnly)
	renew := []string{"sudo journalctl -u hodi-edge | grep -i certificate | tail -5"}
	switch {
	case now.After(leaf.NotAfter):
		f.Found = "it ended on " + ends + ": Safaricom refuses to post"
		return refused(f, "Renew it, or see why it was not renewed.", renew...)
	case errors.As(err, new(x509.HostnameError)):
		f.Found = fmt.Sprintf("it is for %s, and not for %s", cmp.Or(strings.Join(leaf.DNSNames, ", "), "nobody"), host)
		return refused(f, "Get one for the name in public-url.")
	case err != nil:
		f.Found = "no authority that this machine knows has signed it, so Safaricom may refuse to post"
		return refused(f, "Use one that the public trusts (acme = true), and put the whole chain into certificate-file (fullchain.pem, not cert.pem).")
	case left < enrol.Overdue:
		f.Verdict, f.Found = Warn, "it ends on "+ends+", and nobody has renewed it"
		f.Do, f.Commands = "Renew it, or see why it was not renewed.", renew
		return f
	}
	f.Found = fmt.Sprintf("good for %s until %s", host, ends)
	return f
}

// shown is the chain that somebody shows to who asks for a host. It is judged elsewhere, so here all is taken.
func shown(ctx context.Context, at, host string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpWithin)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

func chainIn(file string) (chain []*x509.Certificate, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	return chain, nil
}
