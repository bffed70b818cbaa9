package sidecar

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/sync/daraja"
)

// Reload puts what c says of the settings that may change while the sidecar runs in the place of those in use; what else c says
// is not looked at. It is all or nothing: with an error, nothing has changed. Nobody is cut off: requests that were begun, and
// what is asked of Daraja or is with the app, go on with the settings with which they began.
func (s *Sidecar) Reload(ctx context.Context, c Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	before := s.settings.Load()
	set, err := newSettings(reload.Merge(before.config, c), s.daraja, before)
	if err != nil {
		return fmt.Errorf("sidecar: reload: %w", err)
	}
	app, err := s.prepareForward(ctx, set) // the last that can fail
	if err != nil {
		return fmt.Errorf("sidecar: reload: %w", err)
	}
	set.watch = before.watch
	same := func(a, b daraja.Shortcode) bool { return a.Number == b.Number && a.Environment == b.Environment }
	others := !reflect.DeepEqual(set.apps, before.apps) || set.config.QueriesPerMinute != before.config.QueriesPerMinute ||
		!slices.EqualFunc(set.config.Shortcodes, before.config.Shortcodes, same)
	if others {
		set.watch = s.newWatch(set)
	}

	s.table.SetRules(set.config.table())
	if s.forwarder != nil {
		s.forwarder.Set(app)
	}
	s.settings.Store(set)
	if others {
		before.watch.Stop() // and keepWatch goes on with the other
	}
	return nil
}

// Reloaded keeps, for the status, what came of the last time that the settings were read again: with what it was given, Reload
// cannot know that all of it was there.
func (s *Sidecar) Reloaded(o reload.Outcome) { s.reloaded.Store(&o) }

// keepWatch asks Daraja, by the settings that are in use, until ctx ends.
func (s *Sidecar) keepWatch(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.settings.Load().watch.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keepForward gives callbacks to the app until ctx ends, once there is an app.
func (s *Sidecar) keepForward(ctx context.Context) error {
	select {
	case f := <-s.forwards:
		return f.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}
