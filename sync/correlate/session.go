package correlate

import (
	"context"
	"fmt"
	"time"

	"github.com/hodihq/hodi/sync/push"
)

// Session is one checkout.
type Session struct {
	ID               string
	Amount           push.Money // pinned; 0: the page chooses
	AccountReference string     // pinned; "": the page chooses
	Shortcode        string     // pinned; "": the request chooses
	Created          time.Time
	Opened           bool // by the app; otherwise it came about with its first payment
}

// OpenSession opens a session, and gives it an ID if it has none. Opening the same session again returns it; opening it
// with other terms is ErrConflict.
func (t *Table) OpenSession(ctx context.Context, s Session) (Session, error) {
	if s.ID == "" {
		s.ID = newID()
	}
	err := t.write(ctx, func(x *tx) error {
		have, err := x.session(s.ID)
		if err != nil {
			return err
		}
		s.Opened, s.Created = true, x.now
		c := checkout{Session: s}
		switch {
		case have == nil:
		case !have.Opened: // an app that registered a push before it opened the session
			c.attempts, c.present = have.attempts, have.present
		case have.Amount == s.Amount && have.AccountReference == s.AccountReference && have.Shortcode == s.Shortcode:
			s = have.Session
			return nil
		default:
			return ErrConflict
		}
		x.putSession(c)
		return nil
	})
	if err != nil {
		return Session{}, fmt.Errorf("correlate: open session: %w", err)
	}
	return s, nil
}

// Session returns a session: one that was opened, or one that has a payment.
func (t *Table) Session(ctx context.Context, id string) (Session, error) {
	if s, ok := t.sessions.Get(id); ok {
		return s.Session, nil
	}
	s, err := scanSession(t.read.QueryRowContext(ctx, "SELECT "+sessionAll+" FROM sessions WHERE id = ?", id))
	if err != nil {
		return Session{}, fmt.Errorf("correlate: session: %w", notFound(err))
	}
	return s.Session, nil
}
