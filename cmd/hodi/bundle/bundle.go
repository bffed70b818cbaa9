// Package bundle makes files that may be sent to anybody: there can be no body, number, name or secret in them.
//
// That is so by how they are made, and not by what is looked for. What goes into one is a Go value that has, all the way
// down, only numbers, booleans, times and Words; Write refuses any other type. A Word is a text that is part of this
// program: Say takes nothing but a literal, for no other package can name the type of its argument; OneOf and Phrases
// give back those of their literals that a text is, or holds, and nothing of the text; and the name of a setting is a tag of a
// struct. One kind of Word is made of a text from elsewhere: Release, of what looks like the number of a version, without its
// long runs of digits.
//
// So a text that somebody has typed, or that came from Safaricom, an app or a file, has no way in; what is to be known of
// it is said by a Word that stands for it, or by how many there are.
package bundle

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"time"
)

// A Part is a file of a bundle.
type Part struct {
	Name  Word // of the file, without .json
	Value any
}

// readMe is for who opens one, before or after it was sent.
const readMe = `This was made by: hodi support-bundle

It is for those who help with Hodi. Open the files and look: in them are
versions, settings (of those that are a text only whether they are set), how
the daemons on this machine say they are, counts, sizes and times.

In them are no names, phone numbers, amounts of payments, receipts, addresses,
keys or passwords, and nothing of what Safaricom or a customer sent.

Logs are not here. If you are asked for them, read them before you send them:

    journalctl -u 'hodi-*' --since -1d > hodi.log
`

// Write writes a bundle, as a zip file. It refuses a part that could hold a text from elsewhere.
func Write(w io.Writer, made time.Time, parts ...Part) error {
	for _, p := range parts {
		if err := allowed(reflect.TypeOf(p.Value), nil); err != nil {
			return fmt.Errorf("bundle: %s: %w", p.Name.text, err)
		}
	}
	z := zip.NewWriter(w)
	file := func(name string, b []byte) error {
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: made})
		if err == nil {
			_, err = f.Write(b)
		}
		return err
	}
	if err := file("READ-ME.txt", []byte(readMe)); err != nil {
		return err
	}
	for _, p := range parts {
		b, err := json.MarshalIndent(p.Value, "", "  ")
		if err == nil {
			err = file(p.Name.text+".json", append(b, '\n'))
		}
		if err != nil {
			return fmt.Errorf("bundle: %s: %w", p.Name.text, err)
		}
	}
	return z.Close()
}

var (
	wordType = reflect.TypeFor[Word]()
	timeType = reflect.TypeFor[time.Time]()
)

// allowed reports why values of a type could hold a text from elsewhere; nil if they cannot.
func allowed(t reflect.Type, within []reflect.Type) error {
	if t == nil {
		return fmt.Errorf("nothing is in it")
	}
	if t == wordType || t == timeType {
		return nil
	}
	for _, known := range within {
		if t == known {
			return nil
		}
	}
	within = append(within, t)
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		if t.NumMethod() == 0 || t == reflect.TypeFor[time.Duration]() {
			return nil
		}
		return fmt.Errorf("%v may write itself as it likes", t)
	case reflect.Pointer:
		return allowed(t.Elem(), within)
	case reflect.Slice, reflect.Array:
		return allowed(t.Elem(), within) // not of bytes, which are a text
	case reflect.Struct:
		if t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
			return fmt.Errorf("%v writes itself", t)
		}
		for i := range t.NumField() {
			if err := allowed(t.Field(i).Type, within); err != nil {
				return fmt.Errorf("%s: %w", t.Field(i).Name, err)
			}
		}
		return nil
	}
	return fmt.Errorf("%v could be any text", t)
}
