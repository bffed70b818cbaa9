package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/urfave/cli/v2"
)

// inviteEndpoint prints a join code, and nothing else on standard output: it may be piped to where it is used.
func inviteEndpoint(c *cli.Context) error {
	name := c.Args().First()
	path := "/endpoints/" + url.PathEscape(name) + "/invite"
	if c.Bool("revoke") {
		if err := admin(c, http.MethodDelete, path, nil, new(struct{})); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "the join code of endpoint %s is revoked\n", name)
		return nil
	}
	if c.Duration("for") < time.Second {
		return errors.New("edge invite: --for is how long the code is good: a second at least")
	}
	body := map[string]any{"edge": c.String("edge"), "seconds": int64(c.Duration("for") / time.Second)}
	var made struct {
		Code, Edge, Callback string
		Expires              time.Time
		New                  bool
	}
	if err := admin(c, http.MethodPost, path, body, &made); err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, made.Code)
	what := "endpoint   " + name
	if made.New {
		what += " (new)"
	}
	fmt.Fprintf(c.App.ErrWriter, `
%s
callbacks  %s
edge       %s
good       until %s, once

Whoever has this code first is the shop: carry it where nobody reads along. In
the shop: hodi join, paste the code, Enter.
To take it back: hodi edge invite --revoke %s
`, what, made.Callback, made.Edge, made.Expires.Local().Format("2006-01-02 15:04:05"), name)
	return nil
}

func revokeSidecar(c *cli.Context) error {
	e, err := endpointNamed(c, c.Args().First())
	if err != nil {
		return err
	}
	if err := admin(c, http.MethodDelete, "/endpoints/"+url.PathEscape(e.Name)+"/sidecar", nil, new(struct{})); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "the sidecar of endpoint %s is revoked: its link has ended, and it is not let in again.\n", e.Name)
	paragraph(c.App.Writer, "Callbacks to the endpoint's addresses are kept for the sidecar that joins next (hodi edge invite "+e.Name+
		"). If whoever has the old machine may know the addresses, add a key, tell Safaricom, and retire the old one.")
	return nil
}
