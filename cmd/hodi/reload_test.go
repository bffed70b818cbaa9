package main

import (
	"reflect"
	"testing"

	"github.com/hodihq/hodi/daemon/reload"
)

func TestOfEveryKeyOfTheSettingsItIsDecidedWhetherItIsTakenWhileADaemonRuns(t *testing.T) {
	for _, settings := range []reflect.Type{reflect.TypeFor[edgeSettings](), reflect.TypeFor[sidecarSettings](), reflect.TypeFor[shortcodeSettings]()} {
		if err := reload.Check(settings); err != nil {
			t.Error(err)
		}
	}
	// Of shortcodes the whole table is taken; so nothing in it may wait.
	for _, f := range reflect.VisibleFields(reflect.TypeFor[shortcodeSettings]()) {
		if f.Tag.Get(reload.Tag) != reload.Live {
			t.Errorf("%s of a shortcode is said to wait for a start, and does not", f.Name)
		}
	}
}
