package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// width is that of a terminal which nobody has made wider. All that is written for people keeps within it.
const width = 80

// writeHelp writes the help of a command, or of hodi itself: what it is, how it is called, what there is to set.
func writeHelp(w io.Writer, app *cli.App, l line) {
	name, usage, description, arguments := "hodi", app.Usage, app.Description, ""
	commands, flags := app.Commands, app.Flags
	if l.command != nil {
		name = "hodi " + strings.Join(l.path, " ")
		usage, description, arguments = l.command.Usage, l.command.Description, l.command.ArgsUsage
		commands, flags = l.command.Subcommands, l.command.Flags
	}
	paragraph(w, name+": "+usage)
	if description != "" {
		fmt.Fprintln(w)
		paragraph(w, description)
	}
	fmt.Fprintln(w)
	if len(flags) > 0 || arguments != "" {
		call := name
		if l.command == nil {
			call += " COMMAND"
		}
		if arguments != "" {
			call += " " + arguments
		}
		if len(flags) > 0 {
			call += " [flags]"
		}
		fmt.Fprintf(w, "Usage: %s\n\n", call)
	}

	var rows [][2]string
	for _, command := range commands {
		if command.Hidden {
			continue
		}
		rows = append(rows, [2]string{name + " " + command.Name, command.Usage})
	}
	if len(rows) > 0 {
		table(w, rows)
		fmt.Fprintln(w)
	}

	rows = nil
	settable, example := true, ""
	for _, f := range flags {
		flag := f.(cli.DocGenerationFlag)
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		placeholder, what := placeholder(flag)
		if value := flag.GetValue(); flag.TakesValue() && value != "" && value != "[]" {
			what += " (" + value + ")"
		}
		rows = append(rows, [2]string{"--" + f.Names()[0] + placeholder, what})
		if names := flag.GetEnvVars(); len(names) == 0 {
			settable = false
		} else if example == "" {
			example = "--" + f.Names()[0] + " is " + names[0]
		}
	}
	table(w, rows)
	switch {
	case l.command == nil:
		fmt.Fprintln(w)
		paragraph(w, "hodi COMMAND --help says more about one. hodi --version says which hodi this is.")
	case settable && example != "":
		fmt.Fprintln(w)
		paragraph(w, "Each flag is a setting of hodi.toml too, and of the environment: "+example+".")
	}
}

// placeholder is the word in backquotes of a flag's usage, and the usage without the quotes.
func placeholder(flag cli.DocGenerationFlag) (name, usage string) {
	usage = flag.GetUsage()
	if _, rest, ok := strings.Cut(usage, "`"); ok {
		if word, _, ok := strings.Cut(rest, "`"); ok {
			return " " + word, strings.ReplaceAll(usage, "`", "")
		}
	}
	if flag.TakesValue() {
		return " VALUE", usage
	}
	return "", usage
}

// table writes rows of two columns, the second wrapped within the width.
func table(w io.Writer, rows [][2]string) {
	first := 0
	for _, row := range rows {
		first = max(first, len(row[0]))
	}
	for _, row := range rows {
		fmt.Fprintf(w, "  %-*s", first, row[0])
		for i, text := range wrap(row[1], width-first-4) {
			if i > 0 {
				fmt.Fprintf(w, "  %*s", first, "")
			}
			fmt.Fprintf(w, "  %s\n", text)
		}
	}
}

func paragraph(w io.Writer, text string) {
	for _, l := range wrap(text, width) {
		fmt.Fprintln(w, l)
	}
}

// wrap breaks a text into lines of at most so many letters; a longer word has a line of its own.
func wrap(text string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len([]rune(*last))+1+len([]rune(word)) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
