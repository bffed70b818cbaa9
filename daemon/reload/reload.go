// Package reload tells settings that may change while a daemon runs from those that only a start changes.
//
// A struct of settings says so of each of its fields, by a tag: that nobody can add one and forget to decide.
//
//	Origins []string `reload:"live"`  // in use as soon as it was read
//	Listen  string   `reload:"start"` // in use from the next start on
package reload

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Tag is the tag's name, Live and Start what it may say.
const (
	Tag   = "reload"
	Live  = "live"
	Start = "start"
)

// Merge is next, but for what only a start changes: that is as it is running.
func Merge[T any](running, next T) T {
	from, into := reflect.ValueOf(&running).Elem(), reflect.ValueOf(&next).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).Tag.Get(Tag) != Live {
			into.Field(i).Set(from.Field(i))
		}
	}
	return next
}

// Changed names the fields that are not the same in both, by their toml tag where they have one: those that may change while a
// daemon runs, and those that may not.
func Changed[T any](running, next T) (live, start []string) {
	a, b := reflect.ValueOf(running), reflect.ValueOf(next)
	for i := range a.NumField() {
		if reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			continue
		}
		if field := a.Type().Field(i); field.Tag.Get(Tag) == Live {
			live = append(live, name(field))
		} else {
			start = append(start, name(field))
		}
	}
	return live, start
}

func name(f reflect.StructField) string {
	if key := f.Tag.Get("toml"); key != "" {
		return key
	}
	return f.Name
}

// Check says of which field of a struct it is not said whether it may change.
func Check(t reflect.Type) error {
	for _, f := range reflect.VisibleFields(t) {
		if says := f.Tag.Get(Tag); !slices.Contains([]string{Live, Start}, says) {
			return fmt.Errorf("reload: %v: %s says %q: write `reload:\"live\"` if it takes effect while the daemon runs, else `reload:\"start\"`", t, f.Name, says)
		}
	}
	return nil
}

// Outcome is what came of the last time that a daemon was asked to read its settings again.
type Outcome struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error,omitempty"` // why nothing of them is in use
	Later []string  `json:"later,omitempty"` // those that are in use from the next start on
}
