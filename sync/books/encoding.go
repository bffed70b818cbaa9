package books

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// text turns a file into UTF-8. The portal writes UTF-8; what a spreadsheet saves again may be UTF-16, or the one-byte letters of
// Windows.
func text(file []byte) (string, error) {
	switch {
	case bytes.HasPrefix(file, []byte("PK\x03\x04")), bytes.HasPrefix(file, []byte("\xd0\xcf\x11\xe0")):
		return "", errors.New("it is an Excel workbook: open it, and save it as CSV")
	case bytes.HasPrefix(file, []byte("%PDF")):
		return "", errors.New("it is a PDF: download the statement as CSV")
	case bytes.HasPrefix(file, []byte("\x1f\x8b")):
		return "", errors.New("it is compressed: unpack it first")
	}
	body, isUTF8 := bytes.CutPrefix(file, []byte("\xef\xbb\xbf"))
	switch {
	case isUTF8:
	case bytes.HasPrefix(file, []byte("\xff\xfe")):
		return wide(file[2:], binary.LittleEndian), nil
	case bytes.HasPrefix(file, []byte("\xfe\xff")):
		return wide(file[2:], binary.BigEndian), nil
	case zeros(file, 1) > len(file)/8:
		return wide(file, binary.LittleEndian), nil
	case zeros(file, 0) > len(file)/8:
		return wide(file, binary.BigEndian), nil
	}
	if bytes.IndexByte(body, 0) >= 0 {
		return "", errors.New("it is no text")
	}
	if utf8.Valid(body) {
		return string(body), nil
	}
	letters := make([]rune, len(body)) // every byte is a letter: names may be spelt oddly, and digits and receipts never are
	for i, b := range body {
		letters[i] = rune(b)
	}
	return string(letters), nil
}

// zeros counts the zeros at every other place: what is mostly Latin letters in two bytes each has them there.
func zeros(file []byte, from int) (n int) {
	for i := from; i < len(file); i += 2 {
		if file[i] == 0 {
			n++
		}
	}
	return n
}

func wide(file []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(file)/2)
	for i := range units {
		units[i] = order.Uint16(file[2*i:])
	}
	return string(utf16.Decode(units))
}
