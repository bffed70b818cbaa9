package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// forgetCustomer reads whom from standard input: what is on a command line, others see and shells remember.
func forgetCustomer(c *cli.Context) error {
	if c.NArg() > 0 {
		return errors.New("payments forget: give the number on standard input, not as an argument: others see those, and the shell remembers them")
	}
	if is, err := os.Stdin.Stat(); err == nil && is.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprint(c.App.ErrWriter, "Number, or id of a payment: ")
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("payments forget: %w", err)
	}
	whom := strings.TrimSpace(line)
	if whom == "" {
		return errors.New("payments forget: there is nothing on standard input: give the number, or the id of a payment")
	}
	body := map[string]string{"phoneNumber": whom}
	if len(whom) == 32 && strings.Trim(whom, "0123456789abcdef") == "" {
		body = map[string]string{"payment": whom}
	}
	var done struct {
		Payments, Callbacks, Left int
		Elsewhere                 []string
	}
	if err := operate(c, http.MethodPost, "/forget", body, &done); err != nil {
		return err
	}
	w := c.App.Writer
	fmt.Fprintf(w, "forgotten: %d payments, %d callbacks\n", done.Payments, done.Callbacks)
	if done.Left > 0 {
		fmt.Fprintf(w, "The number's digits stand in the database in %d other places, perhaps as part of something else: a session's id, a reason that a person gave.\n", done.Left)
	}
	for _, name := range done.Elsewhere {
		fmt.Fprintf(w, "%s in the sidecar's folder holds what it held: remove it when you do not need it.\n", name)
	}
	fmt.Fprintln(w, "Backups hold the number until they are removed; after one is restored, do this again. The edge forgets delivered callbacks after 7 days.")
	return nil
}
