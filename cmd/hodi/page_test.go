package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// A page of the documentation, as its tests read it.
type page struct {
	name     string
	chapters []*chapter
	quotes   []quote // `code` in the text
}

// chapter is what is under a title "## ...", those of more # included.
type chapter struct {
	title  string
	blocks []block
}

// A block is what stands between ``` and ```.
type block struct {
	line     int
	language string
	where    string // a word behind the language: on which machine
	text     string
}

type quote struct {
	line int
	text string
}

// operators is the page of which every command is run.
const operators = "docs/operate.md"

var (
	code     = regexp.MustCompile("`([^`]+)`")
	listItem = regexp.MustCompile(`^\s*([*-]|\d+\.)\s`)
)

// readPage reads a page of the repository, and says where code is that nobody could run.
func readPage(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{name: name, chapters: []*chapter{{}}}
	var open *block
	inList := false
	before, indent := "", ""
	var prose []quote
	for number, line := range strings.Split(string(text), "\n") {
		number++
		now := p.chapters[len(p.chapters)-1]
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```") && open == nil:
			words := append(strings.Fields(strings.TrimPrefix(trimmed, "```")), "", "")
			open = &block{line: number, language: words[0], where: words[1]}
			indent = line[:strings.Index(line, "`")]
		case strings.HasPrefix(trimmed, "```"):
			now.blocks = append(now.blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case strings.HasPrefix(line, "## "):
			p.chapters = append(p.chapters, &chapter{title: strings.TrimPrefix(line, "## ")})
		case name == operators && strings.HasPrefix(line, "    ") && before == "" && !inList:
			t.Errorf("%s:%d: code by indentation says not what it is: put it between ```sh (or ```toml, ...) and ```", name, number)
		default:
			if listItem.MatchString(line) {
				inList = true
			} else if line != "" && line[0] != ' ' {
				inList = false
			}
			prose = append(prose, quote{number, line})
		}
		before = trimmed
	}
	if open != nil {
		t.Errorf("%s:%d: this block has no end", name, open.line)
	}
	// A quote may go over the end of a line, but not over that of a paragraph.
	for len(prose) > 0 {
		end := slices.IndexFunc(prose, func(s quote) bool { return strings.TrimSpace(s.text) == "" })
		if end < 0 {
			end = len(prose)
		}
		var paragraph strings.Builder
		for _, s := range prose[:end] {
			paragraph.WriteString(s.text + "\n")
		}
		all := paragraph.String()
		for _, m := range code.FindAllStringSubmatchIndex(all, -1) {
			at := strings.Count(all[:m[0]], "\n")
			if strings.TrimSpace(all[m[2]:m[3]]) == "" {
				continue
			}
			p.quotes = append(p.quotes, quote{prose[at].line, strings.Join(strings.Fields(all[m[2]:m[3]]), " ")})
		}
		prose = prose[min(end+1, len(prose)):]
	}
	return p
}

// mentions are the commands of hodi in a line of shell that stands in a text: their words.
func mentions(text string) (all [][]string) {
	for _, command := range regexp.MustCompile(`\|\|?|&&|;|\$\(`).Split(text, -1) {
		words := strings.Fields(command)
		if i := slices.Index(words, "hodi"); i == 0 || i > 0 && (words[0] == "ssh" || words[0] == "sudo") {
			all = append(all, words[i+1:])
		}
	}
	return all
}

// unknown says what there is in a command line of hodi that hodi does not know; "": nothing.
func unknown(app *cli.App, words []string) string {
	for i, word := range words { // what is not for hodi
		if strings.HasPrefix(word, ">") || strings.HasPrefix(word, "2>") || word == "<" {
			words = words[:i]
			break
		}
	}
	l := sortLine(app, words)
	flags, commands := app.Flags, app.Commands
	if l.command != nil {
		flags, commands = slices.Concat(l.command.Flags, app.Flags), l.command.Subcommands
	}
	for _, word := range slices.Concat(l.global, l.flags) {
		if name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "="); strings.HasPrefix(word, "--") && flagNamed(flags, name) == nil {
			return word
		}
	}
	if len(l.words) > 0 && l.words[0] != "..." && (l.command == nil || l.command.ArgsUsage == "") && !slices.Contains(placeholders, l.words[0]) {
		return l.words[0] + meant("", l.words[0], names(commands))
	}
	return ""
}

