package salvage

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"math"
	"os"
)

// A Row is a row of some table: which, is for the reader to tell by its form. Values are nil, int64, float64, string or
// []byte. An INTEGER PRIMARY KEY is the ID, and nil among the values.
type Row struct {
	ID     int64
	Values []any
}

// Rows reads every row that is left in the damaged database at path and in its log, without SQLite: it takes any page that
// looks like a leaf of a table for one, whether or not a way leads to it. So rows come more than once, those first that
// were committed, the newest of them before the others; and rows come that were deleted or replaced, or never committed.
// Only the rows themselves can tell whether they are right.
func Rows(path string) (iter.Seq[Row], error) {
	d := &debris{latest: [2]map[uint32]int64{{}, {}}, pageSize: 4096}
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		d.file = file
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		d.size = info.Size()
		head := make([]byte, 100)
		if _, err := file.ReadAt(head, 0); err == nil && string(head[:len(magic)]) == magic {
			if n := int(binary.BigEndian.Uint16(head[16:])); n >= 512 && n&(n-1) == 0 {
				d.pageSize = n
			} else if n == 1 {
				d.pageSize = 65536
			}
		}
	}
	if d.log, err = openLog(path + "-wal"); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if d.log != nil && d.file == nil {
		d.pageSize = d.log.pageSize
	}
	return d.rows, nil
}

// debris is what is left of a database.
type debris struct {
	file     *os.File // nil: there is none
	size     int64
	log      *walLog // nil: there is none
	pageSize int
	valid    int64               // frames at the beginning of the log that SQLite would take
	latest   [2]map[uint32]int64 // by page: the last frame that holds it, of those that are valid, and of the others
}

func (d *debris) close() (err error) {
	if d.file != nil {
		err = d.file.Close()
	}
	if d.log != nil {
		err = errors.Join(err, d.log.file.Close())
	}
	return err
}

func (d *debris) rows(yield func(Row) bool) {
	defer d.close()
	if d.log != nil && d.log.pageSize == d.pageSize {
		d.valid = d.log.valid()
		b := make([]byte, frameHeader)
		for i := range d.log.frames() {
			if d.log.frame(i, b) != nil {
				continue
			}
			number, latest := binary.BigEndian.Uint32(b), d.latest[d.part(i)]
			if _, found := latest[number]; !found || [8]byte(b[8:16]) == d.log.salts { // those of an earlier round stand last
				latest[number] = i
			}
		}
		if !d.logged(0, d.valid, yield) {
			return
		}
	}
	page := make([]byte, d.pageSize)
	for at := int64(0); at+int64(d.pageSize) <= d.size; at += int64(d.pageSize) {
		if _, err := d.file.ReadAt(page, at); err != nil {
			continue // a sector that cannot be read
		}
		if !d.leaf(page, at == 0, yield) {
			return
		}
	}
	if d.log != nil && d.log.pageSize == d.pageSize {
		d.logged(d.valid, d.log.frames(), yield)
	}
}

// part is that of the log in which a frame is. What is not valid is of an earlier round of the log, or behind damage, or
// of a transaction that failed: nobody was told that it is stored, and its numbers were given to others.
func (d *debris) part(frame int64) int {
	if frame < d.valid {
		return 0
	}
	return 1
}

// logged reads the rows of frames, the last first.
func (d *debris) logged(from, to int64, yield func(Row) bool) bool {
	b := make([]byte, frameHeader+d.pageSize)
	for i := to - 1; i >= from; i-- {
		if d.log.frame(i, b) == nil && !d.leaf(b[frameHeader:], binary.BigEndian.Uint32(b) == 1, yield) {
			return false
		}
	}
	return true
}

const (
	tableLeaf = 0x0d
	maxRow    = 1 << 20 // no row of ours is longer
)

