package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The parser wants flags before names, and each flag behind the one command that owns it. People do not, and they
// mistype. What follows takes a command line as people write it, and says what was meant where it cannot be taken.

// line is a command line, sorted: the way down to a command, its flags and the words that are left.
type line struct {
	command        *cli.Command // nil: hodi itself
	path           []string     // "edge", "key", "add"
	global         []string     // flags of hodi itself, wherever they stood
	flags, words   []string
	help, versions bool
}

func sortLine(app *cli.App, args []string) line {
	var l line
	commands, flags := app.Commands, app.Flags
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			l.words = append(append(l.words, word), args...)
			return l
		case word == "-h" || word == "--help" || word == "-help":
			l.help = true
		case word == "-v" || word == "--version" || word == "-version":
			l.versions = true
		case len(word) > 1 && word[0] == '-':
			name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
			into, flag := &l.flags, flagNamed(flags, name)
			if global := flagNamed(app.Flags, name); global != nil && (flag == nil || l.command == nil) {
				into, flag = &l.global, global
			}
			*into = append(*into, word)
			if flag != nil && flag.TakesValue() && !hasValue && len(args) > 0 {
				*into = append(*into, args[0])
				args = args[1:]
			}
		default:
			next := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == word })
			switch {
			case next >= 0 && len(l.words) == 0:
				l.command = commands[next]
				l.path = append(l.path, word)
				commands, flags = l.command.Subcommands, l.command.Flags
			case word == "help" && (l.command == nil || l.command.ArgsUsage == ""):
				l.help = true
			case word == "version" && l.command == nil:
				l.versions = true
			default:
				l.words = append(l.words, word)
			}
		}
	}
	return l
}

// args is the line as the parser wants it.
func (l line) args() []string {
	return slices.Concat([]string{"hodi"}, l.global, l.path, l.flags, l.words)
}

func flagNamed(flags []cli.Flag, name string) cli.DocGenerationFlag {
	for _, flag := range flags {
		if slices.Contains(flag.Names(), name) {
			return flag.(cli.DocGenerationFlag)
		}
	}
	return nil
}

// strict makes a command refuse words that it does not know: `hodi edge bakcup` must not start an edge.
func strict(path string, command *cli.Command) {
	path += " " + command.Name
	command.HideHelp = true
	command.OnUsageError = usageError(path, command.Flags)
	if action := command.Action; command.ArgsUsage == "" {
		command.Action = func(c *cli.Context) error {
			if err := refuseLeftovers(c, path, command.Subcommands); err != nil {
				return err
			}
			if action == nil {
				return fmt.Errorf("%s: say which: %s", bare(path), strings.Join(names(command.Subcommands), ", "))
			}
			return action(c)
		}
	}
	for _, sub := range command.Subcommands {
		strict(path, sub)
	}
}

func refuseLeftovers(c *cli.Context, path string, commands []*cli.Command) error {
	word := c.Args().First()
	if len(names(commands)) == 0 && word != "" {
		return fmt.Errorf("%s: takes no argument, but there is %q (%s --help lists the flags)", bare(path), word, path)
	}
	if word == "" {
		return nil
	}
	known := names(commands)
	return fmt.Errorf("%sthere is no command %q%s (there are %s)", prefix(path), word, meant("", word, known), strings.Join(known, ", "))
}

func names(commands []*cli.Command) []string {
	var all []string
	for _, command := range commands {
		if !command.Hidden {
			all = append(all, command.Name)
		}
	}
	return all
}

// bare is a command's path without hodi itself, which main puts before every error.
func bare(path string) string { return strings.TrimPrefix(path, "hodi ") }

func prefix(path string) string {
	if path == "hodi" {
		return ""
	}
	return bare(path) + ": "
}

var (
	notDefined   = regexp.MustCompile(`^flag provided but not defined: -+(.+)$`)
	needsValue   = regexp.MustCompile(`^flag needs an argument: -+(.+)$`)
	invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]+):`)
)

// usageError words what the parser of flags found.
func usageError(path string, flags []cli.Flag) cli.OnUsageErrorFunc {
	var names []string
	for _, flag := range flags {
		names = append(names, flag.Names()...)
	}
	return func(_ *cli.Context, err error, _ bool) error {
		text := err.Error()
		if m := notDefined.FindStringSubmatch(text); m != nil {
			return fmt.Errorf("%sthere is no flag --%s%s (%s --help lists them)", prefix(path), m[1], meant("--", m[1], names), path)
		}
		if m := needsValue.FindStringSubmatch(text); m != nil {
			return fmt.Errorf("%s--%s needs a value", prefix(path), m[1])
		}
		if m := invalidValue.FindStringSubmatch(text); m != nil {
			return fmt.Errorf("%s--%s %s: %s", prefix(path), m[2], m[1], form(flagNamed(flags, m[2])))
		}
		return fmt.Errorf("%s%w (%s --help lists the flags)", prefix(path), err, path)
	}
}

// form says how the value of a flag is written.
func form(flag cli.DocGenerationFlag) string {
	switch flag.(type) {
	case *cli.DurationFlag:
		return "write a number and its unit, as in 90s or 2m"
	case *cli.IntFlag:
		return "write a whole number"
	case *cli.BoolFlag:
		return "write it alone, or =true or =false"
	}
	return "this cannot be read"
}

// meant names the known word nearest to one that is not known, if one is near.
func meant(before, word string, known []string) string {
	best, nearest := "", len(word)/3+2
	for _, k := range known {
		d := distance(word, k)
		if len(word) > 1 && strings.HasPrefix(k, word) {
			d = min(d, 1)
		}
		if d < nearest {
			best, nearest = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s%s?", before, best)
}

// distance counts the slips between two words: a letter too many, too few, another, or two swapped.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
