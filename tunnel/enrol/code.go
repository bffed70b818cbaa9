package enrol

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// Code is a join code: where the edge is, by what its CA is known, and the secret that the edge takes once.
//
// It is written in groups of five letters and digits, of Crockford's base 32: there is no I, L, O or U in it, small and
// capital letters are the same, and who reads it out or copies it by hand may write O for 0 and I or L for 1. Hyphens and
// space mean nothing. Its bytes are:
//
//	 0  u8   form       1
//	 1  16B  pin        of the edge's CA
//	17  10B  secret     80 bits
//	27  u32  made       when, in Unix seconds: a sidecar whose clock has lost its battery learns from it what year it is
//	31       edge       host:port, or a host alone if the port is 443
//	     3B  checksum   the first bytes of SHA-256 over all before it: a slip of the pen is named as one
type Code struct {
	Edge   string // host:port
	Pin    wire.Pin
	Secret []byte
	Made   time.Time // to the second
}

const (
	codeForm     = 1
	secretSize   = 10
	codeHead     = 1 + len(wire.Pin{}) + secretSize + 4
	checksumSize = 3
	maxCode      = 1 << 10 // bytes of text
	groupSize    = 5
	defaultPort  = "443"
)

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// NewSecret draws the secret of a code. Whoever guesses a million times a second finds it in ten billion years; it is good
// for an hour.
func NewSecret() []byte {
	b := make([]byte, secretSize)
	rand.Read(b)
	return b
}

// SecretSum is what an edge keeps of a secret, and finds it by.
func SecretSum(secret []byte) [sha256.Size]byte { return sha256.Sum256(secret) }

// String writes the code.
func (c Code) String() string {
	b := append([]byte{codeForm}, c.Pin[:]...)
	b = append(b, c.Secret...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Made.Unix()))
	host, port, err := net.SplitHostPort(c.Edge)
	switch {
	case err != nil || port != defaultPort:
		b = append(b, c.Edge...)
	case strings.Contains(host, ":"):
		b = append(b, "["+host+"]"...)
	default:
		b = append(b, host...)
	}
	b = append(b, checksum(b)...)
	text := crockford.EncodeToString(b)
	var groups []string
	for len(text) > groupSize {
		groups, text = append(groups, text[:groupSize]), text[groupSize:]
	}
	return strings.Join(append(groups, text), "-")
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:checksumSize]
}

// ParseCode reads a code as people write it. The error says what to do, and nothing of what was written.
func ParseCode(text string) (Code, error) {
	if len(text) > maxCode {
		return Code{}, errors.New("enrol: this is too long for a join code")
	}
	plain := strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		return r
	}, text)
	if plain == "" {
		return Code{}, errors.New("enrol: there is no join code")
	}
	b, err := crockford.DecodeString(strings.ToUpper(plain))
	if err != nil {
		return Code{}, errors.New("enrol: this is no join code: it has letters and digits in groups of five, and there is something else in it")
	}
	if len(b) <= codeHead+checksumSize {
		return Code{}, errors.New("enrol: a part of the join code is missing: copy all of it")
	}
	body, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if !bytes.Equal(checksum(body), sum) || crockford.EncodeToString(b) != strings.ToUpper(plain) {
		return Code{}, errors.New("enrol: there is a slip in the join code, or a part of it is missing: copy it again")
	}
	if body[0] != codeForm {
		return Code{}, fmt.Errorf("enrol: the join code is of form %d, which this version does not know: use the version of hodi that the edge has", body[0])
	}
	c := Code{
		Pin: wire.Pin(body[1:17]), Secret: body[17 : 17+secretSize],
		Made: time.Unix(int64(binary.BigEndian.Uint32(body[17+secretSize:])), 0).UTC(), Edge: string(body[codeHead:]),
	}
	if _, _, err := net.SplitHostPort(c.Edge); err != nil {
		c.Edge = net.JoinHostPort(strings.Trim(c.Edge, "[]"), defaultPort)
	}
	if host, port, err := net.SplitHostPort(c.Edge); err != nil || host == "" || port == "" {
		return Code{}, errors.New("enrol: the join code names no edge: make another")
	}
	return c, nil
}
