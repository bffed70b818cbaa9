package doctor

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/tunnel/enrol"
)

// Sidecar is what is known of the one on this machine. All but Dir may be missing.
type Sidecar struct {
	Dir             string // its data folder
	Settings        string // where its settings are from, in words
	SettingsErr     error  // why they cannot be used
	Edge, WebSocket string // over what it knows from joining
	Proxy           func(*url.URL) (*url.URL, error)
	Environment     Environment   // where the proxy is from; nil: os.Getenv
	Resolver        *net.Resolver // of names; nil: the system's
	NeedsNoEdge     bool          // Safaricom reaches it by itself
	Shortcodes      []Shortcode
	DarajaURL       string // in place of Safaricom's own
	Secrets         []Secret
	Opens           func(dir string) error // says that a newer hodi has used the database in dir; nil: that is not known
	Listen          string
	// Runs says what a sidecar that runs says of its link, or that none does.
	Runs func(ctx context.Context) (link string, err error)
}

// Examine makes all checks, and tells what they find, one by one.
func (s Sidecar) Examine(ctx context.Context, tell func(Finding)) {
	if s.Environment == nil {
		s.Environment = os.Getenv
	}
	checks := []check{
		settings(s.Settings, s.SettingsErr, "sidecar"), s.runs, s.network, buffers,
		disk(s.Dir, "A prompt, and each batch of callbacks, waits until it is on the disk: the cashier and the customer wait so much longer."),
		permissions(s.Dir, s.Secrets), database(s.Dir, "sidecar.db", s.Opens),
	}
	for _, code := range s.Shortcodes {
		checks = append(checks, credentialsOf(code, s.DarajaURL))
	}
	if len(s.Shortcodes) == 0 {
		checks = append(checks, func(_ context.Context, say func(Finding)) {
			say(skipped("Daraja", "no [shortcode.NAME] is set: this sidecar asks for no payments"))
		})
	}
	examine(ctx, tell, checks...)
}

func settings(where string, wrong error, daemon string) check {
	return func(_ context.Context, say func(Finding)) {
		f := Finding{Check: "settings", Verdict: OK, Found: where}
		if wrong != nil {
			f.Found = wrong.Error()
			f = refused(f, "Mend what it says, and look again.", "hodi "+daemon+" config check")
		}
		say(f)
	}
}

func (s Sidecar) runs(ctx context.Context, say func(Finding)) {
	f := Finding{Check: "sidecar", Verdict: OK}
	link, err := s.Runs(ctx)
	if err == nil {
		f.Found = "runs; " + link
		say(f)
		return
	}
	if mayNotAsk(s.Dir) {
		say(skipped(f.Check, "this user may not ask whether it runs"))
		return
	}
	f.Verdict, f.Found = Warn, "does not run on "+s.Dir
	f.Do, f.Commands = "Start it, when nothing below has failed.", []string{"sudo systemctl start hodi-sidecar"}
	if holder := held("tcp", s.Listen, "hodi-sidecar.socket"); holder != "" {
		f.Verdict, f.Found = Fail, f.Found+", and "+holder
		f.Do = "End the other program, or give the sidecar another port (listen). This names it."
		f.Commands = []string{whoHas("tcp", s.Listen)}
	}
	say(f)
}

// network is who the sidecar is to its edge, all ways there, and the clock, which is held against the edge's.
func (s Sidecar) network(ctx context.Context, say func(Finding)) {
	f := Finding{Check: "identity", Verdict: OK}
	passport, err := sidecar.ReadPassport(s.Dir)
	rest := func(because string) {
		for _, name := range []string{"DNS", "TCP", "TLS", "QUIC", "link"} {
			say(skipped(name, because))
		}
		say(s.proxy(&way{web: s.Edge}))
		say(clock(unheard, time.Time{}, 0))
	}
	switch {
	case err != nil:
		f.Found = plainly(err)
		if f = unreadable(f, err); !hidden(err) {
			f.Do, f.Commands = "Mend what it says. If the file is lost, join again.", []string{"hodi edge invite SHOP    # on the edge", "sudo hodi join --replace    # here"}
		}
		say(f)
		rest("its identity cannot be read")
		return
	case passport == nil && s.NeedsNoEdge:
		say(skipped(f.Check, "Safaricom reaches this sidecar by itself (accept-callbacks)"))
		rest("there is no edge")
		return
	case passport == nil:
		f.Found = "this sidecar has joined no edge, by what is in " + s.Dir
		f.Do, f.Commands = "Have a join code made on the edge, carry it here, and join.", []string{"hodi edge invite SHOP    # on the edge", "sudo hodi join    # here"}
		if service := otherState(s.Dir); service != "" {
			f.Do = "A service's state is in " + service + ", which this user may not read: look as root. If there is no service here, have a join code made on the edge, carry it here, and join."
			f.Commands = append([]string{"sudo hodi doctor"}, f.Commands...)
		}
		f.Verdict = Fail
		say(f)
		rest("it has not joined an edge")
		return
	}
	left := time.Until(passport.Ends)
	f.Found = fmt.Sprintf("%s, at the edge %s; its certificate ends %s", passport.Endpoint, passport.Edge, passport.Ends.UTC().Format(time.DateOnly))
	if s.Edge != "" && s.Edge != passport.Edge {
		f.Found = fmt.Sprintf("%s; the setting edge says that the edge is at %s now; its certificate ends %s", passport.Endpoint, s.Edge, passport.Ends.UTC().Format(time.DateOnly))
	}
	f.Figures = map[string]float64{"certificateDays": left.Hours() / 24}
	if left < enrol.Overdue {
		f.Verdict = Warn
		f.Do = "It ought to have been renewed by now: that happens by itself while the sidecar runs and reaches the edge. See that both is so, below."
	}
	say(f)
	w := s.way(passport)
	w.proxyVar = s.Environment.proxyOf()
	w.explore(ctx)
	w.tell(say)
	say(s.proxy(w))
	visit := w.overQUIC
	if visit.Time.IsZero() {
		visit = w.overWeb
	}
	say(clock(unheard, visit.Time, visit.Skew))
}

// mayNotAsk reports whether the operator's socket of a daemon is out of reach for who runs this.
func mayNotAsk(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "admin.sock"))
	return hidden(err)
}

const unheard = "the edge's time is not known"

// otherState is where a service's state would be, if it is not where we look and we may not look there.
func otherState(dir string) string {
	const services = "/var/lib/hodi"
	if _, err := os.Stat(dir); err == nil || os.Geteuid() <= 0 {
		return ""
	}
	if _, err := os.Stat(services); err != nil {
		return ""
	}
	return services
}
