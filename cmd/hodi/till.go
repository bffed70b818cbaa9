package main

import (
	"fmt"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
)

func tillCommand() *cli.Command {
	data := sidecarData()
	return &cli.Command{
		Name:  "till",
		Usage: "the devices that may see payments and ask for them: invite, list, revoke",
		Subcommands: []*cli.Command{
			{
				Name: "invite", Usage: "print a code that lets one device in", ArgsUsage: "[NAME]",
				Description: "Open /till on the device, and type the code there. It is good for ten minutes, once. Give the device a name by which you will know it in hodi till list.",
				Flags:       []cli.Flag{data},
				Action:      inviteTill,
			},
			{Name: "list", Usage: "list the devices that were let in", Flags: []cli.Flag{data}, Action: listTills},
			{
				Name: "revoke", Usage: "let a device in no more, and close what it has open", ArgsUsage: "NUMBER",
				Flags:  []cli.Flag{data},
				Action: taking(1, "the number of one till: hodi till list has them", revokeTill),
			},
		},
	}
}

func inviteTill(c *cli.Context) error {
	if c.NArg() > 1 {
		return fmt.Errorf("till invite: a name of several words needs quotation marks: hodi till invite %q", "Front desk")
	}
	var invited struct {
		Code, URL string
		Until     time.Time
	}
	if err := operate(c, http.MethodPost, "/tills", map[string]string{"name": c.Args().First()}, &invited); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "code   %s\nopen   %s\nuntil  %s\n", invited.Code, invited.URL, invited.Until.Local().Format(time.TimeOnly))
	return nil
}

func listTills(c *cli.Context) error {
	var list struct {
		Tills []struct {
			ID            int64
			Name, State   string
			Created, Seen time.Time
			Open          int
		}
	}
	if err := operate(c, http.MethodGet, "/tills", nil, &list); err != nil {
		return err
	}
	if len(list.Tills) == 0 {
		fmt.Fprintln(c.App.Writer, "No device was let in yet: hodi till invite NAME prints a code for one.")
		return nil
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TILL\tNAME\tSINCE\tSEEN\tSTATE")
	for _, t := range list.Tills {
		state := map[string]string{"in": "let in", "idle": "not seen for long: needs a new code", "revoked": "revoked"}[t.State]
		if t.Open > 0 {
			state += ", open now"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", t.ID, plain(t.Name), t.Created.Local().Format(time.DateOnly), t.Seen.Local().Format("2006-01-02 15:04"), state)
	}
	return w.Flush()
}

func revokeTill(c *cli.Context) error {
	id, err := strconv.ParseUint(c.Args().First(), 10, 63)
	if err != nil {
		return fmt.Errorf("till revoke: %q is no number of a till: hodi till list has them", c.Args().First())
	}
	var till struct {
		Name string
		Open int
	}
	if err := operate(c, http.MethodDelete, "/tills/"+strconv.FormatUint(id, 10), nil, &till); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "till %d, %s, is revoked; %d connections were closed\n", id, plain(till.Name), till.Open)
	return nil
}
