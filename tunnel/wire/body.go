package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// The bodies of the frames, in the order of a conversation: how long, written, read. Integers are big-endian.

func (*Hello) size() int { return 2 + 16 + 8 + 8 + 8 + 4 }

func (h *Hello) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Version)
	b = append(b, h.Instance[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Cursor.Epoch))
	b = binary.BigEndian.AppendUint64(b, h.Cursor.Seq)
	b = append(b, h.Cursor.Sum[:]...)
	return appendSpan(b, h.Idle)
}

func (h *Hello) decode(b body) body {
	h.Version = b.uint16()
	if h.Version != Version {
		b.rest() // what another version says behind its number is not ours to judge
		return b
	}
	copy(h.Instance[:], b.bytes(16))
	h.Cursor.Epoch = Epoch(b.uint64())
	h.Cursor.Seq = b.uint64()
	copy(h.Cursor.Sum[:], b.bytes(8))
	h.Idle = b.span()
	return b
}

func (w *Welcome) size() int { return 8 + 8 + 8 + 8 + 2 + len(w.Callback) }

func (w *Welcome) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(w.Epoch))
	b = binary.BigEndian.AppendUint64(b, w.Oldest)
	b = binary.BigEndian.AppendUint64(b, w.Head)
	b = binary.BigEndian.AppendUint64(b, uint64(w.Time.UnixMilli()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.Callback)))
	return append(b, w.Callback...)
}

func (w *Welcome) decode(b body) body {
	w.Epoch = Epoch(b.uint64())
	w.Oldest = b.uint64()
	w.Head = b.uint64()
	w.Time = b.time()
	w.Callback = string(b.bytes(int(b.uint16())))
	return b
}

func (e *Entry) size() int {
	return 8 + 8 + 1 + 2 + 2 + 4 + len(e.Ref) + len(e.Remote) + len(e.Header) + len(e.Body)
}

func (e *Entry) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Received.UnixMilli()))
	b = append(b, byte(e.Source)<<4|byte(e.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Ref)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Remote)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Header)))
	b = append(b, e.Ref...)
	b = append(b, e.Remote...)
	b = append(b, e.Header...)
	return append(b, e.Body...)
}

func (e *Entry) decode(b body) body {
	e.Seq = b.uint64()
	e.Received = b.time()
	what := b.uint8()
	e.Kind, e.Source = Kind(what&nibble), Source(what>>4)
	ref, remote, header := b.uint16(), b.uint16(), b.uint32()
	e.Ref = string(b.bytes(int(ref)))
	e.Remote = string(b.bytes(int(remote)))
	e.Header = b.bytes(int(min(header, MaxFrame+1))) // longer than any frame is long enough: int may have 32 bits
	e.Body = b.rest()
	return b
}

func (*Ack) size() int                { return 8 }
func (a *Ack) append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, a.Seq) }
func (a *Ack) decode(b body) body     { a.Seq = b.uint64(); return b }

func (*Ping) size() int { return pingSize }

func (p *Ping) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.Nonce)
	b = appendSpan(b, p.Wait)
	return append(b, make([]byte, pingSize-8-4)...)
}

func (p *Ping) decode(b body) body {
	p.Nonce = b.uint64()
	p.Wait = b.span()
	for _, zero := range b.bytes(pingSize - 8 - 4) {
		b.dirty = b.dirty || zero != 0
	}
	return b
}

func (*Pong) size() int                { return 8 }
func (p *Pong) append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, p.Nonce) }
func (p *Pong) decode(b body) body     { p.Nonce = b.uint64(); return b }

func (j *Join) size() int { return 2 + 1 + len(j.Secret) + len(j.Request) }

func (j *Join) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, j.Version)
	b = append(b, byte(len(j.Secret)))
	b = append(b, j.Secret...)
	return append(b, j.Request...)
}

func (j *Join) decode(b body) body {
	j.Version = b.uint16()
	if j.Version != Version {
		b.rest()
		return b
	}
	j.Secret = b.bytes(int(b.uint8()))
	j.Request = b.rest()
	return b
}

func (r *Renew) size() int { return 2 + len(r.Request) }

func (r *Renew) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, r.Version)
	return append(b, r.Request...)
}

func (r *Renew) decode(b body) body {
	r.Version = b.uint16()
	if r.Version != Version {
		b.rest()
		return b
	}
	r.Request = b.rest()
	return b
}

func (i *Issued) size() int { return 8 + 2 + len(i.Callback) + len(i.Certificate) }

func (i *Issued) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(i.Time.UnixMilli()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(i.Callback)))
	b = append(b, i.Callback...)
	return append(b, i.Certificate...)
}

func (i *Issued) decode(b body) body {
	i.Time = b.time()
	i.Callback = string(b.bytes(int(b.uint16())))
	i.Certificate = b.rest()
	return b
}

func (*Canary) size() int                { return 4 }
func (c *Canary) append(b []byte) []byte { return appendSpan(b, c.Every) }
func (c *Canary) decode(b body) body     { c.Every = b.span(); return b }

func (*Doubts) size() int                { return 8 }
func (d *Doubts) append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, d.Count) }
func (d *Doubts) decode(b body) body     { d.Count = b.uint64(); return b }

// AppendBody appends the encoded body of the entry: the form in which a journal keeps it, and that its checksum is of.
func (e *Entry) AppendBody(b []byte) []byte { return e.append(b) }

// ParseEntry reads the encoded body of an entry. Header and Body are parts of b.
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	if rest := e.decode(body{b: b}); rest.short {
		return Entry{}, fmt.Errorf("wire: entry is cut short after %d bytes", len(b))
	}
	return e, nil
}

// body is what is still to be read of a frame's body. Reading past its end gives zeros and sets short.
type body struct {
	b     []byte
	short bool
	dirty bool // padding that was not zeros
}

func (b *body) bytes(n int) []byte {
	if n > len(b.b) {
		b.b, b.short = nil, true
		return nil
	}
	v := b.b[:n:n]
	b.b = b.b[n:]
	return v
}

func (b *body) rest() []byte { return b.bytes(len(b.b)) }

func (b *body) uint8() uint8 {
	if v := b.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (b *body) uint16() uint16 {
	if v := b.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (b *body) uint32() uint32 {
	if v := b.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (b *body) uint64() uint64 {
	if v := b.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// A span of time is 32 bits of milliseconds.
func appendSpan(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(min(max(d.Milliseconds(), 0), math.MaxUint32)))
}

func (b *body) span() time.Duration { return time.Duration(b.uint32()) * time.Millisecond }

func (b *body) time() time.Time { return time.UnixMilli(int64(b.uint64())).UTC() }
