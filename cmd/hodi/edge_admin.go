package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/daemon/console"
)

// admin asks the edge that runs on this machine, through the socket in its state folder.
func admin(c *cli.Context, method, path string, body, into any) error {
	s, err := edgeConfig(c)
	if err != nil {
		return err
	}
	return askAdmin(c.Context, s.Data, method, path, body, into)
}

func askAdmin(ctx context.Context, data, method, path string, body, into any) error {
	err := console.Ask(ctx, data, operator(), method, path, body, into)
	switch refusal := new(console.Refusal); {
	case errors.Is(err, console.ErrAway):
		return fmt.Errorf("no edge answers in %s: start it first (hodi edge), run this as its user or as root, or name its folder with --data", data)
	case errors.As(err, &refusal):
		return fmt.Errorf("edge: %w", err)
	}
	return err
}

// operator is who runs this command, for the audit.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "operator"
}

func listEdgeAudit(c *cli.Context) error {
	return listAudit(c, "edge audit", func(path string, into any) error { return admin(c, http.MethodGet, path, nil, into) })
}

// endpoint is one as the edge lists it.
type endpoint struct {
	Name, Callback string
	Connected      bool
	Lost           int

	Stored, Delivered uint64 // how many callbacks, and how many of them the sidecar has acknowledged

	Held, Limit int64 // bytes that its sidecar has not fetched, and how many there may be
	Keys        []key

	Joined, Expires, Revoked, LastSeen, Invited, OldestUndelivered time.Time
}

// state is how the endpoint's sidecar is, in a word or two.
func (e endpoint) state() string {
	switch {
	case !e.Revoked.IsZero():
		return "REVOKED"
	case e.Connected:
		return "connected"
	case e.Joined.IsZero() && !e.Invited.IsZero():
		return "invited"
	case e.Joined.IsZero():
		return "not joined"
	case e.LastSeen.IsZero():
		return "never seen"
	}
	return "away " + ago(time.Since(e.LastSeen))
}

type key struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	URL      string    `json:"url"`
	Created  time.Time `json:"created"`
	Retired  time.Time `json:"retired,omitzero"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// endpoints lists them, and the names of databases that were damaged and moved aside.
func endpoints(c *cli.Context) (all []endpoint, damaged []string, err error) {
	var list struct {
		Endpoints []endpoint
		Damaged   []string
	}
	err = admin(c, http.MethodGet, "/endpoints", nil, &list)
	return list.Endpoints, list.Damaged, err
}

// link is one as the edge lists it.
type link struct {
	Endpoint, Remote, Transport string
	Since, Rival                time.Time

	CanarySeconds float64
	LastAck       time.Time
	Delivering    *bool // nil: of an edge from before there were canaries
}

// deaf reports whether the link has lived for a while, and callbacks are not known to get through.
func (l link) deaf() bool {
	return l.Delivering != nil && !*l.Delivering && time.Since(l.Since) > unproved(l.CanarySeconds)
}

// unproved is how long a link that is new may be without the first canary.
func unproved(canarySeconds float64) time.Duration {
	return time.Duration(3 * canarySeconds * float64(time.Second))
}

// rival reports whether two machines use the identity of this link's endpoint, as far as was seen lately.
func (l link) rival() bool { return !l.Rival.IsZero() && time.Since(l.Rival) < rivalFor }

func links(c *cli.Context) ([]link, error) {
	var list struct{ Links []link }
	err := admin(c, http.MethodGet, "/links", nil, &list)
	return list.Links, err
}

func listEndpoints(c *cli.Context) error {
	if c.Bool("json") {
		var all json.RawMessage
		if err := admin(c, http.MethodGet, "/endpoints", nil, &all); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "%s\n", all)
		return err
	}
	all, damaged, err := endpoints(c)
	if err != nil {
		return err
	}
	for _, file := range damaged {
		fmt.Fprintf(c.App.ErrWriter, "%s was damaged and is moved aside. What could be read of it is in use; see docs/operate.md, then remove it.\n", file)
	}
	if len(all) == 0 {
		fmt.Fprintln(c.App.Writer, "There are no endpoints yet: hodi edge invite SHOP makes one.")
		return nil
	}
	links, err := links(c)
	if err != nil {
		return err
	}
	rivals := make(map[string]bool)
	for _, l := range links {
		rivals[l.Endpoint] = l.rival()
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ENDPOINT\tSIDECAR\tSTORED\tDELIVERED\tWAITING\tKEYS\tLAST USED")
	for _, e := range all {
		link, live := e.state(), 0
		if rivals[e.Name] {
			link = "TWO MACHINES"
		}
		var used time.Time
		for _, k := range e.Keys {
			if k.Retired.IsZero() {
				live++
			}
			if k.LastUsed.After(used) {
				used = k.LastUsed
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%s", e.Name, link, e.Stored, e.Delivered, since(e.OldestUndelivered), live, since(used))
		if e.Lost > 0 {
			fmt.Fprintf(w, "\t%d lost by the disk", e.Lost)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range all {
		if rivals[e.Name] {
			fmt.Fprintln(c.App.Writer)
			paragraph(c.App.Writer, "Two machines use the identity of "+e.Name+" and take the link from each other, minute by minute. "+
				"End the sidecar on one of them, or give it an endpoint of its own.")
		}
	}
	return nil
}

// since is how long ago something was; "-" if it never was.
func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(time.Since(t))
}

// endpointNamed finds the endpoint that an argument names.
func endpointNamed(c *cli.Context, name string) (endpoint, error) {
	all, _, err := endpoints(c)
	if err != nil {
		return endpoint{}, err
	}
	var known []string
	for _, e := range all {
		if e.Name == name {
			return e, nil
		}
		known = append(known, e.Name)
	}
	return endpoint{}, fmt.Errorf("edge: there is no endpoint %q%s (hodi edge endpoints lists them)", name, meant("", name, known))
}

func listKeys(c *cli.Context) error {
	e, err := endpointNamed(c, c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"endpoint": e.Name, "keys": e.Keys})
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSINCE\tLAST USED\tADDRESS")
	for _, k := range e.Keys {
		address := k.URL
		if !k.Retired.IsZero() {
			address = "retired " + k.Retired.Local().Format(time.DateOnly)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.Created.Local().Format(time.DateOnly), since(k.LastUsed), address)
	}
	return w.Flush()
}

func addKey(c *cli.Context) error {
	e, err := endpointNamed(c, c.Args().First())
	if err != nil {
		return err
	}
	var added key
	if err := admin(c, http.MethodPost, "/endpoints/"+url.PathEscape(e.Name)+"/keys", map[string]string{"name": c.String("name")}, &added); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(added)
	}
	fmt.Fprintf(c.App.Writer, "key        %s\ncallbacks  %s\n", added.Name, added.URL)
	return nil
}

func retireKey(c *cli.Context) error {
	e, err := endpointNamed(c, c.Args().First())
	if err != nil {
		return err
	}
	name := c.Args().Get(1)
	var known []string
	for _, k := range e.Keys {
		known = append(known, k.Name)
	}
	if !slices.Contains(known, name) {
		return fmt.Errorf("edge: endpoint %s has no key %q%s (it has %s)", e.Name, name, meant("", name, known), strings.Join(known, ", "))
	}
	if err := admin(c, http.MethodDelete, "/endpoints/"+url.PathEscape(e.Name)+"/keys/"+url.PathEscape(name), nil, new(struct{})); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]string{"endpoint": e.Name, "retired": name})
	}
	fmt.Fprintf(c.App.Writer, "key %s of endpoint %s is retired: its address answers 404 from now on\n", name, e.Name)
	return nil
}
