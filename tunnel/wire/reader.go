package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrProtocol is matched by what Read returns when the other end broke the rules, and by no error of the connection.
var ErrProtocol = errors.New("wire: protocol error")

// Reader reads frames from one direction of a link.
type Reader struct{ r *bufio.Reader }

// NewReader returns a Reader. It reads ahead by up to 4 KiB.
func NewReader(r io.Reader) *Reader { return NewReaderSize(r, readAhead) }

// NewReaderSize returns a Reader that reads ahead by up to so many bytes: a thousand links that say little need not have
// 4 KiB each.
func NewReaderSize(r io.Reader, ahead int) *Reader { return &Reader{bufio.NewReaderSize(r, ahead)} }

const readAhead = 4 << 10

// Buffered reports how many bytes of coming frames have arrived already.
func (r *Reader) Buffered() int { return r.r.Buffered() }

// Read returns the next frame; those of unknown types are skipped. The frame is the caller's to keep. At the end of
// the stream the error is io.EOF between two frames and io.ErrUnexpectedEOF within one.
func (r *Reader) Read() (Frame, error) {
	for {
		head, err := r.r.Peek(HeaderSize)
		if err != nil {
			if err == io.EOF && len(head) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		t, n := Type(head[0]), int(binary.BigEndian.Uint32(head)&0xffffff)
		if n > limit(t) {
			return nil, fmt.Errorf("%w: %v of %d bytes is over the limit of %d", ErrProtocol, t, n, limit(t))
		}
		r.r.Discard(HeaderSize)
		f := blank(t)
		if f == nil {
			if _, err := r.r.Discard(n); err != nil {
				return nil, cut(err)
			}
			continue
		}
		b, err := r.body(n)
		if err != nil {
			return nil, cut(err)
		}
		if err := decode(f, b); err != nil {
			return nil, err
		}
		return f, nil
	}
}

// body reads n bytes, and makes room for them only as they come: a peer that merely announces a long frame costs us no
// more than a short one.
func (r *Reader) body(n int) ([]byte, error) {
	if n <= readAhead {
		b := make([]byte, n)
		_, err := io.ReadFull(r.r, b)
		return b, err
	}
	b := make([]byte, readAhead)
	for have := 0; ; {
		m, err := io.ReadFull(r.r, b[have:])
		have += m
		if err != nil || have == n {
			return b, err
		}
		b = append(make([]byte, 0, min(2*have, n)), b...)
		b = b[:cap(b)]
		b = b[:min(len(b), n)]
	}
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

type decoder interface {
	Frame
	decode(body) body
}

func blank(t Type) decoder {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeWelcome:
		return new(Welcome)
	case TypeEntry:
		return new(Entry)
	case TypeAck:
		return new(Ack)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeJoin:
		return new(Join)
	case TypeRenew:
		return new(Renew)
	case TypeIssued:
		return new(Issued)
	case TypeCanary:
		return new(Canary)
	case TypeDoubts:
		return new(Doubts)
	}
	return nil
}

func decode(f decoder, b []byte) error {
	rest := f.decode(body{b: b})
	if rest.short {
		return fmt.Errorf("%w: %v is cut short after %d bytes", ErrProtocol, f.Type(), len(b))
	}
	if rest.dirty {
		return fmt.Errorf("%w: %v is not padded with zeros", ErrProtocol, f.Type())
	}
	if len(rest.b) > 0 {
		return fmt.Errorf("%w: %v has %d bytes too many", ErrProtocol, f.Type(), len(rest.b))
	}
	if err := check(f, len(b)); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}