// leaf reads the rows of a page, if it is a leaf of a table.
func (d *debris) leaf(page []byte, first bool, yield func(Row) bool) bool {
	at := 0
	if first {
		at = 100
	}
	if page[at] != tableLeaf {
		return true
	}
	cells := int(binary.BigEndian.Uint16(page[at+3:]))
	for i := range cells {
		pointer := at + 8 + 2*i
		if pointer+2 > len(page) {
			break
		}
		cell := int(binary.BigEndian.Uint16(page[pointer:]))
		if cell <= pointer || cell >= len(page) {
			continue
		}
		size, n := varint(page[cell:])
		id, m := varint(page[cell+n:])
		if n == 0 || m == 0 || size < 2 || size > maxRow {
			continue
		}
		for _, payload := range d.payloads(page, cell+n+m, int(size)) {
			if values, ok := record(payload); ok && !yield(Row{ID: int64(id), Values: values}) {
				return false
			}
		}
	}
	return true
}

// payloads is what a row holds. What does not fit into its page goes on in others, which may be found in the log or in the
// file: both are tried.
func (d *debris) payloads(page []byte, at, size int) [][]byte {
	usable := len(page)
	most, least := usable-35, (usable-12)*32/255-23
	local := size
	if size > most {
		if local = least + (size-least)%(usable-4); local > most {
			local = least
		}
	}
	if at+local > len(page) {
		return nil
	}
	if local == size {
		return [][]byte{append([]byte(nil), page[at:at+size]...)}
	}
	if at+local+4 > len(page) {
		return nil
	}
	next := binary.BigEndian.Uint32(page[at+local:])
	var found [][]byte
	for _, latest := range []map[uint32]int64{d.latest[0], nil, d.latest[1]} {
		payload := append([]byte(nil), page[at:at+local]...)
		b := make([]byte, d.pageSize)
		for follow := next; len(payload) < size && follow != 0; {
			if !d.page(follow, latest, b) {
				break
			}
			follow = binary.BigEndian.Uint32(b)
			payload = append(payload, b[4:4+min(len(b)-4, size-len(payload))]...)
		}
		if len(payload) == size {
			found = append(found, payload)
		}
	}
	return found
}

// page reads a page from the log, or if that has none from the file.
func (d *debris) page(number uint32, latest map[uint32]int64, b []byte) bool {
	if i, ok := latest[number]; ok {
		frame := make([]byte, frameHeader+d.pageSize)
		if d.log.frame(i, frame) != nil {
			return false
		}
		copy(b, frame[frameHeader:])
		return true
	}
	if d.file == nil {
		return false
	}
	_, err := d.file.ReadAt(b, int64(number-1)*int64(d.pageSize))
	return err == nil
}

// record takes a row apart.
func record(b []byte) (values []any, ok bool) {
	head, n := varint(b)
	if n == 0 || head < uint64(n) || head > uint64(len(b)) || head > 1000 {
		return nil, false
	}
	types, body := b[n:head], b[head:]
	for len(types) > 0 {
		kind, n := varint(types)
		if n == 0 {
			return nil, false
		}
		types = types[n:]
		size := 0
		switch {
		case kind >= 12:
			if kind > 1<<26 {
				return nil, false
			}
			size = int(kind-12) / 2
		case kind >= 10:
			return nil, false
		default:
			size = [10]int{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[kind]
		}
		if size > len(body) {
			return nil, false
		}
		v := body[:size]
		body = body[size:]
		switch {
		case kind == 0:
			values = append(values, nil)
		case kind == 7:
			values = append(values, math.Float64frombits(binary.BigEndian.Uint64(v)))
		case kind == 8 || kind == 9:
			values = append(values, int64(kind-8))
		case kind < 7:
			n := int64(int8(v[0]))
			for _, c := range v[1:] {
				n = n<<8 | int64(c)
			}
			values = append(values, n)
		case kind%2 == 0:
			values = append(values, v)
		default:
			values = append(values, string(v))
		}
	}
	return values, len(body) == 0
}

// varint reads SQLite's form of an integer: up to eight bytes of seven bits, and a ninth of eight.
func varint(b []byte) (v uint64, n int) {
	for n = 0; n < 8; n++ {
		if n >= len(b) {
			return 0, 0
		}
		v = v<<7 | uint64(b[n]&0x7f)
		if b[n] < 0x80 {
			return v, n + 1
		}
	}
	if n >= len(b) {
		return 0, 0
	}
	return v<<8 | uint64(b[n]), 9
}
