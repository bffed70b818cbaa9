package edge

import (
	"fmt"

	"github.com/hodihq/hodi/daemon/reload"
)

// settings are what may change while an edge runs. They lie behind one pointer: who judges a connection or a callback takes them
// once, and nobody changes them there: others are put in their place.
type settings struct {
	config  Config
	sources *sources
}

func newSettings(c Config) (*settings, error) {
	s, err := newSources(c.Source, c.Ranges, c.Proxies)
	return &settings{config: c, sources: s}, err
}

// Reload puts what c says of the settings that may change while the edge runs in the place of those in use; what else c says is
// not looked at. It is all or nothing: with an error, nothing has changed. Nobody is cut off: it holds for connections and callbacks
// that come from now on.
func (e *Edge) Reload(c Config) error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	set, err := newSettings(reload.Merge(e.settings.Load().config, c))
	if err != nil {
		return fmt.Errorf("edge: reload: %w", err)
	}
	e.disk.SetLimits(set.config.Limits)
	e.notifier.Set(set.config.Notify...)
	e.settings.Store(set)
	return nil
}

// Reloaded keeps, for the operator, what came of the last time that the settings were read again: with what it was given, Reload
// cannot know that all of it was there.
func (e *Edge) Reloaded(o reload.Outcome) { e.reloaded.Store(&o) }
