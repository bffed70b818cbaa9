package edge_test

import (
	"reflect"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/reload"
)

func TestOfEverySettingItIsDecidedWhetherItMayChangeWhileTheEdgeRuns(t *testing.T) {
	if err := reload.Check(reflect.TypeFor[edge.Config]()); err != nil {
		t.Error(err)
	}
}
