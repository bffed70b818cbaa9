package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

// manCommand writes the manual: a page for each command, made of the same words as its help.
func manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Hidden: true, Usage: "write the pages of the manual, a file each", ArgsUsage: "DIR",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return fmt.Errorf("man: say the folder that the pages go to")
			}
			return writeManual(c.App, c.Args().First())
		},
	}
}

func writeManual(app *cli.App, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	write := func(page manPage) error {
		text := md2man.Render([]byte(page.markdown(app)))
		if err := os.WriteFile(filepath.Join(dir, page.file()), text, fs.FileMode(0o644)); err != nil {
			return fmt.Errorf("man: %w", err)
		}
		return nil
	}
	var down func(parent manPage) error
	down = func(parent manPage) error {
		if err := write(parent); err != nil {
			return err
		}
		for _, command := range parent.commands {
			if command.Hidden {
				continue
			}
			path := append(parent.path[:len(parent.path):len(parent.path)], command.Name)
			page := manPage{path, command.Usage, command.Description, command.ArgsUsage, command.Subcommands, command.Flags}
			if err := down(page); err != nil {
				return err
			}
		}
		return nil
	}
	return down(manPage{[]string{"hodi"}, app.Usage, app.Description, "", app.Commands, app.Flags})
}

// manPage is the page of one command.
type manPage struct {
	path                          []string // "hodi", "edge", "backup"
	usage, description, arguments string
	commands                      []*cli.Command
	flags                         []cli.Flag
}

func (p manPage) file() string { return strings.Join(p.path, "-") + ".1" }

// markdown is the page as md2man takes it: man-pages(7) names the sections and their order.
func (p manPage) markdown(app *cli.App) string {
	var b strings.Builder
	name := strings.Join(p.path, " ")
	title := strings.ToUpper(strings.Join(p.path, "-"))
	fmt.Fprintf(&b, "%% %q \"1\" \"\" \"hodi %s\" \"Hodi\"\n\n", title, app.Version)
	fmt.Fprintf(&b, "# NAME\n\n%s - %s\n\n", strings.Join(p.path, "-"), unmarked(p.usage))

	fmt.Fprintf(&b, "# SYNOPSIS\n\n**%s**", name)
	if len(p.path) == 1 {
		b.WriteString(" COMMAND")
	}
	if p.arguments != "" {
		fmt.Fprintf(&b, " %s", unmarked(p.arguments))
	}
	if len(p.flags) > 0 {
		b.WriteString(" [flags]")
	}
	b.WriteString("\n\n")
	if p.description != "" {
		fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n", unmarked(p.description))
	}

	var entries strings.Builder
	for _, command := range p.commands {
		if !command.Hidden {
			fmt.Fprintf(&entries, "**%s(1)**\n: %s\n\n", strings.Join(append(p.path[:len(p.path):len(p.path)], command.Name), "-"), unmarked(command.Usage))
		}
	}
	section(&b, "COMMANDS", &entries)
	for _, f := range p.flags {
		flag := f.(cli.DocGenerationFlag)
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		placeholder, what := placeholder(flag)
		fmt.Fprintf(&entries, "**--%s**", f.Names()[0])
		if placeholder != "" {
			fmt.Fprintf(&entries, " *%s*", strings.TrimSpace(placeholder))
		}
		fmt.Fprintf(&entries, "\n: %s.", unmarked(what))
		if value := flag.GetValue(); flag.TakesValue() && value != "" && value != "[]" {
			fmt.Fprintf(&entries, " Otherwise: %s.", unmarked(value))
		}
		if names := flag.GetEnvVars(); len(names) > 0 {
			fmt.Fprintf(&entries, " Environment: %s.", unmarked(names[0]))
		}
		entries.WriteString("\n\n")
	}
	section(&b, "OPTIONS", &entries)

	fmt.Fprintf(&b, "# EXIT STATUS\n\n0 if it did what it was asked, 1 if not; standard error says why.\n\n")
	if len(p.path) > 1 {
		fmt.Fprintf(&b, "# SEE ALSO\n\n**%s(1)**\n", strings.Join(p.path[:len(p.path)-1], "-"))
	} else {
		fmt.Fprintf(&b, "# FILES\n\n*/etc/hodi/hodi.toml*\n: settings, where no file is named\n\n*/var/lib/hodi/edge*, */var/lib/hodi/sidecar/NAME*\n: the states of the daemons; for one who is not root, below *$XDG_STATE_HOME/hodi*\n")
	}
	return b.String()
}

func section(b *strings.Builder, title string, entries *strings.Builder) {
	if entries.Len() > 0 {
		fmt.Fprintf(b, "# %s\n\n%s", title, entries)
		entries.Reset()
	}
}

// unmarked keeps a text from being read as Markdown.
func unmarked(text string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "\\<", ">", "\\>", "`", "\\`", "#", "\\#").Replace(text)
}
