package daraja

import (
	"bytes"
	"strings"
)

// A scanner goes through a JSON text once, from its beginning to its end, and keeps its grammar as strictly as encoding/json
// does. It shows what it passes as it was written and builds nothing: most of a callback nobody asks for, and reading one
// through reflection was a third of what it costs a sidecar.
//
// Every method begins in front of a value, without white space, and ends behind it. It reports false where the text is not
// JSON; then nothing that was read counts.
type scanner struct {
	text  []byte
	at    int
	depth int
}

// maxDepth is how deep encoding/json lets a text nest.
const maxDepth = 10_000

// next is the byte in front of which the scanner stands, 0 at the end.
func (s *scanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// take passes one byte, if it is c.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// object passes an object and gives the name of each of its members to f, which passes the value. What is no object is
// passed, and has no members.
func (s *scanner) object(f func(name []byte) bool) bool {
	if s.next() != '{' {
		return s.skip()
	}
	return s.list('}', func() bool {
		name := s.at
		if !s.string() {
			return false
		}
		end := s.at
		s.space()
		if !s.take(':') {
			return false
		}
		s.space()
		return f(s.text[name:end])
	})
}

// list passes what stands between two brackets. Its elements are parted by commas, and f passes each of them.
func (s *scanner) list(end byte, f func() bool) bool {
	s.at++
	if s.depth++; s.depth > maxDepth {
		return false
	}
	s.space()
	if !s.take(end) {
		for {
			if !f() {
				return false
			}
			s.space()
			if s.take(end) {
				break
			}
			if !s.take(',') {
				return false
			}
			s.space()
		}
	}
	s.depth--
	return true
}

// value passes whatever there is, and returns it as it was written.
func (s *scanner) value() (raw []byte, ok bool) {
	from := s.at
	ok = s.skip()
	return s.text[from:s.at], ok
}

// skip passes whatever there is.
func (s *scanner) skip() bool {
	switch c := s.next(); c {
	case '{':
		return s.object(func([]byte) bool { return s.skip() })
	case '[':
		return s.list(']', s.skip)
	case '"':
		return s.string()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.text[s.at:], []byte(w)) {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scanner) string() bool {
	if !s.take('"') {
		return false
	}
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return true
		case c < ' ':
			return false
		case c == '\\':
			if !s.escape() {
				return false
			}
		}
	}
	return false
}

// escape passes what may stand behind a backslash.
func (s *scanner) escape() bool {
	switch s.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return true
	case 'u':
		s.at++
		for range 4 {
			switch c := s.next(); {
			case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
				s.at++
			default:
				return false
			}
		}
		return true
	}
	return false
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

// digits passes one digit or more.
func (s *scanner) digits() bool {
	from := s.at
	for c := s.next(); c >= '0' && c <= '9'; c = s.next() {
		s.at++
	}
	return s.at > from
}

// named reports whether a name, as it was written, is the one that is looked for: in any case, as encoding/json matches
// the names of fields.
func named(raw []byte, name string) bool {
	inside := raw[1 : len(raw)-1]
	switch {
	case string(inside) == name:
		return true
	case plain(inside):
		return len(inside) == len(name) && strings.EqualFold(string(inside), name)
	}
	return strings.EqualFold(unquoted(raw), name)
}
