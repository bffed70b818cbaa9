package salvage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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

// valid is how many frames SQLite takes: those up to the end of the last transaction before anything that is not right.
func (l *walLog) valid() (n int64) {
	if !l.whole {
		return 0
	}
	b, sum := make([]byte, frameHeader+l.pageSize), l.sum
	for i := range l.frames() {
		if l.frame(i, b) != nil || [8]byte(b[8:16]) != l.salts {
			break
		}
		sum = add(add(sum, l.order, b[:8]), l.order, b[frameHeader:])
		if binary.BigEndian.Uint32(b[16:]) != sum[0] || binary.BigEndian.Uint32(b[20:]) != sum[1] {
			break
		}
		if binary.BigEndian.Uint32(b[4:]) != 0 {
			n = i + 1
		}
	}
	return n
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

// How much of what a log holds behind its damage is in the file already.
type Moved int

const (
	MovedNone Moved = iota // the file is older than the damage: with the log up to there, it is what it was then
	MovedSome              // file and log are of two times, and do not go together
	MovedAll               // nothing is lost without the log
)

// MovedLog compares a log that Check found damaged with the file at path. SQLite would read the log up to the damage, and
// the file for the rest: if a checkpoint had come further than that, some pages would be older than others.
//
// What stands behind a frame that is not whole can be trusted all the same: a frame holds the sum that the next begins with.
func MovedLog(path string) (Moved, error) {
	l, err := openLog(path + "-wal")
	if err != nil || l == nil {
		return MovedAll, err
	}
	defer l.file.Close()
	file, err := os.Open(path)
	if err != nil {
		return MovedNone, err
	}
	defer file.Close()

	before, behind, open := map[uint32]int64{}, map[uint32]int64{}, map[uint32]int64{} // by page: its newest frame
	b := make([]byte, frameHeader+l.pageSize)
	sum, known, broken := l.sum, l.whole, !l.whole
	for i := range l.frames() {
		err := l.frame(i, b)
		if err == nil && i == 0 && !l.whole {
			l.salts = [8]byte(b[8:16])
		}
		ours := err == nil && [8]byte(b[8:16]) == l.salts
		said := [2]uint32{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])}
		if known = known && ours && add(add(sum, l.order, b[:8]), l.order, b[frameHeader:]) == said; known {
			open[binary.BigEndian.Uint32(b)] = i
			if binary.BigEndian.Uint32(b[4:]) != 0 { // it ends a transaction
				into := before
				if broken {
					into = behind
				}
				maps.Copy(into, open)
				clear(open)
			}
		}
		broken = broken || !known
		sum, known = said, ours
	}

	page, moved, missing := make([]byte, l.pageSize), 0, 0
	same := func(frame int64, number uint32) (bool, error) {
		if err := l.frame(frame, b); err != nil {
			return false, err
		}
		n, err := file.ReadAt(page, int64(number-1)*int64(l.pageSize))
		if err != nil && err != io.EOF {
			return false, err
		}
		return n == len(page) && bytes.Equal(page, b[frameHeader:]), nil
	}
	for number, frame := range before {
		if _, newer := behind[number]; newer {
			continue
		}
		switch is, err := same(frame, number); {
		case err != nil:
			return MovedNone, err
		case !is:
			missing++
		}
	}
	for number, frame := range behind {
		is, err := same(frame, number)
		if err != nil {
			return MovedNone, err
		}
		if !is {
			missing++
			continue
		}
		old, was := before[number]
		if was { // a page that was written and did not change tells nothing
			if was, err = same(old, number); err != nil {
				return MovedNone, err
			}
		}
		if !was {
			moved++
		}
	}
	switch {
	case missing == 0:
		return MovedAll, nil
	case moved > 0:
		return MovedSome, nil
	}
	return MovedNone, nil
}
