package sidecar_test

import (
	"reflect"
	"testing"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/sidecar"
)

func TestOfEverySettingItIsDecidedWhetherItMayChangeWhileTheSidecarRuns(t *testing.T) {
	if err := reload.Check(reflect.TypeFor[sidecar.Config]()); err != nil {
		t.Error(err)
	}
}
