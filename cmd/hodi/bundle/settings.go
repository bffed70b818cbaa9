package bundle

import (
	"reflect"
	"strings"
)

// A Setting is one of a configuration file. What is a text in it is not shown, only whether it is set: an address, a path, a
// name. A list or a table is shown by how much there is in it.
type Setting struct {
	Key    Word
	Set    bool
	Yes    *bool  `json:",omitempty"`
	Number *int64 `json:",omitempty"` // of a duration, seconds
	Choice Word   `json:",omitzero"`
	Count  *int   `json:",omitempty"`
}

// Choices are the settings whose value is one of a few words, and those words.
type Choices map[literal][]literal

// Settings lists those of a struct by the tags that name them in a file.
func Settings(of any, tag literal, choices Choices) (list []Setting) {
	return settings(reflect.ValueOf(of), string(tag), "", choices)
}

func settings(v reflect.Value, tag, before string, choices Choices) (list []Setting) {
	for i := range v.NumField() {
		key, field := v.Type().Field(i).Tag.Get(tag), v.Field(i)
		if key, _, _ = strings.Cut(key, ","); key == "" || key == "-" {
			continue
		}
		s := Setting{Key: Word{before + key}, Set: !field.IsZero()}
		if field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		switch field.Kind() {
		case reflect.Struct:
			list = append(list, settings(field, tag, before+key+".", choices)...)
			continue
		case reflect.Bool:
			yes := field.Bool()
			s.Yes = &yes
		case reflect.Int, reflect.Int64:
			n := field.Int()
			if strings.EqualFold(field.Type().Name(), "duration") {
				n /= 1e9
			}
			s.Number = &n
		case reflect.Slice, reflect.Map:
			n := field.Len()
			s.Count = &n
		case reflect.String:
			if of, ok := choices[literal(key)]; ok {
				s.Choice = OneOf(field.String(), of...)
			}
		}
		list = append(list, s)
	}
	return list
}
