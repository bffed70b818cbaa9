package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Shells ask the binary itself what may come next, so that what they offer is what this version has. The cli library's
// own scripts have the shell evaluate the line that is being typed, with all that stands in it; these do not.

const bashCompletion = `# bash completion for hodi
_hodi() {
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _hodi hodi
`

const zshCompletion = `#compdef hodi
_hodi() {
	local -a lines offers
	local line
	lines=("${(@f)$(hodi complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	for line in $lines; do
		offers+=("${line%%$'\t'*}:${line#*$'\t'}")
	done
	if (( $#offers )); then
		_describe hodi offers
	else
		_files
	fi
}
if [ "$funcstack[1]" = _hodi ]; then
	_hodi "$@"
else
	compdef _hodi hodi
fi
`

const fishCompletion = `# fish completion for hodi
function __hodi_complete
	set -l words (commandline -opc)
	hodi complete $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c hodi -n 'count (__hodi_complete) >/dev/null' -f -a '(__hodi_complete)'
`

func completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	return &cli.Command{
		Name:  "completion",
		Usage: "print a script by which a shell completes hodi's commands and flags",
		Description: "For the shell that you are in: source <(hodi completion bash), or source <(hodi completion zsh), " +
			"or hodi completion fish | source. The packages install all three.",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			script, ok := scripts[c.Args().First()]
			if !ok || c.NArg() != 1 {
				return fmt.Errorf("completion: say for which shell: bash, zsh or fish")
			}
			_, err := io.WriteString(c.App.Writer, script)
			return err
		},
	}
}

// complete writes what may stand in the place of the last of words, a line each: the word, a tab, what it is. It writes
// nothing where only a person knows, or where the shell may offer files.
func complete(w io.Writer, app *cli.App, words []string) {
	if len(words) == 0 {
		return
	}
	before, begun := words[:len(words)-1], words[len(words)-1]
	l := sortLine(app, before)
	commands, flags := app.Commands, app.Flags
	if l.command != nil {
		commands, flags = l.command.Subcommands, slices.Concat(l.command.Flags, app.Flags)
	}
	offer := func(word, what string) {
		if strings.HasPrefix(word, begun) {
			fmt.Fprintf(w, "%s\t%s\n", word, strings.Join(strings.Fields(what), " "))
		}
	}
	switch {
	case wantsValue(flags, before):
	case strings.HasPrefix(begun, "-"):
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			_, what := placeholder(f.(cli.DocGenerationFlag))
			offer("--"+f.Names()[0], what)
		}
		offer("--help", "say more about this command")
	case len(l.words) == 0:
		for _, command := range commands {
			if !command.Hidden {
				offer(command.Name, command.Usage)
			}
		}
	}
}

// wantsValue reports whether the line ends with a flag whose value comes next.
func wantsValue(flags []cli.Flag, words []string) bool {
	if len(words) == 0 || slices.Contains(words, "--") {
		return false
	}
	last := words[len(words)-1]
	if len(last) < 2 || last[0] != '-' || strings.Contains(last, "=") {
		return false
	}
	flag := flagNamed(flags, strings.TrimLeft(last, "-"))
	return flag != nil && flag.TakesValue()
}
