package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// Settle tells the sandbox that the app has the result of a request by another way: somebody who develops against it
// posted a callback by hand. The prompt goes from the phone, so that the phone is free for the next one, queries answer
// what was posted, and no callback of the sandbox's own follows. A request that is not known, or has ended, stays as it is.
func (s *Sandbox) Settle(merchantRequestID, resultCode string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.store.request(`WHERE id = ?`, merchantRequestID)
	if err != nil || r == nil || r.Stage == stageDone {
		return err
	}
	s.decide(r, outcomeWith(resultCode), s.now())
	r.Posts = nil
	if err := s.store.put(r); err != nil {
		return err
	}
	s.log.Info("settled from elsewhere", "phone", daraja.MaskPhone(r.Phone), "outcome", r.Outcome)
	s.touch()
	return nil
}

// outcomeWith is the outcome that a result code stands for.
func outcomeWith(resultCode string) outcome {
	for _, o := range outcomes {
		if code, _, _ := o.result(); code == resultCode {
			return o
		}
	}
	return odd
}

// lockPatience is how long a push waits for a prompt that is just about to leave its phone.
const lockPatience = 250 * time.Millisecond

// waitForPhone waits for a moment until there is no prompt for a phone, and leaves it to the caller to see whether there
// still is.
func (s *Sandbox) waitForPhone(ctx context.Context, phone string) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	err := s.await(ctx, func() (bool, error) {
		live, err := s.store.request(`WHERE phone = ? AND stage <> ?`, phone, stageDone)
		return live == nil, err
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
