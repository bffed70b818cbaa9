package reload_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/hodihq/hodi/daemon/reload"
)

type settings struct {
	Listen  string   `toml:"listen" reload:"start"`
	Origins []string `toml:"origins" reload:"live"`
	Limit   int      `reload:"live"`
	Open    func()   `reload:"start"`
}

func TestWhatOnlyAStartChangesStaysAndAllElseIsNew(t *testing.T) {
	running := settings{Listen: ":1", Origins: []string{"a"}, Limit: 1}
	next := settings{Listen: ":2", Origins: []string{"b"}, Limit: 0}
	if got, want := reload.Merge(running, next), (settings{Listen: ":1", Origins: []string{"b"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("they are %+v, not %+v", got, want)
	}
	if next.Listen != ":2" || running.Origins[0] != "a" {
		t.Error("what was given was changed")
	}
	live, start := reload.Changed(running, next)
	if !slices.Equal(live, []string{"origins", "Limit"}) || !slices.Equal(start, []string{"listen"}) {
		t.Errorf("changed are %v at once and %v later", live, start)
	}
}

func TestAFieldOfWhichNobodyHasDecidedIsFound(t *testing.T) {
	if err := reload.Check(reflect.TypeFor[settings]()); err != nil {
		t.Error(err)
	}
	for _, undecided := range []any{struct{ New string }{}, struct {
		New string `reload:"lives"`
	}{}} {
		if reload.Check(reflect.TypeOf(undecided)) == nil {
			t.Errorf("%T was thought to be decided", undecided)
		}
	}
}
