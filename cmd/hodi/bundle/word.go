package bundle

import (
	"regexp"
	"strings"
)

// A Word is a text that is part of this program.
type Word struct{ text string }

// literal is what an untyped constant becomes. No other package can make one of anything else.
type literal string

// Say is the Word for a literal.
func Say(text literal) Word { return Word{string(text)} }

// OneOf is the literal that s is; "another" if it is none of them, and nothing if it is nothing.
func OneOf(s string, of ...literal) Word {
	if s == "" {
		return Word{}
	}
	for _, known := range of {
		if s == string(known) {
			return Word{s}
		}
	}
	return Say("another")
}

// Phrases are the literals that s holds; "something else" if it holds none of them, and nothing if it is nothing.
func Phrases(s string, of ...literal) (found []Word) {
	for _, known := range of {
		if strings.Contains(s, string(known)) {
			found = append(found, Word{string(known)})
		}
	}
	if s != "" && found == nil {
		found = []Word{Say("something else")}
	}
	return found
}

var (
	releaseForm = regexp.MustCompile(`^[a-z]{0,2}[0-9]+(\.[0-9]+)+([-+~_.][0-9A-Za-z]+){0,8}$`)
	longNumber  = regexp.MustCompile(`[0-9]{6,}`)
)

// Release is a version: of a kernel, say. It is "unknown" where it does not look like one, and has # in place of six digits
// and more, of which a phone number and the time of a commit are made.
func Release(s string) Word {
	if len(s) > 60 || !releaseForm.MatchString(s) {
		return Say("unknown")
	}
	return Word{longNumber.ReplaceAllString(s, "#")}
}

// MarshalText lets a Word stand in JSON.
func (w Word) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// IsZero reports whether it says nothing.
func (w Word) IsZero() bool { return w.text == "" }
