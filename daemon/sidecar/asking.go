package sidecar

import (
	"context"

	"github.com/hodihq/hodi/sync/push"
)

// An askingView is how Daraja answers when it is asked what became of payments.
type askingView struct {
	Waiting int            `json:"waiting"` // payments that are due to be asked about
	Silent  []silentDaraja `json:"silent"`  // apps that it does not answer
}

// A silentDaraja is an app that Daraja does not answer.
type silentDaraja struct {
	Shortcodes []string  `json:"shortcodes,omitempty"`
	Since      push.Time `json:"since"`
	Times      int       `json:"times"`   // that it was asked since
	Next       push.Time `json:"next"`    // when it is asked again, if there is something to ask
	Because    string    `json:"because"` // what it said last, if anything
}

func (s *Sidecar) asking(ctx context.Context) (askingView, error) {
	v := askingView{Silent: []silentDaraja{}}
	for _, st := range s.settings.Load().watch.Status() {
		v.Silent = append(v.Silent, silentDaraja{st.Shortcodes, push.Time{Time: st.Since}, st.Failures, push.Time{Time: st.Until}, st.Why})
	}
	var err error
	v.Waiting, err = s.table.Waiting(ctx)
	return v, err
}