// placeholders are words that stand for others.
var placeholders = []string{"SHOP", "NAME", "ID", "PAYMENT", "FILE", "TIME", "NUMBER", "HOST", "PORT", "KEY", "DIR", "STATEMENT", "COMMAND", "ADDRESS", "URL"}

func TestEveryCommandThatAPageNamesIsThere(t *testing.T) {
	app := newApp(nil, nil)
	flags := make(map[string]bool)
	var look func(all []cli.Flag, commands []*cli.Command)
	look = func(all []cli.Flag, commands []*cli.Command) {
		for _, f := range all {
			for _, name := range f.Names() {
				flags["--"+name] = true
			}
		}
		for _, c := range commands {
			look(c.Flags, c.Subcommands)
		}
	}
	look(app.Flags, app.Commands)
	for _, name := range []string{"--help", "--version"} {
		flags[name] = true
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, path := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		name, err := filepath.Rel("../..", path)
		if err != nil {
			t.Fatal(err)
		}
		p := readPage(t, filepath.ToSlash(name))
		wrong := func(line int, what, is string) {
			if is != "" {
				t.Errorf("%s:%d: %s: there is no %s", p.name, line, what, is)
			}
		}
		for _, s := range p.quotes {
			for _, words := range mentions(s.text) {
				wrong(s.line, s.text, unknown(app, words))
			}
			if word, _, _ := strings.Cut(strings.Fields(s.text)[0], "="); p.name == operators && strings.HasPrefix(word, "--") && !flags[word] {
				wrong(s.line, s.text, word+" of any command")
			}
		}
		for _, s := range p.chapters {
			for _, b := range s.blocks {
				if b.language != "sh" && b.language != "" {
					continue
				}
				for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", "  ")) {
					line, _, _ = strings.Cut(line, " # ")
					for _, words := range mentions(line) {
						if !slices.ContainsFunc(words, func(w string) bool { return strings.ContainsAny(w, `"'`) }) { // quotes are for a shell to read
							wrong(b.line, line, unknown(app, words))
						}
					}
				}
			}
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	inPage  = regexp.MustCompile(`\]\(([a-z]*(?:\.md)?)#([^)]+)\)`)
	notWord = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// anchor is by what GitHub finds a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

func TestEveryLinkIntoAPageLeadsToAHeading(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	text, anchors := make(map[string]string), make(map[string][]string)
	for _, path := range pages {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		text[name] = string(b)
		for _, m := range heading.FindAllStringSubmatch(text[name], -1) {
			anchors[name] = append(anchors[name], anchor(m[1]))
		}
	}
	for name := range text {
		for _, m := range inPage.FindAllStringSubmatch(text[name], -1) {
			to := m[1]
			if to == "" {
				to = name
			}
			if text[to] != "" && !slices.Contains(anchors[to], m[2]) {
				t.Errorf("docs/%s: %s#%s leads nowhere", name, to, m[2])
			}
		}
	}
	contents, _, _ := strings.Cut(text["operate.md"], "\n## ")
	for _, c := range readPage(t, operators).chapters[1:] {
		if want := "* [" + c.title + "](#" + anchor(c.title) + ")\n"; !strings.Contains(contents+"\n", want) {
			t.Errorf("%s: the contents have no line %q", operators, want)
		}
	}
}

// A reply is what comes of a command that the test plays.
type reply struct {
	Out  string
	Code int
}

// pretend is a command of the tests: it asks the test to play one that would change this machine.
func pretend() {
	var r reply
	c, err := net.Dial("unix", os.Getenv("HODI_TEST_MACHINE"))
	if err == nil {
		defer c.Close()
		err = json.NewEncoder(c).Encode(os.Args[1:])
	}
	if err == nil {
		err = json.NewDecoder(c).Decode(&r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Print(r.Out)
	os.Exit(r.Code)
}
