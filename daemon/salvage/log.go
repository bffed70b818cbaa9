package salvage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The write-ahead log: a header of 32 bytes, then frames, each a header of 24 bytes and a page. A frame counts if it has
// the salts of the log's header and the running checksum over all that is before it; a transaction, if its last frame,
// which says how large the database then is, counts.
// https://www.sqlite.org/fileformat2.html#the_write_ahead_log

const (
	logHeader   = 32
	frameHeader = 24
)

type walLog struct {
	file     *os.File
	size     int64
	pageSize int
	order    binary.ByteOrder // of the words that are summed
	salts    [8]byte
	sum      [2]uint32 // of the header
	whole    bool      // the header is what was written
}

// openLog opens a log; nil if there is none, or none with frames.
func openLog(path string) (*walLog, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.Size() <= logHeader {
		return nil, errors.Join(err, f.Close())
	}
	l := &walLog{file: f, size: info.Size(), order: binary.LittleEndian, pageSize: 4096}
	h := make([]byte, logHeader)
	if _, err := f.ReadAt(h, 0); err != nil {
		return l, nil // its header is on a sector that cannot be read
	}
	kind := binary.BigEndian.Uint32(h)
	if kind&1 == 1 {
		l.order = binary.BigEndian
	}
	copy(l.salts[:], h[16:24])
	l.sum = add([2]uint32{}, l.order, h[:24])
	l.whole = kind&^1 == 0x377f0682 && binary.BigEndian.Uint32(h[24:]) == l.sum[0] && binary.BigEndian.Uint32(h[28:]) == l.sum[1]
	if n := int(binary.BigEndian.Uint32(h[8:])); n >= 512 && n <= 65536 && n&(n-1) == 0 {
		l.pageSize = n
	}
	return l, nil
}

// add is SQLite's running checksum.
func add(s [2]uint32, order binary.ByteOrder, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}

func (l *walLog) frames() int64 { return (l.size - logHeader) / int64(frameHeader+l.pageSize) }

// frame reads the frame i.
func (l *walLog) frame(i int64, b []byte) error {
	_, err := l.file.ReadAt(b, logHeader+i*int64(frameHeader+l.pageSize))
	if err == io.EOF {
		err = nil
	}
	return err
}

// checkLog finds damage that is not the work of a power cut.
func checkLog(path string) error {
	l, err := openLog(path)
	if err != nil || l == nil {
		return err
	}
	defer l.file.Close()
	if !l.whole {
		return fmt.Errorf("%s: %w: its header is not what was written", path, ErrLog)
	}
	b := make([]byte, frameHeader+l.pageSize)
	sum, broken, committed := l.sum, int64(-1), false
	for i := range l.frames() {
		err := l.frame(i, b)
		ours := err == nil && [8]byte(b[8:16]) == l.salts
		if broken < 0 {
			sum = add(add(sum, l.order, b[:8]), l.order, b[frameHeader:])
			if ours && binary.BigEndian.Uint32(b[16:]) == sum[0] && binary.BigEndian.Uint32(b[20:]) == sum[1] {
				continue
			}
			broken = i
		}
		if ours && committed { // the next transaction is begun when the one before is synced
			return fmt.Errorf("%s: %w: frame %d is not what was written, and frame %d is of a later transaction", path, ErrLog, broken, i)
		}
		committed = committed || ours && binary.BigEndian.Uint32(b[4:]) != 0
	}
	return nil
}
